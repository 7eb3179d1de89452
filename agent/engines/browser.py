"""The browser engine: a site's answers from tabs of a browser on this machine."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any, Literal

import structlog
from playwright.async_api import BrowserContext, Page
from playwright.async_api import Error as PlaywrightError

from agent.engines import (
    CannotOpen,
    Condition,
    EngineBusy,
    EngineFailure,
    Finish,
    Host,
    Job,
    Part,
)
from agent.engines.chromium import Chromium, Launch
from agent.engines.site import Site, shipped_profile, shipped_script
from agent.engines.tabs import CLOSED, Tab, plainly
from agent.pace import Day, Pace
from hub.protocol import MAX_MODELS, Model

log = structlog.get_logger()

Mode = Literal["assist", "automatic"]

_TO_DO = {
    "challenge": "a security check",
    "login_required": "a sign-in",
    "consent_required": "a question to agree to",
    "site_changed": "the page is not as its profile says: reload it, or update",
    "elsewhere": "the tab left the site",
}


@dataclass(frozen=True, slots=True)
class BrowserPace:
    """Seconds."""

    free_tab_s: float = 10.0
    """What a job waits for a tab; the hub takes it back after 15 s without a start."""
    word_s: float = 30.0
    """In which a page that was loaded says how it is."""
    reopen_first_s: float = 1.0
    """Before a tab, or the browser, is opened anew after it failed; doubles each time."""
    reopen_longest_s: float = 60.0
    check_every_s: float = 30.0
    """How often idle tabs are asked for a sign of life."""
    alive_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What the engine is asked to do."""

    launch: Launch
    day_file: Path
    """Where the number of today's prompts is kept."""
    arena: str | None = None
    """The site's address; None for the profile's first host."""
    mode: Mode = "assist"
    tabs: int = 1


