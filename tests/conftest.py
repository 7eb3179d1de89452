"""A real hub on a loopback port with a real SQLite file, for any test."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hub.app import running
from hub.live.hub import Hub
from hub.rules.tiers import Tier
from hub.settings import load
from hub.store.audit import Actor
from hub.store.users import User

TEST = Actor("test")


@dataclass
class RunningHub:
    """A hub as tests see it: an address and secrets; `hub` is for looking inside."""

    hub: Hub
    url: str
    key: str
    worker_token: str

    async def new_key(self, name: str = "another", **details: Any) -> str:
        return (await self.hub.store.keys.create(name, TEST, **details)).secret

    async def new_worker_token(self, name: str = "another", **details: Any) -> str:
        made = await self.hub.store.worker_tokens.create(name, TEST, **details)
        return made.secret

    async def new_user(self, email: str, tier: Tier | None = None, **details: Any) -> User:
        """A user of the free tier, or of a tier of their own."""
        if tier is None:
            return await self.hub.store.users.create(email, TEST, **details)
        await self.hub.store.tiers.set(email, tier, TEST)
        return await self.hub.store.users.create(email, TEST, tier=email, **details)

    def calling(self, key: str) -> "RunningHub":
        """The same hub, called with another key."""
        return replace(self, key=key)

    async def rows(self, sql: str = "SELECT * FROM requests ORDER BY id") -> list[Any]:
        """What the database holds once all writes so far are done."""
        await self.hub.store.database.write(lambda connection: None)
        return await self.hub.store.database.read(lambda c: list(map(dict, c.execute(sql))))


StartHub = Callable[..., Awaitable[RunningHub]]


@pytest.fixture
async def start_hub(tmp_path: Path) -> AsyncIterator[StartHub]:
    """Start hubs: `hub = await start_hub(deadlines={"offer_s": 0.4})`; they end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**settings: Any) -> RunningHub:
            settings.setdefault("deadlines", {}).setdefault("drain_s", 0.2)
            overrides = {"data_dir": str(tmp_path / "data"), "port": 0, **settings}
            loaded = load(overrides, environ={}, directory=tmp_path)
            hub, url = await stack.enter_async_context(running(loaded))
            key = (await hub.store.keys.create("caller", TEST)).secret
            token = (await hub.store.worker_tokens.create("worker", TEST)).secret
            return RunningHub(hub, url, key, token)

        yield start


@pytest.fixture
async def hub(start_hub: StartHub) -> RunningHub:
    """A hub with default settings."""
    return await start_hub()
