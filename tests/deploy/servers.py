"""Real web servers from the system's packages, started privately on loopback ports."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.processes import eventually

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
PASSENGER = Path("/usr/lib/apache2/modules/mod_passenger.so")


def found(name: str) -> str | None:
    """The path of a server's program."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where a server is not installed."""
    return pytest.mark.skipif(
        found(name) is None, reason=f"{name} is not installed: `make servers` does it"
    )


needs_passenger = pytest.mark.skipif(
    found("apache2") is None or not PASSENGER.exists(),
    reason="Apache with Passenger is not installed: `make servers` does it",
)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the address of a Unix socket, open to servers' own users."""
    folder = Path(tempfile.mkdtemp(prefix="lmb-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def started(
    *command: str, port: int, pid_file: Path | None = None, **environ: str
) -> AsyncIterator[None]:
    """A server in the foreground, which listens on a port when the block begins, and is ended with it.

    Apache listens, starts over, and listens again; its `pid_file` is there only then.
    """
    process = await asyncio.create_subprocess_exec(
        found(command[0]) or command[0], *command[1:], env=os.environ | environ
    )
    try:

        def ready() -> bool:
            return listens(port) and (pid_file is None or pid_file.exists())

        await eventually(lambda: process.returncode is not None or ready())
        assert process.returncode is None, f"{command[0]} ended before it listened"
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def process_behind(path: Path) -> int | None:
    """The process that listens at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])
    return None


def processes_with(word: str) -> set[int]:
    """Processes that have a word in their command line."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word in (folder / "cmdline").read_bytes().decode(errors="replace"):
                found.add(int(folder.name))
    return found
