"""One SQLite file, one writer, group commit."""

import asyncio
import sqlite3
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.store.database import (
    LARGEST_BATCH,
    Database,
    NewerDatabase,
    migrate,
    open_database,
)

Write = Callable[[sqlite3.Connection], Any]


class Boom(Exception):
    """An operation failed on purpose."""


def make_table(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY) STRICT")


def put(number: int) -> Write:
    def operation(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        return number

    return operation


def put_and_fail(number: int) -> Write:
    def operation(connection: sqlite3.Connection) -> None:
        put(number)(connection)
        raise Boom(number)

    return operation


def fail_at_commit(connection: sqlite3.Connection) -> None:
    """A row whose foreign key is looked at only when the transaction ends."""
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute(
        "INSERT INTO requests (id, key_id, endpoint, model, stream, accepted_at)"
        " VALUES ('r', 'no such key', '/', 'm', 0, 0)"
    )


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM numbers ORDER BY rowid")]


def pragma(name: str) -> Write:
    return lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    database = await open_database(path)
    await database.write(make_table)
    yield database
    if not database._closing:
        await database.close()


# --- the file ------------------------------------------------------------------------------------


async def test_the_file_and_its_log_belong_to_the_owner_alone(database, path):
    await database.write(put(1))
    files = list(path.parent.glob("hub.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_file_that_others_could_read_is_closed_to_them(path):
    path.touch(mode=0o644)
    await (await open_database(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_it_writes_ahead_and_synchronises_fully(database):
    assert await database.write(pragma("journal_mode")) == "wal"
    assert await database.write(pragma("synchronous")) == 2
    assert await database.write(pragma("foreign_keys")) == 1
    assert await database.write(pragma("busy_timeout")) == 5000


async def test_the_operator_may_choose_normal(path):
    database = await open_database(path, "NORMAL")
    assert await database.write(pragma("synchronous")) == 1
    await database.close()


async def test_the_reader_cannot_write_and_never_checkpoints(database):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(put(1))
    assert await database.read(pragma("wal_autocheckpoint")) == 0


async def test_what_is_committed_is_read(database):
    await database.write(put(1))
    assert await database.read(numbers) == [1]


async def test_it_is_there_after_opening_again(database, path):
    await database.write(put(1))
    await database.close()
    again = await open_database(path)
    assert await again.read(numbers) == [1]
    await again.close()


# --- group commit --------------------------------------------------------------------------------


async def test_each_writer_gets_its_own_result_in_order(database):
    results = await asyncio.gather(*(database.write(put(n)) for n in (5, 3, 9, 1)))
    assert results == [5, 3, 9, 1]


async def test_writes_run_in_the_order_of_their_calls(database):
    seen: list[int] = []
    await asyncio.gather(*(database.write(lambda _, n=n: seen.append(n)) for n in range(100)))
    assert seen == list(range(100))


async def test_writes_that_wait_together_share_a_transaction(database):
    statements: list[str] = []
    await database.write(lambda connection: connection.set_trace_callback(statements.append))
    statements.clear()
    await asyncio.gather(*(database.write(put(n)) for n in range(LARGEST_BATCH)))
    assert statements.count("COMMIT") == 1


async def test_a_transaction_has_a_largest_size(database):
    statements: list[str] = []
    await database.write(lambda connection: connection.set_trace_callback(statements.append))
    statements.clear()
    await asyncio.gather(*(database.write(put(n)) for n in range(2 * LARGEST_BATCH + 1)))
    assert statements.count("COMMIT") == 3
    assert len(await database.read(numbers)) == 2 * LARGEST_BATCH + 1


async def test_one_failure_undoes_nothing_of_the_others(database):
    writes = [database.write(put(n)) for n in range(10)]
    writes.insert(5, database.write(put_and_fail(99)))
    writes.insert(7, database.write(put(3)))
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results.pop(7), sqlite3.IntegrityError)
    assert isinstance(results.pop(5), Boom)
    assert results == list(range(10))
    assert await database.read(numbers) == list(range(10))


async def test_a_failure_that_nobody_waits_for_disturbs_nobody(database):
    database.write(put_and_fail(1))
    assert await database.write(put(2)) == 2
    assert await database.read(numbers) == [2]


async def test_a_writer_that_stopped_waiting_disturbs_nobody(database):
    gone, stays = database.write(put(1)), database.write(put(2))
    gone.cancel()
    assert await stays == 2
    assert await database.read(numbers) == [1, 2]


async def test_when_the_commit_fails_all_of_its_writers_hear_of_it(database):
    writes = [database.write(put(1)), database.write(fail_at_commit), database.write(put(2))]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [sqlite3.IntegrityError] * 3
    assert await database.read(numbers) == []


async def test_after_a_failed_commit_writing_goes_on(database):
    with pytest.raises(sqlite3.IntegrityError):
        await database.write(fail_at_commit)
    assert await database.write(put(1)) == 1
    assert await database.read(numbers) == [1]


async def test_closing_commits_what_waits(database, path):
    writes = [database.write(put(n)) for n in range(3 * LARGEST_BATCH)]
    await database.close()
    assert [write.result() for write in writes] == list(range(3 * LARGEST_BATCH))
    with closing(sqlite3.connect(path)) as connection:
        assert numbers(connection) == list(range(3 * LARGEST_BATCH))


async def test_a_closed_database_takes_no_writes(database):
    await database.close()
    with pytest.raises(RuntimeError, match="closed"):
        database.write(put(1))


STEP = st.tuples(st.sampled_from(["put", "fail", "settle"]), st.integers(0, 12))


@given(steps=st.lists(STEP, max_size=40))
@settings(max_examples=40, deadline=None)
def test_good_and_failing_writes_are_told_apart_however_they_mix(steps):
    async def play() -> None:
        with tempfile.TemporaryDirectory() as directory:
            database = await open_database(Path(directory) / "hub.db", "NORMAL")
            await database.write(make_table)
            model: list[int] = []
            expected: list[Any] = []
            writes: list[asyncio.Future[Any]] = []
            for step, number in steps:
                if step == "settle":
                    await asyncio.gather(*writes, return_exceptions=True)
                    continue
                writes.append(database.write((put if step == "put" else put_and_fail)(number)))
                if number in model:
                    expected.append(sqlite3.IntegrityError)
                elif step == "fail":
                    expected.append(Boom)
                else:
                    expected.append(number)
                    model.append(number)
            results = await asyncio.gather(*writes, return_exceptions=True)
            heard = [type(r) if isinstance(r, Exception) else r for r in results]
            assert heard == expected
            assert await database.read(numbers) == sorted(model)
            await database.close()

    asyncio.run(play())


# --- migrations ----------------------------------------------------------------------------------


def versions(path: Path) -> tuple[int, set[str]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return pragma("user_version")(connection), {row[0] for row in tables}


def migration(directory: Path, number: int, sql: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / f"{number:03}_change.sql").write_text(sql)


def test_migrations_are_applied_once_and_in_order(tmp_path, path):
    changes = tmp_path / "changes"
    migration(changes, 1, "CREATE TABLE a (n INTEGER); INSERT INTO a VALUES (1);")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, changes)
        migration(changes, 2, "ALTER TABLE a RENAME TO b; INSERT INTO b VALUES (2);")
        migrate(connection, changes)
        migrate(connection, changes)
        assert connection.execute("SELECT n FROM b").fetchall() == [(1,), (2,)]
    assert versions(path)[0] == 2


def test_a_migration_that_breaks_leaves_no_half_of_itself(tmp_path, path):
    changes = tmp_path / "changes"
    migration(changes, 1, "CREATE TABLE a (n INTEGER);")
    migration(changes, 2, "CREATE TABLE b (n INTEGER); NONSENSE;")
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as connection,
        pytest.raises(sqlite3.OperationalError),
    ):
        migrate(connection, changes)
    assert versions(path) == (1, {"a"})


async def test_opening_again_changes_nothing(database, path):
    before = versions(path)
    await database.close()
    await (await open_database(path)).close()
    assert versions(path) == before
    assert before[0] >= 1
    assert {"requests", "api_keys", "worker_tokens", "workers", "audit_log"} <= before[1]


async def test_every_table_is_strict(database):
    tables = await database.read(lambda c: c.execute("PRAGMA table_list").fetchall())
    loose = {t["name"] for t in tables if not t["strict"]}
    assert not {name for name in loose if not name.startswith("sqlite_")}


async def test_a_newer_hubs_database_is_refused_untouched(database, path):
    await database.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")
    before = versions(path)
    with pytest.raises(NewerDatabase, match="999"):
        await open_database(path)
    assert versions(path) == before


async def test_tidying_folds_the_write_ahead_log_into_the_file_while_writes_go_on(tmp_path):
    database = await open_database(tmp_path / "t.db")
    log = tmp_path / "t.db-wal"
    await database.write(lambda c: c.execute("CREATE TABLE t (n INTEGER)"))
    for n in range(200):
        database.write(lambda c, n=n: c.execute("INSERT INTO t VALUES (?)", (n,)))
    tidying = asyncio.create_task(database.tidy())
    last = database.write(lambda c: c.execute("INSERT INTO t VALUES (-1)"))
    await tidying
    await last
    await database.tidy()
    assert log.stat().st_size == 0
    count = await database.read(lambda c: c.execute("SELECT count(*) FROM t").fetchone()[0])
    assert count == 201
    await database.close()
