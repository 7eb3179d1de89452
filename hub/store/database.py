"""One SQLite file: opening, migrations, reading, and one writer with group commit.

The writer's connection is the only one that writes or checkpoints. SQLite 3.7.0 to 3.51.2 can corrupt a
write-ahead log when two connections do so at the same instant (https://sqlite.org/wal.html, "the WAL-reset
bug"), and Python often links such a version.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import aiosqlite

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
"""Reads or writes through the connection that it is given; it may run twice, so it has no other effect."""

MIGRATIONS = Path(__file__).with_name("migrations")
LARGEST_BATCH = 500
"""Operations in one transaction: a bound on how long the first waits for the last."""

PATIENCE_S = 0.005
"""How long a patient write waits for company: each commit costs an fsync."""


class NewerDatabase(Exception):
    """The database was written by a newer hub. Run that version, or restore an older backup."""


class _Connection(aiosqlite.Connection):
    """aiosqlite's connection and thread, with whole functions run on that thread.

    A statement at a time would cost a change of thread each.
    """

    async def run(self, operation: Callable[..., T], *args: Any) -> T:
        result: T = await self._execute(operation, self._conn, *args)  # type: ignore[no-untyped-call]
        return result


class RowStatement:
    """One statement for many rows at once, for what happens with every request.

    Each step of SQLite gives up Python's interpreter lock and must win it back from a busy event loop, so
    a step a row is dear. `sql` has `{rows}` where the rows' VALUES go, and returns the key (the row's
    member number `key`) of every row that took effect.
    """

    LARGEST = 64

    def __init__(self, sql: str, columns: int, key: int) -> None:
        self._sql = sql
        self._row = "(" + ", ".join("?" * columns) + ")"
        self._key = key

    def run(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[bool]:
        """Whether each row took effect; of several with one key only the first can."""
        first: dict[Any, int] = {}
        for number, row in enumerate(rows):
            first.setdefault(row[self._key], number)
        unique = [rows[number] for number in first.values()]
        changed: set[Any] = set()
        start = 0
        while start < len(unique):
            # Powers of two, so that few texts of the statement are ever prepared.
            size = min(self.LARGEST, 1 << ((len(unique) - start).bit_length() - 1))
            sql = self._sql.format(rows=", ".join([self._row] * size))
            values = list(chain.from_iterable(unique[start : start + size]))
            changed.update(row[0] for row in connection.execute(sql, values).fetchall())
            start += size
        return [
            row[self._key] in changed and first[row[self._key]] == number
            for number, row in enumerate(rows)
        ]


class _Row:
    """The operation that runs one row of a statement."""

    def __init__(self, statement: RowStatement, values: tuple[Any, ...]) -> None:
        self.statement = statement
        self.values = values

    def __call__(self, connection: sqlite3.Connection) -> bool:
        return self.statement.run(connection, [self.values])[0]


class _Write(NamedTuple, Generic[T]):
    operation: Operation[T]
    done: "asyncio.Future[T]"


class Database:
    """Use `open_database`. All methods belong to one event loop."""

    def __init__(self, writer: _Connection, reader: _Connection) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer
        self._reader = reader
        self._waiting: list[_Write[Any]] = []
        self._wake = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._closing = False
        self.on_commit: Callable[[float], None] = lambda seconds: None
        """Told how long each transaction took."""
        self._task = asyncio.create_task(self._commit_forever(), name="database writer")

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that only reads."""
        return await self._reader.run(operation)

    def write(self, operation: Operation[T], *, patient: bool = False) -> "asyncio.Future[T]":
        """Queue an operation that writes; the future is done when it is committed, or has failed alone.

        Operations run in the order of these calls. Those that wait together share one transaction. A
        `patient` one, which nobody waits for, gives others a few milliseconds to come along.
        """
        if self._closing:
            raise RuntimeError("the database is closed")
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Write(operation, done))
        if not patient:
            self._wake.set()
        elif self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_S, self._wake.set)
        return done

    def write_row(
        self, statement: RowStatement, values: tuple[Any, ...], *, patient: bool = False
    ) -> "asyncio.Future[bool]":
        """As `write`, for one row of a statement; the future says whether it took effect.

        Rows of one statement in a transaction run together, at the place of the first.
        """
        return self.write(_Row(statement, values), patient=patient)

    async def tidy(self) -> None:
        """Let SQLite look whether its statistics are still good, and fold the write-ahead log into the file.

        Between two transactions of the writer, which wait for it: some milliseconds.
        """
        await self._writer.run(_tidy)

    async def checkpoint(self) -> None:
        """Fold the write-ahead log into the file, so that it is with the disk, whatever `synchronous` says."""
        await self._writer.run(_checkpoint)

    async def close(self) -> None:
        """Commit what waits, then close."""
        self._closing = True
        self._wake.set()
        await self._task
        try:
            # A disk that is full keeps the log as it is; the next start reads it.
            with suppress(sqlite3.Error):
                await self._writer.run(_checkpoint)
        finally:
            # Their threads would keep the process alive.
            await self._reader.close()
            await self._writer.close()

    async def _commit_forever(self) -> None:
        while self._waiting or not self._closing:
            await self._wake.wait()
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            batch = self._waiting[:LARGEST_BATCH]
            del self._waiting[:LARGEST_BATCH]
            if not self._waiting and not self._closing:
                self._wake.clear()
            if batch:
                await self._commit(batch)

    async def _commit(self, batch: list[_Write[Any]]) -> None:
        operations = [write.operation for write in batch]
        began = monotonic()
        try:
            results = await self._writer.run(_commit_together, operations)
        except Exception:  # noqa: BLE001 - one of them failed; find out which
            try:
                results = await self._writer.run(_commit_apart, operations)
            except Exception as error:  # noqa: BLE001 - the disk itself failed: all of them did
                results = [error] * len(batch)
        self.on_commit(monotonic() - began)
        for write, result in zip(batch, results, strict=True):
            _settle(write.done, result)


