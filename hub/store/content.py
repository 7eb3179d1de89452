"""What callers asked the hub to keep: their requests, and the answers' pieces as they came. All of it sealed.

Stored completions are told to their owner; answers to an Idempotency-Key are given again to the same request.
"""

import asyncio
import sqlite3
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import orjson

from ..errors import ContentUnreadable, NotFound, StorageFailed
from .audit import Actor, record
from .credentials import insert, now_us
from .database import Database, Operation, T
from .keys import Caller
from .repeats import Repeat, forget, recall, remember
from .sealed import BODY, COLUMNS, METADATA, PIECES, Column, count_by_key, reseal
from .vault import Vault

Piece = dict[str, Any]
"""`{"text": …}` or `{"delta": {…}}`, as a worker sent it."""
Metadata = dict[str, str]

PURGED_AT_ONCE = 200
"""Requests in one transaction: others wait for it."""
MOST_LOOKED_AT = 5_000
"""Rows whose metadata one listing opens."""


class Batch(NamedTuple):
    """Some pieces of an answer: the n-th batch, from 0 on."""

    request: str
    n: int
    pieces: list[Piece]


class Stored(NamedTuple):
    """That a completion is stored, with which labels, and until when (Unix microseconds)."""

    metadata: Metadata
    until: int


class Kept(NamedTuple):
    """An answer that is kept; times are Unix microseconds. Of one that is no stored completion the body is {}."""

    id: str
    model: str
    created_at: int
    state: str
    worker: str | None
    answered_by: str
    """The model that answered; `model` is what the caller calls it."""
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None
    error_code: str | None
    metadata: Metadata
    body: dict[str, Any]
    pieces: list[Piece]
    is_whole: bool
    """Every piece that came is here: none was lost with a crash or a full disk."""

    @property
    def broken_off(self) -> str | None:
        """Why this is not the whole answer; None if it is."""
        if self.state != "completed":
            return self.error_code or self.state
        return None if self.is_whole else StorageFailed.code


class Resealed(NamedTuple):
    """What a rotation did: rows under the current key now, and rows that no key here opens."""

    rows: int
    unreadable: int


_SELECT = """
    SELECT b.*, r.state, r.worker, r.model AS answered_by, r.prompt_tokens, r.completion_tokens, r.finish_reason, r.error_code
    FROM request_bodies b JOIN requests r ON r.id = b.id WHERE r.settled_at IS NOT NULL
"""


def owner_of(caller: Caller) -> str:
    """Whose content it is: a user's, or that of a key of the operator's and those that follow it."""
    return caller.user_id or f"key:{caller.key.family}"


