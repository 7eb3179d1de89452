"""API keys and worker tokens: made once, shown once, kept as SHA-256 only."""

import hashlib
import secrets
import sqlite3
import time
from typing import Any, Literal

from cachetools import TTLCache
from msgspec import Struct

from .audit import record
from .database import Database

KEY_PREFIX = "sk-lmb-"
TOKEN_PREFIX = "wt-lmb-"  # noqa: S105 - what all tokens begin with
SHOWN_CHARACTERS = 12
CACHED = 10_000
CACHED_S = 300
"""Long enough to spare the database; changes made through this hub hold at once."""


class Credential(Struct, frozen=True):
    """An API key or a worker token, without its secret. Times are Unix seconds."""

    id: str
    name: str
    prefix: str
    created_at: int


class Created(Struct, frozen=True):
    """A credential at the only moment when its secret is known."""

    id: str
    name: str
    secret: str


class Credentials:
    """The keys or the tokens; both are opaque secrets that name their holder."""

    def __init__(
        self, database: Database, table: Literal["api_keys", "worker_tokens"], prefix: str
    ) -> None:
        self._database = database
        self._table = table
        self._prefix = prefix
        self._cache: TTLCache[bytes, Credential] = TTLCache(CACHED, CACHED_S)
        self._changes = 0

    async def create(self, name: str, actor: str) -> Created:
        """A new credential; its secret is in what comes back, and nowhere else."""
        secret = self._prefix + secrets.token_hex(24)
        made = Created(secrets.token_hex(8), name, secret)
        row = (made.id, _digest(secret), secret[:SHOWN_CHARACTERS], name, time.time_ns() // 1000)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"INSERT INTO {self._table} (id, hash, prefix, name, created_at)"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?)",
                row,
            )
            record(connection, actor, f"{self._table}.create", made.id)

        await self._database.write(insert)
        return made

    async def find(self, secret: str) -> Credential | None:
        """Whose secret this is; None for an unknown or revoked one."""
        if not secret.startswith(self._prefix):
            return None
        digest = _digest(secret)
        known = self._cache.get(digest)
        if known is None:
            changes = self._changes
            known = await self._database.read(lambda connection: self._select(connection, digest))
            # A revocation may have happened while we read.
            if known is not None and changes == self._changes:
                self._cache[digest] = known
        return known

    async def all(self) -> list[Credential]:
        """Those that are not revoked, oldest first."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                f"SELECT * FROM {self._table} WHERE revoked_at IS NULL ORDER BY created_at"  # noqa: S608
            ).fetchall()
        )
        return [_credential(row) for row in rows]

    async def revoke(self, credential_id: str, actor: str) -> bool:
        """End a credential from the next request on; False if there was none of that id."""

        def update(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                f"UPDATE {self._table} SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",  # noqa: S608
                (time.time_ns() // 1000, credential_id),
            ).rowcount
            if changed:
                record(connection, actor, f"{self._table}.revoke", credential_id)
            return bool(changed)

        revoked = await self._database.write(update)
        self._changes += 1
        self._cache.clear()
        return revoked

    def _select(self, connection: sqlite3.Connection, digest: bytes) -> Credential | None:
        row = connection.execute(
            f"SELECT * FROM {self._table} WHERE hash = ? AND revoked_at IS NULL",  # noqa: S608
            (digest,),
        ).fetchone()
        return _credential(row) if row else None


def _credential(row: Any) -> Credential:
    return Credential(row["id"], row["name"], row["prefix"], row["created_at"] // 1_000_000)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
