"""A disk that takes nothing more: refused clearly, nothing lost or corrupted, and over when space returns.

A process whose files may not grow beyond a few bytes sees what a full disk shows: writes that fail.
"""

import asyncio
import contextlib
import json
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.doors import Reply
from tests.processes import PROSE, Served, agent, bearer, chat, eventually, serving, text_of
from tests.records import read

NO_ROOM = 4096
"""Bytes of a file that may still be written: its first page, which is written last."""


@contextlib.contextmanager
def full(hub: Served) -> Any:
    """Meanwhile the hub's disk takes nothing."""
    pid = hub.program.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (NO_ROOM, before[1]))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class Caller:
    """Asks a hub in a process of its own."""

    def __init__(self, hub: Served, key: str, http: aiohttp.ClientSession) -> None:
        self.hub = hub
        self.key = key
        self._http = http

    async def ask(self, **members: Any) -> Reply:
        async with self.posting(**members) as response:
            return Reply(response.status, response.headers, await response.read())

    def posting(self, **members: Any) -> Any:
        url = f"{self.hub.url}/v1/chat/completions"
        return self._http.post(url, json=chat() | members, headers=bearer(self.key))


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    async with serving(tmp_path) as hub, agent(hub), aiohttp.ClientSession() as http:
        yield Caller(hub, await hub.key(), http)
        await hub.program.end()
        assert read(hub.data).integrity == "ok"


async def test_a_full_disk_is_a_503_and_nothing_runs(caller):
    assert (await caller.ask()).status == 200
    with full(caller.hub):
        for stream in (False, True):
            refused = await caller.ask(stream=stream)
            assert (refused.status, refused.error["code"]) == (503, "storage_failed")
            assert int(refused.headers["Retry-After"]) > 0
    await caller.hub.program.said("the database cannot be written")
    # Nothing of them was written or run, so nothing is in hand or counted.
    assert (await caller.ask()).status == 200
    await eventually(
        lambda: [row["state"] for row in read(caller.hub.data).rows] == ["completed"] * 2
    )


async def test_many_at_once_are_all_refused_and_all_served_when_space_returns(caller):
    with full(caller.hub):
        refused = await asyncio.gather(*[caller.ask() for _ in range(50)])
        assert {reply.status for reply in refused} == {503}
    served = await asyncio.gather(*[caller.ask() for _ in range(50)])
    assert {reply.text for reply in served} == {PROSE}
    assert len(read(caller.hub.data).rows) == 50


async def test_what_was_accepted_before_is_answered_whole_and_settled_when_space_returns(caller):
    async with caller.posting(model="echo-slow", stream=True) as stream:
        beginning = await stream.content.readuntil(b'"01"')
        with full(caller.hub):
            rest = await stream.content.read()
            assert text_of(beginning + rest) == PROSE
            assert rest.endswith(b"data: [DONE]\n\n")
            await caller.hub.program.said("the database cannot be written")
            (open_row,) = read(caller.hub.data).rows
            assert open_row["settled_at"] is None
    await eventually(lambda: read(caller.hub.data).rows[0]["settled_at"])
    (row,) = read(caller.hub.data).rows
    assert (row["state"], row["delivered_chars"]) == ("completed", len(PROSE))
    (hour,) = read(caller.hub.data).hourly
    assert (hour["requests"], hour["completed"]) == (1, 1)


async def test_a_hub_that_stops_with_a_full_disk_settles_at_its_next_start(tmp_path):
    async with serving(tmp_path) as hub, agent(hub), aiohttp.ClientSession() as http:
        caller = Caller(hub, await hub.key(), http)
        async with caller.posting(model="echo-slow", stream=True) as stream:
            await stream.content.readuntil(b'"01"')
            with full(hub):
                await stream.content.read()
                assert await hub.program.end() == 0
    assert read(hub.data).integrity == "ok"
    async with serving(tmp_path) as again:
        (row,) = read(again.data).rows
    assert row["state"] == "interrupted"
    assert row["settled_at"] is not None


async def test_new_keys_are_refused_clearly_and_workers_may_still_come(caller):
    with full(caller.hub):
        made = await asyncio.create_subprocess_exec(
            *("python", "-m", "hub", "key", "create", "--name", "late"),
            cwd=caller.hub.directory,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await made.communicate()
        assert made.returncode == 1
        assert b"Traceback" not in said
        url = f"{caller.hub.url}/healthz"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert json.loads(await response.read())["workers"] == 1


async def test_a_stored_answer_that_the_disk_did_not_take_says_so(caller):
    asked = chat("echo-slow", "one two three four five six seven eight nine ten", stream=True)
    made = ""
    async with caller.posting(**asked, store=True) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                made = json.loads(line[6:])["id"]
                break
        with full(caller.hub):
            rest = await response.read()
    assert b'"finish_reason":"stop"' in rest
    path = f"{caller.hub.url}/v1/chat/completions/{made}"

    async def told() -> Any:
        async with aiohttp.request("GET", path, headers=bearer(caller.key)) as answer:
            return answer.status, await answer.json()

    async with asyncio.timeout(30):
        # Its settlement is owed until the disk takes writes again.
        while (found := await told())[0] == 404:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.05)
    assert found[0] == 200
    assert found[1]["incomplete_details"] == {"reason": "storage_failed"}


async def test_what_cannot_be_kept_is_refused_and_may_be_sent_again(caller):
    url = f"{caller.hub.url}/v1/chat/completions"
    headers = {**bearer(caller.key), "Idempotency-Key": "one"}
    statuses = []
    with full(caller.hub):
        async with aiohttp.request("POST", url, json=chat(), headers=headers) as answer:
            statuses.append(answer.status)
    async with aiohttp.request("POST", url, json=chat(), headers=headers) as answer:
        statuses.append(answer.status)
    assert statuses == [503, 200]
