"""The userscript's panel in a real browser, on an open page and on one with a strict policy."""

import json
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import BrowserContext, Page

from tests.browser.chromium import chromium
from tests.browser.panel import Panel

pytestmark = pytest.mark.asyncio(loop_scope="module")

USERSCRIPT = Path(__file__).parents[2] / "userscript"
ESBUILD = USERSCRIPT / "node_modules" / ".bin" / "esbuild"
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")

STRICT = (
    "default-src 'none'; script-src 'nonce-page'; style-src 'nonce-page'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HTML = """<!doctype html>
<html lang="en"><head><title>A page</title>
<style nonce="page">
  :root { font: 40px/3 serif; letter-spacing: 9px; direction: rtl; --surface: red; --text: red; }
  html > :not(head, body) { position: static !important; transform: scale(2) !important; opacity: 0 !important; }
  div, section, button, p, dl { display: none !important; }
  body { margin: 0; font: 16px/1.5 sans-serif; letter-spacing: 0; direction: ltr; }
  form { position: fixed; bottom: 12px; left: 12px; right: 12px; display: flex; flex-direction: column; }
  form.middle { bottom: 45vh; }
  form > input { align-self: end; }
  main { height: 150vh; }
</style></head>
<body><main>Words of the page</main>
<form><textarea>What is asked</textarea><input type="submit" value="Send"></form>
<script nonce="page">
  globalThis.heard = [];
  for (const type of ["click", "pointerdown", "mousedown", "keydown", "keyup", "focusin", "wheel"]) {
    document.addEventListener(type, () => heard.push(type));
  }
</script></body></html>"""

OPEN = """
globalThis.problems = [];
document.addEventListener("securitypolicyviolation", (event) => problems.push(event.violatedDirective));
globalThis.acts = [];
globalThis.openOurs = (language, options = {}) =>
  openPanel({ document, language, act: (...act) => acts.push(act), ...options });
"""

READY: dict[str, Any] = {
    "link": {"state": "socket"},
    "hub": "hub.example.org",
    "site": {"state": "ready"},
    "late": False,
    "job": None,
    "mode": "assist",
    "paused": False,
    "today": 12,
    "daily": 1500,
    "next_in_s": 0,
    "version": "0.1.0",
    "newer": None,
    "installUrl": "https://hub.example.org/userscript/hub.user.js",
    "canSpeedUp": False,
    "configured": True,
    "folded": False,
}


def job(phase: str) -> dict[str, Any]:
    return {"job": {"model": "model-5.2-chat", "phase": phase}}


def ended(reason: str) -> dict[str, Any]:
    return {"link": {"state": "ended", "reason": reason}}


def attention(code: str, **more: str) -> dict[str, Any]:
    return {"site": {"state": "attention", "code": code, **more}}


CHANGES: dict[str, dict[str, Any]] = {
    "ready": {},
    "folded": {"folded": True},
    "unconfigured": {"configured": False, "hub": None, "link": {"state": "off"}},
    "unauthorized": ended("unauthorized"),
    "replaced": ended("replaced"),
    "removed": ended("removed"),
    "outdated": ended("unsupported_protocol"),
    "outdated, nowhere to go": ended("bad_hello") | {"installUrl": None, "newer": "0.2.0"},
    "ended": ended("something new"),
    "challenge": attention("challenge"),
    "login_required": attention("login_required"),
    "consent_required": attention("consent_required"),
    "site_changed": attention("site_changed", reason="no composer"),
    "attention": attention("something new"),
    "opening": job("opening"),
    "waiting": job("waiting"),
    "sent": job("sent"),
    "answering": job("answering") | {"next_in_s": 8, "mode": "automatic"},
    "paused": {"paused": True},
    "off": {"link": {"state": "off"}},
    "connecting": {"link": {"state": "connecting"}},
    "unreachable": {"link": {"state": "connecting", "again_in_s": 8, "reason": "HTTP 503"}},
    "poll": {"link": {"state": "poll"}, "canSpeedUp": True},
    "loading": {"site": {"state": "loading"}},
    "exhausted": {"today": 1500},
    "cooling": {"next_in_s": 8},
    "late": {"late": True},
    "newer": {"newer": "0.2.0"},
    "newer, nowhere to go": {"newer": "0.2.0", "installUrl": None},
}
VIEWS = {name: READY | change for name, change in CHANGES.items()}

GOLDEN = json.loads(Path(__file__).with_name("panel_words.json").read_text(encoding="utf-8"))


def bundled() -> str:
    """What adds `openPanel` to a page."""
    entry = 'import { openPanel } from "./src/panel.js"; globalThis.openPanel = openPanel;'
    options = ["--bundle", "--format=iife", "--charset=utf8", "--target=chrome110,firefox115"]
    done = subprocess.run(
        [ESBUILD, *options], input=entry, capture_output=True, cwd=USERSCRIPT, check=True, text=True
    )
    return done.stdout + OPEN


@pytest.fixture(scope="module")
def script() -> str:
    return bundled()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def url() -> AsyncIterator[str]:
    """Where `/open` and `/strict` are."""

    async def answer(request: web.Request) -> web.Response:
        policy = {"Content-Security-Policy": STRICT} if request.path == "/strict" else {}
        return web.Response(text=HTML, content_type="text/html", headers=policy)

    app = web.Application()
    app.add_routes([web.get(path, answer) for path in ("/open", "/strict", "/favicon.ico")])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[BrowserContext]:
    async with chromium(timezone_id="Europe/Berlin") as context:
        yield context


REACHES_SEND = """() => {
  const send = document.querySelector("input");
  const { left, top, width, height } = send.getBoundingClientRect();
  return document.elementFromPoint(left + width / 2, top + height / 2) === send;
}"""


class Seen(Panel):
    """A page with our panel, what it shows and what came of it."""

    def __init__(self, page: Page, session: Any) -> None:
        super().__init__(session)
        self.page = page
        self.session = session

    async def open(self, language: str = "en-GB", options: str = "{}") -> None:
        await self.page.evaluate(f"globalThis.ours = openOurs({json.dumps(language)}, {options})")

    async def show(self, view: dict[str, Any] = READY, **changes: Any) -> None:
        """Show a view, and wait until it is drawn."""
        await self.page.evaluate("(view) => ours.show(view)", view | changes)

    async def acts(self) -> list[list[Any]]:
        """What the person did since we last asked."""
        return list(await self.page.evaluate("acts.splice(0)"))

    async def ask(self, body: str) -> Any:
        """Run JavaScript inside the closed root, which is `this`, in a world of its own."""
        return await self._value(await self._root(), body)

    async def box(self) -> dict[str, float]:
        """Where the panel is, in CSS pixels."""
        return dict(
            await self.ask("return this.querySelector('.panel').getBoundingClientRect().toJSON()")
        )

    async def words(self) -> str:
        """What is read in one line, with TIME for clock times; what only ears get is its last part."""
        text = re.sub(r"\b\d{1,2}:\d\d:\d\d\b", "TIME", await self.text())
        return " | ".join(filter(None, text.splitlines()))

    async def watch(self) -> None:
        """Note from now on what is touched."""
        await self.ask("""
            this.touched = [];
            const note = (records) => this.touched.push(...records.map((r) => r.target.textContent));
            const everything = { attributes: true, characterData: true, childList: true, subtree: true };
            new MutationObserver(note).observe(this, everything);
        """)

    async def touched(self) -> list[str]:
        """The texts of the nodes touched since `watch`."""
        return list(await self.ask("return this.touched"))

    async def is_open(self) -> bool:
        return bool(await self.ask("return this.querySelector('.panel').hasAttribute('data-open')"))

    async def focused(self) -> str | None:
        """The text of our button that has the focus."""
        text = await self.ask(
            "return this.activeElement && (this.activeElement.innerText || 'corner')"
        )
        return None if text is None else " ".join(text.split())

    async def tab(self) -> str | None:
        """Go on to the next that the keyboard reaches; its text if it is ours."""
        await self.page.keyboard.press("Tab")
        return await self.focused()

    async def tab_to(self, button: str) -> None:
        while await self.tab() != button:
            pass

    async def press(self, words: str) -> None:
        """Click the button with these words, whatever space there is between them."""
        await self.click(words.replace(" ", "\n", 1) if words.startswith("Bridge") else words)

    async def reaches_send(self) -> bool:
        """Whether a click in the middle of the page's send button reaches it."""
        return bool(await self.page.evaluate(REACHES_SEND))


Visit = Callable[..., Awaitable[Seen]]


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: BrowserContext, url: str, script: str) -> AsyncIterator[Visit]:
    """Open pages: `seen = await visit("/strict")`. That none of them complained is seen at the end."""
    visited: list[Seen] = []
    complaints: list[str] = []

    async def go(path: str = "/open", *, first: str = "", code: str | None = None) -> Seen:
        page = await browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.add_init_script((code or script) + first)
        await page.goto(url + path)
        visited.append(Seen(page, await browser.new_cdp_session(page)))
        return visited[-1]

    yield go
    for seen in visited:
        complaints += await seen.page.evaluate("problems")
        await seen.page.close()
    assert complaints == []


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("path", ["/open", "/strict"])
async def test_every_state_is_told_in_words(visit, path, language):
    seen = await visit(path)
    await seen.open({"en": "en-GB", "zh": "zh-CN"}[language])
    told = {}
    for name, view in VIEWS.items():
        await seen.show(view)
        told[name] = await seen.words()
    assert told == GOLDEN[language]


