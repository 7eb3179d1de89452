"""A request from accepted to settled. It is written down before anything runs, and settled exactly once."""

import asyncio
import sqlite3
import time
from collections.abc import Iterable
from typing import Literal, NamedTuple

from .database import Database, RowStatement

State = Literal["completed", "failed", "cancelled", "expired", "interrupted"]


class Accepted(NamedTuple):
    """A request as it is let in; `accepted_at` in Unix microseconds, as all times here."""

    id: str
    key_id: str
    endpoint: str
    model: str
    stream: bool
    accepted_at: int


class Progress(NamedTuple):
    """How far an open request has come."""

    state: Literal["queued", "offered", "started"]
    worker: str | None
    started_at: int | None
    delivered_chars: int
    id: str


class Settled(NamedTuple):
    """How a request ended; the fields are the table's columns, the id last."""

    state: State
    offered_at: int | None
    started_at: int | None
    first_piece_at: int | None
    settled_at: int
    worker: str | None
    deliveries: int
    delivered_chars: int
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_estimated: bool
    worker_usage: str | None
    finish_reason: str | None
    error_code: str | None
    id: str


_ACCEPT = RowStatement(
    "INSERT INTO requests (id, key_id, endpoint, model, stream, accepted_at) VALUES {rows} RETURNING id",
    columns=len(Accepted._fields),
    key=Accepted._fields.index("id"),
)
_PROGRESS = """
    UPDATE requests SET state = ?, worker = ?, started_at = ?, delivered_chars = ?
    WHERE id = ? AND settled_at IS NULL
"""
_SET = ", ".join(f"{name} = row.column{n}" for n, name in enumerate(Settled._fields[:-1], 1))
# The plus keeps SQLite from looking the row up among all open ones instead of by its id.
_SETTLE = RowStatement(
    f"UPDATE requests SET {_SET} FROM (VALUES {{rows}}) AS row"  # noqa: S608 - our own column names
    f" WHERE requests.id = row.column{len(Settled._fields)} AND +requests.settled_at IS NULL"
    " RETURNING requests.id",
    columns=len(Settled._fields),
    key=Settled._fields.index("id"),
)
_INTERRUPT = """
    UPDATE requests SET state = 'interrupted', error_code = 'interrupted', settled_at = ?
    WHERE settled_at IS NULL
"""


class Journal:
    """The `requests` table."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        """End a request; the future says False if it had an end already, and nothing is changed then."""
        return self._database.write_row(_SETTLE, request, patient=True)

    def interrupt_open(self) -> "asyncio.Future[int]":
        """Settle what a crash left open; how many there were."""
        now = time.time_ns() // 1000
        return self._database.write(
            lambda connection: connection.execute(_INTERRUPT, (now,)).rowcount
        )
