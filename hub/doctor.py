"""`lmarena-hub doctor`: whether a hub will do well here, and what to do where it would not."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import aiohttp
from msgspec import Struct

from .protocol import SUBPROTOCOL
from .settings import Settings
from .store.backup import DATABASE

Verdict = Literal["good", "look", "bad"]
"""`look`: it works, and there is something to know. `bad`: mend this first."""

OLDEST_SQLITE = (3, 37, 0)
"""STRICT tables."""
SOUND_SQLITE = (3, 51, 3)
"""https://sqlite.org/wal.html, "the WAL-reset bug", is mended here."""
LITTLE_DISK = 1024**3
TOO_LITTLE_DISK = 100 * 1024**2
SLOW_SYNC_S = 0.05
CLOCK_OFF_S = 2.0
ANSWER_S = 20.0
SPREAD = 0.5
"""A stream whose events come within less than this part of the time that they were sent over was held back."""


class Finding(Struct, frozen=True):
    """One thing looked at; `advice` says what to do, "" where there is nothing to do."""

    subject: str
    verdict: Verdict
    seen: str
    advice: str = ""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """All findings, one after the other; the last ones need a hub that is reached under `public_url`."""
    yield python()
    yield sqlite()
    for finding in place(settings.data):
        yield finding
    if not settings.public_url:
        yield Finding(
            "public_url",
            "look",
            "not set",
            "Set it to the address that browsers and workers use; the rest is looked at through it.",
        )
        return
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_S)) as http:
        async for finding in reach(http, settings.public_url.rstrip("/")):
            yield finding


# --- this machine ----------------------------------------------------------------------------------------


def python() -> Finding:
    seen = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= (3, 12) and "PASSENGER_APP_ENV" in os.environ:
        return Finding("Python", "look", seen, "Passenger before 6.0.19 needs 3.11.")
    return Finding("Python", "good", seen)


def sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Finding:
    seen = ".".join(map(str, version))
    if version < OLDEST_SQLITE:
        return Finding(
            "SQLite", "bad", seen, "Use a Python that is linked with SQLite 3.37 or newer."
        )
    if version < SOUND_SQLITE:
        advice = (
            "Its write-ahead log can be damaged when two programs write at the same instant. The hub "
            "writes alone; let no other program write to hub.db, and upgrade when you can."
        )
        return Finding("SQLite", "look", seen, advice)
    return Finding("SQLite", "good", seen)


def place(data: Path) -> Iterator[Finding]:
    """The data directory: may we write there, do locks hold, how much room, how quick, what clock."""
    folder = _nearest(data)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as inside:
            yield Finding("data directory", "good", str(data))
            yield locks(Path(inside))
            yield room(folder)
            yield pace(Path(inside))
            yield clock(Path(inside))
    except OSError as error:
        advice = "Choose another with data_dir, or let the hub's user write there."
        yield Finding("data directory", "bad", f"{data}: {error.strerror}", advice)
    if (data / DATABASE).exists() and data.stat().st_mode & 0o077:
        advice = f"Others may look into it: chmod 700 {data}"
        yield Finding("data directory", "look", str(data), advice)


def _nearest(data: Path) -> Path:
    """The directory, or the nearest above it that exists."""
    return next(folder for folder in (data, *data.absolute().parents) if folder.is_dir())


TAKE_BOTH = """
import fcntl, sqlite3, sys
try:
    fcntl.flock(open("lock", "a"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    sys.exit("the lock of a file")
except OSError:
    pass
try:
    sqlite3.connect("test.db", timeout=0).execute("BEGIN IMMEDIATE")
    sys.exit("the lock of a database")
except sqlite3.OperationalError:
    pass
"""
"""Run by another process while this one holds both; it complains of the one that it gets."""


