"""The requests that ended last, for those who look on."""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from .feed import Event, RequestSettled

KEPT = 1_000


class Ended(NamedTuple):
    """A request that ended; numbers grow by one, `at` is Unix seconds."""

    number: int
    at: float
    request: RequestSettled


class RecentRequests:
    """A listener of the feed that remembers for a while."""

    def __init__(self) -> None:
        self._ended: deque[Ended] = deque(maxlen=KEPT)
        self._number = 0

    def hear(self, event: Event) -> None:
        """Take an event of the feed."""
        if isinstance(event, RequestSettled):
            self._number += 1
            self._ended.append(Ended(self._number, time.time(), event))

    def after(self, number: int) -> Iterator[Ended]:
        """Those that ended after that one, the oldest first; a number of an earlier run of the hub is none."""
        number = number if number <= self._number else 0
        return (ended for ended in self._ended if ended.number > number)
