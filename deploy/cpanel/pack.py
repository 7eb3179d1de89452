"""Make the zip to upload to cPanel: `python deploy/cpanel/pack.py dist/WHEEL`."""

import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
AS_THEY_ARE = ("passenger_wsgi.py", "hub.toml", "README.md")


def pack(wheel: Path) -> Path:
    """Beside the wheel; it holds the wheel, what installs it, and what Passenger loads."""
    name, version = wheel.name.split("-")[:2]
    target = wheel.with_name(f"{name}-{version}-cpanel.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(wheel, wheel.name)
        archive.writestr("requirements.txt", f"./{wheel.name}\n")
        for file in AS_THEY_ARE:
            archive.write(HERE / file, file)
    return target


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        sys.stdout.write(f"{pack(Path(argument))}\n")
