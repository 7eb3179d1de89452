"""Smooth weighted round-robin: who is next, so that turns are spread evenly and not in bursts.

The method is nginx's: each turn everybody gains their weight, the richest is picked and pays the total.
Weights 5, 1, 1 give a a b a c a a.

Members of the same weight and kind gain alike, so their order changes only when one of them pays. They sit in one
group that gains as a whole, its richest on top: a turn costs a look at each group, however many the members.
"""

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)
SLACK = 16
"""Outdated entries that a group may hold beyond one a member before it is swept."""


Suits = Callable[[Member], bool | None]
"""Whether it is somebody's turn if they are next; None if they can take no turns at all for now."""


def _anybody(_: Any) -> bool:
    return True


class _Seat(Generic[Member]):
    """A member's place. In a group, its credit is what it has beyond what the group gained."""

    __slots__ = ("credit", "group", "kind", "member", "number", "weight")

    def __init__(self, member: Member, number: int) -> None:
        self.member = member
        self.number = number
        self.credit = 0
        self.weight = 1
        self.kind: Any = None
        self.group: _Group[Member] | None = None


class _Group(Generic[Member]):
    """Those of one kind and weight, the richest on top. Entries of those who paid or left are outdated."""

    __slots__ = ("entries", "gained", "kind", "seats", "weight")

    def __init__(self, kind: Any, weight: int) -> None:
        self.kind = kind
        self.weight = weight
        self.gained = 0
        self.seats: dict[int, _Seat[Member]] = {}
        self.entries: list[tuple[int, int]] = []

    def push(self, seat: _Seat[Member]) -> None:
        heappush(self.entries, (-seat.credit, seat.number))
        if len(self.entries) > 2 * len(self.seats) + SLACK:
            self.entries = [(-seat.credit, seat.number) for seat in self.seats.values()]
            heapify(self.entries)

    def first(self, suits: Suits[Member], unable: list[_Seat[Member]]) -> _Seat[Member] | None:
        """The richest that suits; those that cannot take turns at all are added to `unable`."""
        passed_over = []
        found = None
        while self.entries:
            seat = self.seats.get(self.entries[0][1])
            if seat is not None and -seat.credit == self.entries[0][0]:
                verdict = suits(seat.member)
                if verdict:
                    found = seat
                    break
                if verdict is None:
                    unable.append(seat)
                passed_over.append(self.entries[0])
            heappop(self.entries)
        for entry in passed_over:
            heappush(self.entries, entry)
        return found


class Rotation(Generic[Member]):
    """The turns of some members; it remembers what each is owed between picks."""

    def __init__(self) -> None:
        self._seats: dict[Member, _Seat[Member]] = {}
        self._groups: dict[tuple[Any, int], _Group[Member]] = {}
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._seats)

    def put(self, member: Member, weight: int, kind: Hashable = None) -> None:
        """Let a member take turns, or change its weight (an integer above 0) or kind; it keeps its credit."""
        seat = self._seats.get(member)
        if seat is None:
            seat = self._seats[member] = _Seat(member, self._numbers)
            self._numbers += 1
        elif (seat.weight, seat.kind) == (weight, kind) and seat.group is not None:
            return
        self._rise(seat)
        seat.weight, seat.kind = weight, kind
        self._sit(seat)

    def weigh(self, member: Member, weight: int) -> None:
        """Change a member's weight, whether it takes turns now or stepped aside."""
        seat = self._seats[member]
        if seat.group is None:
            seat.weight = weight
        else:
            self.put(member, weight, seat.kind)

    def step_aside(self, member: Member) -> None:
        """A member takes no turns for now and gains nothing; it keeps its credit."""
        if (seat := self._seats.get(member)) is not None:
            self._rise(seat)

    def step_back(self, member: Member) -> None:
        """It takes turns again."""
        seat = self._seats.get(member)
        if seat is not None and seat.group is None:
            self._sit(seat)

    def forget(self, member: Member) -> None:
        """A member that left starts afresh should it return."""
        if (seat := self._seats.pop(member, None)) is not None:
            self._rise(seat)

    def pick(
        self, suits: Suits[Member] = _anybody, accepts: Callable[[Any], bool] = _anybody
    ) -> Member | None:
        """The next of those who suit, of a kind that is accepted; None if there are none."""
        total, best, most = 0, None, 0
        for group, seat in self._look(suits, accepts):
            group.gained += group.weight
            total += group.weight * len(group.seats)
            owed = group.gained + seat.credit
            if best is None or (owed, -seat.number) > (most, -best.number):
                best, most = seat, owed
        if best is None:
            return None
        best.credit -= total
        if best.group is not None:
            best.group.push(best)
        return best.member

    def has(self, suits: Suits[Member], accepts: Callable[[Any], bool] = _anybody) -> bool:
        """Whether a pick would find anybody."""
        return bool(self._look(suits, accepts))

    def _look(
        self, suits: Suits[Member], accepts: Callable[[Any], bool]
    ) -> list[tuple[_Group[Member], _Seat[Member]]]:
        """The richest of each group; who is found unable steps aside."""
        unable: list[_Seat[Member]] = []
        found = [
            (group, seat)
            for group in self._groups.values()
            if accepts(group.kind) and (seat := group.first(suits, unable)) is not None
        ]
        for seat in unable:
            self._rise(seat)
        return found

    def _sit(self, seat: _Seat[Member]) -> None:
        key = (seat.kind, seat.weight)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(*key)
        seat.credit -= group.gained
        seat.group = group
        group.seats[seat.number] = seat
        group.push(seat)

    def _rise(self, seat: _Seat[Member]) -> None:
        group, seat.group = seat.group, None
        if group is None:
            return
        seat.credit += group.gained
        del group.seats[seat.number]
        if not group.seats:
            del self._groups[group.kind, group.weight]