async def test_times_are_the_tabs_own_and_do_not_flicker(visit):
    seen = await visit()
    await seen.open("en-GB")
    await seen.show(next_in_s=30)
    await seen.watch()
    await seen.page.evaluate(
        "(view) => [29.5, 30.6, 30, 29.2, 30.4].forEach((next_in_s) => ours.show({ ...view, next_in_s }))",
        READY,
    )
    assert await seen.touched() == []
    await seen.show(next_in_s=60)
    (touched,) = await seen.touched()
    assert re.fullmatch(r"at \d?\d:\d\d:\d\d", touched)


# --- what a person does --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "button", "act"),
    [
        ("unconfigured", "Enter address and token", ["connect"]),
        ("unauthorized", "Enter address and token", ["connect"]),
        ("replaced", "Connect again", ["again"]),
        ("removed", "Connect again", ["again"]),
        ("outdated", "Update", ["update"]),
        ("outdated", "Connect again", ["again"]),
        ("ended", "Connect again", ["again"]),
        ("challenge", "Done", ["done"]),
        ("login_required", "Done", ["done"]),
        ("consent_required", "Done", ["done"]),
        ("attention", "Done", ["done"]),
        ("waiting", "Go to the send button", ["show-job"]),
        ("off", "Connect again", ["again"]),
        ("unreachable", "Connect again", ["again"]),
        ("poll", "Use the faster link", ["faster"]),
        ("newer", "Update", ["update"]),
        ("ready", "I do", ["mode", "assist"]),
        ("ready", "The script", ["mode", "automatic"]),
        ("ready", "Pause", ["pause"]),
        ("ready", "Change hub", ["connect"]),
        ("paused", "Resume", ["resume"]),
        ("ready", "Bridge Ready", ["fold"]),
        ("folded", "Bridge Ready", ["unfold"]),
    ],
)
async def test_a_click_is_told(visit, state, button, act):
    seen = await visit("/strict")
    await seen.open()
    await seen.show(VIEWS[state])
    await seen.press(button)
    assert await seen.acts() == [act]


