"""A wall clock that jumps, in either direction: answers, workers, limits and books go on."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.rules.tiers import Limits
from hub.settings import load
from hub.store import open_store
from hub.store.audit import Actor
from tests.processes import PROSE, Served, agent, bearer, chat, eventually, program, text_of
from tests.records import read

DAY_S = 86_400
JUMPS = {"a day back": -DAY_S, "an hour ahead": 3_600, "a year ahead": 366 * DAY_S}


class Clock:
    """The hub's wall clock."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.jump(0)

    def jump(self, seconds: float) -> None:
        """From now on it is wrong by so much."""
        waiting = self.file.with_suffix(".new")
        waiting.write_text(str(seconds))
        waiting.replace(self.file)


@asynccontextmanager
async def serving_by(clock: Clock, directory: Path) -> AsyncIterator[Served]:
    environ = {"HUB_PORT": "0", "HUB_LOG_FORMAT": "json"}
    command = ("tests.jumping_clock", str(clock.file), "serve")
    async with program(directory, *command, **environ) as started:
        ready = json.loads(await started.said("hub is ready"))
        yield Served(started, ready["address"], directory)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "offset")


async def limited_key(directory: Path, **limits: int) -> str:
    settings = load({"data_dir": str(directory / "data")}, environ={}, directory=directory)
    settings.data.mkdir()
    async with open_store(settings) as store:
        made = await store.keys.create("limited", Actor("test"), limits=Limits(**limits))
        return made.secret


async def ask(http: aiohttp.ClientSession, hub: Served, key: str, **members: Any) -> Any:
    url = f"{hub.url}/v1/chat/completions"
    async with http.post(url, json=chat() | members, headers=bearer(key)) as response:
        return response.status, await response.read()


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_jump_in_mid_answer_changes_nothing(tmp_path, clock, jump):
    async with (
        serving_by(clock, tmp_path) as hub,
        agent(hub),
        aiohttp.ClientSession() as http,
    ):
        key = await hub.key()
        url, body = f"{hub.url}/v1/chat/completions", chat("echo-slow", stream=True)
        async with http.post(url, json=body, headers=bearer(key)) as stream:
            beginning = await stream.content.readuntil(b'"01"')
            clock.jump(JUMPS[jump])
            assert text_of(beginning + await stream.content.read()) == PROSE
        assert (await ask(http, hub, key))[0] == 200
        clock.jump(0)
        assert (await ask(http, hub, key))[0] == 200
        await eventually(lambda: [row["state"] for row in read(hub.data).rows] == ["completed"] * 3)
        assert "worker left" not in hub.program.log
        found = read(hub.data)
        for table in (found.hourly, found.daily):
            assert sum(row["requests"] for row in table) == 3
            assert all(row["duration_ms"] >= 0 for row in table)


@pytest.mark.parametrize("jump", JUMPS)
async def test_a_jump_neither_lifts_a_limit_nor_makes_it_endless(tmp_path, clock, jump):
    key = await limited_key(tmp_path, requests_per_minute=2)
    async with (
        serving_by(clock, tmp_path) as hub,
        agent(hub),
        aiohttp.ClientSession() as http,
    ):
        assert [(await ask(http, hub, key))[0] for _ in range(2)] == [200, 200]
        clock.jump(JUMPS[jump])
        url = f"{hub.url}/v1/chat/completions"
        async with http.post(url, json=chat(), headers=bearer(key)) as refused:
            assert refused.status == 429
            assert 0 < int(refused.headers["Retry-After"]) <= 60
