"""Where the clients are that `make clients` installs."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node_modules"
BIN = Path(sys.executable).parent
NODE = BIN / "node"
OF_THEIR_OWN = HERE.parents[1] / ".clients"
"""Virtual environments of clients that want other versions of what the rest needs."""
