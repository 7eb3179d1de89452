"""A hub whose wall clock somebody sets: `python -m tests.jumping_clock FILE serve ...`.

FILE holds by how many seconds the clock is wrong. Only the wall clock is: that is what administrators, leap
seconds and time servers change. The monotonic clock goes on.
"""

import sys
import time
from pathlib import Path


def main() -> None:
    offset = Path(sys.argv.pop(1))
    true_ns = time.time_ns

    def time_ns() -> int:
        return true_ns() + int(float(offset.read_text()) * 1e9)

    # Before anything of the hub is imported, so that nobody holds the true ones.
    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9
    from hub.cli import main as hub

    hub()


if __name__ == "__main__":
    main()