async def test_the_corner_button_goes_round(visit):
    seen = await visit()
    await seen.open()
    places = []
    for corner in (0, 1, 2, 3):
        await seen.show(corner=corner)
        box = await seen.box()
        places.append((box["left"] < 300, box["top"] < 200))
        await seen.click("", ".corner")
        assert await seen.acts() == [["corner", (corner + 1) % 4]]
    assert places == [(False, False), (False, True), (True, True), (True, False)]


async def test_the_mode_is_pressed(visit):
    seen = await visit()
    await seen.open()
    pressed = "return [...this.querySelectorAll('[aria-pressed=true]')].map((e) => e.textContent)"
    await seen.show(mode="assist")
    assert await seen.ask(pressed) == ["I do"]
    await seen.show(mode="automatic")
    assert await seen.ask(pressed) == ["The script"]


async def test_the_keyboard_is_enough(visit):
    seen = await visit("/strict")
    await seen.open()
    await seen.show(VIEWS["challenge"])
    await seen.tab_to("Bridge Security check")
    assert [await seen.tab() for _ in range(4)] == ["corner", "Done", "Pause", "Change hub"]
    await seen.tab_to("Done")
    await seen.page.keyboard.press("Enter")
    await seen.page.keyboard.press("Space")
    assert await seen.acts() == [["done"], ["done"]]