class BrowserEngine:
    """Keeps tabs of the site open, and gives each job to a free one.

    A tab that is lost is replaced; so is the whole browser, also when a person closed it. Must be made
    inside a running event loop.
    """

    kinds = frozenset({"chat"})

    def __init__(
        self,
        setup: Setup,
        script: str | None = None,
        profile: dict[str, Any] | None = None,
        pace: BrowserPace | None = None,
    ) -> None:
        self._setup = setup
        self._script = shipped_script() if script is None else script
        self._pace = pace or BrowserPace()
        self._chromium = Chromium(setup.launch, self._browser_closed)
        self._site = Site.read(profile or shipped_profile(), setup.arena)
        self._day = Day(setup.day_file)
        self._wanted = setup.tabs
        self.tabs: list[Tab] = []
        """Those that are open, and those that are to be closed."""
        self._paces: list[Pace] = []
        self._opened = 0
        self._waiting = 0
        self._setbacks = 0
        self._host: Host | None = None
        self._news = asyncio.Event()
        self._look = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pause_over: asyncio.TimerHandle | None = None

    # --- beginning and ending

    async def open(self, host: Host) -> None:
        """Start the browser; its tabs come by and by. Raises CannotOpen."""
        self._host = host
        await self._chromium.open()
        self._spawn(self._tend())
        self._spawn(self._check())

    async def close(self) -> None:
        """End the browser."""
        self._host = None
        if self._pause_over is not None:
            self._pause_over.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tabs, self.tabs = self.tabs, []
        for tab in tabs:
            tab.lose("the agent is shutting down")
        await self._chromium.close()

    # --- what the session asks for

    async def catalogue(self) -> list[Model]:
        """What the tabs offer together; waits for the first of them."""
        while not (models := self._models()):
            await self._news.wait()
        return models

    def _models(self) -> list[Model]:
        together: dict[str, Model] = {}
        for tab in self.tabs:
            together = tab.models | together
        return list(together.values())[:MAX_MODELS]

    async def answer(self, job: Job) -> AsyncGenerator[Part, None]:
        """A tab's answer, as it comes. Raises EngineFailure, and EngineBusy when no tab gets free."""
        if job.kind not in self.kinds:
            raise EngineFailure("unsupported", f"a tab does not do {job.kind}", ran=False)
        tab = await self._free_tab()
        errand = tab.take(job, self._setup.mode)
        try:
            while True:
                part = await errand.next()
                yield part
                if isinstance(part, Finish):
                    return
        finally:
            tab.let_go(errand)

    async def _free_tab(self) -> Tab:
        if self._waiting >= self._wanted:
            raise EngineBusy("no free tab")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._pace.free_tab_s):
                while (tab := self._longest_idle()) is None:
                    await self._news.wait()
            return tab
        except TimeoutError:
            raise EngineBusy("no tab got free") from None
        finally:
            self._waiting -= 1

    def _longest_idle(self) -> Tab | None:
        now = time()
        fit = (tab for tab in self.tabs if tab.is_fit and tab.errand is None)
        free = [tab for tab in fit if not tab.pace.wait_s(now)]
        return min(free, key=lambda tab: tab.idle_since, default=None)

    def profile(self, profile: dict[str, Any]) -> None:
        """The hub's site profile, for all tabs and those to come."""
        try:
            self._site = Site.read(profile, self._setup.arena)
        except ValueError as error:
            log.warning("the hub's site profile makes no sense", reason=str(error)[:200])
            return
        for tab in self.tabs:
            tab.use(self._site)
        self._changed()

    def scale(self, slots: int) -> None:
        """Have so many tabs; a busy one closes after its job."""
        self._wanted = slots
        self._changed()

    # --- what happens to tabs

    def tab_changed(self, tab: Tab) -> None:
        """It can be used now, or no more."""
        if tab.is_fit:
            self._setbacks = 0
        elif tab.gone is not None and tab in self.tabs:
            log.warning("a tab is gone", tab=tab.number, reason=tab.gone)
            if not tab.was_ready:
                self._setbacks += 1
            elif tab.gone == CLOSED:
                # It may be that the whole browser is closing: give it the time to write things down.
                self._setbacks = max(self._setbacks, 1)
        self._changed()

    def tab_failed(self, tab: Tab) -> None:
        """Its page could not be loaded, or is not what it should be; it is to be loaded again."""
        self._setbacks += 1
        self._changed()

    def tab_offers(self, tab: Tab) -> None:
        """Its page's catalogue has changed."""
        self._changed()
        if self._host is not None:
            self._host.catalogue_changed()

    def tab_notices(self, tab: Tab, message: str) -> None:
        """The site is not as its profile says."""
        if self._host is not None:
            self._host.notice(message)

    def tab_needs_human(self, tab: Tab, reason: str | None) -> None:
        """Show the tab to its human, and say what is to be done."""
        todo = _TO_DO.get(tab.attention or "", "its page needs a look")
        if self._setup.launch.headless:
            advice = "stop the agent, start it once without --headless, and see to it in the window"
        else:
            advice = "see to it in the browser's window; it goes on by itself then"
            self._spawn(_shown(tab.page))
        log.warning("a tab needs you", tab=tab.number, why=todo, said=reason, advice=advice)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _browser_closed(self) -> None:
        log.warning("the browser was closed: it opens again; to stop, end the agent")
        # If a person closed it, not in the same moment.
        self._setbacks = max(self._setbacks, 1)
        for tab in list(self.tabs):
            tab.lose("the browser was closed")
        self._changed()

    def _changed(self) -> None:
        """Something may be different: tell everybody who waits for it."""
        self._choose()
        self._look.set()
        self._news.set()
        self._news = asyncio.Event()
        if self._host is not None:
            self._host.fares(self._condition())
            self._wait_for_a_pause()

    # --- how it fares

    def _condition(self) -> Condition:
        held = sum(tab.is_held for tab in self.tabs)
        pauses = self._pauses()
        slots = held + pauses.count(0.0)
        if slots:
            return Condition(slots)
        if pauses:
            until = asyncio.get_running_loop().time() + min(pauses)
            is_full = self._day.sends(time()) >= self._site.limits.daily
            why = "today's prompts are used up" if is_full else "pausing between prompts"
            return Condition(0, "cooling", why, until)
        codes = [tab.attention for tab in self.tabs]
        if codes and all(codes):
            return Condition(0, "attention", _TO_DO.get(codes[0] or "", codes[0]))
        return Condition(0, "cooling", "tabs are being opened")

    def _pauses(self) -> list[float]:
        """Seconds until each tab that is fit may send."""
        now = time()
        return [tab.pace.wait_s(now) for tab in self.tabs if tab.is_fit]

    def _wait_for_a_pause(self) -> None:
        if self._pause_over is not None:
            self._pause_over.cancel()
            self._pause_over = None
        pauses = [pause for pause in self._pauses() if pause]
        if pauses:
            loop = asyncio.get_running_loop()
            self._pause_over = loop.call_later(min(pauses), self._changed)

    # --- tending: as many tabs as are wanted

    def _choose(self) -> None:
        """Which tabs stay; first those at work, then those that could be."""
        current = [tab for tab in self.tabs if tab.gone is None and tab.home == self._site.home]
        current.sort(
            key=lambda tab: (tab.errand is None, tab.is_loading, tab.attention is not None)
        )
        staying = set(current[: self._wanted])
        for tab in self.tabs:
            tab.retiring = tab not in staying

    def _missing(self) -> int:
        return self._wanted - sum(not tab.retiring for tab in self.tabs)

    async def _tend(self) -> None:
        while True:
            self._look.clear()
            try:
                await self._pause_after_setbacks()
                await self._open_missing()
                # Not before: a browser ends with its last tab.
                await self._close_others()
                await self._load()
            except (PlaywrightError, CannotOpen) as error:
                self._setbacks += 1
                reason = plainly(error) if isinstance(error, PlaywrightError) else str(error)
                log.warning("the browser's tabs cannot be opened", reason=reason)
            except Exception:
                self._setbacks += 1
                log.exception("the browser engine broke")
            else:
                await self._look.wait()

    async def _pause_after_setbacks(self) -> None:
        if self._setbacks and (self._missing() or any(tab.is_unloaded for tab in self.tabs)):
            doubled = self._pace.reopen_first_s * 2.0 ** min(self._setbacks - 1, 10)
            await asyncio.sleep(min(doubled, self._pace.reopen_longest_s))

    async def _open_missing(self) -> None:
        for _ in range(self._missing()):
            context = self._chromium.context or await self._chromium.open()
            page = await self._page(context)
            self._opened += 1
            tab = Tab(self._opened, page, self._site, self._spare_pace(), self, self._pace.word_s)
            await tab.equip(self._script)
            # A profile may have come meanwhile.
            tab.use(self._site)
            self.tabs.append(tab)
            self._changed()

    def _spare_pace(self) -> Pace:
        """That of a tab which is gone: a tab that comes in its place owes the site the same pause."""
        in_use = {tab.pace for tab in self.tabs if not tab.retiring}
        for pace in self._paces:
            if pace not in in_use:
                return pace
        self._paces.append(Pace(self._site.limits, self._day))
        return self._paces[-1]

    async def _page(self, context: BrowserContext) -> Page:
        """A new page, or the one that the browser came with."""
        ours = {tab.page for tab in self.tabs}
        for page in context.pages:
            if page not in ours and page.url == "about:blank":
                return page
        try:
            return await context.new_page()
        except PlaywrightError:
            # It is said to be there, and does nothing: another one, then.
            await self._chromium.close()
            self._browser_closed()
            raise

    async def _close_others(self) -> None:
        for tab in list(self.tabs):
            if tab.gone is not None or (tab.retiring and tab.errand is None):
                self.tabs.remove(tab)
                await tab.close()

    async def _load(self) -> None:
        for tab in list(self.tabs):
            if tab.is_unloaded and not tab.retiring:
                await tab.load()

    async def _check(self) -> None:
        """Now and then, whether idle tabs are still alive."""
        while True:
            await asyncio.sleep(self._pace.check_every_s)
            for tab in list(self.tabs):
                idle = tab.is_fit and tab.errand is None
                if idle and not await _is_alive(tab.page, self._pace.alive_s):
                    tab.lose("the tab hangs")


async def _is_alive(page: Page, patience_s: float) -> bool:
    try:
        async with asyncio.timeout(patience_s):
            await page.title()
    except (PlaywrightError, TimeoutError):
        return False
    return True


async def _shown(page: Page) -> None:
    with contextlib.suppress(PlaywrightError):
        await page.bring_to_front()
