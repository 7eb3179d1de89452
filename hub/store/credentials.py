"""What keys, worker tokens, invitations and sessions share: opaque secrets, shown once, kept as SHA-256 only."""

import hashlib
import secrets
import sqlite3
import time
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from cachetools import TTLCache
from msgspec import Struct

from .audit import Actor, record
from .database import Database, Operation, T

SHOWN_CHARACTERS = 12
CACHED = 20_000
"""Holders of secrets in memory, of one kind; each takes about a kilobyte."""

Holder = TypeVar("Holder")


class Created(Struct, frozen=True):
    """A credential at the only moment when its secret is known."""

    id: str
    name: str
    secret: str


def new_id() -> str:
    return secrets.token_hex(8)


def new_secret(prefix: str) -> str:
    """192 random bits behind a prefix that says what it is."""
    return prefix + secrets.token_hex(24)


def digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def now_us() -> int:
    """Unix microseconds."""
    return time.time_ns() // 1000


def insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    """Add a row; the names of table and columns are ours."""
    columns = ", ".join(row)
    marks = ", ".join("?" * len(row))
    connection.execute(
        f"INSERT INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608
        [*row.values()],
    )


class Credentials(ABC, Generic[Holder]):
    """A table of secrets that are shown with every request or connection, with a cache of who holds them.

    `ttl_s` only bounds how long an idle one stays in memory: every change made through this hub holds at once.
    """

    table: ClassVar[str]
    prefix: ClassVar[str]
    """What all secrets of this kind begin with."""
    seen_column: ClassVar[str]

    def __init__(self, database: Database, ttl_s: float) -> None:
        self._database = database
        self._cache: TTLCache[bytes, Holder] = TTLCache(CACHED, ttl_s)
        self._changes = 0
        self._seen: dict[str, int] = {}

    @abstractmethod
    def _select(self, connection: sqlite3.Connection, hashed: bytes) -> Holder | None:
        """Who holds the secret of this hash now."""

    async def _look_up(self, secret: str) -> Holder | None:
        if not secret.startswith(self.prefix):
            return None
        hashed = digest(secret)
        holder = self._cache.get(hashed)
        if holder is None:
            changes = self._changes
            holder = await self._database.read(lambda connection: self._select(connection, hashed))
            # A revocation may have happened while we read.
            if holder is not None and changes == self._changes:
                self._cache[hashed] = holder
        return holder

    async def revoke(self, credential_id: str, actor: Actor) -> bool:
        """End one from the next time on that it is shown; False if there was none of that id."""

        def update(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                f"UPDATE {self.table} SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",  # noqa: S608
                (now_us(), credential_id),
            ).rowcount
            if changed:
                record(connection, actor, f"{self.table}.revoke", credential_id)
            return bool(changed)

        return await self._change(update)

    def seen(self, credential_id: str) -> None:
        """Remember that it was shown just now; `write_seen` writes it down."""
        self._seen[credential_id] = now_us()

    async def write_seen(self) -> None:
        """Write down which were shown since the last time."""
        seen, self._seen = self._seen, {}
        if seen:
            rows = [(at, credential_id) for credential_id, at in seen.items()]
            sql = f"UPDATE {self.table} SET {self.seen_column} = ? WHERE id = ?"  # noqa: S608
            await self._database.write(
                lambda connection: connection.executemany(sql, rows).rowcount
            )

    def forget(self) -> None:
        """Something about them or their users changed: look everything up afresh."""
        self._changes += 1
        self._cache.clear()

    async def _change(self, operation: Operation[T]) -> T:
        try:
            return await self._database.write(operation)
        finally:
            self.forget()