def _settle(done: "asyncio.Future[Any]", result: Any) -> None:
    if done.done():
        return
    if isinstance(result, Exception):
        done.set_exception(result)
        done.exception()  # a writer that nobody waits for must not warn
    else:
        done.set_result(result)


def _commit_together(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Any]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = _run_all(connection, operations)
        connection.execute("COMMIT")
    except BaseException:
        _rollback(connection)
        raise
    return results


def _run_all(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Any]:
    results: list[Any] = [None] * len(operations)
    groups: dict[RowStatement, dict[int, tuple[Any, ...]]] = {}
    for number, operation in enumerate(operations):
        if isinstance(operation, _Row):
            groups.setdefault(operation.statement, {})[number] = operation.values
    for number, operation in enumerate(operations):
        if not isinstance(operation, _Row):
            results[number] = operation(connection)
        elif rows := groups.pop(operation.statement, None):
            changes = operation.statement.run(connection, list(rows.values()))
            for row_number, changed in zip(rows, changes, strict=True):
                results[row_number] = changed
    return results


def _commit_apart(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Any]:
    """The same with a savepoint each, so that one failure undoes nothing of the others."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [_try(connection, operation) for operation in operations]
        connection.execute("COMMIT")
    except BaseException:
        _rollback(connection)
        raise
    return results


def _try(connection: sqlite3.Connection, operation: Operation[T]) -> T | Exception:
    connection.execute("SAVEPOINT operation")
    try:
        result = operation(connection)
    except Exception as error:  # noqa: BLE001 - handed to whoever waits for this operation
        connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")
        return error
    connection.execute("RELEASE operation")
    return result


def _rollback(connection: sqlite3.Connection) -> None:
    # A full disk rolls back by itself; then there is nothing left to undo.
    with suppress(sqlite3.OperationalError):
        connection.execute("ROLLBACK")


def _tidy(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA analysis_limit = 400")
    connection.execute("PRAGMA optimize").fetchall()
    _checkpoint(connection)


def _checkpoint(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


async def open_database(path: Path, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> Database:
    """Open or create the file (mode 0600) and bring its schema up to date. Raises NewerDatabase."""
    writer = await _connect(path, synchronous)
    try:
        await writer.run(migrate)
        reader = await _connect(path, synchronous, read_only=True)
    except BaseException:
        await writer.close()
        raise
    return Database(writer, reader)


async def _connect(path: Path, synchronous: str, *, read_only: bool = False) -> _Connection:
    def connect() -> sqlite3.Connection:
        path.touch(mode=0o600)
        path.chmod(0o600)
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", f"synchronous = {synchronous}", "busy_timeout = 5000"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA query_only = {int(read_only)}")
        # A connection that checkpoints on closing would be a second one that does.
        connection.execute(f"PRAGMA wal_autocheckpoint = {0 if read_only else 1000}")
        return connection

    connection = _Connection(connect, iter_chunk_size=64)
    await connection
    return connection


def migrate(connection: sqlite3.Connection, directory: Path = MIGRATIONS) -> None:
    """Apply the numbered SQL files that the database has not seen, each in a transaction of its own."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    files = sorted(directory.glob("[0-9]*.sql"))
    newest = int(files[-1].name.split("_")[0])
    if version > newest:
        message = f"{NewerDatabase.__doc__} (Its schema is {version}, this hub knows {newest}.)"
        raise NewerDatabase(message)
    for file in files:
        number = int(file.name.split("_")[0])
        if number > version:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{file.read_text()}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
