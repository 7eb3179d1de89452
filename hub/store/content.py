"""What callers asked the hub to keep: their requests, and the answers' pieces as they came. All of it sealed."""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import orjson

from ..errors import NotFound
from .audit import Actor, record
from .credentials import now_us
from .database import Database, Operation, T
from .keys import Caller
from .vault import ID_BYTES, Vault

Piece = dict[str, Any]
"""`{"text": …}` or `{"delta": {…}}`, as a worker sent it."""
Metadata = dict[str, str]

DAY_US = 86_400_000_000
BATCH = 200
"""Rows that are encrypted anew in one transaction."""
MOST_LOOKED_AT = 5_000
"""Rows whose metadata one listing opens."""


class Kept(NamedTuple):
    """A stored completion; times are Unix microseconds."""

    id: str
    model: str
    created_at: int
    state: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None
    error_code: str | None
    metadata: Metadata
    body: dict[str, Any]
    pieces: list[Piece]


class Resealed(NamedTuple):
    """What a rotation did: rows under the current key now, and rows that no key here opens."""

    rows: int
    unreadable: int


_SELECT = """
    SELECT b.*, r.state, r.prompt_tokens, r.completion_tokens, r.finish_reason, r.error_code
    FROM request_bodies b JOIN requests r ON r.id = b.id WHERE r.settled_at IS NOT NULL
"""


class _Sealed(NamedTuple):
    """A sealed column, the columns that name its row, and what is before the first of those."""

    table: str
    column: str
    key: tuple[str, ...]
    before: tuple[Any, ...]


_SEALED = (
    _Sealed("request_bodies", "metadata", ("id",), ("",)),
    _Sealed("request_bodies", "body", ("id",), ("",)),
    _Sealed("response_pieces", "pieces", ("id", "n"), ("", -1)),
)


def owner_of(caller: Caller) -> str:
    """Whose content it is: a user's, or that of a key of the operator's and those that follow it."""
    return caller.user_id or f"key:{caller.key.family}"


