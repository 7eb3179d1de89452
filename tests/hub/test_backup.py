"""Backups: made while the hub is in use, checked, and restored; what they say of the vault's keys."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hub.protocol import End, JobFrame, Piece
from hub.settings import Settings, load
from hub.store import NewerDatabase, backup
from hub.store.backup import BackupError
from tests.doors import Worker, ask, send, socket_worker
from tests.processes import mode, run, serving

SUMS = "SELECT count(*), sum(prompt_tokens), sum(completion_tokens), sum(cost) FROM requests"
LEDGER = (
    "SELECT sum(requests), sum(prompt_tokens), sum(completion_tokens), sum(cost) FROM usage_daily"
)
SETTLED = " WHERE state IN ('completed', 'failed', 'cancelled', 'expired', 'interrupted')"


def query(file: Path, sql: str) -> tuple[Any, ...]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        row: tuple[Any, ...] = connection.execute(sql).fetchone()
        return row


async def answer_all(worker: Worker) -> None:
    while True:
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "three words here"), End(job.job))


@pytest.fixture
async def data(start_hub) -> Path:
    """The data directory of a running hub that has answered three requests."""
    hub = await start_hub()
    async with socket_worker(hub, slots=50) as worker:
        answering = asyncio.create_task(answer_all(worker))
        for _ in range(3):
            await ask(hub)
        await hub.rows()
        answering.cancel()
    folder: Path = hub.hub.settings.data
    return folder


def at(data: Path, **settings: Any) -> Settings:
    return load({"data_dir": str(data), **settings}, environ={}, directory=data)


# --- making ----------------------------------------------------------------------------------------------


async def test_a_backup_is_one_private_file_that_says_what_it_is(data, tmp_path):
    made = backup.write(data, tmp_path / "b.db", with_keys=False)
    assert (made.requests, made.vault_keys, made.encrypted) == (3, "apart", 0)
    assert made.bytes == (tmp_path / "b.db").stat().st_size
    assert backup.read(tmp_path / "b.db") == made
    assert mode(tmp_path / "b.db") == 0o600
    assert [file.name for file in tmp_path.glob("b.db*")] == ["b.db"]


async def test_a_backup_made_in_the_midst_of_requests_agrees_with_itself(start_hub, tmp_path):
    hub = await start_hub()
    async with socket_worker(hub, slots=50) as worker:
        answering = asyncio.create_task(answer_all(worker))
        asking = asyncio.gather(*(ask(hub) for _ in range(200)))
        made = []
        for number in range(5):
            args = (hub.hub.settings.data, tmp_path / f"{number}.db")
            made.append(await asyncio.to_thread(backup.write, *args, with_keys=False))
        assert {reply.status for reply in await asking} == {200}
        await hub.rows()
        made.append(backup.write(hub.hub.settings.data, tmp_path / "last.db", with_keys=False))
        answering.cancel()
    for each in made:
        settled = query(Path(each.file), SUMS + SETTLED)
        summed = query(Path(each.file), LEDGER)
        assert settled[0] == (summed[0] or 0)
        assert [value or 0 for value in settled] == [value or 0 for value in summed]
    assert made[-1].requests == 200
    assert query(Path(made[-1].file), SUMS) == query(hub.hub.settings.data / "hub.db", SUMS)


async def test_a_backup_takes_the_place_of_a_backup_and_of_nothing_else(data, tmp_path):
    target = tmp_path / "b.db"
    backup.write(data, target, with_keys=False)
    backup.write(data, target, with_keys=False)
    (tmp_path / "letter.txt").write_text("Dear all")
    for precious in (tmp_path / "letter.txt", data / "hub.db"):
        before = precious.read_bytes()[:100]
        with pytest.raises(BackupError, match="is there already"):
            backup.write(data, precious, with_keys=False)
        assert precious.read_bytes()[:100] == before


async def test_a_damaged_database_gives_no_backup(data, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    backup.write(data, tmp_path / "b.db", with_keys=False)
    backup.restore(at(whole), tmp_path / "b.db")
    raw = bytearray((whole / "hub.db").read_bytes())
    raw[8192:40960] = b"\xff" * (40960 - 8192)
    (whole / "hub.db").write_bytes(raw)
    with pytest.raises((BackupError, sqlite3.DatabaseError)):
        backup.write(whole, tmp_path / "c.db", with_keys=False)
    assert not list(tmp_path.glob("c.db*"))


# --- restoring -------------------------------------------------------------------------------------------


async def test_a_restored_hub_has_the_same_sums_and_the_same_keys(start_hub, data, tmp_path):
    backup.write(data, tmp_path / "b.db", with_keys=False)
    (tmp_path / "new").mkdir()
    restored = backup.restore(at(tmp_path / "new"), tmp_path / "b.db")
    assert (restored.replaced, restored.unreadable) == (None, 0)
    assert mode(tmp_path / "new/hub.db") == 0o600
    hub = await start_hub(data_dir=str(tmp_path / "new"))
    assert query(data / "hub.db", SUMS) == query(tmp_path / "new/hub.db", SUMS)
    names = [key.name for key in await hub.hub.store.keys.all()]
    assert names == ["caller", "caller"]
    tables = await hub.rows("SELECT name FROM sqlite_master WHERE name = 'backup'")
    assert tables == []


async def test_what_was_there_before_is_kept(data, tmp_path):
    backup.write(data, tmp_path / "b.db", with_keys=False)
    old = tmp_path / "old"
    old.mkdir()
    backup.restore(at(old), tmp_path / "b.db")
    with closing(sqlite3.connect(old / "hub.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("DELETE FROM requests")
        connection.commit()
    again = backup.restore(at(old), tmp_path / "b.db")
    assert again.replaced == str(old / "hub.db.replaced")
    assert query(old / "hub.db.replaced", SUMS)[0] == 0
    assert query(old / "hub.db", SUMS)[0] == 3
    assert sorted(file.name for file in old.iterdir()) == ["hub.db", "hub.db.replaced"]


async def test_only_a_whole_backup_of_ours_is_restored(data, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "letter.txt").write_text("Dear all")
    with pytest.raises(BackupError, match="is not a backup"):
        backup.restore(at(tmp_path / "new"), tmp_path / "letter.txt")
    with pytest.raises(BackupError, match="is not a backup"):
        backup.restore(at(tmp_path / "new"), tmp_path / "nowhere.db")
    backup.write(data, tmp_path / "b.db", with_keys=False)
    raw = bytearray((tmp_path / "b.db").read_bytes())
    for start in range(8192, len(raw) - 4096, 8192):
        raw[start : start + 2000] = b"\xff" * 2000
    (tmp_path / "b.db").write_bytes(raw)
    with pytest.raises(BackupError):
        backup.restore(at(tmp_path / "new"), tmp_path / "b.db")
    assert list((tmp_path / "new").iterdir()) == []


async def test_a_backup_of_a_newer_hub_is_refused(data, tmp_path):
    backup.write(data, tmp_path / "b.db", with_keys=False)
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(NewerDatabase):
        backup.restore(at(tmp_path), tmp_path / "b.db")


# --- the vault's keys ------------------------------------------------------------------------------------


@pytest.fixture
async def kept(start_hub) -> tuple[Any, str, Path]:
    """A running hub, a completion that it keeps, and its data directory."""
    hub = await start_hub()
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(answer_all(worker))
        reply = await ask(hub, store=True)
        answering.cancel()
    assert reply.status == 200
    await hub.rows()
    return hub, reply.json["id"], hub.hub.settings.data


async def test_a_backup_says_that_the_keys_are_apart_and_a_restore_what_is_unreadable(
    kept, tmp_path
):
    _, _, data = kept
    keys = (data / "vault-keys").read_bytes()
    made = backup.write(data, tmp_path / "b.db", with_keys=False)
    assert made.vault_keys == "apart"
    assert made.encrypted >= 2
    assert keys.strip() not in (tmp_path / "b.db").read_bytes()
    new = tmp_path / "new"
    new.mkdir()
    assert backup.restore(at(new), tmp_path / "b.db").unreadable == made.encrypted
    assert not (new / "vault-keys").exists()
    (new / "vault-keys").write_text("00" * 32 + "\n")
    assert backup.restore(at(new), tmp_path / "b.db").unreadable == made.encrypted
    (new / "vault-keys").write_bytes(keys)
    assert backup.restore(at(new), tmp_path / "b.db").unreadable == 0


async def test_a_backup_with_the_keys_brings_them_back_and_content_is_read_again(
    kept, start_hub, tmp_path
):
    hub, completion, data = kept
    keys = (data / "vault-keys").read_bytes()
    assert backup.write(data, tmp_path / "b.db", with_keys=True).vault_keys == "included"
    new = tmp_path / "new"
    new.mkdir()
    (new / "vault-keys").write_text("00" * 32 + "\n")
    assert backup.restore(at(new), tmp_path / "b.db").unreadable == 0
    assert (new / "vault-keys").read_bytes() == keys
    assert mode(new / "vault-keys") == 0o600
    assert (new / "vault-keys.replaced").read_text() == "00" * 32 + "\n"
    assert keys.strip() not in (new / "hub.db").read_bytes()
    again = await start_hub(data_dir=str(new))
    again.key = hub.key
    read = await send(again, method="GET", path=f"/v1/chat/completions/{completion}")
    assert read.text == "three words here"


async def test_keys_that_the_operator_keeps_are_none_of_a_backups(start_hub, tmp_path):
    secret = "a secret of the operator's own"
    hub = await start_hub(secret_key=secret)
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(answer_all(worker))
        await ask(hub, store=True)
        answering.cancel()
    await hub.rows()
    made = backup.write(hub.hub.settings.data, tmp_path / "b.db", with_keys=True)
    assert made.vault_keys == "none"
    (tmp_path / "new").mkdir()
    new = tmp_path / "new"
    assert backup.restore(at(new), tmp_path / "b.db").unreadable == made.encrypted
    assert backup.restore(at(new, secret_key=secret), tmp_path / "b.db").unreadable == 0


# --- the commands ----------------------------------------------------------------------------------------


async def test_a_backup_by_command_while_the_hub_runs_and_without_it(tmp_path):
    async with serving(tmp_path) as hub:
        await hub.key()
        through = await run(tmp_path, "backup", "through.db", "--json")
        assert json.loads(through.out)["file"] == str(tmp_path / "through.db")
        refused = await run(tmp_path, "restore", "through.db")
        assert (refused.code, "Stop it" in refused.err) == (1, True)
        await hub.program.end()
    directly = await run(tmp_path, "backup", "directly.db")
    assert "0 requests" in directly.out
    restored = await run(tmp_path, "restore", "through.db")
    assert restored.code == 0
    assert "hub.db.replaced" in restored.out
    keys = await run(tmp_path, "key", "list", "--json")
    assert [key["name"] for key in json.loads(keys.out)] == ["from a test"]


async def test_what_cannot_be_is_a_sentence(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear all")
    await run(tmp_path, "key", "list")
    for words in (("backup", "letter.txt"), ("restore", "letter.txt"), ("backup", "no/where.db")):
        refused = await run(tmp_path, *words)
        assert refused.code == 1
        assert words[1].partition("/")[2] in refused.err
        assert "Traceback" not in refused.err
    assert (tmp_path / "letter.txt").read_text() == "Dear all"


async def test_people_are_told_of_the_vaults_keys(tmp_path):
    await run(tmp_path, "key", "list")
    keys = (tmp_path / "data/vault-keys").read_bytes()
    assert "does not hold the vault's keys" in (await run(tmp_path, "backup", "b.db")).out
    made = await run(tmp_path, "backup", "b.db", "--with-vault-keys")
    assert "whoever has it can read everything" in made.out
    (tmp_path / "data/vault-keys").unlink()
    assert (await run(tmp_path, "restore", "b.db")).code == 0
    assert (tmp_path / "data/vault-keys").read_bytes() == keys
