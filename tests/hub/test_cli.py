"""The command line: with a hub running through its control socket, without one straight to the data."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.processes import Ran, Served, agent, bearer, mode, run, serving

BOTH = pytest.mark.parametrize(
    ("group", "prefix"), [("key", "sk-lmb-"), ("worker-token", "wt-lmb-")]
)


async def listed(directory: Path, group: str = "key") -> list[dict[str, Any]]:
    ran = await run(directory, group, "list", "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


async def created(directory: Path, name: str, group: str = "key") -> dict[str, Any]:
    ran = await run(directory, group, "create", "--name", name, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


async def status_of(hub: Served, key: str) -> int:
    async with aiohttp.request("GET", f"{hub.url}/v1/models", headers=bearer(key)) as answer:
        return answer.status


def spoil_version(data: Path) -> None:
    with closing(sqlite3.connect(data / "hub.db")) as connection:
        connection.execute("PRAGMA user_version = 999")


def refused_politely(ran: Ran, *words: str) -> None:
    assert ran.code == 1
    assert ran.out == ""
    assert "Traceback" not in ran.err
    assert all(word in ran.err for word in words), ran.err


# --- without a hub -------------------------------------------------------------------------------


@BOTH
async def test_create_prints_the_secret_alone(tmp_path, group, prefix):
    first = await run(tmp_path, group, "create", "--name", "mine")
    assert first.code == 0
    assert first.out.startswith(prefix)
    assert first.out.count("\n") == 1
    assert first.out.strip().isprintable()
    assert " " not in first.out
    assert "making a new data directory: data" in first.err
    assert (await run(tmp_path, group, "create", "--name", "again")).err == ""


@BOTH
async def test_create_prints_json_when_asked(tmp_path, group, prefix):
    made = await created(tmp_path, "mine", group)
    assert set(made) == {"id", "name", "secret"}
    assert made["name"] == "mine"
    assert made["secret"].startswith(prefix)


@BOTH
async def test_list_shows_names_and_ids_and_no_secret(tmp_path, group, prefix):
    made = await created(tmp_path, "Zoë's", group)
    assert (await listed(tmp_path, group))[0]["id"] == made["id"]
    table = await run(tmp_path, group, "list", COLUMNS="200", PYTHONIOENCODING="utf-8")
    assert "Zoë's" in table.out
    assert made["id"] in table.out
    assert made["secret"] not in table.out


async def test_an_empty_list_is_an_empty_list(tmp_path):
    assert await listed(tmp_path) == []
    assert (await run(tmp_path, "key", "list")).out == ""


@BOTH
async def test_revoke_ends_it_and_says_so(tmp_path, group, prefix):
    made = await created(tmp_path, "mine", group)
    assert (await run(tmp_path, group, "revoke", made["id"])).out == f"revoked {made['id']}\n"
    assert await listed(tmp_path, group) == []
    refused_politely(await run(tmp_path, group, "revoke", made["id"]), made["id"])


async def test_a_name_is_needed_and_may_not_be_empty(tmp_path):
    assert (await run(tmp_path, "key", "create")).code == 2
    refused_politely(await run(tmp_path, "key", "create", "--name", ""), "name")
    refused_politely(await run(tmp_path, "key", "create", "--name", "x" * 201), "name")


async def test_data_chooses_the_directory(tmp_path):
    made = await run(tmp_path, "key", "create", "--name", "x", "--data", "elsewhere")
    assert made.code == 0
    assert mode(tmp_path / "elsewhere") == 0o700
    assert not (tmp_path / "data").exists()


async def test_a_newer_hubs_database_is_refused(tmp_path):
    await created(tmp_path, "mine")
    spoil_version(tmp_path / "data")
    words = ("newer hub", "999")
    refused_politely(await run(tmp_path, "key", "list"), *words)
    refused_politely(await run(tmp_path, "serve", HUB_PORT="0"), *words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path):
    tmp_path.chmod(0o500)
    refused_politely(await run(tmp_path, "key", "list"), "data")


async def test_a_data_directory_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "data").write_text("")
    refused_politely(await run(tmp_path, "key", "list"), "data")


async def test_ten_commands_at_once_all_succeed(tmp_path):
    made = await asyncio.gather(*(created(tmp_path, f"number {n}") for n in range(10)))
    names = [f"number {n}" for n in range(10)]
    assert [one["name"] for one in made] == names
    assert sorted(one["name"] for one in await listed(tmp_path)) == names


async def test_the_version_and_help_are_there(tmp_path):
    assert (await run(tmp_path, "--version")).out.startswith("lmarena-hub")
    assert "serve" in (await run(tmp_path, "-h")).out


# --- while a hub runs ----------------------------------------------------------------------------


async def test_the_control_socket_belongs_to_the_owner_and_goes_with_the_hub(tmp_path):
    async with serving(tmp_path) as hub:
        control = hub.data / "control.sock"
        assert control.is_socket()
        assert mode(control) == 0o600
        assert await hub.program.end() == 0
        assert not control.exists()


async def test_a_key_works_at_once_and_a_revoked_one_no_more(tmp_path):
    async with serving(tmp_path) as hub:
        made, other = await created(tmp_path, "mine"), await created(tmp_path, "other")
        assert await status_of(hub, made["secret"]) == 200
        assert [one["name"] for one in await listed(tmp_path)] == ["mine", "other"]
        assert (await run(tmp_path, "key", "revoke", made["id"])).code == 0
        assert await status_of(hub, made["secret"]) == 401
        assert await status_of(hub, other["secret"]) == 200


async def test_what_was_made_before_the_hub_started_works_too(tmp_path):
    made = await created(tmp_path, "early")
    async with serving(tmp_path) as hub:
        assert await status_of(hub, made["secret"]) == 200


async def test_a_key_made_through_the_hub_outlives_it(tmp_path):
    async with serving(tmp_path) as hub:
        made = await created(tmp_path, "mine")
        assert await hub.program.end() == 0
    assert [one["id"] for one in await listed(tmp_path)] == [made["id"]]


async def test_revoking_a_worker_token_sends_its_agent_away_for_good(tmp_path):
    async with serving(tmp_path) as hub, agent(hub) as worker:
        [token] = await listed(tmp_path, "worker-token")
        assert (await run(tmp_path, "worker-token", "revoke", token["id"])).code == 0
        await worker.said("4501")
        assert await worker.process.wait() == 1


async def test_errors_come_through_the_control_socket_as_sentences(tmp_path):
    async with serving(tmp_path):
        refused_politely(await run(tmp_path, "key", "revoke", "nobody"), "'nobody'")
        refused_politely(await run(tmp_path, "key", "create", "--name", ""), "name")


async def test_ten_commands_at_once_all_succeed_through_the_hub(tmp_path):
    async with serving(tmp_path) as hub:
        made = await asyncio.gather(*(created(tmp_path, f"number {n}") for n in range(10)))
        assert [await status_of(hub, one["secret"]) for one in made] == [200] * 10
    assert len({one["id"] for one in await listed(tmp_path)}) == 10


async def test_an_ordinary_key_does_not_administer(tmp_path):
    async with serving(tmp_path) as hub:
        key = (await created(tmp_path, "mine"))["secret"]
        url = f"{hub.url}/admin/api/keys"
        async with aiohttp.request("GET", url, headers=bearer(key)) as answer:
            assert answer.status == 403


async def test_a_second_hub_on_the_same_data_is_refused(tmp_path):
    async with serving(tmp_path) as hub:
        refused_politely(await run(tmp_path, "serve", HUB_PORT="0"), "holds this data directory")
        assert await status_of(hub, (await created(tmp_path, "mine"))["secret"]) == 200


async def test_a_hub_that_was_killed_does_not_stand_in_the_way(tmp_path):
    async with serving(tmp_path) as hub:
        hub.program.process.kill()
        await hub.program.process.wait()
        assert (hub.data / "control.sock").exists()
    made = await created(tmp_path, "afterwards")
    async with serving(tmp_path) as hub:
        assert await status_of(hub, made["secret"]) == 200
