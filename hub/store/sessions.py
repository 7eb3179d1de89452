"""Sign-ins of people in a browser: found by a secret in a cookie, kept as SHA-256, ended one by one or all."""

import sqlite3
import time
from typing import Any, NamedTuple

from msgspec import Struct

from .audit import Actor, record
from .credentials import digest, insert, new_id, new_secret, now_us
from .database import Database
from .users import User, get_user, user_of

PREFIX = "ss-lmb-"
MOST = 50
"""Sign-ins of one person at once; the oldest makes room."""
SEEN_EVERY_US = 60_000_000
"""How exactly it is known when a session was last seen."""
LONGEST_AGENT = 300


class Visitor(NamedTuple):
    """Who is in front of the door: an address, and what the browser calls itself."""

    address: str
    agent: str


class Session(Struct, frozen=True):
    """A sign-in, without its secret. Times are Unix seconds."""

    id: str
    user: str
    """The address of the user whose sign-in it is."""
    address: str
    agent: str
    created_at: int
    last_seen_at: int
    expires_at: int


_SELECT = """
    SELECT s.id AS session_id, s.address, s.agent, s.created_at AS since, s.last_seen_at, s.expires_at, u.*
    FROM sessions s JOIN users u ON u.id = s.user_id
"""


class Sessions:
    """The `sessions` table. Looked up afresh each time, so that every change to a user holds at once.

    Changing the password and disabling the account end a person's sessions; see `Users`.
    """

    def __init__(self, database: Database, lifetime_s: float) -> None:
        self._database = database
        self._lifetime_s = lifetime_s

    async def create(self, user_id: str, password: str, visitor: Visitor) -> str | None:
        """A new session's secret.

        None if the user is disabled, or `password` is not the hash that is kept: both may have changed while
        it was being compared.
        """
        secret = new_secret(PREFIX)

        def add(connection: sqlite3.Connection) -> bool:
            found = connection.execute(
                "SELECT email FROM users WHERE id = ? AND password = ? AND disabled_at IS NULL",
                (user_id, password),
            ).fetchone()
            if found is None:
                return False
            _make_room(connection, user_id)
            insert(connection, "sessions", self._row(secret, user_id, visitor))
            record(connection, Actor(found["email"], visitor.address), "sign_in.accepted", user_id)
            return True

        return secret if await self._database.write(add) else None

    def _row(self, secret: str, user_id: str, visitor: Visitor) -> dict[str, Any]:
        return {
            "id": new_id(),
            "hash": digest(secret),
            "user_id": user_id,
            "address": visitor.address,
            "agent": visitor.agent[:LONGEST_AGENT],
            "created_at": now_us(),
            "last_seen_at": now_us(),
            "expires_at": int(time.time() + self._lifetime_s),
        }

    async def find(self, secret: str) -> User | None:
        """Whose session this is; None for an unknown, ended or expired one."""
        if not secret.startswith(PREFIX):
            return None
        hashed = digest(secret)
        row = await self._database.read(
            lambda connection: connection.execute(
                _SELECT + " WHERE s.hash = ? AND u.disabled_at IS NULL", (hashed,)
            ).fetchone()
        )
        if row is None or row["expires_at"] <= time.time():
            return None
        if row["last_seen_at"] + SEEN_EVERY_US < now_us():
            self._seen(row["session_id"])
        return user_of(row)

    def _seen(self, session_id: str) -> None:
        now = now_us()
        self._database.write(
            lambda connection: (
                connection.execute(
                    "UPDATE sessions SET last_seen_at = ? WHERE id = ?", (now, session_id)
                ).rowcount
            )
        )

    async def all(self, user: str | None = None) -> list[Session]:
        """Those that work, the newest first; those of one user alone if given. Raises NotFound."""
        now = int(time.time())

        def select(connection: sqlite3.Connection) -> list[Any]:
            owner = get_user(connection, user).id if user is not None else None
            return connection.execute(
                _SELECT + " WHERE s.expires_at > ?1 AND (?2 IS NULL OR s.user_id = ?2)"
                " ORDER BY s.created_at DESC, s.id",
                (now, owner),
            ).fetchall()

        return [_session_of(row) for row in await self._database.read(select)]

    async def purge(self) -> int:
        """Delete what has expired; how many sign-ins that were."""
        return await self._database.write(_forget_expired)

    async def end(self, secret: str) -> None:
        """Sign out."""
        hashed = digest(secret)
        await self._database.write(
            lambda connection: (
                connection.execute("DELETE FROM sessions WHERE hash = ?", (hashed,)).rowcount
            )
        )

    async def revoke(self, session_id: str, actor: Actor) -> bool:
        """End a session by the id that a list shows; False if there was none."""

        def delete(connection: sqlite3.Connection) -> bool:
            gone = connection.execute("DELETE FROM sessions WHERE id = ?", (session_id,)).rowcount
            if gone:
                record(connection, actor, "sessions.revoke", session_id)
            return bool(gone)

        return await self._database.write(delete)


def _forget_expired(connection: sqlite3.Connection) -> int:
    return connection.execute(
        "DELETE FROM sessions WHERE expires_at <= ?", (int(time.time()),)
    ).rowcount


def _make_room(connection: sqlite3.Connection, user_id: str) -> None:
    """Forget what has expired, and the oldest of somebody who signs in again and again."""
    _forget_expired(connection)
    connection.execute(
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user_id = ?"
        " ORDER BY created_at DESC, id LIMIT -1 OFFSET ?)",
        (user_id, MOST - 1),
    )


def _session_of(row: Any) -> Session:
    return Session(
        id=row["session_id"],
        user=row["email"],
        address=row["address"],
        agent=row["agent"],
        created_at=row["since"] // 1_000_000,
        last_seen_at=row["last_seen_at"] // 1_000_000,
        expires_at=row["expires_at"],
    )
