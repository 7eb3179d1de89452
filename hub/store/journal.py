"""A request from accepted to settled. It is written down before anything runs, and settled exactly once."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

from .credentials import now_us
from .database import Database, RowStatement
from .ledger import Posting, Spent, post, spent_by_family, spent_by_user

State = Literal["completed", "failed", "cancelled", "expired", "interrupted"]


class Accepted(NamedTuple):
    """A request as it is let in; `accepted_at` in Unix microseconds, as all times here."""

    id: str
    key_id: str
    user_id: str
    endpoint: str
    model: str
    stream: bool
    accepted_at: int
    prompt_tokens: int


class Progress(NamedTuple):
    """How far an open request has come."""

    model: str
    """The one that is to answer: along an alias it may be another by now."""
    state: Literal["queued", "offered", "started"]
    worker: str | None
    own_worker: bool
    started_at: int | None
    delivered_chars: int
    completion_tokens: int
    """Of what was delivered, never above it."""
    id: str


class Settled(NamedTuple):
    """How a request ended; the fields up to the id are the table's columns, the rest is for the ledger."""

    state: State
    model: str
    """The one that answered, or was to."""
    offered_at: int | None
    started_at: int | None
    first_piece_at: int | None
    settled_at: int
    worker: str | None
    own_worker: bool
    deliveries: int
    delivered_chars: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    images: int
    tokens_estimated: bool
    cost: int
    worker_usage: str | None
    finish_reason: str | None
    error_code: str | None
    id: str
    user_id: str
    key_id: str
    accepted_at: int


class Open(NamedTuple):
    """A request that a crash left open, as it was last heard of."""

    model: str
    accepted_at: int
    own_worker: bool
    prompt_tokens: int
    completion_tokens: int


class Past(NamedTuple):
    """A settled request, for the windows of its limits."""

    id: str
    accepted_at: int
    tokens: int
    cost: int


class History(NamedTuple):
    """What a user or a key has used lately: requests since some moment, oldest first, and money."""

    requests: list[Past]
    spent: Spent


_ID = Settled._fields.index("id")
_ACCEPT = RowStatement(
    f"INSERT INTO requests ({', '.join(Accepted._fields)}) VALUES {{rows}} RETURNING id",  # noqa: S608
    columns=len(Accepted._fields),
    key=Accepted._fields.index("id"),
)
_PROGRESS = f"""
    UPDATE requests SET {", ".join(f"{name} = ?" for name in Progress._fields[:-1])}
    WHERE id = ? AND settled_at IS NULL
"""  # noqa: S608 - our own column names
_SET = ", ".join(f"{name} = row.column{n}" for n, name in enumerate(Settled._fields[:_ID], 1))


