"""Requests that may be sent again: what an Idempotency-Key of whom was used for, until it may be used anew."""

import sqlite3
from typing import NamedTuple

from ..errors import IdempotencyKeyInUse
from .sealed import ASKED
from .vault import Vault


class Repeat(NamedTuple):
    """A request that may be sent again."""

    owner: str
    """Whose it is; see `content.owner_of`."""
    key: str
    """A digest of the Idempotency-Key, in hexadecimal."""
    asked: str
    """A digest of what is asked, in hexadecimal. Sealed on disk: what was asked could be guessed from it."""
    until: int
    """How long the answer is kept; Unix microseconds."""


def remember(connection: sqlite3.Connection, vault: Vault, repeat: Repeat, request: str) -> None:
    """That this request answers it. What was kept of an earlier one, which did not come to an answer, goes."""
    earlier = connection.execute(
        "DELETE FROM idempotency WHERE owner = ? AND key = ? RETURNING request",
        (repeat.owner, repeat.key),
    ).fetchall()
    for row in earlier:
        _let_go(connection, row["request"])
    sealed = vault.seal(f"{request} {repeat.asked}".encode(), ASKED.row(repeat.owner, repeat.key))
    connection.execute(
        "INSERT INTO idempotency (owner, key, request, expires_at, asked) VALUES (?, ?, ?, ?, ?)",
        (repeat.owner, repeat.key, request, repeat.until, sealed),
    )


def recall(connection: sqlite3.Connection, vault: Vault, repeat: Repeat, now: int) -> str | None:
    """The request that answers it, if any. Raises IdempotencyKeyInUse, ContentUnreadable."""
    row = connection.execute(
        "SELECT request, asked FROM idempotency WHERE owner = ? AND key = ? AND expires_at > ?",
        (repeat.owner, repeat.key, now),
    ).fetchone()
    if row is None:
        return None
    request, asked = (
        vault.open(row["asked"], ASKED.row(repeat.owner, repeat.key)).decode().split(" ")
    )
    if asked != repeat.asked:
        raise IdempotencyKeyInUse
    # A row that was made to name another request names nothing.
    return request if request == row["request"] else None


def forget(connection: sqlite3.Connection, request: str) -> None:
    """This request came to no answer that could be given again: its key may be used anew."""
    connection.execute("DELETE FROM idempotency WHERE request = ?", (request,))
    _let_go(connection, request)


def _let_go(connection: sqlite3.Connection, request: str) -> None:
    """What was kept for this alone; a stored completion stays."""
    connection.execute("DELETE FROM request_bodies WHERE id = ? AND told_until = 0", (request,))
