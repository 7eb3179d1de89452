"""The browser, the extension and the servers of the browser tests do what the tests believe of them."""

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import BrowserContext, Page

from tests.browser.chromium import spawn_chromium
from tests.browser.extension import (
    make_extension,
    metadata,
    run_menu_command,
    set_value,
    stored_values,
)
from tests.browser.panel import Panel

SITE = "https://arena.ai/"
SECRET = "only-the-hub-may-read-this"

SCRIPT = Path(__file__).with_name("on_trial.user.js").read_text()
TRAPS = Path(__file__).with_name("traps.js").read_text()

# --- a site and a hub ----------------------------------------------------------------------------

STRICT = (
    "default-src 'none'; connect-src 'self'; script-src 'nonce-n'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE = """<!doctype html><html><head><title>A site</title>
<script nonce="n">window.seenByThePage = { ...document.documentElement.dataset };</script>
TRAPS
</head><body>A page <iframe src="/frame"></iframe></body></html>"""


@dataclass
class Site:
    """A page, open or with a strict policy, and what else its server was asked."""

    policy: str | None = None
    traps: str = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/", self.page), web.get("/frame", self.frame)])
        return app

    async def page(self, request: web.Request) -> web.Response:
        headers = {"Set-Cookie": "session=of-the-site; Path=/"}
        if self.policy:
            headers["Content-Security-Policy"] = self.policy
        text = PAGE.replace("TRAPS", f'<script nonce="n">{self.traps}</script>')
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def frame(self, request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><p>A frame", content_type="text/html")


@dataclass
class Hub:
    """Answers what it heard; `/hold` answers never, and tells when it was let go; `/socket` is a socket."""

    heard: list[dict[str, str]] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/hold", self.hold), web.get("/socket", self.socket)])
        app.router.add_route("*", "/hear", self.hear)
        return app

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append(dict(request.headers))
        body = (await request.read()).decode()
        return web.json_response({"method": request.method, "body": body, "secret": SECRET})

    async def hold(self, request: web.Request) -> web.Response:
        self.held.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.let_go.set()
        raise AssertionError("never")

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket


@pytest.fixture
async def hub() -> Hub:
    return Hub()


@dataclass
class Visit:
    """A tab with the userscript in it."""

    context: BrowserContext
    page: Page
    url: str

    async def noted(self, name: str) -> Any:
        """What the script noted under this name, once it has."""
        found = await self.page.wait_for_selector(f"html[data-{name}]", state="attached")
        return json.loads(await found.get_attribute(f"data-{name}") or "")

    async def begin(self, action: str, **details: Any) -> int:
        """Have the script do something, in every tab."""
        number = next(_numbers)
        order = {"number": number, "action": action, "details": details}
        await set_value(self.context, "do", order)
        return number

    async def outcome(self, number: int) -> Any:
        return await self.noted(f"done-{number}")

    async def act(self, action: str, **details: Any) -> Any:
        return await self.outcome(await self.begin(action, **details))


_numbers = itertools.count(1)


@pytest.fixture
def visit(serve, start_browser, certificate):
    """Open the site with the userscript: `await visit(https=True, policy=STRICT)`."""

    async def opened(
        script: str = SCRIPT,
        *,
        https: bool = False,
        public: bool = False,
        policy: str | None = None,
        traps: str = "",
        **options: Any,
    ) -> Visit:
        port = await serve(Site(policy, traps).app(), certificate if https else None)
        address = f"127.0.0.1:{port}"
        if https:
            options["hosts"] = {"arena.ai": address}
        if public:
            options["arguments"] = [f"--ip-address-space-overrides={address}=public"]
        context = await start_browser(script, **options)
        visited = Visit(context, context.pages[0], SITE if https else f"http://{address}/")
        await visited.page.goto(visited.url)
        return visited

    return opened


EVERY_SITE = pytest.mark.parametrize(
    ("https", "policy"),
    [(False, None), (False, STRICT), (True, None), (True, STRICT)],
    ids=["http-open", "http-strict", "https-open", "https-strict"],
)
EASIEST_AND_HARDEST = pytest.mark.parametrize(
    ("https", "policy"), [(False, None), (True, STRICT)], ids=["http-open", "https-strict"]
)


# --- when and where it runs ----------------------------------------------------------------------


@EVERY_SITE
async def test_it_runs_before_the_pages_first_script(visit, https, policy):
    tab = await visit(https=https, policy=policy)
    for _ in range(3):
        seen = await tab.page.evaluate("window.seenByThePage")
        assert json.loads(seen["start"]) == ["loading", 0]
        await tab.page.reload()


async def test_it_runs_late_where_its_metadata_says_so(visit):
    tab = await visit(SCRIPT.replace("document-start", "document-end"))
    assert await tab.noted("start") == ["interactive", 2]
    assert await tab.page.evaluate("window.seenByThePage") == {}


async def test_it_keeps_out_of_frames_and_other_sites(visit):
    tab = await visit()
    frame = tab.page.frames[1]
    await frame.wait_for_load_state()
    assert await frame.evaluate("document.documentElement.dataset.start") is None
    await tab.page.goto(tab.url.replace("127.0.0.1", "localhost"))
    assert await tab.page.evaluate("document.documentElement.dataset.start") is None


async def test_it_runs_in_frames_without_noframes(visit):
    tab = await visit(SCRIPT.replace("// @noframes\n", ""))
    await tab.page.frames[1].wait_for_selector("html[data-start]", state="attached")


async def test_what_it_writes_to_window_stays_its_own(visit):
    tab = await visit()
    await tab.act("assign", name="fetch", value="mine")
    assert await tab.act("read", name="fetch") == "mine"
    assert await tab.page.evaluate("typeof fetch") == "function"
    assert await tab.act("read", name="innerWidth") == await tab.page.evaluate("innerWidth")


@pytest.mark.parametrize("broken", ["", "// ==UserScript==\n// @name x\n// ==/UserScript==\n"])
def test_a_script_without_metadata_or_match_is_refused(broken):
    with pytest.raises(ValueError, match="the script"):
        metadata(broken)


# --- requests ------------------------------------------------------------------------------------


@EVERY_SITE
async def test_requests_pass_where_the_page_may_not(visit, serve, hub, https, policy):
    tab = await visit(https=https, policy=policy)
    hear = f"http://127.0.0.1:{await serve(hub.app())}/hear"
    with pytest.raises(Exception, match="Failed to fetch"):
        await tab.page.evaluate("(url) => fetch(url, {method: 'POST'})", hear)
    hub.heard.clear()

    headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
    outcome, status, text = await tab.act(
        "request", method="POST", url=hear, headers=headers, data="{}"
    )

    assert (outcome, status) == ("onload", 200)
    assert json.loads(text) == {"method": "POST", "body": "{}", "secret": SECRET}
    [heard] = hub.heard
    assert heard["Authorization"] == "Bearer t"
    assert heard["Content-Type"] == "application/json"
    assert not {"Origin", "Cookie", "Referer"} & heard.keys()


async def test_cookies_travel_unless_a_request_is_anonymous(visit, serve, hub):
    """So that their absence above means something: cookies know no ports."""
    tab = await visit()
    hear = f"http://127.0.0.1:{await serve(hub.app())}/hear"
    await tab.act("request", url=hear, anonymous=False)
    await tab.act("request", url=hear, anonymous=True)
    assert [heard.get("Cookie") for heard in hub.heard] == ["session=of-the-site", None]


async def test_a_host_that_connect_does_not_name_hears_nothing(visit, serve, hub):
    tab = await visit()
    hear = f"http://localhost:{await serve(hub.app())}/hear"
    assert await tab.act("request", url=hear) == ["onerror", 0, ""]
    assert hub.heard == []


async def test_connect_may_name_every_host(visit, serve, hub):
    tab = await visit(SCRIPT.replace("@connect      127.0.0.1", "@connect      *"))
    hear = f"http://localhost:{await serve(hub.app())}/hear"
    assert (await tab.act("request", url=hear))[:2] == ["onload", 200]


async def test_a_server_that_is_not_there_is_an_error(visit, serve):
    tab = await visit()
    assert await tab.act("request", url="http://127.0.0.1:1/") == ["onerror", 0, ""]


async def test_an_abort_reaches_the_server(visit, serve, hub):
    tab = await visit()
    hold = f"http://127.0.0.1:{await serve(hub.app())}/hold"
    held = await tab.begin("request", id="held", url=hold)
    await hub.held.wait()
    assert not hub.let_go.is_set()
    await tab.act("abort", id="held")
    assert await tab.outcome(held) == ["onabort", 0, ""]
    await hub.let_go.wait()


async def test_a_timeout_reaches_the_server(visit, serve, hub):
    tab = await visit()
    hold = f"http://127.0.0.1:{await serve(hub.app())}/hold"
    assert await tab.act("request", url=hold, timeout=50) == ["ontimeout", 0, ""]
    await hub.let_go.wait()


async def test_a_closed_tab_lets_its_requests_go(visit, serve, hub):
    tab = await visit()
    hold = f"http://127.0.0.1:{await serve(hub.app())}/hold"
    await tab.begin("request", url=hold)
    await hub.held.wait()
    await tab.page.goto("about:blank")
    await hub.let_go.wait()


# --- values and menu -----------------------------------------------------------------------------


async def test_values_are_there_at_the_start_and_outlive_a_reload(visit):
    tab = await visit(values={"value": {"from": "the test"}})
    assert await tab.noted("value") == {"from": "the test"}
    await tab.act("set", name="value", value=[1, None, "zwei"])
    await _stored(tab.context, "value", [1, None, "zwei"])
    await tab.page.reload()
    assert await tab.noted("value") == [1, None, "zwei"]


async def test_what_is_stored_outlives_the_browser_and_goes_first(visit, tmp_path):
    profile = tmp_path / "profile"
    tab = await visit(profile_dir=profile, values={"value": "first"})
    await set_value(tab.context, "value", "stored")
    await tab.context.close()
    again = await visit(profile_dir=profile, values={"value": "second"})
    assert await again.noted("value") == "stored"


async def _stored(context: BrowserContext, name: str, value: Any) -> None:
    async with asyncio.timeout(10):
        while (await stored_values(context)).get(name) != value:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)


async def test_a_change_is_heard_in_every_tab(visit):
    tab = await visit(values={"value": "old"})
    other = Visit(tab.context, await tab.context.new_page(), tab.url)
    await other.page.goto(other.url)
    await run_menu_command(tab.context, tab.page, "Set the value")
    assert await tab.noted("change") == ["value", "old", "from the menu", False]
    assert await other.noted("change") == ["value", "old", "from the menu", True]
    assert (await stored_values(tab.context))["value"] == "from the menu"


async def test_a_menu_command_runs_in_its_own_tab(visit):
    tab = await visit()
    other = await tab.context.new_page()
    await other.goto(tab.url)
    await run_menu_command(tab.context, other, "Say hello")
    await other.wait_for_selector("html[data-menu]", state="attached")
    assert await tab.page.evaluate("document.documentElement.dataset.menu") is None


# --- secrets -------------------------------------------------------------------------------------


@EASIEST_AND_HARDEST
async def test_the_page_sees_no_grant_and_no_message(visit, serve, hub, https, policy):
    tab = await visit(https=https, policy=policy, traps=TRAPS, values={"token": SECRET})
    hear = f"http://127.0.0.1:{await serve(hub.app())}/hear"
    assert await tab.act("ask", url=hear) == 200
    assert hub.heard[-1]["Authorization"] == SECRET
    await tab.act("renew")
    await _stored(tab.context, "token", f"{SECRET}!")

    assert await _caught(tab) == []
    names = await tab.page.evaluate("Object.getOwnPropertyNames(window)")
    assert not {*metadata(SCRIPT).grants, "GM_info", "grants"} & set(names)


@pytest.mark.parametrize(
    ("careless", "trap"),
    [
        ("stringify", "JSON.stringify"),
        ("spread", "Array.Symbol.iterator"),
        ("look_up", "Object.timeout"),
        ("post", "event message"),
    ],
)
async def test_the_traps_catch_a_careless_script(visit, careless, trap):
    tab = await visit(traps=TRAPS, values={"token": SECRET})
    await tab.act(careless)
    await tab.page.evaluate("new Promise((resolve) => setTimeout(resolve))")
    assert trap in await _caught(tab)


async def _caught(tab: Visit) -> list[str]:
    """The traps in which the secret lay. Playwright's `evaluate` would carry it through them itself."""
    session = await tab.context.new_cdp_session(tab.page)
    call = {"expression": f"caught({json.dumps(SECRET)})", "returnByValue": True}
    caught: list[str] = (await session.send("Runtime.evaluate", call))["result"]["value"]
    return caught


# --- sockets of the page's world -----------------------------------------------------------------


async def test_a_strict_policy_fails_a_socket_without_closing_it(visit, serve, hub):
    tab = await visit(policy=STRICT)
    port = await serve(hub.app())
    urls = {"url": f"ws://127.0.0.1:{port}/socket", "nearby": f"http://127.0.0.1:{port}/hear"}
    assert await tab.act("socket", **urls) == [3, "error"]


async def test_an_open_page_reaches_a_socket(visit, serve, hub):
    tab = await visit()
    port = await serve(hub.app())
    urls = {"url": f"ws://127.0.0.1:{port}/socket", "nearby": f"http://127.0.0.1:{port}/hear"}
    assert await tab.act("socket", **urls) == [0, "open"]


@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [
        ("ws", "127.0.0.1", [0, "open"]),
        ("ws", "localhost", [0, "open"]),
        ("ws", "hub.test", ["SecurityError"]),
        ("wss", "127.0.0.1", [0, "open"]),
    ],
)
async def test_an_https_page_reaches_loopback_and_tls(
    visit, serve, hub, certificate, scheme, host, expected
):
    tab = await visit(https=True)
    port = await serve(hub.app(), certificate if scheme == "wss" else None)
    near = f"http://127.0.0.1:{await serve(hub.app())}/hear"
    url = f"{scheme}://{host}:{port}/socket"
    assert await tab.act("socket", url=url, nearby=near) == expected


