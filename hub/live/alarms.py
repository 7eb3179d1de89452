"""What an operator should know of, kept: the feed's listener that writes the system log and raises alarms.

An alarm is raised once, stays while its reason does, and is over then. Reasons that come as events (a model asked
for that nobody offers, a changed site) last for some minutes after the latest; the others are looked at again and again.
"""

import asyncio
import math
import shutil
from collections import deque
from pathlib import Path
from time import monotonic
from typing import Literal, NamedTuple, get_args

from cachetools import TTLCache

from ..settings import Alarms as Thresholds
from ..store.audit import SystemLog
from .feed import (
    AlarmChanged,
    BreakerChanged,
    Event,
    Feed,
    RequestSettled,
    SiteChanged,
    StorageTrouble,
    WorkerChanged,
)

Kind = Literal["no_worker", "error_rate", "queue_wait", "site_changed", "disk", "storage"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REPEATED_S = 600
"""The same line about the same worker is written once in this time; reasons that come as events last so long."""
STORAGE_S = 60
"""Without another failed write in this time, the database can be written again."""
MOST_SUBJECTS = 10_000
MOST_RAISED = 1_000
LINES_A_MINUTE = 30
"""Of one worker: what it says of a changed site is its own invention."""
LOOK_S = 10.0
RECENT_S = 300.0
"""How far back error rate and queue wait are looked at."""
MOST_RECENT = 2_000
FEWEST_RECENT = 20
"""Of fewer requests nothing is concluded."""
MIB = 1024 * 1024


class _Ended(NamedTuple):
    """A request that ended lately."""

    at: float
    is_fault: bool
    waited_s: float


class Alarms:
    """Writes the system log; a worker that repeats itself, or floods, is heard once in a while."""

    def __init__(
        self, thresholds: Thresholds, data: Path, system_log: SystemLog, feed: Feed
    ) -> None:
        self._thresholds = thresholds
        self._data = data
        self._system_log = system_log
        self._feed = feed
        self._said: TTLCache[tuple[str, str, str], bool] = TTLCache(MOST_SUBJECTS, REPEATED_S)
        self._lines: TTLCache[str, int] = TTLCache(MOST_SUBJECTS, 60)
        self._writes: set[asyncio.Future[None]] = set()
        self._recent: deque[_Ended] = deque(maxlen=MOST_RECENT)
        self.raised: dict[tuple[Kind, str], float] = {}
        """The alarms there are, by kind and subject, and until when they last by themselves."""

    def hear(self, event: Event) -> None:
        """Take an event of the feed."""
        match event:
            case RequestSettled():
                self._ended(event)
            case SiteChanged():
                self._write("site_changed", event.worker, event.seen)
                self._raise("site_changed", event.worker, event.seen, REPEATED_S, is_kept=False)
            case WorkerChanged(state="attention"):
                self._write("attention", event.worker, event.reason or "it needs its human")
            case BreakerChanged(state="open" | "closed"):
                self._write("breaker", event.worker, _breaker_line(event), repeats=True)
            case StorageTrouble():
                # The system log is in the very database that cannot be written.
                self._raise("storage", "", event.problem, STORAGE_S, is_kept=False)

    def _ended(self, event: RequestSettled) -> None:
        self._recent.append(_Ended(monotonic(), event.is_fault, event.waited_s))
        if event.error == "no_worker_available":
            self._raise(
                "no_worker", event.model, "it is asked for, and no worker takes it", REPEATED_S
            )

    # --- alarms

    async def look_forever(self) -> None:
        """Look every few seconds whether there is reason for an alarm, or not any more."""
        while True:
            await asyncio.sleep(LOOK_S)
            free = await asyncio.to_thread(shutil.disk_usage, self._data)
            self.look(monotonic(), free.free)

    def look(self, now: float, free_bytes: int) -> None:
        """Raise and end alarms. `free_bytes` is the room left where the database lies."""
        while self._recent and self._recent[0].at < now - RECENT_S:
            self._recent.popleft()
        self._look_at_disk(free_bytes)
        self._look_at_requests()
        for kind, subject in [key for key, until in self.raised.items() if until <= now]:
            self._end(kind, subject)

    def _look_at_disk(self, free_bytes: int) -> None:
        least = self._thresholds.disk_free_mib
        what = f"{free_bytes // MIB} MiB are free, fewer than {least}"
        self._keep("disk", free_bytes < least * MIB, what)

    def _look_at_requests(self) -> None:
        count = len(self._recent)
        enough = count >= FEWEST_RECENT
        faults = sum(ended.is_fault for ended in self._recent)
        is_high = enough and faults / count > self._thresholds.error_rate
        self._keep("error_rate", is_high, f"{faults} of the last {count} requests failed")
        waits = sorted(ended.waited_s for ended in self._recent)
        wait = waits[math.ceil(count * 0.9) - 1] if enough else 0.0
        what = f"one request in ten waited {wait:.0f} s or longer for a worker"
        self._keep("queue_wait", wait > self._thresholds.queue_wait_s, what)

    def _keep(self, kind: Kind, is_so: bool, message: str) -> None:
        if is_so:
            self._raise(kind, "", message, math.inf)
        elif (kind, "") in self.raised:
            self._end(kind, "")

    def _raise(
        self, kind: Kind, subject: str, message: str, lasts_s: float, *, is_kept: bool = True
    ) -> None:
        """`is_kept` says whether a line of the system log is due."""
        known = (kind, subject) in self.raised
        if not known and len(self.raised) >= MOST_RAISED:
            return
        self.raised[kind, subject] = monotonic() + lasts_s
        if not known:
            self._feed.announce(AlarmChanged(kind, subject, True, message))
            if is_kept:
                self._write(kind, subject, message, repeats=True)

    def _end(self, kind: Kind, subject: str) -> None:
        del self.raised[kind, subject]
        self._feed.announce(AlarmChanged(kind, subject, False, ""))
        self._write(kind, subject, "it is over", repeats=True)

    # --- the system log

    def _write(self, kind: str, subject: str, message: str, *, repeats: bool = False) -> None:
        line = (kind, subject, message)
        written = self._lines.get(subject, 0)
        if (line in self._said and not repeats) or written >= LINES_A_MINUTE:
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


def _breaker_line(event: BreakerChanged) -> str:
    about = "" if event.model is None else f" for {event.model}"
    if event.state == "closed":
        return f"it gets jobs{about} again"
    return f"it gets no jobs{about} for a while: {event.failures} failures in a row"
