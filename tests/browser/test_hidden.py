"""Tabs that nobody looks at, in a browser that throttles and freezes them as browsers do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.arena import practice_arena
from tests.browser.chromium import BareChromium, Session, spawn_chromium
from tests.browser.extension import make_extension
from tests.browser.stage import connected, use_local_site, userscript
from tests.doors import chat, eventually, send

HIDDEN_S = 360


@contextlib.asynccontextmanager
async def hidden_tab(hub, folder) -> AsyncIterator[tuple[BareChromium, Session, object]]:
    """A tab of the practice arena behind another tab."""
    async with practice_arena() as arena:
        await use_local_site(hub)
        script = await userscript(hub)
        extension = make_extension(script, folder / "extension", values=connected(hub))
        async with spawn_chromium(extension=extension) as browser:
            tab = await browser.new_page(f"{arena.url}/text/direct")
            await eventually(lambda: any(worker.models for worker in hub.hub.roster))
            other = await browser.new_page()
            await browser.bring_to_front(other)
            await eventually_hidden(tab)
            yield browser, tab, arena


async def eventually_hidden(tab: Session) -> None:
    async with asyncio.timeout(15):
        while await tab.evaluate("document.visibilityState") != "hidden":  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def answers(hub, arena, prompt: str) -> None:
    messages = [{"role": "user", "content": prompt}]
    reply = await send(hub, chat(model=arena.models[1].name, messages=messages))
    assert reply.status == 200, reply.body
    assert reply.text == arena.answer_to(prompt)


@pytest.mark.long
@pytest.mark.timeout(HIDDEN_S + 120)
async def test_a_tab_hidden_for_six_minutes_still_answers(hub, tmp_path):
    async with hidden_tab(hub, tmp_path) as (_, tab, arena):
        await asyncio.sleep(HIDDEN_S)
        assert await tab.evaluate("document.visibilityState") == "hidden"
        await answers(hub, arena, "Are you still there?")
        await answers(hub, arena, "[[slow pieces=50 pause_ms=20]] and again?")


async def test_a_frozen_tab_is_back_as_soon_as_it_thaws(start_hub, tmp_path):
    hub = await start_hub(workers={"wait_s": 0.5, "poll_late_s": 0.5})
    async with hidden_tab(hub, tmp_path) as (_, tab, arena):
        [worker] = hub.hub.roster
        clock = asyncio.get_running_loop()
        await tab.send("Page.setWebLifecycleState", {"state": "frozen"})
        await eventually(lambda: not worker.is_connected(clock.time()))
        await tab.send("Page.setWebLifecycleState", {"state": "active"})
        await eventually(lambda: worker.is_connected(clock.time()))
        await answers(hub, arena, "Good morning?")
