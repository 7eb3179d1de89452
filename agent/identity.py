"""A worker's id: the same after a restart, another for each agent that runs at the same time."""

import hashlib
import os
import secrets
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

MAX_TWINS = 1_000


@dataclass(frozen=True, slots=True)
class Identity:
    """A worker id that is this process's alone for as long as `lock` is held."""

    worker: str
    name: str
    """What its files in the folder are called; of its own as well."""
    lock: FileLock

    def release(self) -> None:
        self.lock.release()


def state_dir() -> Path:
    """Where this user's agents keep their ids; `LMARENA_STATE_DIR` overrides it."""
    chosen = os.environ.get("LMARENA_STATE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "lmarena-agent"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "lmarena-agent"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "lmarena-agent"


def claim_identity(folder: Path, hub: str, name: str, engine: str) -> Identity:
    """The first id of (hub, name, engine) that no running agent uses; it is made where there is none.

    Raises OSError when the folder cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    purpose = hashlib.sha256("\n".join((hub, name, engine)).encode()).hexdigest()[:24]
    for twin in count():
        if twin == MAX_TWINS:
            break
        name = f"{purpose}-{twin}"
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return Identity(_kept_id(folder / f"{name}.id"), name, lock)
    raise OSError(f"{MAX_TWINS} agents of this name are running already")


def _kept_id(file: Path) -> str:
    try:
        kept = file.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        kept = ""
    if not (0 < len(kept) <= 128 and kept.isalnum()):
        kept = secrets.token_hex(16)
        fresh = file.with_suffix(".new")
        fresh.write_text(kept + "\n", "ascii")
        fresh.replace(file)
    return kept