def locks(folder: Path, other_does: str = TAKE_BOTH) -> Finding:
    """Whether another process is kept out by locks of ours."""
    if sys.platform == "win32":
        return Finding("file locks", "good", "not looked at on Windows")
    import fcntl

    with contextlib.closing(sqlite3.connect(folder / "test.db", isolation_level=None)) as held:
        mode = held.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        held.execute("BEGIN IMMEDIATE")
        with (folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            command = [sys.executable, "-c", other_does]
            other = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603
    if mode != "wal" or other.returncode:
        seen = other.stderr.strip() or f"journal_mode {mode}"
        advice = "Locks do not hold here, as on some network drives. Put data_dir on a local disk."
        return Finding("file locks", "bad", seen, advice)
    return Finding("file locks", "good", "they hold")


def room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    seen = f"{free / 1024**3:.1f} GiB free"
    if free < TOO_LITTLE_DISK:
        return Finding("disk", "bad", seen, "Make room: without any, no request is taken.")
    if free < LITTLE_DISK:
        return Finding("disk", "look", seen, "Make room soon.")
    return Finding("disk", "good", seen)


def pace(folder: Path) -> Finding:
    """How long it takes until something written is safe."""
    with (folder / "pace").open("wb") as file:
        began = time.perf_counter()
        for _ in range(5):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        took = (time.perf_counter() - began) / 5
    seen = f"{took * 1000:.1f} ms to write safely"
    if took > SLOW_SYNC_S:
        advice = 'Each request waits for it. synchronous = "NORMAL" waits less, and may lose the last moments.'
        return Finding("disk's pace", "look", seen, advice)
    return Finding("disk's pace", "good", seen)


def clock(folder: Path) -> Finding:
    """Whether the clock runs true against the file system's, which may be another machine's."""
    (folder / "clock").write_bytes(b"x")
    off = abs((folder / "clock").stat().st_mtime - time.time())
    if time.gmtime().tm_year < 2025 or off > CLOCK_OFF_S:
        seen = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        advice = "Set the clock (timedatectl set-ntp true): budgets and limits go by it."
        return Finding("clock", "bad", f"{seen}, {off:.0f} s from the disk's", advice)
    return Finding("clock", "good", "agrees with the disk's")


# --- the way to it ---------------------------------------------------------------------------------------


async def reach(http: aiohttp.ClientSession, url: str) -> AsyncIterator[Finding]:
    """What callers and workers meet under the hub's address."""
    answering = await _answers(http, url)
    yield answering
    if answering.verdict == "bad":
        return
    yield await _socket(http, url)
    yield await _stream(http, url)


async def _answers(http: aiohttp.ClientSession, url: str) -> Finding:
    try:
        async with http.get(f"{url}/healthz", allow_redirects=False) as answer:
            body = await answer.text()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        advice = "Is the hub running, does the name lead to this machine, is the certificate good?"
        return Finding("public address", "bad", f"{url}: {error or type(error).__name__}", advice)
    if answer.status == 421:
        return Finding("public address", "bad", f"{url}: 421", "Set public_url or allowed_hosts.")
    if answer.status != 200 or '"status":"ok"' not in body:
        advice = "Something else answers there: look at the proxy's configuration and log."
        return Finding("public address", "bad", f"{url}: HTTP {answer.status}", advice)
    return Finding("public address", "good", url)


async def _socket(http: aiohttp.ClientSession, url: str) -> Finding:
    try:
        async with http.ws_connect(f"{url}/worker/socket", protocols=(SUBPROTOCOL,)):
            return Finding("WebSocket", "good", "passes")
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        status = getattr(error, "status", None)
        seen = f"HTTP {status}" if status else type(error).__name__
        advice = (
            "Workers notice and poll, which works. Where the proxy is yours, let it pass Upgrade and "
            "Connection, as the files in deploy/ do. Behind Passenger it cannot."
        )
        return Finding("WebSocket", "look", f"does not pass ({seen})", advice)


async def _stream(http: aiohttp.ClientSession, url: str) -> Finding:
    """Whether events come when they are sent."""
    now = asyncio.get_running_loop().time
    try:
        async with http.get(f"{url}/healthz/stream") as answer:
            times = [now() async for _ in answer.content.iter_any()]
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Finding("streams", "bad", type(error).__name__, "Look at the proxy's log.")
    sent_over = float(answer.headers.get("x-bridge-sent-over", "1"))
    took = times[-1] - times[0] if times else 0.0
    if took < sent_over * SPREAD:
        advice = (
            "The proxy holds answers back until they are whole. Switch that off: proxy_buffering off in nginx, "
            "no flush settings in Caddy, no compression of text/event-stream."
        )
        return Finding("streams", "bad", "all of it came at once", advice)
    return Finding("streams", "good", "pieces come as they are sent")
