"""A deadline that moves often and passes seldom."""

import asyncio
from collections.abc import Callable
from time import monotonic


class Timer:
    """Calls `passed(now)` once the time that `due()` gives is reached; times are `time.monotonic()`'s, which event loops share.

    Pieces move a deadline thousands of times a second. So moving it costs nothing here: when the clock
    reaches the time known before, the timer asks again and sleeps on. A deadline that moves *closer* needs
    `check`. What it calls usually leads back to its holder: let go of a timer that is stopped, and nothing is
    left for the garbage collector.
    """

    __slots__ = ("_due", "_handle", "_loop", "_passed")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due: Callable[[], float],
        passed: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._due = due
        self._passed = passed
        self._handle: asyncio.TimerHandle | None = loop.call_at(due(), self._ring)

    def check(self) -> None:
        """The deadline came closer."""
        if self._handle is not None and self._due() < self._handle.when():
            self._handle.cancel()
            self._handle = self._loop.call_at(self._due(), self._ring)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _ring(self) -> None:
        if self._handle is None:
            return
        now, due = monotonic(), self._due()
        if due > now:
            self._handle = self._loop.call_at(due, self._ring)
            return
        self._handle = None
        self._passed(now)
