"""`lmarena-hub serve` with an agent of the echo engine, once for all clients."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio

from tests.processes import agent, run, serving


class Bridge(NamedTuple):
    """What a client is given."""

    url: str
    key: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def bridge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bridge]:
    """The hub's address and a key; its worker is trusted, so that its tool calls are passed on."""
    directory = tmp_path_factory.mktemp("bridge")
    # Every client has echo-fail fail, and is to see that and not a breaker that opened.
    async with serving(directory, HUB_BREAKER_FAILURE_THRESHOLD="1000") as hub:
        made = await run(directory, "worker-token", "create", "--name", "home", "--trusted")
        async with agent(hub, token=made.out.strip()):
            yield Bridge(hub.url, await hub.key())
