"""How many slots an agent should have: more while requests wait for it, fewer after it had too many for a while.

An agent started with a range of slots keeps to its range whatever it is told; one without a range does nothing.
"""

from ..settings import Scaling


class Load:
    """One agent's recent load, and what it was told. Times are seconds on one clock, the caller's choice."""

    __slots__ = ("_busiest", "_rules", "_since", "_told")

    def __init__(self, rules: Scaling, now: float) -> None:
        self._rules = rules
        self._since = now
        self._busiest = 0
        self._told: int | None = None

    def look(self, now: float, slots: int, busiest: int, waiting: int, most: int) -> int | None:
        """What to tell the agent, if there is something new.

        `busiest` is the most jobs that it had at once since the last look, `waiting` how many wait too long for
        it, `most` the largest number that it may be told.
        """
        self._busiest = max(self._busiest, busiest)
        if waiting:
            self._begin(now, busiest)
            return self._tell(min(most, slots + waiting))
        if now - self._since < self._rules.shrink_after_s:
            return None
        wanted = max(1, self._busiest)
        self._begin(now, busiest)
        return self._tell(wanted) if wanted < slots else None

    def _begin(self, now: float, busiest: int) -> None:
        self._since, self._busiest = now, busiest

    def _tell(self, wanted: int) -> int | None:
        if wanted == self._told:
            return None
        self._told = wanted
        return wanted