class _Settlement(RowStatement):
    """Settles, and adds what took effect to the ledger."""

    def run(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[bool]:
        changes = super().run(connection, rows)
        took_effect = [Settled(*row) for row, changed in zip(rows, changes, strict=True) if changed]
        if took_effect:
            post(connection, map(_posting, took_effect))
        return changes


# The plus keeps SQLite from looking the row up among all open ones instead of by its id.
_SETTLE = _Settlement(
    f"UPDATE requests SET {_SET} FROM (VALUES {{rows}}) AS row"  # noqa: S608 - our own column names
    f" WHERE requests.id = row.column{_ID + 1} AND +requests.settled_at IS NULL"
    " RETURNING requests.id",
    columns=len(Settled._fields),
    key=_ID,
)
_RECENT = """
    SELECT r.id, r.accepted_at, COALESCE(r.prompt_tokens, 0) + COALESCE(r.completion_tokens, 0), r.cost
    FROM api_keys k JOIN requests r ON r.key_id = k.id
    WHERE k.{whose} = ? AND r.id >= ? AND r.settled_at IS NOT NULL ORDER BY r.id
"""


_PURGE = """
    DELETE FROM requests WHERE id IN (
        SELECT r.id FROM api_keys k LEFT JOIN users u ON u.id = k.user_id JOIN requests r ON r.key_id = k.id
        WHERE u.tier IS ? AND r.id < ? AND r.settled_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM request_bodies b WHERE b.id = r.id) LIMIT ?
    )
"""
PURGED_AT_ONCE = 1_000
"""Rows in one transaction: others wait for it."""
SHORTEST_DAYS = 2
"""The windows of limits look back a day, so rows are kept longer than that."""


class Journal:
    """The `requests` table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owed: list[Settled] = []
        """Settlements that the disk did not take."""

    def accept(self, request: Accepted) -> "asyncio.Future[bool]":
        """Write a request down; nothing may run before this future is done."""
        return self._database.write_row(_ACCEPT, request)

    def progress(self, requests: Iterable[Progress]) -> "asyncio.Future[None]":
        """Checkpoint open requests, so that a crash knows how far they had come."""
        rows = list(requests)

        def update(connection: sqlite3.Connection) -> None:
            connection.executemany(_PROGRESS, rows)

        return self._database.write(update)

    def settle(self, request: Settled) -> "asyncio.Future[bool]":
        """End a request and post it; the future says False if it had an end already, and nothing is changed then.

        What the disk does not take is kept for `settle_owed`.
        """
        written = self._database.write_row(_SETTLE, request, patient=True)
        written.add_done_callback(lambda done: self._note(request, done))
        return written

    def _note(self, request: Settled, written: "asyncio.Future[bool]") -> None:
        if not written.cancelled() and isinstance(written.exception(), sqlite3.Error):
            self._owed.append(request)

    async def settle_owed(self) -> None:
        """Try once more to write the settlements that the disk did not take; what it refuses stays owed."""
        owed, self._owed = self._owed, []
        await asyncio.gather(*map(self.settle, owed), return_exceptions=True)

    def interrupt_open(self, cost: Callable[[Open], int]) -> "asyncio.Future[int]":
        """Settle what a crash left open, at its last checkpoint; how many there were.

        `cost` says what one of them costs, in micro-dollars.
        """

        def settle(connection: sqlite3.Connection) -> int:
            rows = connection.execute("SELECT * FROM requests WHERE settled_at IS NULL").fetchall()
            return sum(_SETTLE.run(connection, [_interrupted(row, cost) for row in rows]))

        return self._database.write(settle)

    async def purge(self, days: dict[str, int], operator_days: int) -> int:
        """Delete the rows of each tier's users after so many days, and those of no user's keys; how many.

        Usage and money stay in the ledger; a row whose content is kept goes after that.
        """
        deleted = 0
        for tier, kept in [*days.items(), (None, operator_days)]:
            before = first_id(now_us() - max(kept, SHORTEST_DAYS) * 86_400_000_000)
            while True:
                count = await self._database.write(partial(_purge, tier=tier, before=before))
                deleted += count
                if count < PURGED_AT_ONCE:
                    break
        return deleted

    async def history(
        self, whose: Literal["user_id", "family"], subject: str, since: int, day: int, month: int
    ) -> History:
        """What a user, or a key's family, has used: requests since a moment, money since two. Unix seconds.

        Everything that was written before this call is in it.
        """
        await self._database.write(lambda connection: None)
        spent = spent_by_user if whose == "user_id" else spent_by_family

        def select(connection: sqlite3.Connection) -> History:
            # One transaction, so that both speak of the same moment.
            connection.execute("BEGIN")
            try:
                rows = connection.execute(
                    _RECENT.format(whose=whose), (subject, first_id(since * 1_000_000))
                ).fetchall()
                return History([Past(*row) for row in rows], spent(connection, subject, day, month))
            finally:
                connection.execute("COMMIT")

        return await self._database.read(select)


def _purge(connection: sqlite3.Connection, tier: str | None, before: str) -> int:
    return connection.execute(_PURGE, (tier, before, PURGED_AT_ONCE)).rowcount


def first_id(at: int) -> str:
    """The lowest id that a request of this moment (Unix microseconds) can have: ids begin with their time."""
    return f"{at:013x}"


def _posting(row: Settled) -> Posting:
    completed = row.state == "completed"
    answered = row.first_piece_at is not None
    return Posting(
        row.user_id,
        row.key_id,
        row.model,
        row.accepted_at,
        1,
        int(completed),
        int(row.state == "cancelled"),
        row.prompt_tokens,
        row.cached_tokens,
        row.completion_tokens,
        row.images,
        row.cost,
        max(0, row.settled_at - row.accepted_at) // 1000 if completed else 0,
        int(answered),
        max(0, (row.first_piece_at or 0) - row.accepted_at) // 1000 if answered else 0,
    )


def _interrupted(row: sqlite3.Row, cost: Callable[[Open], int]) -> Settled:
    """What was delivered until the last checkpoint counts; where nothing was, nothing does."""
    delivered = row["delivered_chars"] > 0
    prompt = (row["prompt_tokens"] or 0) if delivered else 0
    completion = (row["completion_tokens"] or 0) if delivered else 0
    found = Open(row["model"], row["accepted_at"], bool(row["own_worker"]), prompt, completion)
    return Settled(
        state="interrupted",
        model=found.model,
        offered_at=row["offered_at"],
        started_at=row["started_at"],
        first_piece_at=row["first_piece_at"],
        settled_at=now_us(),
        worker=row["worker"],
        own_worker=found.own_worker,
        deliveries=row["deliveries"],
        delivered_chars=row["delivered_chars"],
        prompt_tokens=prompt,
        cached_tokens=0,
        completion_tokens=completion,
        images=0,
        tokens_estimated=True,
        cost=cost(found) if delivered else 0,
        worker_usage=None,
        finish_reason=None,
        error_code="interrupted",
        id=row["id"],
        user_id=row["user_id"],
        key_id=row["key_id"],
        accepted_at=row["accepted_at"],
    )
