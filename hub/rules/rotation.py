"""Smooth weighted round-robin: who is next, so that turns are spread evenly and not in bursts.

The method is nginx's: each turn everybody gains their weight, the richest is picked and pays the total.
Weights 5, 1, 1 give a a b a c a a.
"""

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)


class Rotation(Generic[Member]):
    """The turns of one group of members; it remembers what each is owed between picks."""

    def __init__(self) -> None:
        self._credit: dict[Member, int] = {}

    def pick(self, candidates: Iterable[tuple[Member, int]]) -> Member | None:
        """The next of the candidates, given with their weights (integers above 0); None if there are none."""
        best, total, credit = None, 0, self._credit
        most = 0
        for member, weight in candidates:
            total += weight
            owed = credit[member] = credit.get(member, 0) + weight
            if best is None or owed > most:
                best, most = member, owed
        if best is not None:
            credit[best] -= total
        return best

    def forget(self, member: Member) -> None:
        """A member that left starts afresh should it return."""
        self._credit.pop(member, None)
