"""How often each of many may try something, in bounded memory."""

from cachetools import TTLCache

from ..rules.window import Arrivals, Limit

KNOWN = 20_000
"""Names remembered at once; the one that was quiet the longest makes room."""


class Throttle:
    """At most so many tries in a window, for each name. Times are `time.monotonic`'s."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._tries: TTLCache[str, Arrivals] = TTLCache(KNOWN, limit.length_s)

    def __len__(self) -> int:
        return len(self._tries)

    def wait(self, name: str, now: float) -> float:
        """Seconds until this name may try again; 0 if it may now."""
        tries = self._tries.get(name)
        return tries.wait(now, [self._limit]) if tries is not None else 0.0

    def count(self, name: str, now: float) -> None:
        """It tries now."""
        tries = self._tries.get(name) or Arrivals()
        tries.admit(now, self._limit.length_s)
        # Set again even if known: what counts must be remembered for a whole window from here.
        self._tries[name] = tries

    def forgive(self, name: str, at: float) -> None:
        """The try of that moment shall not count."""
        tries = self._tries.get(name)
        if tries is not None:
            tries.withdraw(at)
