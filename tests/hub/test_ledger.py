"""The ledger's sums are those of the journal: whatever is settled, in any order, twice, across restarts."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.settings import load
from hub.store import Store, open_store
from hub.store.audit import Actor
from hub.store.journal import Accepted, Open, Progress, Settled
from hub.store.ledger import GROUPS, Slice, Sum, total
from tests.books import TABLES, check_ledger

TEST = Actor("test")
HOUR, DAY = 3_600 * 10**6, 86_400 * 10**6
EDGE = 20_000 * DAY
"""A midnight, in Unix microseconds."""
AT = st.sampled_from([EDGE + HOUR * n + d for n in (-24, -1, 0, 1, 23, 24) for d in (-1, 0, 1)])
OWNERS = ("ann", "ann", "bob", None)
"""Whose keys there are."""
NUMBERS = st.integers(0, 11)
AMOUNT = st.integers(0, 10**6)
STATES = st.sampled_from(["completed", "failed", "cancelled", "expired"])


@dataclass(frozen=True)
class Accept:
    number: int
    key: int
    model: str
    at: int


@dataclass(frozen=True)
class Checkpoint:
    number: int
    characters: int
    tokens: int


@dataclass(frozen=True)
class Settle:
    """Settlements that are asked for at once; some may be of one request, or of none."""

    ends: list[tuple[int, Any, tuple[int, ...]]]


class Restart:
    def __repr__(self) -> str:
        return "Restart()"


ENDS = st.tuples(NUMBERS, STATES, st.tuples(*[AMOUNT] * 5))
ACTS = st.one_of(
    st.builds(Accept, NUMBERS, st.integers(0, len(OWNERS) - 1), st.sampled_from(["m", "n"]), AT),
    st.builds(Checkpoint, NUMBERS, st.integers(0, 50), st.integers(0, 50)),
    st.lists(ENDS, min_size=1, max_size=6).map(Settle),
    st.builds(Restart),
)


@dataclass
class House:
    """A store that is opened again and again, and what we were told of it."""

    directory: Path
    keys: list[tuple[str, str]] = field(default_factory=list)
    accepted: dict[str, Accepted] = field(default_factory=dict)
    ended: dict[str, Settled] = field(default_factory=dict)
    interrupted: set[str] = field(default_factory=set)

    def open(self) -> Any:
        given = {"data_dir": str(self.directory), "synchronous": "NORMAL"}
        return open_store(load(given, environ={}, directory=self.directory))

    async def furnish(self) -> None:
        async with self.open() as store:
            users = {
                name: (await store.users.create(f"{name}@example.org", TEST)).id
                for name in ("ann", "bob")
            }
            for owner in OWNERS:
                made = await store.keys.create("a key", TEST, user=users[owner] if owner else None)
                self.keys.append((made.id, users[owner] if owner else ""))

    async def live(self, acts: list[Any]) -> None:
        """Until the next restart."""
        async with self.open() as store:
            was_open = set(self.accepted) - set(self.ended) - self.interrupted
            assert await store.journal.interrupt_open(cost) == len(was_open)
            self.interrupted |= was_open
            for act in acts:
                await self.carry_out(store, act)

    async def carry_out(self, store: Store, act: Any) -> None:
        match act:
            case Accept() if f"r{act.number}" not in self.accepted:
                key, user = self.keys[act.key]
                request = f"r{act.number}"
                row = Accepted(
                    request, key, user, "/v1/chat/completions", act.model, True, act.at, 7
                )
                assert await store.journal.accept(row)
                self.accepted[request] = row
            case Checkpoint():
                request = f"r{act.number}"
                model = self.accepted[request].model if request in self.accepted else "m"
                row = Progress(model, "started", "w", False, 1, act.characters, act.tokens, request)
                await store.journal.progress([row])
            case Settle():
                rows = [self.end(*end) for end in act.ends if f"r{end[0]}" in self.accepted]
                done = [store.journal.settle(row) for row in rows]
                for row, took_effect in zip(rows, await asyncio.gather(*done), strict=True):
                    over = row.id in self.ended or row.id in self.interrupted
                    assert took_effect == (not over)
                    if took_effect:
                        self.ended[row.id] = row

    def end(self, number: int, state: Any, amounts: tuple[int, ...]) -> Settled:
        row = self.accepted[f"r{number}"]
        prompt, cached, completion, images, money = amounts
        return Settled(
            state=state,
            offered_at=None,
            started_at=None,
            first_piece_at=row.accepted_at + completion * 100 if completion % 2 else None,
            settled_at=row.accepted_at + prompt * 1000 - 5_000,
            worker="w",
            own_worker=False,
            deliveries=1,
            delivered_chars=10,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            images=images,
            tokens_estimated=False,
            cost=money,
            worker_usage=None,
            finish_reason=None,
            error_code=None,
            id=row.id,
            user_id=row.user_id,
            key_id=row.key_id,
            model=row.model,
            accepted_at=row.accepted_at,
        )


def cost(left: Open) -> int:
    return 3 * left.prompt_tokens + 5 * left.completion_tokens


def lives(acts: list[Any]) -> list[list[Any]]:
    """The acts between restarts."""
    found: list[list[Any]] = [[]]
    for act in acts:
        if isinstance(act, Restart):
            found.append([])
        else:
            found[-1].append(act)
    return found


@given(st.lists(ACTS, max_size=40))
@settings(deadline=None, max_examples=60)
def test_the_ledger_is_the_sum_of_the_journal(acts):
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(tell(House(Path(directory)), acts))


async def tell(house: House, acts: list[Any]) -> None:
    await house.furnish()
    for life in lives(acts):
        await house.live(life)
        check_ledger(house.directory / "hub.db")
    async with house.open() as store:
        await store.journal.interrupt_open(cost)
        check_ledger(house.directory / "hub.db")
        rows = await store.database.read(
            lambda c: [dict(row) for row in c.execute("SELECT * FROM requests").fetchall()]
        )
        assert {row["id"] for row in rows} == set(house.accepted)
        for row in rows:
            if row["id"] in house.ended:
                end = house.ended[row["id"]]
                assert (row["state"], row["cost"]) == (end.state, end.cost)
            else:
                assert row["state"] == "interrupted"
        await check_queries(store, house, rows)


async def check_queries(store: Store, house: House, rows: list[dict[str, Any]]) -> None:
    """What can be asked of the ledger, against the same counted by hand."""
    users = {user for _, user in house.keys}
    choices: list[dict[str, Any]] = [
        {},
        {"models": ["m"]},
        {"keys": [house.keys[0][0]], "users": [house.keys[0][1]]},
        {"keys": [house.keys[0][0]], "users": [house.keys[2][1]]},
        {"family": house.keys[3][0]},
        {"family": house.keys[3][0], "keys": [house.keys[3][0]], "models": ["n"]},
        *({"users": [user]} for user in users),
        {"users": []},
    ]
    start, end = (EDGE - DAY) // 10**6, (EDGE + DAY) // 10**6
    for table, length_s in TABLES.items():
        for choice in choices:
            of = Slice(table, start, end, **choice)  # type: ignore[arg-type]
            every = [(name,) for name in GROUPS]
            found = await store.ledger.sums(of, *every, ("start", "key_id", "model"))
            chosen = [row for row in rows if is_in(row, of, length_s)]
            for by, sums in zip([*every, ("start", "key_id", "model")], found, strict=True):
                assert {
                    tuple(getattr(s, name) for name in by): amounts(s) for s in sums
                } == by_hand(chosen, by, length_s)
                assert (
                    amounts(total(sums)) == (*by_hand(chosen, (), length_s).values(), (0,) * 8)[0]
                )


def is_in(row: dict[str, Any], of: Slice, length_s: int) -> bool:
    return (
        of.start <= bucket(row, length_s) < of.end
        and (of.users is None or row["user_id"] in of.users)
        and (of.keys is None or row["key_id"] in of.keys)
        and (of.family is None or row["key_id"] == of.family)
        and (of.models is None or row["model"] in of.models)
    )


def bucket(row: dict[str, Any], length_s: int) -> int:
    return int(row["accepted_at"] // 10**6 // length_s * length_s)


def by_hand(
    rows: list[dict[str, Any]], by: tuple[str, ...], length_s: int
) -> dict[tuple[Any, ...], tuple[int, ...]]:
    found: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        group = tuple({**row, "start": bucket(row, length_s)}[name] for name in by)
        more = [
            1,
            row["state"] == "completed",
            row["state"] == "cancelled",
            *(
                row[n]
                for n in ("prompt_tokens", "cached_tokens", "completion_tokens", "images", "cost")
            ),
        ]
        found[group] = [a + b for a, b in zip(found.get(group, [0] * 8), more, strict=True)]
    return {group: tuple(sums) for group, sums in found.items()}


def amounts(of: Sum) -> tuple[int, ...]:
    return tuple(of[len(GROUPS) :])
