"""The vault: sealed for one row under a named key, and rotated without losing anything."""

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.errors import ContentUnreadable
from hub.settings import SettingsError, load
from hub.store import Store, open_store
from hub.store.content import Batch, Stored, owner_of
from hub.store.journal import Accepted
from hub.store.keys import Caller
from hub.store.repeats import Repeat
from hub.store.vault import FILE, KEY_BYTES, Vault, key_id, open_vault, read_keys, write_keys
from tests.conftest import TEST
from tests.processes import Served, agent, bearer, chat, eventually, run, serving

KEYS = [bytes([n]) * KEY_BYTES for n in range(3)]
MARKER = b"a very private thought"


def settings(folder: Path, **more: Any) -> Any:
    return load({"data_dir": str(folder), **more}, environ={}, directory=folder)


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


# --- on paper ------------------------------------------------------------------------------------


def test_what_is_sealed_is_opened_by_any_key_that_knows_it():
    sealed = Vault(KEYS[1:]).seal(MARKER, "row 1")
    assert MARKER not in sealed
    assert sealed.startswith(key_id(KEYS[1]))
    assert Vault(KEYS).open(sealed, "row 1") == MARKER


def test_the_same_text_is_never_sealed_alike():
    vault = Vault(KEYS)
    assert vault.seal(MARKER, "row") != vault.seal(MARKER, "row")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: sealed[:-1],
        lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]),
        lambda sealed: sealed[:6] + bytes([sealed[6] ^ 1]) + sealed[7:],
        lambda sealed: sealed[:10],
        lambda sealed: b"",
    ],
)
def test_what_was_changed_is_not_opened(spoil):
    vault = Vault(KEYS)
    with pytest.raises(ContentUnreadable):
        vault.open(spoil(vault.seal(MARKER, "row")), "row")


def test_a_text_cannot_be_passed_off_as_another_rows():
    vault = Vault(KEYS)
    with pytest.raises(ContentUnreadable):
        vault.open(vault.seal(MARKER, "row 1"), "row 2")


def test_a_missing_key_is_named_and_not_shown():
    sealed = Vault(KEYS[:1]).seal(MARKER, "row")
    with pytest.raises(ContentUnreadable, match=key_id(KEYS[0]).hex()) as refused:
        Vault(KEYS[1:]).open(sealed, "row")
    assert KEYS[0].hex() not in refused.value.message


# --- keys ----------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_belongs_to_the_owner(tmp_path):
    first = open_vault(settings(tmp_path))
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert open_vault(settings(tmp_path)).current == first.current


def test_the_operators_own_keys_come_first_and_the_files_still_open(tmp_path):
    sealed = open_vault(settings(tmp_path)).seal(MARKER, "row")
    vault = open_vault(settings(tmp_path, secret_key="one long enough secret, another long secret"))
    assert vault.open(sealed, "row") == MARKER
    by_second = open_vault(settings(tmp_path, secret_key="another long secret")).seal(b"x", "r")
    assert vault.open(by_second, "r") == b"x"
    assert vault.renew() is False


def test_without_a_file_no_file_is_made_for_the_operators_keys(tmp_path):
    open_vault(settings(tmp_path, secret_key="one long enough secret"))
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["short", "long enough, isn't it?,short"])
def test_a_short_secret_is_refused(tmp_path, text):
    with pytest.raises(SettingsError, match="16 characters") as refused:
        open_vault(settings(tmp_path, secret_key=text))
    assert "short" not in str(refused.value)


