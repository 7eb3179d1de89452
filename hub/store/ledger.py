"""Usage and money in sums: by hour and by day, for every user, key and model. Money is integer micro-dollars.

The sums grow in the transaction that settles a request, so that they are those of the journal at every moment.
"""

import sqlite3
from collections.abc import Iterable
from typing import Literal, NamedTuple

import orjson

from .database import Database

HOUR_S = 3_600
DAY_S = 86_400

_SUMS = (
    "requests",
    "completed",
    "cancelled",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "images",
    "cost",
    "duration_ms",
    "first_pieces",
    "first_piece_ms",
)


class Posting(NamedTuple):
    """What one settled request adds; the fields from `requests` on are the tables' sums."""

    user_id: str
    key_id: str
    model: str
    accepted_at: int
    """Unix microseconds: the request belongs to this hour and day."""
    requests: int
    completed: int
    cancelled: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    images: int
    cost: int
    duration_ms: int
    first_pieces: int
    first_piece_ms: int


class Spent(NamedTuple):
    """Micro-dollars since the beginning of a day and of a month."""

    day: int
    month: int


def _upsert(table: str) -> str:
    columns = ("user_id", "start", "key_id", "model", *_SUMS)
    marks = ", ".join("?" * len(columns))
    sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - our own names
        f" ON CONFLICT (user_id, start, key_id, model) DO UPDATE SET {sums}"
    )


_BUCKETS = ((HOUR_S, _upsert("usage_hourly")), (DAY_S, _upsert("usage_daily")))

_SPENT_BY_USER = """
    SELECT COALESCE(SUM(cost), 0), COALESCE(SUM(CASE WHEN start >= ?2 THEN cost END), 0)
    FROM usage_daily WHERE user_id = ?1 AND start >= ?3
"""
_SPENT_BY_FAMILY = """
    SELECT COALESCE(SUM(cost), 0), COALESCE(SUM(CASE WHEN start >= ?2 THEN cost END), 0)
    FROM usage_daily WHERE start >= ?3 AND key_id IN (SELECT id FROM api_keys WHERE family = ?1)
    AND +user_id = COALESCE((SELECT user_id FROM api_keys WHERE id = ?1), '')
"""
# The plus: by the key, and not by all that the operator's keys together have used.


def post(connection: sqlite3.Connection, postings: Iterable[Posting]) -> None:
    """Add settled requests to the sums, within the transaction that settles them."""
    postings = list(postings)
    for length_s, statement in _BUCKETS:
        sums: dict[tuple[str, int, str, str], list[int]] = {}
        for posting in postings:
            start = posting.accepted_at // 1_000_000 // length_s * length_s
            bucket = (posting.user_id, start, posting.key_id, posting.model)
            amounts = posting[4:]
            known = sums.get(bucket)
            sums[bucket] = (
                [a + b for a, b in zip(known, amounts, strict=True)] if known else [*amounts]
            )
        rows = [(*bucket, *amounts) for bucket, amounts in sums.items()]
        if len(rows) == 1:
            connection.execute(statement, rows[0])
        else:
            connection.executemany(statement, rows)


Group = Literal["start", "user_id", "key_id", "model"]
GROUPS: tuple[Group, ...] = ("start", "user_id", "key_id", "model")
THE_END = 1 << 53
"""A moment that never comes, in Unix seconds."""


class Slice(NamedTuple):
    """Which sums: those of buckets that begin in [start, end), in Unix seconds; None is all of a kind."""

    table: Literal["usage_hourly", "usage_daily"]
    start: int
    end: int = THE_END
    users: list[str] | None = None
    keys: list[str] | None = None
    family: str | None = None
    """Keys that followed each other by rotation."""
    models: list[str] | None = None


class Sum(NamedTuple):
    """One group's sums; what was not grouped by is None. Cost is micro-dollars."""

    start: int | None
    user_id: str | None
    key_id: str | None
    model: str | None
    requests: int = 0
    completed: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    images: int = 0
    cost: int = 0

    @property
    def failed(self) -> int:
        """Those that ended with an error, in time or not, or by a crash."""
        return self.requests - self.completed - self.cancelled


_AMOUNTS = Sum._fields[len(GROUPS) :]


def total(sums: Iterable[Sum]) -> Sum:
    """All groups together."""
    columns = zip(*(each[len(GROUPS) :] for each in sums), strict=True)
    return Sum(None, None, None, None, *map(sum, columns))


class Ledger:
    """The `usage_hourly` and `usage_daily` tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, of: Slice, *groupings: tuple[Group, ...]) -> list[list[Sum]]:
        """For each grouping its groups, in order; all of them of one moment.

        Everything that was settled before this call is in them.
        """
        await self._database.write(lambda connection: None)

        def select(connection: sqlite3.Connection) -> list[list[Sum]]:
            connection.execute("BEGIN")
            try:
                return [_sums(connection, of, by) for by in groupings]
            finally:
                connection.execute("COMMIT")

        return await self._database.read(select)


def _sums(connection: sqlite3.Connection, of: Slice, by: tuple[Group, ...]) -> list[Sum]:
    conditions, values = _conditions(of)
    groups = [name if name in by else f"NULL AS {name}" for name in GROUPS]
    amounts = [f"SUM({name})" for name in _AMOUNTS]
    rows = connection.execute(
        f"SELECT {', '.join(groups + amounts)} FROM {of.table} WHERE {' AND '.join(conditions)}"  # noqa: S608
        f" GROUP BY {', '.join(by)} ORDER BY {', '.join(by)}",
        values,
    )
    return [Sum(*row) for row in rows]


def _conditions(of: Slice) -> tuple[list[str], list[int | str]]:
    """A plus keeps SQLite from looking by that column: where keys are named, their index is the narrowest."""
    conditions = ["start >= ?", "start < ?"]
    values: list[int | str] = [of.start, of.end]
    named = "IN (SELECT value FROM json_each(?))"
    if of.family is not None:
        conditions.append("key_id IN (SELECT id FROM api_keys WHERE family = ?)")
        values.append(of.family)
    by_key = "+key_id" if of.family is not None else "key_id"
    by_user = "+user_id" if of.family is not None or of.keys is not None else "user_id"
    for column, some in ((by_key, of.keys), (by_user, of.users), ("+model", of.models)):
        if some is not None:
            conditions.append(f"{column} {named}")
            values.append(orjson.dumps(some).decode())
    return conditions, values


def spent_by_user(connection: sqlite3.Connection, user_id: str, day: int, month: int) -> Spent:
    """What a user has spent since these beginnings, in Unix seconds."""
    return _spent(connection, _SPENT_BY_USER, user_id, day, month)


def spent_by_family(connection: sqlite3.Connection, family: str, day: int, month: int) -> Spent:
    """What a key, and those that it followed by rotation, have spent."""
    return _spent(connection, _SPENT_BY_FAMILY, family, day, month)


def _spent(
    connection: sqlite3.Connection, statement: str, subject: str, day: int, month: int
) -> Spent:
    of_month, of_day = connection.execute(statement, (subject, day, month)).fetchone()
    return Spent(of_day, of_month)
