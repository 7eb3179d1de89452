"""One tab of the site: its page, the script in it, and the job that it has in hand."""

import asyncio
import contextlib
import secrets
from collections import deque
from time import time
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import msgspec
import structlog
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Frame, Page

from agent.engines import AwaitsHuman, Delta, EngineFailure, Finish, Job, Starts, Text
from agent.engines import tab_words as words
from agent.engines.errand import Errand
from agent.engines.site import Site
from agent.pace import Pace
from hub.protocol import FAILURES, RATE_LIMITED_DEFAULT_S, Model

log = structlog.get_logger()

MAX_LOADS = 3
"""A job is given to a page so often: once, and again after two loads that came in between."""
CLOSED = "the tab was closed"
ELSEWHERE = "elsewhere"
"""Instead of an attention's code: the page left the site, as it does for a sign-in."""

_PRELUDE = """(() => {
  const {hosts, ...tab} = %s;
  const isOurs = (host) => hosts.some((known) =>
    known.startsWith("*.") ? host.endsWith(known.slice(1)) : host === known);
  const visit = `${Math.random()}`;
  const isSite = globalThis === globalThis.top && isOurs(location.hostname);
  for (const name of [tab.hear, tab.tell]) {
    const call = globalThis[name];
    delete globalThis[name];
    if (isSite) globalThis[name] = (...values) => call(visit, ...values);
  }
  if (!isSite) return;
  globalThis.__lmarena_tab__ = tab;
%s
})();
"""


class Keeper(Protocol):
    """Whom a tab tells."""

    def tab_changed(self, tab: "Tab") -> None:
        """It can be used now, or no more."""
        ...

    def tab_failed(self, tab: "Tab") -> None:
        """Its page could not be loaded, or is not what it should be; it is to be loaded again."""
        ...

    def tab_offers(self, tab: "Tab") -> None:
        """Its page's catalogue has changed."""
        ...

    def tab_notices(self, tab: "Tab", message: str) -> None:
        """The site is not as its profile says."""
        ...

    def tab_needs_human(self, tab: "Tab", reason: str | None) -> None:
        """Its `attention` has begun."""
        ...


