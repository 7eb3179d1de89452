"""The whole way on one machine: a hub, the practice arena, and a browser whose tabs run the hub's userscript."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from playwright.async_api import BrowserContext, Page

from hub.rules.profile import Pace, parse
from hub.store.audit import Actor
from tests.arena import Arena
from tests.browser.panel import Panel
from tests.conftest import RunningHub
from tests.doors import PATIENCE_S, Reply, chat, eventually, send

NO_PAUSES = Pace(between_s=0, longest_s=0, daily=100_000)


@dataclass
class Stage:
    """What a test of the whole way plays on."""

    hub: RunningHub
    arena: Arena
    browser: BrowserContext

    @property
    def model(self) -> str:
        """A model that the page offers, with text on both sides."""
        return self.arena.models[1].name

    async def open(self, path: str = "/text/direct", *, ready: bool = True) -> Page:
        """A tab of the site; with `ready` once the hub could give it a job."""
        page = await self.browser.new_page()
        await page.goto(self.arena.url + path)
        if ready:
            await self.ready()
        return page

    async def ready(self) -> None:
        """Wait until a tab would take a job at once."""
        await eventually(lambda: any(is_free(worker) for worker in self.hub.hub.roster))

    async def started(self) -> None:
        """Wait until the hub has heard that the prompt left."""
        workers = self.hub.hub.roster
        held = lambda: [held for worker in workers for held in worker.jobs.values()]  # noqa: E731
        await eventually(lambda: any(job.attempt.has_started for job in held()))

    async def panel(self, page: Page) -> Panel:
        return Panel(await self.browser.new_cdp_session(page))

    async def ask(self, prompt: str = "Hello", **members: Any) -> Reply:
        return await send(self.hub, self.body(prompt, **members), verify=False)

    def asking(self, prompt: str = "Hello", **members: Any) -> "asyncio.Task[Reply]":
        return asyncio.create_task(self.ask(prompt, **members))

    def body(self, prompt: str, **members: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        return chat(**{"model": self.model, "messages": messages, **members})

    async def seen(self, page: Page) -> str:
        """What the page itself shows for an answer."""
        return str(await page.locator("[data-answer]").last.text_content())

    async def logged(self) -> list[dict[str, Any]]:
        """The system log's lines, as soon as there is one."""
        async with asyncio.timeout(PATIENCE_S):
            while not (lines := await self.hub.rows("SELECT * FROM system_log")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return lines

    async def change_profile(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Put another profile in force, as an operator does, and wait until the tab has it."""
        profiles = self.hub.hub.store.profiles
        changed = change(json.loads(msgspec.json.encode(profiles.current)))
        await profiles.set(parse(changed), "", Actor("test"))
        self.hub.hub.hand_out_profile()
        [worker] = self.hub.hub.roster
        await eventually(lambda: not worker.channel.unacked)

    def states(self) -> list[tuple[str, str | None]]:
        """How the workers feel, each with the reason."""
        return [(worker.state, worker.state_reason) for worker in self.hub.hub.roster]


def is_free(worker: Any) -> bool:
    return worker.state == "ready" and worker.link is not None and bool(worker.models)


async def use_local_site(hub: RunningHub, **changes: Any) -> None:
    """Let the hub's site be on this machine, and its tabs make no pauses."""
    current = hub.hub.store.profiles.current
    changes = {"hosts": ["127.0.0.1"], "pace": NO_PAUSES, **changes}
    await hub.hub.store.profiles.set(msgspec.structs.replace(current, **changes), "", Actor("test"))
    hub.hub.hand_out_profile()


async def userscript(hub: RunningHub) -> str:
    """What the hub would let a person install."""
    reply = await send(hub, method="GET", path="/userscript/hub.user.js", headers={}, verify=False)
    assert reply.status == 200, reply.body
    return reply.body.decode()


def connected(hub: RunningHub, **values: Any) -> Mapping[str, Any]:
    """The manager's storage of somebody who has entered address and token."""
    return {"hub": f"{hub.url} {hub.worker_token}", "mode": "automatic", **values}
