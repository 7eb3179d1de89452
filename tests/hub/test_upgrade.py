"""Databases of every released schema, opened by this hub: nothing is lost, and everything works."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub.protocol import End, JobFrame, Piece
from hub.store.database import MIGRATIONS, migrate
from tests import stored
from tests.doors import chat, send, socket_worker

EACH = pytest.mark.parametrize(
    "old", sorted(stored.DATA.glob("schema-*.sql")), ids=lambda old: old.stem
)
OURS = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
SETTLED = ("completed", "failed", "cancelled", "expired", "interrupted")


def query(file: Path, sql: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def test_there_are_stored_databases():
    assert {"schema-1", "schema-2"} <= {old.stem for old in stored.DATA.glob("*.sql")}


@EACH
def test_it_ends_with_the_schema_of_a_new_database(old, tmp_path):
    upgraded = stored.unpack(old, tmp_path / "old.db")
    for file in (upgraded, tmp_path / "new.db"):
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            migrate(connection)
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    schemas = [
        [
            (row["type"], row["name"], " ".join((row["sql"] or "").split()))
            for row in query(file, OURS)
        ]
        for file in (upgraded, tmp_path / "new.db")
    ]
    assert schemas[0] == schemas[1]


@EACH
async def test_its_keys_work_and_its_journal_is_whole(old, start_hub, tmp_path):
    (tmp_path / "data").mkdir()
    file = stored.unpack(old, tmp_path / "data/hub.db")
    before = {row["id"]: row for row in query(file, "SELECT * FROM requests")}
    hub = await start_hub()
    after = {row["id"]: row for row in await hub.rows()}
    assert after.keys() == before.keys()
    for request, row in before.items():
        if row["state"] in SETTLED:
            assert {name: after[request][name] for name in row} == row
        else:
            assert after[request]["state"] == "interrupted"
    async with socket_worker(hub, models=[{"id": "echo"}]) as worker:
        headers = {"Authorization": f"Bearer {stored.SECRET}"}
        listed = await send(hub, method="GET", path="/v1/models", headers=headers)
        assert [model["id"] for model in listed.json["data"]] == ["echo"]
        await answered(hub, worker, headers)


async def answered(hub: Any, worker: Any, headers: dict[str, str]) -> None:
    asking = asyncio.create_task(send(hub, chat(model="echo"), headers=headers))
    job = await worker.hear(JobFrame)
    await worker.say(Piece(job.job, "hello"), End(job.job))
    assert (await asking).text == "hello"


def test_migrations_are_numbered_without_gaps():
    numbers = sorted(int(file.name.split("_")[0]) for file in MIGRATIONS.glob("*.sql"))
    assert numbers == list(range(1, len(numbers) + 1))
