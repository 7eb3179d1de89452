"""Whose turn it is in a line that many share: self-clocked fair queueing.

Each request that joins gets a tag, and the lowest tag goes first. The tags of one flow (a key's requests) lie
1/weight apart, so that whoever sends a thousand requests spreads them over a thousand turns, and another's first
one comes right after those that are due now. A flow of weight 4 has four turns while one of weight 1 has one:
never all of them, so nobody starves. The clock is the tag that was served last.

The method is S. Golestani's, "A self-clocked fair queueing scheme for broadband applications" (INFOCOM 1994).
"""

from collections.abc import Hashable


class Turns:
    """Tags of those who wait; a flow is remembered only while something of it waits."""

    def __init__(self) -> None:
        self._now = 0.0
        self._flows: dict[Hashable, tuple[float, int]] = {}

    def tag(self, flow: Hashable, weight: int) -> float:
        """The tag that one more request of a flow would have; `weight` is above 0."""
        last, _ = self._flows.get(flow, (self._now, 0))
        return max(last, self._now) + 1 / weight

    def join(self, flow: Hashable, weight: int) -> float:
        """The tag of one more request of a flow."""
        tag = self.tag(flow, weight)
        self._flows[flow] = (tag, self.waiting(flow) + 1)
        return tag

    def rejoin(self, flow: Hashable, tag: float) -> None:
        """A request that left is back, with the tag that it had."""
        last, waiting = self._flows.get(flow, (tag, 0))
        self._flows[flow] = (max(last, tag), waiting + 1)

    def leave(self, flow: Hashable, tag: float, *, served: bool) -> None:
        """A request is served, or has given up waiting."""
        if served:
            self._now = max(self._now, tag)
        last, waiting = self._flows[flow]
        if waiting == 1:
            del self._flows[flow]
        else:
            self._flows[flow] = (last, waiting - 1)

    def waiting(self, flow: Hashable) -> int:
        """How many of a flow wait."""
        return self._flows.get(flow, (0.0, 0))[1]