# --- opening by itself ---------------------------------------------------------------------------


async def test_it_opens_for_its_person_and_folds_when_all_is_well(visit):
    seen = await visit()
    await seen.open()
    opened = []
    for state in (
        "ready",
        "challenge",
        "ready",
        "waiting",
        "answering",
        "replaced",
        "unconfigured",
    ):
        await seen.show(VIEWS[state] | {"folded": True})
        opened.append(await seen.is_open())
    assert opened == [False, True, False, True, False, True, True]


async def test_what_the_person_folds_away_stays_folded_for_that_reason(visit):
    seen = await visit()
    await seen.open()
    challenge, login = (
        VIEWS[state] | {"folded": True} for state in ("challenge", "login_required")
    )
    await seen.show(challenge)
    await seen.press("Bridge Security check")
    assert await seen.acts() == [["fold"]]
    assert not await seen.is_open()
    await seen.show(challenge | {"today": 13})
    assert not await seen.is_open()
    await seen.press("Bridge Security check")
    assert await seen.acts() == [["unfold"]]
    await seen.show(login)
    assert await seen.is_open()
    await seen.show(READY | {"folded": True})
    await seen.show(login)
    assert await seen.is_open()


# --- staying out of the way ----------------------------------------------------------------------


async def test_an_update_touches_only_what_changed(visit):
    seen = await visit()
    await seen.open()
    await seen.show(VIEWS["answering"])
    await seen.watch()
    await seen.show(VIEWS["answering"])
    assert await seen.touched() == []
    await seen.show(VIEWS["answering"] | {"today": 13})
    assert await seen.touched() == ["13 of 1,500"]


async def test_focus_stays_where_it_is(visit):
    seen = await visit()
    await seen.open()
    await seen.show(VIEWS["challenge"])
    await seen.page.focus("textarea")
    for state in ("ready", "waiting", "replaced", "folded", "challenge"):
        await seen.show(VIEWS[state])
        assert await seen.page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    await seen.tab_to("Pause")
    for state in ("answering", "ready", "challenge", "waiting"):
        await seen.show(VIEWS[state])
        assert await seen.focused() == "Pause"
    await seen.show(VIEWS["paused"])
    assert await seen.focused() == "Resume"


async def test_focus_on_a_button_that_goes_away_goes_to_the_head(visit):
    seen = await visit()
    await seen.open()
    await seen.show(VIEWS["challenge"])
    await seen.tab_to("Done")
    await seen.show(READY)
    assert await seen.focused() == "Bridge Ready"
    await seen.tab_to("Pause")
    await seen.show(folded=True)
    assert await seen.focused() == "Bridge Ready"


