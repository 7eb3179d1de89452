"""Every sealed text of the database: counted by key, and encrypted anew."""

import sqlite3
from typing import Any, NamedTuple

from ..errors import ContentUnreadable
from .vault import ID_BYTES, Vault

BATCH = 200
"""Rows that are encrypted anew in one transaction: others wait for it."""


class Column(NamedTuple):
    """A sealed column, the columns that name its row, and what is before the first of those."""

    table: str
    name: str
    key: tuple[str, ...]
    before: tuple[Any, ...]

    def row(self, *key: Any) -> str:
        """What a text is bound to."""
        return f"{self.table}.{self.name} {' '.join(map(str, key))}"


METADATA = Column("request_bodies", "metadata", ("id",), ("",))
BODY = Column("request_bodies", "body", ("id",), ("",))
PIECES = Column("response_pieces", "pieces", ("id", "n"), ("", -1))
ASKED = Column("idempotency", "asked", ("owner", "key"), ("", ""))
COLUMNS = (METADATA, BODY, PIECES, ASKED)


class Resealed(NamedTuple):
    """One batch: its last row, None at the end; how many are under the current key now, and how many cannot be."""

    last: tuple[Any, ...] | None
    rows: int
    unreadable: int


def count_by_key(connection: sqlite3.Connection) -> dict[str, int]:
    """How many sealed texts there are under each key, by the key's id."""
    counts: dict[str, int] = {}
    for column in COLUMNS:
        for key, count in connection.execute(
            f"SELECT substr({column.name}, 1, {ID_BYTES}), COUNT(*) FROM {column.table} GROUP BY 1"  # noqa: S608
        ):
            counts[key.hex()] = counts.get(key.hex(), 0) + count
    return counts


def reseal(
    connection: sqlite3.Connection, vault: Vault, column: Column, last: tuple[Any, ...]
) -> Resealed:
    """Encrypt a batch anew, from behind the row `last` on."""
    names, marks = f"({', '.join(column.key)})", f"({', '.join('?' * len(column.key))})"
    rows = connection.execute(
        f"SELECT {', '.join(column.key)}, {column.name} FROM {column.table} WHERE {names} > {marks}"  # noqa: S608
        f" ORDER BY {', '.join(column.key)} LIMIT {BATCH}",
        last,
    ).fetchall()
    unreadable = 0
    for row in rows:
        key = tuple(row[name] for name in column.key)
        try:
            sealed = vault.reseal(row[column.name], column.row(*key))
        except ContentUnreadable:
            unreadable += 1
            continue
        connection.execute(
            f"UPDATE {column.table} SET {column.name} = ? WHERE {names} = {marks}",  # noqa: S608
            (sealed, *key),
        )
    end = len(rows) < BATCH
    return Resealed(None if end else key, len(rows) - unreadable, unreadable)