class Content:
    """The `request_bodies` and `response_pieces` tables."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self.vault = vault

    def begin(
        self,
        request: str,
        caller: Caller,
        model: str,
        body: bytes,
        metadata: Metadata,
        created_at: int,
        days: int,
    ) -> "asyncio.Future[None]":
        """Keep a request; its pieces follow. It is purged after so many days."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO request_bodies (id, owner, model, created_at, expires_at, metadata, body)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    request,
                    owner_of(caller),
                    model,
                    created_at,
                    created_at + days * DAY_US,
                    self._seal("request_bodies.metadata", request, orjson.dumps(metadata)),
                    self._seal("request_bodies.body", request, body),
                ),
            )

        return self._database.write(insert)

    def append(self, batches: Iterable[tuple[str, int, list[Piece]]]) -> "asyncio.Future[None]":
        """Keep more pieces of answers, given as (request, number of the batch, pieces)."""
        rows = [(request, n, orjson.dumps(pieces)) for request, n, pieces in batches]

        def insert(connection: sqlite3.Connection) -> None:
            sealed = [
                (request, n, self._seal("response_pieces.pieces", f"{request} {n}", pieces))
                for request, n, pieces in rows
            ]
            # A request that was deleted meanwhile keeps nothing.
            connection.executemany(
                "INSERT INTO response_pieces (id, n, pieces) SELECT ?1, ?2, ?3"
                " WHERE EXISTS (SELECT 1 FROM request_bodies WHERE id = ?1)",
                sealed,
            )

        return self._database.write(insert)

    async def get(self, caller: Caller, request: str) -> Kept:
        """Raises NotFound, also for what is another's or still runs; ContentUnreadable."""

        def select(connection: sqlite3.Connection) -> Kept:
            return self._kept(connection, _own(connection, owner_of(caller), request))

        return await self._read(select)

    async def list(
        self,
        caller: Caller,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "asc",
        model: str | None = None,
        metadata: Metadata | None = None,
    ) -> tuple[list[Kept], bool]:
        """A page of the caller's completions, and whether there are more. Raises ContentUnreadable."""
        sign, way = (">", "ASC") if order == "asc" else ("<", "DESC")
        wanted = (metadata or {}).items()

        def select(connection: sqlite3.Connection) -> tuple[list[Kept], bool]:
            rows = connection.execute(
                f"{_SELECT} AND b.owner = ?1 AND (?2 IS NULL OR b.id {sign} ?2)"
                f" AND (?3 IS NULL OR b.model = ?3) ORDER BY b.id {way} LIMIT ?4",
                (owner_of(caller), after, model, MOST_LOOKED_AT),
            )
            found: list[Kept] = []
            for row in rows:
                if wanted and not wanted <= self._metadata(row).items():
                    continue
                if len(found) == limit:
                    return found, True
                found.append(self._kept(connection, row))
            return found, False

        return await self._read(select)

    async def _read(self, operation: Operation[T]) -> T:
        """What was written before this call is seen: a caller may ask as soon as it has its answer."""
        await self._database.write(lambda connection: None)
        return await self._database.read(operation)

    async def set_metadata(self, caller: Caller, request: str, metadata: Metadata) -> Kept:
        """Raises NotFound, ContentUnreadable."""

        def update(connection: sqlite3.Connection) -> Kept:
            _own(connection, owner_of(caller), request)
            connection.execute(
                "UPDATE request_bodies SET metadata = ? WHERE id = ?",
                (self._seal("request_bodies.metadata", request, orjson.dumps(metadata)), request),
            )
            return self._kept(connection, _own(connection, owner_of(caller), request))

        return await self._database.write(update)

    async def delete(self, caller: Caller, request: str) -> None:
        """Raises NotFound."""

        def delete(connection: sqlite3.Connection) -> None:
            _own(connection, owner_of(caller), request)
            connection.execute("DELETE FROM request_bodies WHERE id = ?", (request,))

        await self._database.write(delete)

    async def purge(self) -> int:
        """Delete what has been kept long enough; how many requests that were."""
        now = now_us()
        return await self._database.write(
            lambda connection: (
                connection.execute(
                    "DELETE FROM request_bodies WHERE expires_at <= ?", (now,)
                ).rowcount
            )
        )

    async def status(self) -> dict[str, int]:
        """How many sealed texts there are under each key, by the key's id."""

        def select(connection: sqlite3.Connection) -> dict[str, int]:
            counts: dict[str, int] = {}
            for sealed in _SEALED:
                for key, count in connection.execute(
                    f"SELECT substr({sealed.column}, 1, {ID_BYTES}), COUNT(*)"  # noqa: S608
                    f" FROM {sealed.table} GROUP BY 1"
                ):
                    counts[key.hex()] = counts.get(key.hex(), 0) + count
            return counts

        return await self._database.read(select)

    async def rotate(self, actor: Actor) -> Resealed:
        """A new key for everything, old and to come; the old ones are dropped when nothing needs them.

        It may be broken off at any moment, and called again.
        """
        self.vault.renew()
        rows = unreadable = 0
        for sealed in _SEALED:
            last: tuple[Any, ...] | None = sealed.before
            while last is not None:
                last, done, failed = await self._database.write(
                    partial(self._reseal, sealed=sealed, last=last)
                )
                rows, unreadable = rows + done, unreadable + failed
        if not unreadable:
            self.vault.keep_only_current()
        current = self.vault.current.hex()
        await self._database.write(lambda c: record(c, actor, "vault.rotate", current))
        return Resealed(rows, unreadable)

    def _reseal(
        self, connection: sqlite3.Connection, sealed: _Sealed, last: tuple[Any, ...]
    ) -> tuple[tuple[Any, ...] | None, int, int]:
        """One batch from behind the row `last` on: the last row of it (None at the end), rows done, and not."""
        table, column, key, _ = sealed
        names, marks = f"({', '.join(key)})", f"({', '.join('?' * len(key))})"
        rows = connection.execute(
            f"SELECT {', '.join(key)}, {column} AS sealed FROM {table} WHERE {names} > {marks}"  # noqa: S608
            f" ORDER BY {', '.join(key)} LIMIT {BATCH}",
            last,
        ).fetchall()
        done = 0
        for row in rows:
            if self.vault.knows(row["sealed"][:ID_BYTES]):
                bound = f"{table}.{column} {' '.join(str(row[name]) for name in key)}"
                connection.execute(
                    f"UPDATE {table} SET {column} = ? WHERE {names} = {marks}",  # noqa: S608
                    (self.vault.reseal(row["sealed"], bound), *(row[name] for name in key)),
                )
                done += 1
        end = len(rows) < BATCH
        return None if end else tuple(rows[-1][name] for name in key), done, len(rows) - done

    def _seal(self, column: str, row: str, plain: bytes) -> bytes:
        return self.vault.seal(plain, f"{column} {row}")

    def _open(self, column: str, row: str, sealed: bytes) -> Any:
        return orjson.loads(self.vault.open(sealed, f"{column} {row}"))

    def _metadata(self, row: sqlite3.Row) -> Metadata:
        metadata: Metadata = self._open("request_bodies.metadata", row["id"], row["metadata"])
        return metadata

    def _kept(self, connection: sqlite3.Connection, row: sqlite3.Row) -> Kept:
        return Kept(
            row["id"],
            row["model"],
            row["created_at"],
            row["state"],
            row["prompt_tokens"] or 0,
            row["completion_tokens"] or 0,
            row["finish_reason"],
            row["error_code"],
            self._metadata(row),
            self._open("request_bodies.body", row["id"], row["body"]),
            [*self._pieces(connection, row["id"])],
        )

    def _pieces(self, connection: sqlite3.Connection, request: str) -> Iterator[Piece]:
        for row in connection.execute(
            "SELECT n, pieces FROM response_pieces WHERE id = ? ORDER BY n", (request,)
        ):
            name = f"{request} {row['n']}"
            yield from self._open("response_pieces.pieces", name, row["pieces"])


def _own(connection: sqlite3.Connection, owner: str, request: str) -> sqlite3.Row:
    row: sqlite3.Row | None = connection.execute(
        f"{_SELECT} AND b.id = ? AND b.owner = ?", (request, owner)
    ).fetchone()
    if row is None:
        raise NotFound(f"You have no stored completion 'chatcmpl-{request[:100]}'.")
    return row