async def test_a_hub_that_is_not_there_closes_after_the_error(visit, serve, hub):
    tab = await visit()
    near = f"http://127.0.0.1:{await serve(hub.app())}/hear"
    assert await tab.act("socket", url="ws://127.0.0.1:1/", nearby=near) == [0, "error", "close"]


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [([], [0, "error", "close"]), (["local-network-access"], [0, "open"])],
    ids=["refused", "granted"],
)
async def test_a_public_site_asks_before_it_reaches_loopback(
    visit, serve, hub, permissions, expected
):
    """Requests of the extension need nobody's leave."""
    port = await serve(hub.app())
    tab = await visit(https=True, public=True)
    await tab.context.grant_permissions(permissions, origin="https://arena.ai")
    near = f"http://127.0.0.1:{port}/hear"
    assert (await tab.act("request", url=near))[:2] == ["onload", 200]
    url = f"ws://127.0.0.1:{port}/socket"
    assert await tab.act("socket", url=url, nearby=near) == expected


# --- the panel -----------------------------------------------------------------------------------


@EASIEST_AND_HARDEST
async def test_a_closed_panel_can_be_read_and_used(visit, https, policy):
    tab = await visit(https=https, policy=policy)
    await tab.noted("loaded")
    panel = Panel(await tab.context.new_cdp_session(tab.page))
    await tab.begin("panel")
    assert "nobody" not in await panel.text()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(panel.click("Connect"), 0.3)  # it is disabled, so nobody can
    await panel.fill("input", "the hub")
    await panel.click("Connect")
    assert "connected to the hub" in await panel.shows("connected")
    assert await tab.page.evaluate("document.body.lastElementChild.shadowRoot") is None


# --- without Playwright --------------------------------------------------------------------------


THREE_TIMERS_MS = """(async () => {
  const begin = performance.now();
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setTimeout(resolve, 50));
  return performance.now() - begin;
})()"""


async def test_a_bare_browser_hides_tabs_and_holds_up_their_timers(serve, tmp_path):
    extension = make_extension(SCRIPT, tmp_path / "extension", values={"value": "bare"})
    url = f"http://127.0.0.1:{await serve(Site().app())}/"
    async with spawn_chromium(extension=extension) as browser:
        first = await browser.new_page(url)
        assert await first.evaluate("document.documentElement.dataset.value") == '"bare"'
        assert await first.evaluate("document.visibilityState") == "visible"
        second = await browser.new_page(url)
        assert await first.evaluate("document.visibilityState") == "hidden"
        assert await first.evaluate(THREE_TIMERS_MS) > 1000
        await browser.bring_to_front(first)
        assert await first.evaluate("document.visibilityState") == "visible"
        assert await second.evaluate("document.visibilityState") == "hidden"