class Content:
    """The `request_bodies`, `response_pieces` and `idempotency` tables."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self.vault = vault
        self._rotating = asyncio.Lock()

    def begin(
        self,
        request: str,
        caller: Caller,
        model: str,
        body: bytes,
        created_at: int,
        *,
        stored: Stored | None = None,
        repeat: Repeat | None = None,
    ) -> "asyncio.Future[None]":
        """Keep a request, as a stored completion or to give its answer again; its pieces follow."""
        metadata = orjson.dumps(stored.metadata if stored else {})
        told_until = stored.until if stored else 0

        def add(connection: sqlite3.Connection) -> None:
            row = {
                "id": request,
                "owner": owner_of(caller),
                "model": model,
                "created_at": created_at,
                "expires_at": max(told_until, repeat.until if repeat else 0),
                "told_until": told_until,
                "metadata": self._seal(METADATA, metadata, request),
                "body": self._seal(BODY, body if stored else b"{}", request),
            }
            insert(connection, "request_bodies", row)
            if repeat is not None:
                remember(connection, self.vault, repeat, request)

        return self._database.write(add)

    def append(self, batches: Iterable[Batch]) -> "asyncio.Future[None]":
        """Keep more pieces of answers."""
        # Now, and not on the writer's thread: a piece may change hands meanwhile.
        rows = [(each.request, each.n, orjson.dumps(each.pieces)) for each in batches]
        return self._database.write(lambda connection: self._append(connection, rows))

    def end(
        self, request: str, last: Iterable[Batch], *, batches: int, repeatable: bool
    ) -> "asyncio.Future[None]":
        """An answer has ended, with these last pieces, and in so many batches altogether.

        One that is not `repeatable` leaves its Idempotency-Key free.
        """
        rows = [(each.request, each.n, orjson.dumps(each.pieces)) for each in last]

        def end(connection: sqlite3.Connection) -> None:
            self._append(connection, rows)
            connection.execute(
                "UPDATE request_bodies SET batches = ? WHERE id = ?", (batches, request)
            )
            if not repeatable:
                forget(connection, request)

        return self._database.write(end)

    def _append(self, connection: sqlite3.Connection, rows: list[tuple[str, int, bytes]]) -> None:
        sealed = [(id_, n, self._seal(PIECES, pieces, id_, n)) for id_, n, pieces in rows]
        # A request that was deleted meanwhile keeps nothing.
        connection.executemany(
            "INSERT INTO response_pieces (id, n, pieces) SELECT ?1, ?2, ?3"
            " WHERE EXISTS (SELECT 1 FROM request_bodies WHERE id = ?1)",
            sealed,
        )

    async def answer_to(self, repeat: Repeat) -> Kept | None:
        """The whole answer that this request has had already. Raises IdempotencyKeyInUse, ContentUnreadable."""

        def select(connection: sqlite3.Connection) -> Kept | None:
            request = recall(connection, self.vault, repeat, now_us())
            row = connection.execute(f"{_SELECT} AND b.id = ?", (request,)).fetchone()
            if row is None or row["state"] != "completed":
                return None
            kept = self._kept(connection, row)
            return kept if kept.is_whole else None

        return await self._read(select)

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
                f" AND (?3 IS NULL OR b.model = ?3) AND b.told_until > ?5 ORDER BY b.id {way} LIMIT ?4",
                (owner_of(caller), after, model, MOST_LOOKED_AT, now_us()),
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
                (self._seal(METADATA, orjson.dumps(metadata), request), request),
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

        def delete(connection: sqlite3.Connection) -> int:
            connection.execute("DELETE FROM idempotency WHERE expires_at <= ?", (now,))
            return connection.execute(
                "DELETE FROM request_bodies WHERE id IN"
                " (SELECT id FROM request_bodies WHERE expires_at <= ? LIMIT ?)",
                (now, PURGED_AT_ONCE),
            ).rowcount

        purged = 0
        while count := await self._database.write(delete):
            purged += count
        return purged

    async def status(self) -> dict[str, int]:
        """How many sealed texts there are under each key, by the key's id."""
        return await self._database.read(count_by_key)

    async def rotate(self, actor: Actor) -> Resealed:
        """A new key for everything, old and to come; the old ones are dropped when nothing needs them.

        It may be broken off at any moment, and called again.
        """
        # One after the other: the first of two would drop the key that the second is still to encrypt anew.
        async with self._rotating:
            self.vault.renew()
            rows = unreadable = 0
            for column in COLUMNS:
                last: tuple[Any, ...] | None = column.before
                while last is not None:
                    last, done, failed = await self._database.write(
                        partial(reseal, vault=self.vault, column=column, last=last)
                    )
                    rows, unreadable = rows + done, unreadable + failed
            if not unreadable:
                # No power failure may bring back a text whose key is gone.
                await self._database.checkpoint()
                self.vault.keep_only_current()
            current = self.vault.current.hex()
            await self._database.write(lambda c: record(c, actor, "vault.rotate", current))
        return Resealed(rows, unreadable)

    def _seal(self, column: Column, plain: bytes, *row: Any) -> bytes:
        return self.vault.seal(plain, column.row(*row))

    def _open(self, column: Column, sealed: bytes, *row: Any) -> Any:
        try:
            return orjson.loads(self.vault.open(sealed, column.row(*row)))
        except ContentUnreadable as problem:
            message = f"'chatcmpl-{row[0]}' cannot be read. {problem.message}"
            raise ContentUnreadable(message) from None

    def _metadata(self, row: sqlite3.Row) -> Metadata:
        metadata: Metadata = self._open(METADATA, row["metadata"], row["id"])
        return metadata

    def _kept(self, connection: sqlite3.Connection, row: sqlite3.Row) -> Kept:
        batches = connection.execute(
            "SELECT n, pieces FROM response_pieces WHERE id = ? ORDER BY n", (row["id"],)
        ).fetchall()
        return Kept(
            row["id"],
            row["model"],
            row["created_at"],
            row["state"],
            row["worker"],
            row["answered_by"],
            row["prompt_tokens"] or 0,
            row["completion_tokens"] or 0,
            row["finish_reason"],
            row["error_code"],
            self._metadata(row),
            self._open(BODY, row["body"], row["id"]),
            [
                piece
                for batch in batches
                for piece in self._open(PIECES, batch["pieces"], row["id"], batch["n"])
            ],
            is_whole=len(batches) == row["batches"],
        )


def _own(connection: sqlite3.Connection, owner: str, request: str) -> sqlite3.Row:
    row: sqlite3.Row | None = connection.execute(
        f"{_SELECT} AND b.id = ? AND b.owner = ? AND b.told_until > ?", (request, owner, now_us())
    ).fetchone()
    if row is None:
        raise NotFound(f"You have no stored completion 'chatcmpl-{request[:100]}'.")
    return row
