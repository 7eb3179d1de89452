"""The browser engine: a real Chromium at the practice arena, by itself and behind a real hub."""

import asyncio
import contextlib
import copy
import dataclasses
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from double import TOKEN, eventually, free_port, hub_double
from playwright.async_api import Error as PlaywrightError

from agent.address import HubAddress
from agent.catalogue import Catalogue
from agent.dial import Dial
from agent.engines import (
    AwaitsHuman,
    CannotOpen,
    Condition,
    EngineBusy,
    EngineFailure,
    Finish,
    Job,
    Starts,
    Text,
)
from agent.engines.browser import BrowserEngine, BrowserPace, Setup
from agent.engines.chromium import Launch
from agent.engines.site import shipped_profile
from agent.session import Card, Session
from agent.socket_link import SocketLink
from hub.protocol import StatusFrame
from hub.rules.attempt import Phase
from hub.rules.profile import parse
from hub.store.audit import Actor
from tests.arena import Arena, practice_arena
from tests.processes import bearer, text_of
from tests.processes import mode as mode_of

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE_S = 20.0
QUICK = BrowserPace(
    free_tab_s=5, word_s=2, reopen_first_s=0.3, reopen_longest_s=0.6, check_every_s=0.2, alive_s=1
)
MODEL = "halcyon-1"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic")
NO_SCREEN = ("--ozone-platform=headless",)
"""A browser with windows, which nobody sees."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def profile(between_s: float = 0, daily: int = 300, **members: Any) -> dict[str, Any]:
    """The shipped one, without pauses."""
    changed = copy.deepcopy(shipped_profile())
    changed["pace"] = {"between_s": between_s, "longest_s": 600, "daily": daily}
    for name, value in members.items():
        changed[name] = {**changed[name], **value}
    return changed


def brief(**seconds: float) -> BrowserPace:
    return dataclasses.replace(QUICK, **seconds)


class Listener:
    """What an engine says of itself."""

    def __init__(self) -> None:
        self.condition = Condition(-1)
        self.notices: list[str] = []

    def fares(self, condition: Condition) -> None:
        self.condition = condition

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def catalogue_changed(self) -> None:
        pass


class Asked:
    """A job in an engine's hand."""

    def __init__(self, engine: BrowserEngine, text: str, number: int, model: str) -> None:
        self.job = self.job_of(f"j{number}", text, model)
        self.parts: list[Any] = []
        self.failure: EngineFailure | EngineBusy | None = None
        self.task = asyncio.create_task(self._read(engine))

    @staticmethod
    def job_of(name: str, text: str, model: str) -> Job:
        body = {"messages": [{"role": "user", "content": text}]}
        return Job(name, "chat", model, msgspec.json.encode(body), 60.0)

    async def _read(self, engine: BrowserEngine) -> None:
        try:
            async with aclosing(engine.answer(self.job)) as parts:
                async for part in parts:
                    self.parts.append(part)
        except (EngineFailure, EngineBusy) as failure:
            self.failure = failure

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    def says(self, kind: type) -> Callable[[], bool]:
        return lambda: any(isinstance(part, kind) for part in self.parts)

    async def answered(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            await self.task
        assert self.failure is None, self.failure
        assert isinstance(self.parts[-1], Finish)
        return self.text

    async def failed(self) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            await self.task
        assert self.failure is not None, self.parts
        return self.failure


class Browsing(BrowserEngine):
    """The engine with what tests ask of it."""

    listener: Listener
    asked = 0

    def ask(self, text: str = "hello", model: str = MODEL) -> Asked:
        self.asked += 1
        return Asked(self, text, self.asked, model)

    async def until_ready(self, slots: int = 1) -> None:
        await eventually(lambda: self.listener.condition == Condition(slots))

    @property
    def page(self) -> Any:
        """The only tab's."""
        [tab] = self.tabs
        return tab.page


def setup(
    folder: Path, arena: str | None, tabs: int = 1, mode: Any = "automatic", headless: bool = True
) -> Setup:
    more = () if headless else NO_SCREEN
    launch = Launch(str(CHROMIUM), folder / "profile", headless, ARGUMENTS + more)
    return Setup(launch, folder / "day.json", arena, mode, tabs)


@asynccontextmanager
async def browsing(
    folder: Path,
    arena: Arena,
    tabs: int = 1,
    mode: str = "automatic",
    script: str | None = None,
    pace: BrowserPace = QUICK,
    is_ready: bool = True,
    headless: bool = True,
    **members: Any,
) -> AsyncIterator[Browsing]:
    """An engine that is open, with tabs that are ready; `members` are the profile's."""
    engine = Browsing(
        setup(folder, arena.url, tabs, mode, headless), script, profile(**members), pace
    )
    engine.listener = Listener()
    try:
        await engine.open(engine.listener)
        if is_ready:
            await engine.until_ready(tabs)
        yield engine
    finally:
        await engine.close()


@pytest.fixture
async def arena():
    async with practice_arena(models=40) as arena:
        yield arena


# --- answers -----------------------------------------------------------------------------------------


async def test_an_answer_comes_through_the_pages_own_controls(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        asked = engine.ask("hello there")
        assert await asked.answered() == arena.answer_to("hello there")
        assert isinstance(asked.parts[0], Starts)
        assert asked.parts[-1].finish_reason == "stop"
        assert asked.parts[-1].usage["total_tokens"] > 0
        prompt = arena.latest
        assert (prompt.text, prompt.model, prompt.outcome) == ("hello there", MODEL, "answered")
        assert arena.forged == 0


async def test_it_works_on_a_page_with_strict_rules_of_its_own(tmp_path):
    async with (
        practice_arena(models=40, csp="strict") as arena,
        browsing(tmp_path, arena) as engine,
    ):
        assert await engine.ask("strict").answered() == arena.answer_to("strict")
        assert await engine.ask("again", "birch-2").answered() == arena.answer_to("again")
        # Whether a tab is alive can be seen there too.
        await asyncio.sleep(3 * QUICK.check_every_s)
        assert [tab.number for tab in engine.tabs] == [1]


async def test_two_tabs_answer_two_jobs_at_once(arena, tmp_path):
    async with browsing(tmp_path, arena, tabs=2) as engine:
        one, two = engine.ask("one [[stall]]"), engine.ask("two [[stall]]", "birch-2")
        await asyncio.gather(arena.reached("one"), arena.reached("two"))
        assert [prompt.outcome for prompt in arena.requests] == ["open", "open"]
        third = engine.ask("three")
        arena.release()
        await asyncio.gather(one.answered(), two.answered(), third.answered())
        assert sorted(prompt.model for prompt in arena.requests) == ["birch-2", MODEL, MODEL]


async def test_jobs_go_to_the_tab_that_is_idle_longest(arena, tmp_path):
    async with browsing(tmp_path, arena, tabs=2) as engine:
        used = []
        for number in range(4):
            asked = engine.ask(f"number {number}")
            await asyncio.sleep(0)
            used += [tab.number for tab in engine.tabs if tab.errand is not None]
            await asked.answered()
        assert used in ([1, 2, 1, 2], [2, 1, 2, 1])


async def test_the_catalogue_is_what_the_tabs_offer_together(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        models = await engine.catalogue()
        assert {model.id for model in models} == {model.name for model in arena.models}
        assert all(model.features == [] for model in models), "a composer honours none of them"
        arena.offer(50)
        await engine.page.reload()
        await eventually(lambda: len(engine.tabs[0].models) == 50)
        assert len(await engine.catalogue()) == 50


async def test_cancelling_reaches_the_pages_stop(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        asked = engine.ask("stop me [[stall]]")
        await eventually(asked.says(Text))
        asked.task.cancel()
        await arena.aborted("stop me")
        # The slot is free at once; the next job waits for the page to have stopped.
        assert engine.listener.condition == Condition(1)
        assert await engine.ask("next").answered() == arena.answer_to("next")


async def test_a_prompt_that_failed_says_what_the_page_says(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        failure = await engine.ask("[[prompt_failed]]").failed()
        assert failure.code == "moderated"
        failure = await engine.ask("x" * 120_000).failed()
        assert (failure.code, failure.ran) == ("context_length_exceeded", False)
        failure = await engine.ask("hello", "no such model").failed()
        assert (failure.code, failure.ran) == ("model_not_found", False)
        assert len(arena.requests) == 1


async def test_what_is_no_chat_is_not_tried(arena, tmp_path):
    engine = BrowserEngine(setup(tmp_path, arena.url))
    with pytest.raises(EngineFailure) as caught:
        await anext(engine.answer(Job("j", "image", MODEL, b"{}", 1.0)))
    assert (caught.value.code, caught.value.ran) == ("unsupported", False)


async def test_what_the_site_did_new_is_noticed(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        await engine.ask("[[unknown_lines]]").answered()
        await eventually(lambda: engine.listener.notices)


# --- a person in front of it -------------------------------------------------------------------------


async def test_in_assist_mode_a_person_presses_send(arena, tmp_path):
    async with browsing(tmp_path, arena, mode="assist") as engine:
        asked = engine.ask("press me")
        await eventually(asked.says(AwaitsHuman))
        assert arena.requests == []
        await engine.page.click("button[type=submit]")
        assert await asked.answered() == arena.answer_to("press me")
        assert [type(part) for part in asked.parts[:2]] == [AwaitsHuman, Starts]


async def test_a_reload_before_the_start_brings_the_prompt_back_twice(arena, tmp_path):
    async with browsing(tmp_path, arena, mode="assist") as engine:
        asked = engine.ask("reload me")
        for times in (1, 2, 3):
            await eventually(
                lambda times=times: (
                    len([p for p in asked.parts if isinstance(p, AwaitsHuman)]) == times
                )
            )
            await engine.page.reload()
        failure = await asked.failed()
        assert (failure.code, failure.ran) == ("upstream_error", False)
        assert arena.requests == []
        asked = engine.ask("and now")
        await eventually(asked.says(AwaitsHuman))
        await engine.page.click("button[type=submit]")
        await asked.answered()


async def test_a_reload_in_mid_answer_ends_the_job(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        asked = engine.ask("gone [[stall]]")
        await eventually(asked.says(Text))
        await engine.page.reload()
        failure = await asked.failed()
        assert (failure.code, failure.ran) == ("upstream_error", None)
        assert await engine.ask("next").answered() == arena.answer_to("next")


async def test_a_security_check_stops_the_tab_until_its_human_passed_it(arena, tmp_path):
    async with browsing(tmp_path, arena, tabs=2) as engine:
        asked = engine.ask("[[recaptcha]]")
        failure = await asked.failed()
        assert (failure.code, failure.retry_after_s) == ("challenge", 1200)
        await eventually(lambda: engine.listener.condition.state == "attention")
        assert engine.listener.condition == Condition(0, "attention", "a security check")
        # The site's page shows the check in every tab, and one answer is enough.
        await engine.tabs[0].page.click("[role=dialog] button")
        await engine.until_ready(2)
        await engine.ask("fine again").answered()


async def test_a_tab_that_needs_its_human_costs_one_slot(arena, tmp_path):
    async with browsing(tmp_path, arena, tabs=2) as engine:
        await engine.tabs[0].page.evaluate("document.title = 'Just a moment...'")
        await engine.until_ready(1)
        assert [tab.attention for tab in engine.tabs] == ["challenge", None]
        await engine.ask("the other one").answered()
        await engine.tabs[0].page.reload()
        await engine.until_ready(2)


async def test_a_page_that_left_the_site_waits_for_its_human(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        asked = engine.ask("leaving [[stall]]")
        await eventually(asked.says(Text))
        # The same server by a name that is not the site's.
        await engine.page.goto(arena.url.replace("127.0.0.1", "localhost"))
        assert (await asked.failed()).code == "upstream_error"
        await eventually(lambda: engine.tabs[0].attention == "elsewhere")
        assert engine.listener.condition.state == "attention"
        await engine.page.goto(arena.url + "/text/direct")
        await engine.until_ready()


# --- how often ---------------------------------------------------------------------------------------


async def test_a_tab_in_its_pause_is_no_slot_and_its_job_waits_for_the_end(arena, tmp_path):
    async with browsing(tmp_path, arena, between_s=1) as engine:
        await engine.ask("first").answered()
        assert (engine.listener.condition.slots, engine.listener.condition.state) == (0, "cooling")
        await engine.ask("second").answered()
        first, second = arena.requests
        assert second.at - first.at >= 0.95
        await engine.until_ready()


async def test_a_job_that_would_wait_too_long_is_given_back(arena, tmp_path):
    async with browsing(tmp_path, arena, between_s=600, pace=brief(free_tab_s=0.2)) as engine:
        await engine.ask("first").answered()
        one, two = engine.ask("second"), engine.ask("third")
        assert str(await one.failed()) == "no tab got free"
        assert str(await two.failed()) == "no free tab"
        assert len(arena.requests) == 1


async def test_the_days_ceiling_counts_for_all_tabs_and_lasts(arena, tmp_path):
    quick = brief(free_tab_s=0.2)
    async with browsing(tmp_path, arena, tabs=2, daily=2, pace=quick) as engine:
        await engine.ask("first").answered()
        await engine.ask("second").answered()
        assert isinstance(await engine.ask("third").failed(), EngineBusy)
    async with browsing(tmp_path, arena, daily=2, pace=quick, is_ready=False) as engine:
        await eventually(lambda: engine.listener.condition.reason == "today's prompts are used up")
        assert isinstance(await engine.ask("fourth").failed(), EngineBusy)
    assert len(arena.requests) == 2


async def test_the_pause_is_told_before_the_end(arena, tmp_path):
    """Otherwise the hub, which knows of a free slot only, would have given the next job by then."""
    job = Asked.job_of("j1", "hello", MODEL)
    async with (
        browsing(tmp_path, arena, between_s=600) as engine,
        aclosing(engine.answer(job)) as parts,
    ):
        async for part in parts:
            condition = engine.listener.condition
            if isinstance(part, Finish):
                assert (condition.slots, condition.reason) == (0, "pausing between prompts")
            else:
                assert condition == Condition(1)


async def test_after_too_many_a_tab_rests(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        failure = await engine.ask("[[rate_limited]]").failed()
        assert (failure.code, failure.retry_after_s) == ("rate_limited", 1200)
        condition = engine.listener.condition
        assert (condition.slots, condition.state) == (0, "cooling")
        assert condition.until is not None
        left_s = condition.until - asyncio.get_running_loop().time()
        assert left_s == pytest.approx(1200, abs=10)
        # The tab that takes its place rests as well.
        await crash(engine.page)
        await eventually(lambda: [tab.is_fit for tab in engine.tabs if tab.number == 2] == [True])
        assert engine.listener.condition.reason == "pausing between prompts"


# --- what is lost is replaced ------------------------------------------------------------------------


async def crash(page: Any) -> None:
    """As a renderer that ran out of memory."""
    session = await page.context.new_cdp_session(page)
    with contextlib.suppress(PlaywrightError, TimeoutError):
        async with asyncio.timeout(5):
            await session.send("Page.crash")


async def test_a_tab_that_crashes_in_mid_answer_is_replaced(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        asked = engine.ask("crash [[stall]]")
        await eventually(asked.says(Text))
        await crash(engine.page)
        failure = await asked.failed()
        assert (failure.code, failure.message, failure.ran) == (
            "upstream_error",
            "the tab crashed",
            None,
        )
        await eventually(lambda: [tab.number for tab in engine.tabs] == [2])
        await engine.until_ready()
        assert await engine.ask("after").answered() == arena.answer_to("after")


async def test_a_tab_that_crashes_before_the_start_has_not_run(arena, tmp_path):
    async with browsing(tmp_path, arena, mode="assist") as engine:
        asked = engine.ask("crash early")
        await eventually(asked.says(AwaitsHuman))
        await crash(engine.page)
        failure = await asked.failed()
        assert (failure.code, failure.ran) == ("upstream_error", False)


async def test_a_tab_that_its_person_closes_is_replaced(arena, tmp_path):
    async with browsing(tmp_path, arena, tabs=2) as engine:
        await engine.tabs[0].page.close()
        await eventually(lambda: sorted(tab.number for tab in engine.tabs) == [2, 3])
        await engine.until_ready(2)


async def test_a_tab_that_hangs_is_replaced(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        session = await engine.page.context.new_cdp_session(engine.page)
        hanging = asyncio.create_task(session.send("Runtime.evaluate", {"expression": "for (;;);"}))
        await eventually(lambda: [tab.number for tab in engine.tabs] == [2])
        await engine.until_ready()
        await engine.ask("alive").answered()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_a_browser_that_is_closed_opens_again_with_the_same_profile(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        await engine.page.evaluate("document.cookie = 'kept=1; max-age=1000'")
        asked = engine.ask("closed [[stall]]")
        await eventually(asked.says(Text))
        with contextlib.suppress(PlaywrightError):
            await engine.page.context.close()
        assert (await asked.failed()).code == "upstream_error"
        await engine.until_ready()
        await engine.ask("again").answered()
        assert "kept=1" in await engine.page.evaluate("document.cookie")


@on_linux
async def test_a_window_that_loses_its_last_tab_opens_again(arena, tmp_path):
    """With windows, a browser ends with the last of them."""
    async with browsing(tmp_path, arena, headless=False) as engine:
        await engine.ask("in a window").answered()
        await engine.page.close()
        await eventually(lambda: [tab.number for tab in engine.tabs] == [2])
        await engine.until_ready()
        await engine.ask("in another").answered()


async def is_in_front(page: Any) -> bool:
    """Under Playwright every page believes to have the focus, unless it is told not to."""
    session = await page.context.new_cdp_session(page)
    await session.send("Emulation.setFocusEmulationEnabled", {"enabled": False})
    return bool(await page.evaluate("document.hasFocus()"))


@on_linux
async def test_a_tab_comes_to_the_front_when_it_needs_its_human_and_not_for_a_job(arena, tmp_path):
    async with browsing(tmp_path, arena, tabs=2, headless=False) as engine:
        first, last = engine.tabs
        await last.page.bring_to_front()
        await engine.ask("not worth a look").answered()
        await engine.ask("neither").answered()
        assert [await is_in_front(tab.page) for tab in engine.tabs] == [False, True]
        await first.page.evaluate("document.title = 'Just a moment...'")
        await engine.until_ready(1)
        async with asyncio.timeout(PATIENCE_S):
            while not await is_in_front(first.page):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
        assert not await is_in_front(last.page)


@on_linux
async def test_a_driver_that_dies_is_no_end_either(arena, tmp_path):
    async with browsing(tmp_path, arena, tabs=2) as engine:
        asked = engine.ask("busy [[stall]]")
        await eventually(asked.says(Text))
        [driver] = [pid for pid in descendants(os.getpid()) if "run-driver" in command_of(pid)]
        os.kill(driver, signal.SIGKILL)
        assert (await asked.failed()).code == "upstream_error"
        await engine.until_ready(2)
        await engine.ask("again").answered()


async def test_the_profile_lasts(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        await engine.page.evaluate("document.cookie = 'signed=in; max-age=1000'")
    async with browsing(tmp_path, arena) as engine:
        assert "signed=in" in await engine.page.evaluate("document.cookie")
    assert mode_of(tmp_path / "profile") == 0o700


async def test_a_site_that_is_not_there_is_tried_again(tmp_path):
    port = free_port()
    async with practice_arena(models=40) as somewhere:
        somewhere.url = f"http://127.0.0.1:{port}"
        async with browsing(tmp_path, somewhere, is_ready=False) as engine:
            await eventually(lambda: engine.tabs and engine.tabs[0].is_unloaded)
            assert engine.listener.condition.state == "cooling"
            async with practice_arena(models=40, port=port) as arena:
                await engine.until_ready()
                await engine.ask("there").answered()
                assert len(arena.requests) == 1


# --- as many as are wanted ---------------------------------------------------------------------------


async def test_scaling_opens_and_closes_tabs_a_busy_one_after_its_job(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        asked = engine.ask("busy [[stall]]")
        await arena.reached("busy")
        engine.scale(3)
        await engine.until_ready(3)
        second = engine.ask("busy too [[stall]]")
        await arena.reached("busy too")
        engine.scale(1)
        # Two are at work: they finish, one of them stays.
        await eventually(lambda: len(engine.tabs) == 2)
        assert engine.listener.condition == Condition(2)
        arena.release()
        await asyncio.gather(asked.answered(), second.answered())
        await eventually(lambda: len(engine.tabs) == 1)
        await engine.until_ready(1)
        await engine.ask("still there").answered()


async def test_scaling_down_keeps_the_tab_that_is_at_work(arena, tmp_path):
    async with browsing(tmp_path, arena, tabs=2) as engine:
        await engine.ask("the first tab's").answered()
        asked = engine.ask("the second tab's [[stall]]")
        await arena.reached("the second")
        engine.scale(1)
        await eventually(lambda: len(engine.tabs) == 1)
        arena.release()
        assert await asked.answered() == "word released"


async def test_a_new_profile_reaches_every_tab_and_every_later_page(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        await engine.ask("a long prompt").answered()
        engine.profile(profile(limits={"prompt_characters": 10}))
        assert (await engine.ask("a long prompt").failed()).code == "context_length_exceeded"
        await engine.page.reload()
        await engine.until_ready()
        assert (await engine.ask("a long prompt").failed()).code == "context_length_exceeded"
        # What makes no sense changes nothing.
        engine.profile({"hosts": []})
        engine.profile({"what": "ever"})
        await engine.ask("short").answered()
        assert [tab.number for tab in engine.tabs] == [1]


async def test_where_the_site_moves_the_tabs_move_too(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        asked = engine.ask("still here [[stall]]")
        await arena.reached("still here")
        engine.profile(profile(new_chat={"path": "/chat/new"}))
        await eventually(lambda: len(engine.tabs) == 2)
        arena.release()
        await asked.answered()
        await eventually(lambda: [tab.number for tab in engine.tabs] == [2])
        assert engine.page.url == arena.url + "/chat/new"
        await engine.until_ready()


async def test_a_page_without_a_way_to_a_new_chat_is_loaded_anew(arena, tmp_path):
    async with browsing(tmp_path, arena, selectors={"new_chat": "a.nowhere"}) as engine:
        await engine.ask("one").answered()
        pages = arena.counts["pages"]
        assert await engine.ask("two", "birch-2").answered() == arena.answer_to("two")
        assert arena.counts["pages"] == pages + 1
        assert [prompt.model for prompt in arena.requests] == [MODEL, "birch-2"]


# --- who is trusted ----------------------------------------------------------------------------------


async def test_the_pages_own_scripts_find_no_bindings(arena, tmp_path):
    async with browsing(tmp_path, arena) as engine:
        names = await engine.page.evaluate(
            """() => {
              const frame = document.createElement("iframe");
              frame.src = "/site.css";
              document.body.append(frame);
              return new Promise((resolve) => {
                frame.onload = () => resolve([window, frame.contentWindow].flatMap(
                  (of) => Object.getOwnPropertyNames(of)));
              });
            }"""
        )
        assert "document" in names
        assert not [name for name in names if re.fullmatch("_[0-9a-f]{24}", name)]
        assert "__lmarena_tab__" not in names


PRETEND = """(words) => {
  const {_bindings: names} = globalThis.__playwright__binding__controller__;
  for (const name of names.keys()) {
    globalThis.__playwright__binding__controller__.callBinding(name, "pretended visit", words);
  }
}"""


async def test_pages_and_frames_that_are_not_the_sites_count_for_nothing(arena, tmp_path):
    """Playwright's own object tells every script the names of the bindings: what counts is who calls."""
    ready = '{"t":"site","state":"ready"}'
    async with browsing(tmp_path, arena, pace=brief(word_s=600)) as engine:
        await engine.page.evaluate("document.body.append(document.createElement('iframe'))")
        for frame in engine.page.frames[1:]:
            await frame.evaluate(PRETEND, ready)
        await engine.ask("not disturbed").answered()
        await engine.page.goto(arena.url.replace("127.0.0.1", "localhost"))
        await eventually(lambda: engine.tabs[0].is_loading)
        await engine.page.evaluate(PRETEND, ready)
        # What was said before has been heard when this has been.
        await engine.page.evaluate("0")
        assert engine.tabs[0].is_loading


SPEAKER = """
  const {hear, tell} = globalThis.__lmarena_tab__;
  const [listen, say] = [hear, tell].map((name) => globalThis[name]);
  (async () => {
    for (const words of WORDS) await say(words);
    await say('{"t":"models","models":[{"id":"m"},{"id":""},7]}');
    await say('{"t":"site","state":"ready"}');
    for (;;) {
      const {take} = JSON.parse(await listen());
      const job = take.job;
      const text = take.body.messages[0].content;
      for (const said of ANSWER) await say(JSON.stringify({job, ...said}));
    }
  })();
"""


def speaker(words: list[Any], answer: list[Any]) -> str:
    """A tab's script that says just this."""
    return SPEAKER.replace("WORDS", json.dumps(words)).replace("ANSWER", json.dumps(answer))


async def test_what_a_tab_says_is_checked_like_a_strangers_words(arena, tmp_path, capsys):
    nonsense = [
        "not JSON",
        "[]",
        '{"t":"nonsense"}',
        '{"t":"site","state":"magic"}',
        '{"t":"piece","job":7}',
        '{"t":"fail","job":"j1","code":"invented"}',
        '{"t":"end","job":"another job"}',
        "[" * 50_000,
        7,
        None,
        {"t": "site", "state": "ready"},
    ]
    answer = [
        {"t": "piece", "text": "half a \ud83d"},
        {"t": "piece", "text": "\ude00"},
        {"t": "piece", "job": "not this one", "text": "no"},
        {"t": "end"},
        {"t": "end"},
        {"t": "piece", "text": "too late"},
    ]
    async with browsing(tmp_path, arena, script=speaker(nonsense, answer)) as engine:
        assert [model.id for model in await engine.catalogue()] == ["m"]
        assert await engine.ask().answered() == "half a \ud83d\ude00"
        assert await engine.ask().answered() == "half a \ud83d\ude00"
    assert "".join(capsys.readouterr()).count("makes no sense") == 1


async def test_a_tab_that_says_too_much_is_stopped(arena, tmp_path):
    much = SPEAKER.replace("WORDS", "[]").replace(
        "ANSWER", 'Array(12).fill({t: "piece", text: "x".repeat(4e6)})'
    )
    async with browsing(tmp_path, arena, script=much) as engine:
        answer = engine.answer(Asked.job_of("j1", "", "m"))
        async with aclosing(answer):
            assert isinstance(await anext(answer), Starts)
            # Nobody reads on: what comes in between must be held.
            await eventually(lambda: engine.tabs[0].errand.over)
            with pytest.raises(EngineFailure) as caught:
                async for _ in answer:
                    pass
        assert "more than can be sent on" in caught.value.message


async def test_a_started_job_is_never_said_not_to_have_run(arena, tmp_path):
    answer = [{"t": "started"}, {"t": "fail", "code": "internal", "message": "no", "ran": False}]
    async with browsing(tmp_path, arena, script=speaker([], answer)) as engine:
        assert (await engine.ask().failed()).ran is None


async def test_a_failure_that_needs_a_human_is_believed_by_itself(arena, tmp_path):
    answer = [{"t": "fail", "code": "login_required", "message": "sign in"}]
    async with browsing(tmp_path, arena, script=speaker([], answer)) as engine:
        assert (await engine.ask().failed()).code == "login_required"
        assert engine.listener.condition == Condition(0, "attention", "a sign-in")


async def test_a_tab_is_sent_nowhere_else(arena, tmp_path):
    answer = [{"t": "navigate", "url": "https://elsewhere.example/"}]
    async with browsing(tmp_path, arena, script=speaker([], answer)) as engine:
        failure = await engine.ask().failed()
        assert (failure.code, failure.ran) == ("internal", False)


async def test_a_tab_that_wants_to_navigate_for_ever_is_stopped(arena, tmp_path):
    answer = [{"t": "navigate", "url": "/text/direct?model_a=x"}]
    async with browsing(tmp_path, arena, script=speaker([], answer)) as engine:
        pages = arena.counts["pages"]
        failure = await engine.ask().failed()
        assert (failure.code, failure.ran) == ("upstream_error", False)
        assert arena.counts["pages"] - pages == 3


async def test_a_script_that_says_nothing_is_loaded_again(arena, tmp_path):
    async with browsing(
        tmp_path, arena, script="", is_ready=False, pace=brief(word_s=0.2)
    ) as engine:
        await eventually(lambda: arena.counts["pages"] >= 3)
        assert engine.listener.condition.state == "cooling"
        assert len(engine.tabs) == 1


# --- behind a hub ------------------------------------------------------------------------------------


@asynccontextmanager
async def joined(hub: Any, engine: Browsing) -> AsyncIterator[Any]:
    """The agent around the engine, at a real hub; what the hub knows of it."""
    session = Session(Card("desk", "a browser", 1), engine)
    link = SocketLink(HubAddress.parse(hub.url), hub.worker_token)
    dial = Dial(session, link, None)
    catalogue = Catalogue(session, engine)
    await engine.open(session)
    tasks = [asyncio.create_task(work) for work in (catalogue.keep(), dial.run())]
    try:
        await eventually(lambda: any(worker.models for worker in hub.hub.roster))
        [worker] = hub.hub.roster
        await eventually(lambda: worker.slots)
        yield worker
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await session.close()
        await engine.close()


@asynccontextmanager
async def behind_a_hub(start_hub: Any, folder: Path, arena: Arena, **options: Any) -> Any:
    """A real hub with a profile without pauses, and an agent with one tab."""
    hub = await start_hub()
    await hub.hub.store.profiles.set(parse(profile()), "no pauses", Actor("test"))
    hub.hub.hand_out_profile()
    engine = Browsing(setup(folder, arena.url, **options), None, None, QUICK)
    async with joined(hub, engine) as worker:
        yield hub, engine, worker


async def chat(hub: Any, text: str) -> str:
    """A streamed answer, as a caller gets it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}], "stream": True}
    address = f"{hub.url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession(headers=bearer(hub.key)) as client,
        client.post(address, json=body) as response,
    ):
        return text_of(await response.read())


async def test_a_caller_of_a_real_hub_is_answered_from_a_tab(start_hub, arena, tmp_path):
    async with behind_a_hub(start_hub, tmp_path, arena) as (hub, _, worker):
        assert (worker.kind, worker.slots, worker.state) == ("agent", 1, "ready")
        assert await chat(hub, "through the hub") == arena.answer_to("through the hub")
        texts = await asyncio.gather(*(chat(hub, f"number {n}") for n in range(3)))
        assert texts == [arena.answer_to(f"number {n}") for n in range(3)]
        assert worker.slots == 1


async def test_a_hub_waits_for_a_person(start_hub, arena, tmp_path):
    async with behind_a_hub(start_hub, tmp_path, arena, mode="assist") as (hub, engine, worker):
        asking = asyncio.create_task(chat(hub, "by hand"))
        await eventually(lambda: worker.jobs)
        [held] = worker.jobs.values()
        await eventually(lambda: held.attempt.phase is Phase.WAITING)
        await engine.page.click("button[type=submit]")
        assert await asking == arena.answer_to("by hand")


async def test_a_hub_knows_when_its_worker_needs_its_human(start_hub, arena, tmp_path):
    async with behind_a_hub(start_hub, tmp_path, arena) as (hub, engine, worker):
        arena.modal = "challenge"
        await eventually(lambda: worker.state == "attention")
        assert (worker.state_reason, worker.slots) == ("a security check", 0)
        await engine.page.click("[role=dialog] button")
        await eventually(lambda: worker.state == "ready" and worker.slots == 1)
        assert await chat(hub, "solved") == arena.answer_to("solved")


# --- processes ---------------------------------------------------------------------------------------


@on_linux
async def test_closing_ends_every_process(arena, tmp_path):
    before = descendants(os.getpid())
    async with browsing(tmp_path, arena):
        ours = descendants(os.getpid()) - before
        assert len(ours) > 3
    await eventually(lambda: not any(map(is_running, ours)))


# --- the command line --------------------------------------------------------------------------------


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(pid: int) -> set[int]:
    """The processes below this one, now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    ahead = [pid]
    while ahead:
        below = children.get(ahead.pop(), [])
        found.update(below)
        ahead.extend(below)
    return found


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@asynccontextmanager
async def started(folder: Path, *arguments: str, **environ: str) -> AsyncIterator[Any]:
    """The agent as a process, with one slot and the browser engine unless told otherwise."""
    options = ["--engine", "browser", "--hub", "http://127.0.0.1:9", *arguments]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LMARENA_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *["-m", "agent", *options],
        cwd=ROOT,
        env=kept | {"LMARENA_STATE_DIR": str(folder / "state"), "LMARENA_TOKEN": TOKEN} | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def ended(process: Any) -> tuple[int, str]:
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    return process.returncode, (out + err).decode()


AUTOMATIC = ["--headless", "--mode", "automatic"]
NO_SANDBOX = [part for argument in ARGUMENTS for part in ("--browser-arg", argument)]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--headless"], "add `--mode automatic`"),
        (["--headless", "--mode", "assist"], "add `--mode automatic`"),
        (["--slots", "3-1"], "the smaller one first"),
        (["--slots", "none"], "a number"),
        (["--slots", "0"], "from 1"),
        (["--arena", "arena.ai"], "an http(s) address"),
        (["--arena", "https://arena.ai/text"], "without a path"),
        (["--engine", "echo", "--headless"], "takes no options of the browser engine"),
        (["--engine", "echo", "--mode", "assist"], "takes no options of the browser engine"),
        (["--engine", "echo", "--browser-arg", "--x"], "takes no options of the browser engine"),
    ],
)
async def test_mistakes_are_explained(tmp_path, arguments, complaint):
    async with started(tmp_path, *arguments) as process:
        code, said = await ended(process)
        assert code == 2, said
        assert complaint in said
        assert "Traceback" not in said


async def test_a_browser_that_is_not_there_is_named(tmp_path):
    async with started(tmp_path, *AUTOMATIC, "--browser", str(tmp_path / "nope")) as process:
        code, said = await ended(process)
        assert (code, "there is no such program" in said) == (1, True), said
        assert "Traceback" not in said


async def test_without_the_extra_it_says_how_to_get_it(tmp_path):
    (tmp_path / "playwright").mkdir()
    missing = "raise ModuleNotFoundError('No module named playwright', name='playwright')\n"
    (tmp_path / "playwright" / "__init__.py").write_text(missing)
    environ = {"PYTHONPATH": str(tmp_path), "LMARENA_BROWSER": "any"}
    async with started(tmp_path, *AUTOMATIC, **environ) as process:
        code, said = await ended(process)
        assert (code, "pip install 'lmarena-bridge[browser]'" in said) == (1, True), said


@on_linux
async def test_without_any_browser_it_says_so(tmp_path):
    nothing = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    async with started(tmp_path, *AUTOMATIC, **nothing) as process:
        code, said = await ended(process)
        if "no Chrome" not in said:
            pytest.skip("this machine has one outside of the PATH")
        assert code == 1
        assert "--browser" in said


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root is told")
async def test_root_is_told_why_a_browser_does_not_start(tmp_path):
    async with started(tmp_path, *AUTOMATIC, "--browser", str(CHROMIUM)) as process:
        code, said = await ended(process)
        assert (code, "--browser-arg --no-sandbox" in said) == (1, True), said


@on_linux
async def test_without_a_screen_it_says_what_to_do(tmp_path):
    none = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    options = ["--browser", str(CHROMIUM), *NO_SANDBOX]
    async with started(tmp_path, *options, **none) as process:
        code, said = await ended(process)
        assert (code, "there is no screen" in said) == (1, True), said


@on_linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
async def test_an_agent_that_ends_leaves_no_process_behind(arena, tmp_path, number):
    async with hub_double() as hub:
        options = ["--hub", hub.url, "--arena", arena.url, "--browser", str(CHROMIUM)]
        async with started(tmp_path, *options, *AUTOMATIC, *NO_SANDBOX) as process:
            session = await hub.worker()
            await hub.until(lambda: session.hello.slots or session.said(StatusFrame))
            job = hub.offer(session, "from a process", model=MODEL)
            await hub.over(job)
            assert job.text == arena.answer_to("from a process")
            processes = descendants(process.pid)
            assert any("--user-data-dir" in command_of(pid) for pid in processes)
            process.send_signal(number)
            code, said = await ended(process)
            assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0), said
            assert "Traceback" not in said
            assert "from a process" not in said
            await eventually(lambda: not any(map(is_running, processes)))
            assert [path.name[:8] for path in (tmp_path / "state").glob("browser-*/")] == [
                "browser-"
            ]


@on_linux
async def test_ctrl_c_lets_an_answer_finish(arena, tmp_path):
    """A terminal sends it to every process of the group, the browser's too."""
    async with hub_double() as hub:
        options = ["--hub", hub.url, "--arena", arena.url, "--browser", str(CHROMIUM)]
        async with started(tmp_path, *options, *AUTOMATIC, *NO_SANDBOX) as process:
            session = await hub.worker()
            await hub.until(lambda: session.hello.slots or session.said(StatusFrame))
            job = hub.offer(session, "unfinished [[stall]]", model=MODEL)
            await hub.until(lambda: job.pieces)
            os.killpg(process.pid, signal.SIGINT)
            await hub.until(lambda: "draining" in [f.state for f in session.said(StatusFrame)])
            arena.release()
            await hub.over(job)
            assert job.text == "word released"
            code, said = await ended(process)
            assert (code, "Traceback" in said) == (0, False), said


@on_linux
@pytest.mark.parametrize("times", [1, 2])
async def test_a_browser_that_never_answers_is_given_up_when_the_agent_leaves(tmp_path, times):
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\nsleep 1000 &\nwait\n")
    mute.chmod(0o700)
    async with started(tmp_path, *AUTOMATIC, "--browser", str(mute)) as process:
        await eventually(
            lambda: any("sleep 1000" in command_of(pid) for pid in descendants(process.pid))
        )
        processes = descendants(process.pid)
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
        code, said = await ended(process)
        assert code in (0, 130), said
        await eventually(lambda: not any(map(is_running, processes)))


@on_linux
async def test_a_profile_is_one_agents_at_a_time(arena, tmp_path):
    async with browsing(tmp_path, arena):
        second = BrowserEngine(setup(tmp_path, arena.url))
        with pytest.raises(CannotOpen, match="another agent uses the profile"):
            await second.open(Listener())
        await second.close()