MEASURED = """() => [
  document.documentElement.scrollWidth, document.documentElement.scrollHeight, document.title,
  ...[...document.body.querySelectorAll("*"), document.body].map((element) => [
    element.tagName, JSON.stringify(element.getBoundingClientRect()), getComputedStyle(element).font,
  ]),
]"""


async def test_the_page_is_not_moved(visit):
    seen = await visit()
    before = await seen.page.evaluate(MEASURED)
    await seen.open()
    for view in VIEWS.values():
        await seen.show(view)
        assert await seen.page.evaluate(MEASURED) == before


@pytest.mark.parametrize("path", ["/open", "/strict"])
async def test_the_pages_styles_do_not_reach_us(visit, path):
    plain = await visit(path)
    await plain.page.evaluate("document.querySelector('style').remove()")
    styled = await visit(path)
    looks = """
        return [this.host, ...this.querySelectorAll("*")].map((element) => {
          const style = getComputedStyle(element);
          const names = [...style].filter((name) => !name.startsWith("--"));
          const box = JSON.stringify(element.getBoundingClientRect());
          return [element.className, box, ...names.map((name) => `${name}: ${style[name]}`)];
        });"""
    seen = []
    for page in (plain, styled):
        await page.open()
        await page.show(VIEWS["waiting"])
        seen.append(await page.ask(looks))
    assert seen[0] == seen[1]
    assert (await styled.box())["width"] == 280


async def test_the_page_hears_nothing(visit):
    seen = await visit()
    await seen.open()
    await seen.show()
    await seen.page.evaluate("heard.length = 0")
    await seen.click("Pause")
    await seen.page.keyboard.press("x")
    await seen.page.keyboard.press("Space")
    assert await seen.acts() == [["pause"], ["pause"]]
    assert await seen.page.evaluate("heard") == []
    await seen.page.click("textarea")
    assert "click" in await seen.page.evaluate("heard")


@pytest.mark.parametrize(
    ("form", "width", "height"),
    [
        *[("", *size) for size in ((320, 568), (768, 1024), (1280, 720), (1920, 1080))],
        *[("middle", *size) for size in ((768, 1100), (1280, 720), (1366, 768))],
    ],
)
async def test_nothing_lies_on_the_send_button(visit, form, width, height):
    seen = await visit()
    await seen.page.evaluate("(form) => { document.forms[0].className = form; }", form)
    await seen.open(options="{ clear: () => document.querySelector('input') }")
    await seen.page.set_viewport_size({"width": width, "height": height})
    for state, view in VIEWS.items():
        await seen.show(view)
        assert await seen.reaches_send(), state


async def test_the_persons_corner_is_kept(visit):
    seen = await visit()
    await seen.open(options="{ clear: () => document.querySelector('input') }")
    await seen.show(corner=0)
    assert not await seen.reaches_send()
    await seen.show()
    assert await seen.reaches_send()


async def test_a_resized_window_moves_it_away_too(visit):
    seen = await visit()
    await seen.open(options="{ clear: () => document.querySelector('input') }")
    await seen.page.evaluate("document.forms[0].style.right = 'calc(100vw - 600px)'")
    await seen.page.set_viewport_size({"width": 1280, "height": 720})
    await seen.show()
    assert (await seen.box())["bottom"] > 700
    await seen.page.set_viewport_size({"width": 800, "height": 720})
    await seen.page.wait_for_function(REACHES_SEND)


async def test_everything_fits_a_small_screen(visit):
    seen = await visit()
    await seen.page.set_viewport_size({"width": 320, "height": 480})
    await seen.open()
    long = "amodelwhosenameisverylongandhasnobreak" * 3
    for state, view in VIEWS.items():
        await seen.show(
            view | ({"job": {"model": long, "phase": "waiting"}} if view["job"] else {})
        )
        box = await seen.box()
        assert box["left"] >= 0, state
        assert box["top"] >= 0, state
        assert box["right"] <= 320, state
        assert box["bottom"] <= 480, state
        assert await seen.ask(
            "const p = this.querySelector('.panel'); return p.scrollWidth <= p.clientWidth"
        )