@pytest.mark.parametrize("text", ["rubbish", "00", "ab" * 33])
def test_a_spoiled_file_is_a_sentence(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(SettingsError, match=FILE):
        open_vault(settings(tmp_path))


# --- content -------------------------------------------------------------------------------------


async def kept(store: Store, count: int) -> Caller:
    """So many stored completions of one caller."""
    secret = (await store.keys.create("k", TEST)).secret
    caller = await store.keys.find(secret)
    assert caller is not None
    for number in range(count):
        request = f"{number:013x}"
        await store.journal.accept(Accepted(request, caller.key.id, "", "/", "m", False, number, 1))
        body = b'{"messages":[{"role":"user","content":"%b %d"}]}' % (MARKER, number)
        stored = Stored({"n": str(number)}, 10**17)
        repeat = Repeat(owner_of(caller), request, MARKER.decode(), 10**17)
        await store.content.begin(request, caller, "m", body, number, stored=stored, repeat=repeat)
        await store.content.append([Batch(request, 0, [{"text": MARKER.decode()}])])
    await store.journal.interrupt_open(lambda left: 0)
    return caller


async def all_texts(store: Store, caller: Caller) -> list[str]:
    found, more = await store.content.list(caller, limit=10_000)
    assert not more
    return [f"{each.body['messages'][0]['content']} {each.pieces[0]['text']}" for each in found]


async def test_content_on_disk_is_unreadable_without_the_key(tmp_path):
    async with open_store(settings(tmp_path)) as store:
        caller = await kept(store, 3)
        assert len(await all_texts(store, caller)) == 3
    assert MARKER not in on_disk(tmp_path)
    (tmp_path / FILE).rename(tmp_path.parent / "elsewhere")
    async with open_store(settings(tmp_path)) as store:
        with pytest.raises(ContentUnreadable, match="vault-keys"):
            await all_texts(store, caller)


async def test_a_rotation_leaves_one_key_and_every_text(tmp_path):
    async with open_store(settings(tmp_path)) as store:
        caller = await kept(store, 450)
        before, old = await all_texts(store, caller), store.content.vault.current
        assert await store.content.rotate(TEST) == (4 * 450, 0)
        assert await all_texts(store, caller) == before
        assert list(await store.content.status()) == [store.content.vault.current.hex()]
    [left] = read_keys(tmp_path / FILE)
    assert key_id(left) != old
    async with open_store(settings(tmp_path)) as store:
        assert await all_texts(store, caller) == before


async def test_a_rotation_keeps_old_keys_while_something_is_unreadable(tmp_path):
    async with open_store(settings(tmp_path)) as store:
        await kept(store, 2)
    lost = read_keys(tmp_path / FILE)
    write_keys(tmp_path / FILE, [KEYS[1]])
    async with open_store(settings(tmp_path)) as store:
        assert (await store.content.rotate(TEST)).unreadable == 8
        assert len(read_keys(tmp_path / FILE)) == 2
    write_keys(tmp_path / FILE, [*read_keys(tmp_path / FILE), *lost])
    async with open_store(settings(tmp_path)) as store:
        assert (await store.content.rotate(TEST)).unreadable == 0


async def test_texts_written_while_a_rotation_runs_are_under_the_new_key(tmp_path):
    async with open_store(settings(tmp_path)) as store:
        caller = await kept(store, 300)
        rotation = asyncio.create_task(store.content.rotate(TEST))
        for n in range(1, 200):
            await store.content.append([Batch(f"{n:013x}", 1, [{"text": "more"}])])
        assert (await rotation).unreadable == 0
        assert list(await store.content.status()) == [store.content.vault.current.hex()]
        assert len(await all_texts(store, caller)) == 300


async def test_a_hub_killed_in_mid_rotation_still_opens_everything(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    async with open_store(settings(data)) as store:
        caller = await kept(store, 2_000)
    script = (
        "import asyncio, sys\n"
        "from hub.settings import load\n"
        "from hub.store import open_store\n"
        "from hub.store.audit import Actor\n"
        "async def main():\n"
        "    async with open_store(load({'data_dir': sys.argv[1]})) as store:\n"
        "        print('ready', flush=True)\n"
        "        await store.content.rotate(Actor('test'))\n"
        "asyncio.run(main())\n"
    )
    for delay_ms in range(0, 120, 15):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(data), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        # The moment of the kill is the point: any will do.
        await asyncio.sleep(delay_ms / 1000)
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        async with open_store(settings(data)) as store:
            assert len(await all_texts(store, caller)) == 2_000
    async with open_store(settings(data)) as store:
        assert (await store.content.rotate(TEST)).unreadable == 0
    assert len(read_keys(data / FILE)) == 1


async def test_a_second_rotation_waits_for_the_first(tmp_path):
    async with open_store(settings(tmp_path)) as store:
        caller = await kept(store, 900)
        first = asyncio.create_task(store.content.rotate(TEST))
        for _ in range(12):  # far into its twenty batches
            await store.content.set_metadata(caller, "0" * 13, {})
        assert not first.done()
        second = asyncio.create_task(store.content.rotate(TEST))
        assert (await first).unreadable == 0
        # Were it killed now, every key that something is under would be in the file.
        used = set(await store.content.status())
        assert used <= {key_id(key).hex() for key in read_keys(tmp_path / FILE)}
        assert (await second).unreadable == 0
        assert list(await store.content.status()) == [store.content.vault.current.hex()]
    async with open_store(settings(tmp_path)) as store:
        assert len(read_keys(tmp_path / FILE)) == 1
        assert len(await all_texts(store, caller)) == 900


def test_what_somebody_has_in_hand_is_opened_after_a_rotation(tmp_path):
    vault = open_vault(settings(tmp_path))
    in_hand = vault.seal(MARKER, "row")
    vault.renew()
    vault.keep_only_current()
    assert vault.open(in_hand, "row") == MARKER
    with pytest.raises(ContentUnreadable):
        open_vault(settings(tmp_path)).open(in_hand, "row")


async def test_whoever_reads_or_writes_during_rotations_notices_nothing(tmp_path):
    async with open_store(settings(tmp_path)) as store:
        caller = await kept(store, 300)
        before = await all_texts(store, caller)
        rotating = True

        async def rotate() -> None:
            nonlocal rotating
            for _ in range(5):
                await store.content.rotate(TEST)
            rotating = False

        async def read() -> int:
            count = 0
            while rotating:
                assert await all_texts(store, caller) == before
                count += 1
            return count

        async def write() -> int:
            count = 0
            while rotating:
                await store.content.set_metadata(caller, f"{count % 300:013x}", {"n": "again"})
                count += 1
            return count

        _, reads, writes = await asyncio.gather(rotate(), read(), write())
        assert reads > 1
        assert writes > 1
    async with open_store(settings(tmp_path)) as store:
        assert await all_texts(store, caller) == before


async def test_a_spoiled_text_stops_no_rotation_and_keeps_the_old_keys(tmp_path):
    async with open_store(settings(tmp_path)) as store:
        await kept(store, 3)
        await store.database.write(
            lambda c: (
                c.execute(
                    "UPDATE request_bodies SET body = substr(body, 1, 40) WHERE id = ?", ("0" * 13,)
                ).rowcount
            )
        )
        assert await store.content.rotate(TEST) == (11, 1)
    assert len(read_keys(tmp_path / FILE)) == 2


async def test_a_hub_killed_while_it_rotates_under_load_loses_nothing(tmp_path):
    """The real thing: callers, `lmarena-hub vault rotate`, and kill -9 at some moment of it."""
    made: dict[str, str] = {}

    async def call(hub: Served, key: str, name: str) -> None:
        url = f"{hub.url}/v1/chat/completions"
        body = {**chat(text=f"{MARKER.decode()} {name}"), "store": True}
        headers = {**bearer(key), "Idempotency-Key": name}
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                async with aiohttp.request("POST", url, json=body, headers=headers) as answer:
                    told = await answer.json()
                    made[told["id"]] = told["choices"][0]["message"]["content"]
                name = f"{name}+"
                headers["Idempotency-Key"] = name

    key = ""
    for life in range(3):
        async with serving(tmp_path) as hub, agent(hub):
            key = key or await hub.key()
            calls = [asyncio.create_task(call(hub, key, f"{life} {n}")) for n in range(4)]
            known = len(made)
            await eventually(lambda: len(made) > known + 50)  # noqa: B023
            rotating = asyncio.create_task(run(tmp_path, "vault", "rotate"))
            # The file changes first; then, at any moment, the end.
            before = (hub.data / FILE).read_bytes()
            await eventually(lambda: (hub.data / FILE).read_bytes() != before)  # noqa: B023
            await hub.program.end(signal.SIGKILL)
            await asyncio.gather(*calls)
            ended = await rotating
            assert ended.code == 0 or "The hub ended before it answered" in ended.err
    async with serving(tmp_path) as hub:
        url = f"{hub.url}/v1/chat/completions"
        async with aiohttp.ClientSession(headers=bearer(key)) as session:
            for completion, text in made.items():
                async with session.get(f"{url}/{completion}") as answer:
                    told = await answer.json()
                    assert answer.status == 200, told
                    assert told["choices"][0]["message"]["content"] == text
        rotated = json.loads((await run(tmp_path, "vault", "rotate", "--json")).out)
        assert rotated["unreadable"] == 0
    assert len(read_keys(tmp_path / "data" / FILE)) == 1
    assert MARKER not in on_disk(tmp_path / "data")


async def test_what_has_been_kept_long_enough_is_purged(tmp_path):
    async with open_store(settings(tmp_path)) as store:
        caller = await kept(store, 2)
        await store.database.write(
            lambda c: (
                c.execute(
                    "UPDATE request_bodies SET expires_at = 1 WHERE id = '0000000000001'"
                ).rowcount
            )
        )
        assert await store.content.purge() == 1
        assert len(await all_texts(store, caller)) == 1
        left = await store.database.read(
            lambda c: c.execute("SELECT COUNT(*) FROM response_pieces").fetchone()[0]
        )
        assert left == 1


async def test_the_secret_key_is_in_no_log(tmp_path):
    secret = "a secret that nobody may read"
    async with serving(tmp_path, HUB_SECRET_KEY=secret, HUB_DEBUG="1") as hub, agent(hub):
        body = {
            "model": "echo",
            "store": True,
            "messages": [{"role": "user", "content": MARKER.decode()}],
        }
        url, headers = f"{hub.url}/v1/chat/completions", bearer(await hub.key())
        async with aiohttp.request("POST", url, json=body, headers=headers) as answer:
            assert answer.status == 200
        await hub.program.end()
        assert "private" not in secret + hub.program.log.replace("Traceback", "")
        assert secret not in hub.program.log
    assert MARKER not in on_disk(hub.data)
    assert not (hub.data / FILE).exists()


async def test_a_rotation_by_command_while_the_hub_runs(tmp_path):
    async with serving(tmp_path) as hub, agent(hub):
        body = {"model": "echo", "store": True, "messages": [{"role": "user", "content": "hi"}]}
        url, headers = f"{hub.url}/v1/chat/completions", bearer(await hub.key())
        async with aiohttp.request("POST", url, json=body, headers=headers) as answer:
            made = (await answer.json())["id"]
        before = json.loads((await run(tmp_path, "vault", "status", "--json")).out)
        rotated = json.loads((await run(tmp_path, "vault", "rotate", "--json")).out)
        after = json.loads((await run(tmp_path, "vault", "status", "--json")).out)
        assert before["texts"] == {before["current"]: 3}
        assert rotated == {"current": after["current"], "resealed": 3, "unreadable": 0}
        assert after["texts"] == {after["current"]: 3}
        assert before["current"] != after["current"]
        async with aiohttp.request("GET", f"{url}/{made}", headers=headers) as answer:
            assert (await answer.json())["choices"][0]["message"]["content"] == "hi"
        swept = json.loads((await run(tmp_path, "cleanup", "--json")).out)
        assert swept == {"journal": 0, "answers": 0, "sessions": 0}
        acts = json.loads((await run(tmp_path, "audit-log", "--action", "vault", "--json")).out)
        assert [act["subject"] for act in acts] == [after["current"]]
