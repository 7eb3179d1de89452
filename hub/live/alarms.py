"""What an operator should know of, kept: the feed's listener that writes the system log."""

import asyncio

from cachetools import TTLCache

from ..store.audit import SystemLog
from .feed import Event, Feed, SiteChanged, StorageTrouble, WorkerChanged

REPEATED_S = 600
"""The same line about the same worker is written once in this time."""
MOST_SUBJECTS = 10_000
LINES_A_MINUTE = 30
"""Of one worker: what it says of a changed site is its own invention."""


class Alarms:
    """Writes the system log; a worker that repeats itself, or floods, is heard once in a while."""

    def __init__(self, system_log: SystemLog, feed: Feed) -> None:
        self._system_log = system_log
        self._feed = feed
        self._said: TTLCache[tuple[str, str, str], bool] = TTLCache(MOST_SUBJECTS, REPEATED_S)
        self._lines: TTLCache[str, int] = TTLCache(MOST_SUBJECTS, 60)
        self._writes: set[asyncio.Future[None]] = set()

    def hear(self, event: Event) -> None:
        """Take an event of the feed."""
        match event:
            case SiteChanged():
                self._write("site_changed", event.worker, event.seen)
            case WorkerChanged(state="attention"):
                self._write("attention", event.worker, event.reason or "it needs its human")

    def _write(self, kind: str, subject: str, message: str) -> None:
        line = (kind, subject, message)
        written = self._lines.get(subject, 0)
        if line in self._said or written >= LINES_A_MINUTE:
            return
        self._said[line] = True
        self._lines[subject] = written + 1
        write = self._system_log.write(*line)
        self._writes.add(write)
        write.add_done_callback(self._written)

    def _written(self, write: "asyncio.Future[None]") -> None:
        self._writes.discard(write)
        if not write.cancelled() and (problem := write.exception()) is not None:
            self._feed.announce(StorageTrouble(str(problem)))