# --- a page that is hostile, or just busy --------------------------------------------------------


async def test_a_click_of_the_pages_own_does_nothing(visit):
    seen = await visit("/strict")
    await seen.open()
    await seen.show(VIEWS["challenge"])
    await seen.ask("""
        for (const button of this.querySelectorAll("button")) {
          button.click();
          button.dispatchEvent(new PointerEvent("click", { bubbles: true, composed: true }));
        }""")
    await seen.page.evaluate("""() => {
      for (const host of document.documentElement.children) {
        const { left, top } = host.getBoundingClientRect();
        if (host.shadowRoot) throw new Error("the root is open");
        host.click();
        document.elementFromPoint(innerWidth - 40, innerHeight - 40).click();
      }
    }""")
    assert await seen.acts() == []
    await seen.click("Done")
    assert await seen.acts() == [["done"]]


async def test_prototypes_that_the_page_replaced_see_nothing_of_ours(visit):
    seen = await visit("/strict")
    await seen.open()
    await seen.show(VIEWS["folded"])
    await seen.page.evaluate("""() => {
      globalThis.caught = [];
      const isOurs = (node) => node instanceof Node && node.getRootNode() instanceof ShadowRoot;
      const kinds = [Node, Element, HTMLElement, CharacterData, Text, Document, EventTarget, ShadowRoot,
        DocumentFragment, HTMLButtonElement, Event, PointerEvent, DOMTokenList];
      for (const { name, prototype } of kinds) {
        for (const [key, old] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
          if (!old.configurable || key === "constructor" || key === "getRootNode") continue;
          const spy = (native) => native && function (...given) {
            if ([this, ...given].some(isOurs)) caught.push(`${name}.${key}`);
            return Reflect.apply(native, this, given);
          };
          const spied = typeof old.value === "function"
            ? { ...old, value: spy(old.value) }
            : "get" in old ? { ...old, get: spy(old.get), set: spy(old.set) } : old;
          Object.defineProperty(prototype, key, spied);
        }
      }
      const { iterator } = Symbol;
      const native = Array.prototype[iterator];
      Array.prototype[iterator] = function () {
        for (let i = 0; i < this.length; i += 1) if (isOurs(this[i])) caught.push("an array");
        return Reflect.apply(native, this, []);
      };
    }""")
    for view in VIEWS.values():
        await seen.show(view)
    await seen.click("Pause")
    await seen.press("Bridge Ready")
    assert await seen.acts() == [["pause"], ["fold"]]
    assert await seen.page.evaluate("caught") == []


async def test_it_comes_back_when_the_page_throws_it_out(visit):
    seen = await visit()
    await seen.open()
    await seen.show(VIEWS["challenge"])
    for throw_out in (
        "document.documentElement.lastElementChild.remove()",
        "document.body.replaceWith(document.createElement('body'))",
        "document.documentElement.replaceChildren(document.createElement('head'), document.createElement('body'))",
        "document.replaceChild(document.documentElement.cloneNode(true), document.documentElement)",
        "document.documentElement.replaceWith(document.createElement('html'))",
    ):
        await seen.page.evaluate(throw_out)
        assert "Security check" in await seen.text()
        await seen.click("Done")
        assert await seen.acts() == [["done"]]


async def test_a_page_that_never_relents_is_not_fought(visit):
    seen = await visit()
    await seen.open()
    await seen.show()
    await seen.page.evaluate("""() => {
      globalThis.thrownOut = 0;
      new MutationObserver((records) => records.forEach(({ addedNodes }) => addedNodes.forEach((node) => {
        thrownOut += 1;
        node.remove();
      }))).observe(document.documentElement, { childList: true });
      document.documentElement.lastElementChild.remove();
    }""")
    assert await seen.page.evaluate("thrownOut") == 10
    await seen.show()
    assert await seen.page.evaluate("thrownOut") == 21


