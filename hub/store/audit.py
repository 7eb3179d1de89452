"""Who did what, and what happened: the audit log and the system log."""

import asyncio
import sqlite3
import time
from typing import NamedTuple

from msgspec import Struct

from .database import Database

KEPT = 20_000
"""Lines of the system log; older ones make room."""


class Actor(NamedTuple):
    """Who does something, and from which address; "" for this machine."""

    name: str
    address: str = ""


def record(
    connection: sqlite3.Connection, actor: Actor, action: str, subject: str, detail: str = ""
) -> None:
    """Write an administrative act down, within the transaction that carries it out. No secrets."""
    connection.execute(
        "INSERT INTO audit_log (at, actor, address, action, subject, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (time.time_ns() // 1000, actor.name, actor.address, action, subject, detail),
    )


class Act(Struct, frozen=True):
    """A line of the audit log; `at` is in Unix seconds."""

    at: float
    actor: str
    address: str
    action: str
    subject: str
    detail: str


class AuditLog:
    """Administrative acts and refused sign-ins. Acts of the store write themselves down; see `record`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self, actor: Actor, action: str, subject: str, detail: str = ""
    ) -> "asyncio.Future[None]":
        """Add a line about something that changes no data, such as a refused sign-in."""
        return self._database.write(
            lambda connection: record(connection, actor, action, subject, detail)
        )

    def prune(self, beginning: str, keep: int) -> "asyncio.Future[None]":
        """Forget all but the last `keep` lines of the actions that begin so."""

        def delete(connection: sqlite3.Connection) -> None:
            chosen = "substr(action, 1, length(?1)) = ?1"
            connection.execute(
                f"DELETE FROM audit_log WHERE {chosen} AND id <= ("  # noqa: S608
                f"SELECT id FROM audit_log WHERE {chosen} ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                (beginning, keep),
            )

        return self._database.write(delete)

    async def latest(
        self,
        count: int,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
    ) -> list[Act]:
        """The last `count` lines, the newest first; `action` is a beginning, such as `users.`."""

        def select(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            return connection.execute(
                "SELECT * FROM audit_log WHERE (?1 IS NULL OR actor = ?1)"
                " AND (?2 IS NULL OR substr(action, 1, length(?2)) = ?2)"
                " AND (?3 IS NULL OR subject = ?3) ORDER BY id DESC LIMIT ?4",
                (actor, action, subject, count),
            ).fetchall()

        return [
            Act(
                row["at"] / 1e6,
                row["actor"],
                row["address"],
                row["action"],
                row["subject"],
                row["detail"],
            )
            for row in await self._database.read(select)
        ]


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
