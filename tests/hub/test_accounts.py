"""API keys and worker tokens: shown once, kept as SHA-256, found and revoked at once."""

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.settings import load
from hub.store import Store, open_store
from hub.store.audit import Actor
from hub.store.keys import Caller, Keys
from hub.store.worker_tokens import WorkerTokens

BOTH = pytest.mark.parametrize("kind", ["keys", "worker_tokens"])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(load({"data_dir": str(tmp_path)}, environ={}, directory=tmp_path)) as it:
        yield it


def credentials(store: Store, kind: str) -> Keys | WorkerTokens:
    return store.keys if kind == "keys" else store.worker_tokens


def on_disk(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir() if file.is_file())


async def audit(store: Store) -> list[tuple[str, str, str]]:
    def select(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
        found = connection.execute("SELECT actor, action, subject FROM audit_log ORDER BY id")
        return [tuple(row) for row in found]

    return await store.database.read(select)


@BOTH
async def test_a_secret_finds_its_holder(store, kind):
    mine = credentials(store, kind)
    made = await mine.create("mine", Actor("test"))
    await mine.create("another", Actor("test"))
    found = await mine.find(made.secret)
    assert found is not None
    found = found.key if isinstance(found, Caller) else found
    assert (found.id, found.name) == (made.id, "mine")
    assert made.secret.startswith(found.prefix)


@BOTH
async def test_a_secret_is_long_and_never_the_same(store, kind):
    mine = credentials(store, kind)
    made = [await mine.create("same name", Actor("test")) for _ in range(20)]
    assert len({one.secret for one in made}) == len({one.id for one in made}) == 20
    assert all(len(one.secret) >= 40 for one in made)


@BOTH
async def test_only_the_hash_is_kept(tmp_path, kind):
    settings = load({"data_dir": str(tmp_path)}, environ={}, directory=tmp_path)
    async with open_store(settings) as store:
        made = await credentials(store, kind).create("mine", Actor("test"))
        assert await credentials(store, kind).find(made.secret)
        while_open = on_disk(tmp_path)
    for written in (while_open, on_disk(tmp_path)):
        assert hashlib.sha256(made.secret.encode()).digest() in written
        assert made.secret[12:].encode() not in written


@BOTH
async def test_a_revoked_secret_finds_nobody_at_once(store, kind):
    mine = credentials(store, kind)
    made, other = (
        await mine.create("mine", Actor("test")),
        await mine.create("other", Actor("test")),
    )
    assert await mine.find(made.secret)
    assert await mine.revoke(made.id, Actor("test")) is True
    assert await mine.find(made.secret) is None
    assert await mine.find(other.secret)


@BOTH
async def test_revoking_says_whether_there_was_anything_to_revoke(store, kind):
    mine = credentials(store, kind)
    made = await mine.create("mine", Actor("test"))
    assert [await mine.revoke(made.id, Actor("test")) for _ in range(2)] == [True, False]
    assert await mine.revoke("nobody", Actor("test")) is False


@BOTH
async def test_the_list_shows_what_is_not_revoked_oldest_first(store, kind):
    mine = credentials(store, kind)
    made = [await mine.create(name, Actor("test")) for name in ("a", "b", "c")]
    await mine.revoke(made[1].id, Actor("test"))
    assert [one.name for one in await mine.all()] == ["a", "c"]


@BOTH
@pytest.mark.parametrize(
    "change",
    [
        lambda secret: "",
        lambda secret: secret[:-1],
        lambda secret: secret + "0",
        lambda secret: secret.upper(),
        lambda secret: " " + secret,
        lambda secret: secret.replace("lmb", "other"),
        lambda secret: secret + "\ud800",
        lambda secret: secret + "\0",
    ],
)
async def test_anything_else_finds_nobody(store, kind, change):
    made = await credentials(store, kind).create("mine", Actor("test"))
    assert await credentials(store, kind).find(change(made.secret)) is None


async def test_a_key_is_no_worker_token_and_the_other_way_round(store):
    key = await store.keys.create("key", Actor("test"))
    token = await store.worker_tokens.create("token", Actor("test"))
    assert await store.worker_tokens.find(key.secret) is None
    assert await store.keys.find(token.secret) is None
    assert await store.worker_tokens.find(key.secret.replace("sk-", "wt-")) is None
    assert await store.worker_tokens.revoke(key.id, Actor("test")) is False


@BOTH
async def test_it_survives_a_restart(tmp_path, kind):
    settings = load({"data_dir": str(tmp_path)}, environ={}, directory=tmp_path)
    async with open_store(settings) as store:
        kept = await credentials(store, kind).create("kept", Actor("test"))
        ended = await credentials(store, kind).create("ended", Actor("test"))
        await credentials(store, kind).revoke(ended.id, Actor("test"))
    async with open_store(settings) as store:
        assert await credentials(store, kind).find(kept.secret)
        assert await credentials(store, kind).find(ended.secret) is None


async def test_who_did_what_is_written_down(store):
    key = await store.keys.create("key", Actor("alice"))
    token = await store.worker_tokens.create("token", Actor("bob"))
    await store.keys.revoke(key.id, Actor("carol"))
    await store.keys.revoke(key.id, Actor("nobody: it is revoked already"))
    assert await audit(store) == [
        ("alice", "api_keys.create", key.id),
        ("bob", "worker_tokens.create", token.id),
        ("carol", "api_keys.revoke", key.id),
    ]


async def test_the_audit_holds_no_secret(store):
    made = await store.keys.create("key", Actor("alice"))
    assert made.secret not in str(await audit(store))