async def test_it_may_be_opened_before_there_is_anything(visit):
    first = f"""
        globalThis.before = [document.documentElement?.tagName, document.body?.tagName];
        globalThis.ours = openOurs("en");
        ours.show({json.dumps(VIEWS["challenge"])});
    """
    seen = await visit("/strict", first=first)
    assert (await seen.page.evaluate("before"))[1] is None
    assert "Security check" in await seen.text()
    await seen.click("Done")
    assert await seen.acts() == [["done"]]


async def test_nothing_is_left_once_it_is_closed(visit):
    seen = await visit()
    await seen.open()
    await seen.show()
    before = await seen.page.evaluate("document.documentElement.children.length")
    await seen.page.evaluate("ours.close()")
    await seen.page.evaluate("document.body.append('more')")
    await seen.page.set_viewport_size({"width": 900, "height": 700})
    assert await seen.page.evaluate("document.documentElement.children.length") == before - 1


# --- how it looks --------------------------------------------------------------------------------

BACKGROUND = "return getComputedStyle(this.querySelector('.panel')).backgroundColor"
ANIMATED = "return getComputedStyle(this.querySelector('.shape')).animationName"


async def test_it_follows_the_persons_wishes(visit):
    seen = await visit()
    await seen.open()
    await seen.show(VIEWS["answering"])
    await seen.page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    light = await seen.ask(BACKGROUND)
    assert await seen.ask(ANIMATED) == "breathe"
    await seen.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert await seen.ask(BACKGROUND) != light
    assert await seen.ask(ANIMATED) == "none"
    await seen.page.emulate_media(media="print")
    assert not await seen.ask("return this.host.checkVisibility()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
async def test_axe_has_nothing_to_say(visit, script, scheme, language):
    """axe sees neither what is in closed roots nor what is outside the body, so this one is neither."""
    for ours, axes in (('mode: "closed"', 'mode: "open"'), ('"documentElement"', '"body"')):
        assert script.count(ours) == 1
        script = script.replace(ours, axes)
    seen = await visit(code=script)
    await seen.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    await seen.page.evaluate("document.forms[0].remove()")
    await seen.page.evaluate(AXE.read_text(encoding="utf-8"))
    await seen.open(language)
    for state, view in VIEWS.items():
        await seen.show(view)
        found = await seen.page.evaluate("""async () => {
          const host = [...document.body.children].find((element) => element.shadowRoot);
          const { violations, incomplete, passes } = await axe.run(host);
          const brief = ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html)}`;
          return [[...violations, ...incomplete].map(brief), passes.map(({ id }) => id)];
        }""")
        assert found[0] == [], state
        assert {"button-name", "color-contrast"} <= set(found[1]), state


async def test_a_screen_reader_hears_names_and_states(visit):
    seen = await visit()
    await seen.open()
    await seen.show(VIEWS["ready"])
    tree = await seen.session.send("Accessibility.getFullAXTree")
    told = [
        (
            node["role"]["value"],
            node.get("name", {}).get("value"),
            *sorted(
                (p["name"], p["value"].get("value"))
                for p in node.get("properties", [])
                if p["name"] in {"pressed", "expanded", "live"}
            ),
        )
        for node in tree["nodes"]
        if not node["ignored"] and node["role"]["value"] in {"button", "region", "status", "group"}
    ]
    told.remove(("button", "Send"))
    assert sorted(told) == [
        ("button", "Bridge Ready", ("expanded", True)),
        ("button", "Change hub"),
        ("button", "I do", ("pressed", "true")),
        ("button", "Move to another corner"),
        ("button", "Pause"),
        ("button", "The script", ("pressed", "false")),
        ("group", "Who presses send?"),
        ("region", "LMArena Bridge"),
        ("status", "", ("live", "polite")),
    ]
