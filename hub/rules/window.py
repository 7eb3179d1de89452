"""Sliding windows, exact: in no window of a length, wherever it begins, is more than the limit admitted.

A window is half open, [begin, begin + length). Times are seconds of one clock; a clock that jumps back is taken
to stand still.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

FOREVER = float("inf")


class Limit(NamedTuple):
    """At most `most` in any `length_s` seconds."""

    length_s: float
    most: int


class Arrivals:
    """When something was admitted, for any number of limits at once."""

    __slots__ = ("_first", "_times")

    def __init__(self, times: Iterable[float] = ()) -> None:
        """`times` are those of an earlier life, in order."""
        self._times = array("d", times)
        self._first = 0

    def __len__(self) -> int:
        return len(self._times) - self._first

    def wait(self, now: float, limits: Iterable[Limit]) -> float:
        """Seconds until one more may be admitted; 0 if it may be now."""
        now = self._no_earlier(now)
        return max((self._wait(now, limit) for limit in limits), default=0.0)

    def remaining(self, now: float, limit: Limit) -> int:
        """How many more may be admitted at this moment."""
        return max(0, limit.most - self._within(self._no_earlier(now), limit.length_s))

    def reset(self, now: float, limit: Limit) -> float:
        """Seconds until nothing of now counts any more; 0 if nothing does."""
        if not len(self):
            return 0.0
        return max(0.0, self._times[-1] + limit.length_s - self._no_earlier(now))

    def admit(self, now: float, keep_s: float) -> None:
        """Count one; what is older than `keep_s`, the longest length in use, is forgotten."""
        now = self._no_earlier(now)
        self._times.append(now)
        while self._times[self._first] <= now - keep_s:
            self._first += 1
        if self._first > 64 and self._first > len(self):
            del self._times[: self._first]
            self._first = 0

    def withdraw(self, at: float) -> None:
        """One that was admitted at this moment did not enter after all; nothing happens if it is forgotten."""
        place = bisect_left(self._times, at, self._first)
        if place < len(self._times) and self._times[place] == at:
            del self._times[place]

    def _no_earlier(self, now: float) -> float:
        return max(now, self._times[-1]) if self._times else now

    def _wait(self, now: float, limit: Limit) -> float:
        if limit.most <= 0:
            return FOREVER
        if len(self) < limit.most:
            return 0.0
        # One more is too much while the one `most` before it is within the same window.
        return max(0.0, self._times[-limit.most] + limit.length_s - now)

    def _within(self, now: float, length_s: float) -> int:
        """How many count in the window that ends now, by bisection."""
        times = self._times
        place = bisect_right(times, now - length_s, self._first)
        # The sum that `wait` goes by may be rounded down where the difference is not.
        while place < len(times) and times[place] + length_s <= now:
            place += 1
        return len(times) - place


class Entry:
    """An amount that counts from a moment on; it may be corrected while it counts."""

    __slots__ = ("amount", "at", "counts")

    def __init__(self, at: float, amount: int) -> None:
        self.at = at
        self.amount = amount
        self.counts = True


class Amounts:
    """How much was used in the last `length_s` seconds: tokens, which are reserved first and known later."""

    __slots__ = ("_entries", "_length_s", "_used")

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._entries: deque[Entry] = deque()
        self._used = 0

    def used(self, now: float) -> int:
        """What counts at this moment."""
        while self._entries and self._entries[0].at + self._length_s <= now:
            entry = self._entries.popleft()
            entry.counts = False
            self._used -= entry.amount
        return self._used

    def wait(self, now: float, amount: int, most: int) -> float:
        """Seconds until `amount` more fits into `most`; FOREVER if it never does."""
        if amount > most:
            return FOREVER
        excess = self.used(now) + amount - most
        if excess <= 0:
            return 0.0
        for entry in self._entries:
            excess -= entry.amount
            if excess <= 0:
                return entry.at + self._length_s - now
        return FOREVER

    def add(self, now: float, amount: int) -> Entry:
        """Count an amount from now on."""
        at = max(now, self._entries[-1].at) if self._entries else now
        entry = Entry(at, amount)
        self._entries.append(entry)
        self._used += amount
        return entry

    def reset(self, now: float) -> float:
        """Seconds until nothing of now counts any more; 0 if nothing does."""
        if not self.used(now):
            return 0.0
        return max(0.0, self._entries[-1].at + self._length_s - now)

    def correct(self, entry: Entry, amount: int) -> None:
        """What the amount turned out to be."""
        if entry.counts:
            self._used += amount - entry.amount
        entry.amount = amount