class Tab:
    """One page of the site.

    The script in it polls for orders (`hear`) and says what happens (`tell`), both with the number of its
    visit, which is another one each time that a document is loaded: so what an older document still says
    counts for nothing, and what was ordered of it is ordered again.
    """

    def __init__(
        self, number: int, page: Page, site: Site, pace: Pace, keeper: Keeper, word_s: float
    ) -> None:
        """`word_s`: seconds in which a page that was loaded says how it is."""
        self.number = number
        self.page = page
        self.pace = pace
        self.models: dict[str, Model] = {}
        self.errand: Errand | None = None
        self.idle_since = 0.0
        self.attention: str | None = None
        """The code of what its human must do, or `ELSEWHERE`."""
        self.gone: str | None = None
        """Why it cannot be used any more: it crashed, or was closed."""
        self.retiring = False
        """It takes no more jobs, and closes after the one in hand."""
        self.is_unloaded = True
        """It waits for `load`."""
        self.was_ready = False
        """Whether it ever could be used."""
        self.home = site.home
        self._site = site
        self._keeper = keeper
        self._word_s = word_s
        self._prelude_profile = self._told_profile = site.profile
        self._is_ready = False
        self._visit = ""
        self._past_visits: deque[str] = deque(maxlen=32)
        self._orders: deque[str] = deque()
        self._rung = asyncio.Event()
        self._navigating: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._has_misspoken = False

    # --- opening and closing

    async def equip(self, script: str) -> None:
        """Put the script into every document that will be loaded. Raises PlaywrightError."""
        page = self.page
        page.on("crash", lambda _: self.lose("the tab crashed"))
        page.on("close", lambda _: self.lose(CLOSED))
        page.on("framenavigated", self._navigated)
        hear, tell = (f"_{secrets.token_hex(12)}" for _ in range(2))
        await page.expose_binding(hear, self._hears)
        await page.expose_binding(tell, self._tells)
        tab = {"hear": hear, "tell": tell, "profile": self._site.profile, "hosts": self._site.hosts}
        await page.add_init_script(_PRELUDE % (msgspec.json.encode(tab).decode(), script))

    async def load(self) -> None:
        """Load the site. Raises PlaywrightError."""
        await self._load(self.home)

    async def _load(self, url: str) -> None:
        self.is_unloaded = False
        self._watch_for_words()
        try:
            await self.page.goto(url, wait_until="commit")
        except PlaywrightError:
            self.is_unloaded = True
            raise

    async def close(self) -> None:
        """Close its page. Never raises."""
        self.lose(CLOSED)
        with contextlib.suppress(PlaywrightError):
            await self.page.close()

    def lose(self, reason: str) -> None:
        """The page is gone, and its job with it."""
        if self.gone is not None:
            return
        self.gone = reason
        self._is_ready = False
        if self._watch is not None:
            self._watch.cancel()
        if self._navigating is not None:
            self._navigating.cancel()
        if self.errand is not None:
            self.errand.lose(reason)
        self._rung.set()
        self._keeper.tab_changed(self)

    # --- what it is

    @property
    def is_held(self) -> bool:
        """Whether its job goes on."""
        return self.errand is not None and not self.errand.over

    @property
    def is_fit(self) -> bool:
        """Whether it takes a job, now or after its pause.

        One whose job has just ended counts already, so that the hub hears of a pause before it hears of the
        end: otherwise its next job would be here by then.
        """
        return self._is_ready and not self.is_held and not self.retiring

    @property
    def is_loading(self) -> bool:
        """Whether its page has not said yet how it is."""
        return not self._is_ready and self.attention is None and self.gone is None

    def use(self, site: Site) -> None:
        """The site's profile has changed."""
        self._site = site
        self.pace.adjust(site.limits)
        self._tell_profile()

    # --- jobs

    def take(self, job: Job, mode: str) -> Errand:
        """Give it a job. It must be fit, and have none."""
        errand = self.errand = Errand(job, mode)
        self._give(errand)
        self._keeper.tab_changed(self)
        return errand

    def let_go(self, errand: Errand) -> None:
        """The job is over, or nobody wants it any more."""
        if self.errand is not errand:
            return
        self.errand = None
        self.idle_since = asyncio.get_running_loop().time()
        if not errand.over:
            errand.over = True
            self._order(words.cancel(errand.job.id))
        if self.is_loading:
            self._watch_for_words()
        self._keeper.tab_changed(self)

    def _give(self, errand: Errand) -> None:
        errand.loads += 1
        job = errand.job
        self._order(words.take(job.id, job.model, job.body, errand.mode, errand.navigated))

    def _give_again(self, errand: Errand) -> None:
        if errand.started:
            errand.lose("the page was loaded anew in mid-answer")
        elif errand.loads >= MAX_LOADS:
            errand.lose("the page was loaded anew again and again")
        else:
            self._give(errand)

    def _order(self, order: str) -> None:
        self._orders.append(order)
        self._rung.set()

    def _tell_profile(self) -> None:
        profile = self._site.profile
        if profile != self._told_profile:
            self._told_profile = profile
            self._order(words.profile(profile))

    # --- documents that come and go

    def _is_now(self, source: Any, visit: object) -> bool:
        """Whether this comes from the site's document that is there now."""
        frame = source["frame"]
        if frame != self.page.main_frame or not self._site.has(frame.url):
            return False
        if not isinstance(visit, str) or not 0 < len(visit) < 64 or self.gone is not None:
            return False
        if visit != self._visit and visit not in self._past_visits:
            self._arrive(visit)
        return visit == self._visit

    def _arrive(self, visit: str) -> None:
        """A new document is there, and knows of nothing."""
        self._forget_document()
        self._visit = visit
        self._told_profile = self._prelude_profile
        self._tell_profile()
        if self.errand is not None:
            self._give_again(self.errand)
        self._keeper.tab_changed(self)

    def _navigated(self, frame: Frame) -> None:
        """The page shows another address; one of somebody else's has no script of ours in it."""
        if frame != self.page.main_frame or self._site.has(frame.url) or self.gone is not None:
            return
        self._forget_document()
        if self.errand is not None:
            self.errand.lose("the page left the site")
        self._keeper.tab_changed(self)

    def _forget_document(self) -> None:
        self._past_visits.append(self._visit)
        self._visit = ""
        self._orders.clear()
        self._is_ready = False
        self._rung.set()
        self._watch_for_words()

    def _watch_for_words(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.get_running_loop().call_later(self._word_s, self._is_silent)

    def _is_silent(self) -> None:
        """The page has not said how it is; a page of somebody else's is its human's matter."""
        if not self.is_loading or self.is_held:
            return
        address = urlsplit(self.page.url)
        if address.scheme in ("http", "https") and not self._site.has(self.page.url):
            self._attend(ELSEWHERE, address.hostname)
        else:
            log.warning("a tab's page says nothing", tab=self.number, host=address.hostname)
            self.is_unloaded = True
            self._keeper.tab_failed(self)

    async def _navigate(self, errand: Errand, url: str) -> None:
        target = urljoin(self.page.url, url)
        if urlsplit(target)[:2] != urlsplit(self.page.url)[:2]:
            errand.fail(EngineFailure("internal", "the page names an address elsewhere", ran=False))
            return
        errand.navigated = True
        try:
            await self._load(target)
        except PlaywrightError as error:
            log.warning("no new chat can be opened", tab=self.number, reason=plainly(error))
            self._is_ready = False
            errand.lose("no new chat can be opened")
            self._keeper.tab_failed(self)

    # --- what the script hears and tells

    async def _hears(self, source: Any, visit: object = None, *_: object) -> str | None:
        """The next order for this document; None once there is another document, or none."""
        if not self._is_now(source, visit):
            return None
        while self._visit == visit and self.gone is None:
            if self._orders:
                return self._orders.popleft()
            self._rung.clear()
            await self._rung.wait()
        return None

    def _tells(self, source: Any, visit: object = None, text: object = None, *_: object) -> None:
        if not self._is_now(source, visit):
            return
        try:
            said = words.understand(text)
        except words.Misspoken as error:
            if not self._has_misspoken:
                self._has_misspoken = True
                log.warning("a tab's script makes no sense", tab=self.number, said=str(error)[:200])
            return
        self._heed(said, len(str(text)))

    def _heed(self, said: words.Said, size: int) -> None:
        match said:
            case words.Models():
                self.models = said.readable()
                self._keeper.tab_offers(self)
            case words.Site(state="ready"):
                self._be_ready()
            case words.Site():
                self._attend(said.code or "attention", said.reason)
            case words.Notice():
                self._keeper.tab_notices(self, said.message)
            case _:
                errand = self.errand
                if errand is not None and said.job == errand.job.id and not errand.over:
                    self._heed_of(errand, said, size)

    def _heed_of(self, errand: Errand, said: words.AboutJob, size: int) -> None:
        match said:
            case words.Waiting():
                if not errand.started:
                    errand.say(AwaitsHuman())
            case words.Started():
                self._started(errand)
            case words.Piece():
                self._started(errand)
                self._piece(errand, said, size)
            case words.End():
                errand.say(Finish(said.finish_reason, said.usage, said.truncated))
                self._keeper.tab_changed(self)
            case words.Fail():
                self._failed(errand, said)
                self._keeper.tab_changed(self)
            case words.Navigate():
                self._navigating = asyncio.create_task(self._navigate(errand, said.url))

    def _started(self, errand: Errand) -> None:
        if not errand.started:
            errand.started = True
            self.pace.sent(time())
            errand.say(Starts())

    def _piece(self, errand: Errand, piece: words.Piece, size: int) -> None:
        if piece.delta:
            errand.say(Delta(piece.delta), size)
        if piece.text or not piece.delta:
            errand.say(Text(piece.text), size)
        if errand.is_overfull:
            errand.fail(EngineFailure("upstream_error", "the page says more than can be sent on"))
            self._order(words.cancel(errand.job.id))

    def _failed(self, errand: Errand, fail: words.Fail) -> None:
        match FAILURES[fail.code].worker:
            case "attention":
                self._attend(fail.code, fail.message)
            case "cooling":
                self.pace.limited(time(), fail.retry_after_s or RATE_LIMITED_DEFAULT_S)
        errand.fail(EngineFailure(fail.code, fail.message, fail.retry_after_s, fail.ran))

    def _be_ready(self) -> None:
        if self.attention is not None:
            log.info("a tab can be used again", tab=self.number)
        self._is_ready = self.was_ready = True
        self.attention = None
        self._keeper.tab_changed(self)

    def _attend(self, code: str, reason: str | None) -> None:
        self._is_ready = False
        if code != self.attention:
            self.attention = code[:200]
            self._keeper.tab_needs_human(self, reason)
        self._keeper.tab_changed(self)


def plainly(error: PlaywrightError) -> str:
    """The first line of what Playwright says; the rest is its call log."""
    return error.message.partition("\n")[0][:300]
