"""Who did what, and what happened: the audit log and the system log."""

import asyncio
import sqlite3
import time

from msgspec import Struct

from .database import Database

KEPT = 20_000
"""Lines of the system log; older ones make room."""


def record(connection: sqlite3.Connection, actor: str, action: str, subject: str) -> None:
    """Write an administrative act down, within the transaction that carries it out."""
    connection.execute(
        "INSERT INTO audit_log (at, actor, action, subject) VALUES (?, ?, ?, ?)",
        (time.time_ns() // 1000, actor, action, subject),
    )


class Entry(Struct, frozen=True):
    """A line of the system log; `at` is in Unix seconds."""

    at: float
    kind: str
    subject: str
    message: str


class SystemLog:
    """What happened that an operator should know of: a changed site, a worker that needs its human."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, kind: str, subject: str, message: str) -> "asyncio.Future[None]":
        """Add a line."""
        row = (time.time_ns() // 1000, kind, subject, message)

        def insert(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(
                "INSERT INTO system_log (at, kind, subject, message) VALUES (?, ?, ?, ?)", row
            )
            connection.execute(
                "DELETE FROM system_log WHERE id <= ?", ((cursor.lastrowid or 0) - KEPT,)
            )

        return self._database.write(insert)

    async def latest(self, count: int) -> list[Entry]:
        """The last `count` lines, the newest first."""

        def select(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            return connection.execute(
                "SELECT * FROM system_log ORDER BY id DESC LIMIT ?", (count,)
            ).fetchall()

        return [
            Entry(row["at"] / 1e6, row["kind"], row["subject"], row["message"])
            for row in await self._database.read(select)
        ]
