"""What keys, worker tokens, invitations and sessions share: opaque secrets, shown once, kept as SHA-256 only."""

import hashlib
import secrets
import sqlite3
import time
from typing import Any

from msgspec import Struct

SHOWN_CHARACTERS = 12


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
