"""The practice arena, used by hand as a person would: it has to be as strict as the site."""

import contextlib
import json
import ssl
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import trustme
from playwright.async_api import BrowserContext, Page, async_playwright

from tests.arena import Arena, practice_arena, scenarios
from tests.arena.catalogue import catalogue, flight
from tests.arena.designs import fitting
from tests.arena.scenarios import REFUSALS, STREAMS, Ask
from tests.browser.chromium import ARGUMENTS, find_chromium

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROFILE = json.loads(
    (Path(__file__).parent.parent / "hub" / "rules" / "site_profile.json").read_text()
)
SELECTORS = PROFILE["selectors"]
CHROMIUM = find_chromium()
HELD = {"hang", "stall"}
NO_END = {"empty": "truncated", "truncated": "truncated", "step_error": "truncated"}
BROKEN = {"cut": "failed", "dropped": "failed"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[BrowserContext]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield await browser.new_context(ignore_https_errors=True)
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Arena]:
    async with practice_arena() as arena:
        yield arena


@pytest_asyncio.fixture(loop_scope="module")
async def arena(running: Arena) -> Arena:
    running.forget()
    return running


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: BrowserContext) -> AsyncIterator[Page]:
    """A tab whose scripts must not fail."""
    failures: list[Any] = []
    page = await browser.new_page()
    page.on("pageerror", lambda failure: failures.append(failure))
    page.set_default_timeout(10_000)
    yield page
    await page.close()
    assert not failures


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def tab(browser: BrowserContext, running: Arena) -> Page:
    """One tab for many tests, in one load of the page."""
    page = await browser.new_page()
    await open_chat(page, running)
    return page


async def open_chat(page: Page, arena: Arena, query: str = "") -> None:
    await page.goto(f"{arena.url}/text/direct{query}")


async def send(page: Page, text: str) -> None:
    await page.fill(SELECTORS["composer"], text)
    await page.click(SELECTORS["send"])


async def answer(page: Page, state: str = "done") -> str:
    """The text of the last answer, once it is over in this way."""
    last = page.locator("article").last
    await page.locator(f"article:last-of-type[data-state={state}]").wait_for()
    return await last.locator("[data-answer]").text_content() or ""


# --- answers -------------------------------------------------------------------------------------------


async def test_a_prompt_is_answered_in_the_page_and_recorded(page: Page, arena: Arena):
    await open_chat(page, arena)
    await send(page, "Gr\u00fc\u00dfe \N{PARROT}\nand a second line")
    shown = await answer(page)
    prompt = arena.latest
    assert shown == arena.answer_to(prompt.text)
    assert "Gr\u00fc\u00dfe \N{PARROT}\nand a second line" in shown
    assert (prompt.model, prompt.mode, prompt.status) == (arena.models[0].name, "direct", 200)
    assert prompt.outcome == "answered"
    assert page.url == f"{arena.url}/c/{prompt.chat}"
    assert f"arena-auth={arena.cookie}" in prompt.headers["Cookie"]


async def test_a_second_prompt_goes_on_with_the_chat_and_a_new_chat_does_not(
    page: Page, arena: Arena
):
    await open_chat(page, arena)
    await page.evaluate("self.alive = true")
    for text in ("one", "two"):
        await send(page, text)
        await arena.ended(text)
        await answer(page)
    await page.click(SELECTORS["new_chat"])
    await page.locator("article").wait_for(state="detached")
    assert page.url == f"{arena.url}/text/direct"
    assert await page.evaluate("self.alive")
    await send(page, "three")
    await answer(page)
    one, two, three = arena.requests
    assert two.path == f"/nextjs-api/stream/post-to-evaluation/{one.chat}"
    assert three.path == "/nextjs-api/stream/create-evaluation"
    assert three.chat != one.chat


async def test_a_reloaded_chat_goes_on(page: Page, arena: Arena):
    await open_chat(page, arena, "?model_a=" + arena.models[4].name)
    await send(page, "one")
    await answer(page)
    await page.reload()
    await send(page, "two")
    await answer(page)
    assert arena.latest.path.endswith(arena.requests[0].chat)
    assert arena.latest.model == arena.models[4].name


@pytest.mark.parametrize("name", sorted(STREAMS.keys() - HELD))
async def test_every_stream_is_shown_byte_for_byte(name: str, tab: Page, arena: Arena):
    options = {"many": " pieces=50", "slow": " pause_ms=1"}.get(name, "")
    text = f"\N{PARROT} [[{name}{options}]]"
    await tab.click(SELECTORS["new_chat"])
    await send(tab, text)
    shown = await answer(tab, (NO_END | BROKEN).get(name, "done"))
    if name not in BROKEN:
        assert shown == arena.answer_to(text)
    outcome = "cut" if name in BROKEN else "answered"
    assert (await arena.ended(text)).outcome == outcome
    assert len(arena.requests) == 1


@pytest.mark.parametrize(
    ("mark", "member", "value"),
    [
        ("[[finish reason=content-filter]]", "finishReason", "content-filter"),
        ("[[usage]]", "usage", {"promptTokens": 11, "completionTokens": 22}),
        ("[[usage spelling=openai]]", "usage", {"input_tokens": 11, "output_tokens": 22}),
        (
            "[[usage spelling=google prompt=0]]",
            "usage",
            {"promptTokenCount": 0, "candidatesTokenCount": 22},
        ),
    ],
)
async def test_an_end_is_as_the_prompt_wants_it(mark: str, member: str, value: Any):
    last = list(scenarios.answer(Ask(mark)))[-1]
    assert last.startswith(b"ad:")
    assert json.loads(last[3:])[member] == value


async def test_a_connection_is_cut_when_released(page: Page, arena: Arena):
    await open_chat(page, arena)
    await send(page, "[[cut pieces=2 held=1]]")
    await page.locator("[data-answer]", has_text="word word").wait_for()
    arena.release()
    assert await answer(page, "failed") == "word word "


async def test_a_stream_split_at_every_byte_arrives_in_many_reads(page: Page, arena: Arena):
    await page.add_init_script("""
        const { prototype } = ReadableStreamDefaultReader, { read } = prototype;
        self.reads = 0;
        prototype.read = function () { self.reads += 1; return read.call(this); };
    """)
    await open_chat(page, arena)
    await send(page, '[[bytes text="\N{PARROT}" pause_ms=3]]')
    assert await answer(page) == "\N{PARROT}"
    assert await page.evaluate("self.reads") > 50


async def test_an_address_and_the_arena_can_name_the_scenario(page: Page, arena: Arena):
    await open_chat(page, arena, "?scenario=slow+pieces%3D2+pause_ms%3D1")
    await send(page, "from the address")
    assert await answer(page) == "word word "
    arena.scenario = 'slow pieces=1 text="set "'
    await open_chat(page, arena)
    await send(page, "from the arena")
    assert await answer(page) == "set "
    await send(page, "its own: [[slow pieces=3 pause_ms=1]]")
    assert await answer(page) == "word word word "


@pytest.mark.parametrize("mark", ["[[no_such]]", "[[slow speed=3]]", "[[slow pieces=few]]"])
async def test_a_misspelt_scenario_is_an_error(mark: str, page: Page, arena: Arena):
    await open_chat(page, arena)
    await send(page, mark)
    await answer(page, "failed")
    assert "no such scenario" in (await page.text_content("[data-error]") or "")


async def test_images_are_shown(page: Page, arena: Arena):
    await open_chat(page, arena)
    await send(page, "[[image count=2]]")
    assert await answer(page) == ""
    await page.wait_for_function("() => [...document.images].every(image => image.naturalWidth)")
    assert await page.locator("img").count() == 2
    assert arena.counts["images"] == 2


async def test_attachments_arrive_as_they_were(page: Page, arena: Arena):
    files = [
        {"name": "a.png", "mimeType": "image/png", "buffer": bytes(range(256))},
        {"name": "b.png", "mimeType": "image/png", "buffer": b""},
    ]
    await open_chat(page, arena)
    await page.set_input_files(SELECTORS["files"], files)
    await page.locator("[data-attachment]").nth(1).wait_for()
    await send(page, "look")
    await answer(page)
    first, second = arena.latest.attachments
    assert (first.name, first.content_type, first.data) == ("a.png", "image/png", bytes(range(256)))
    assert second.data == b""
    assert await page.locator("[data-attachment]").count() == 0


async def test_nothing_is_sent_while_a_file_is_read(page: Page, arena: Arena):
    await open_chat(page, arena)
    await page.fill(SELECTORS["composer"], "look")
    disabled = await page.evaluate("""async () => {
        const files = new DataTransfer();
        files.items.add(new File(["content"], "a.txt", { type: "text/plain" }));
        const input = document.querySelector("[type=file]");
        input.files = files.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
        await null;
        return document.querySelector("[type=submit]").disabled;
    }""")
    assert disabled
    await page.click(SELECTORS["send"])
    await answer(page)
    assert [file.data for file in arena.latest.attachments] == [b"content"]


async def test_a_stop_before_the_request_keeps_it_from_leaving(page: Page, arena: Arena):
    await open_chat(page, arena)
    await page.fill(SELECTORS["composer"], "never mind")
    await page.evaluate("""async () => {
        document.querySelector("[type=submit]").click();
        await null;
        document.querySelector("[aria-label=Stop]").click();
    }""")
    await answer(page, "stopped")
    await send(page, "after all")
    await answer(page)
    assert [prompt.text for prompt in arena.requests] == ["after all"]


# --- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(REFUSALS))
async def test_every_refusal_is_answered_as_the_site_does(name: str, tab: Page, arena: Arena):
    await tab.click(SELECTORS["new_chat"])
    async with tab.expect_response("**/create-evaluation") as caught:
        await send(tab, f"[[{name}]]")
    response = await caught.value
    await answer(tab, "failed")
    assert response.status == arena.requests[0].status == REFUSALS[name].status
    for header, value in REFUSALS[name].headers.items():
        assert await response.header_value(header) == value
    assert arena.requests[0].outcome == "refused"
    assert arena.forged == 0


async def test_a_refusal_takes_options(page: Page, arena: Arena):
    await open_chat(page, arena)
    async with page.expect_response("**/create-evaluation") as caught:
        await send(page, "[[rate_limited after=7]]")
    assert await (await caught.value).header_value("retry-after") == "7"


@pytest.mark.parametrize(
    ("mark", "title", "switch", "button"),
    [
        ("[[recaptcha]]", "Security Verification", ("modal", "challenge"), "I am human"),
        ("[[login_gate]]", "Sign in", ("signed_in", False), "Sign in"),
        ("", "Terms of Use", ("consent", False), "Agree"),
    ],
)
async def test_a_dialog_stops_the_page_until_a_human_presses_its_button(
    mark: str, title: str, switch: tuple[str, Any], button: str, page: Page, arena: Arena
):
    dialog = page.locator("[role=dialog]:visible", has_text=title)
    await open_chat(page, arena)
    assert await page.locator("[role=dialog]:visible").count() == 0
    if mark:
        await send(page, mark)
        await dialog.wait_for()
        assert getattr(arena, switch[0]) == switch[1]
    else:
        setattr(arena, *switch)
        await dialog.wait_for()
    await page.reload()
    await dialog.wait_for()
    await page.fill(SELECTORS["composer"], "let me through")
    await page.dispatch_event(SELECTORS["send"], "click")
    if mark:
        await answer(page, "failed")
        assert arena.latest.outcome == "refused"
    await dialog.get_by_role("button", name=button).click()
    await dialog.wait_for(state="detached")
    await send(page, "and now")
    await answer(page)
    assert arena.latest.text == "and now"


async def test_a_dialog_comes_and_goes_on_an_open_page(page: Page, arena: Arena):
    dialog = page.locator("[role=dialog]:visible", has_text="Security Verification")
    await open_chat(page, arena)
    arena.modal = "challenge"
    await dialog.wait_for()
    arena.modal = None
    await dialog.wait_for(state="detached")


async def test_a_challenge_stands_before_everything_until_a_human_passes(page: Page, arena: Arena):
    await open_chat(page, arena)
    arena.challenge_page = True
    async with page.expect_response("**/create-evaluation") as caught:
        await send(page, "too late")
    assert await (await caught.value).header_value("cf-mitigated") == "challenge"
    response = await page.goto(f"{arena.url}/text/direct?model_a=orion")
    assert response is not None
    assert response.status == 403
    assert await page.title() == "Just a moment..."
    await page.click("button")
    await page.wait_for_url("**/text/direct?model_a=orion")
    await send(page, "through")
    await answer(page)
    assert [prompt.text for prompt in arena.requests] == ["through"]
    arena.challenge_page = "attention"
    await page.reload()
    assert await page.title() == "Attention Required! | Cloudflare"


# --- models --------------------------------------------------------------------------------------------


async def test_the_picker_finds_the_nine_hundredth_model_by_its_filter(page: Page, arena: Arena):
    name = arena.models[900].name
    option = page.locator(SELECTORS["option"], has_text=name)
    await open_chat(page, arena)
    await page.click(SELECTORS["picker"])
    await page.locator(SELECTORS["option"]).first.wait_for()
    assert await page.locator(SELECTORS["option"]).count() == 50
    assert await option.count() == 0
    await page.fill(SELECTORS["picker_filter"], name)
    await option.click()
    await page.locator("[role=listbox]").wait_for(state="detached")
    assert await page.text_content(SELECTORS["picker"]) == name
    await send(page, "hello")
    await answer(page)
    assert arena.latest.model == name


PRESS = """
async ([selector, full]) => {
  const element = document.querySelector(selector);
  const kinds = full ? ["pointerdown", "mousedown", "pointerup", "mouseup"] : [];
  for (const kind of kinds) element.dispatchEvent(new PointerEvent(kind, { bubbles: true }));
  element.click();
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setTimeout(resolve));
  return document.querySelector("[role=listbox]") !== null;
}
"""


async def test_a_lone_click_picks_and_a_full_pointer_sequence_reopens(page: Page, arena: Arena):
    await open_chat(page, arena)
    picker, option = SELECTORS["picker"], SELECTORS["option"]
    assert await page.evaluate(PRESS, [picker, False])
    assert not await page.evaluate(PRESS, [option, False])
    assert await page.evaluate(PRESS, [picker, False])
    assert await page.evaluate(PRESS, [option, True])
    assert await page.evaluate(PRESS, [picker, True])


async def test_an_address_preselects_by_public_name(page: Page, arena: Arena):
    odd = [model.name for model in arena.models if not model.name[-1].isdigit()]
    assert len(odd) >= 6
    for name in odd:
        await page.goto(f"{arena.url}/text/direct")
        await page.evaluate("name => location.search = new URLSearchParams({model_a: name})", name)
        shown = "name => document.querySelector('[role=combobox]')?.textContent === name"
        await page.wait_for_function(shown, arg=name)


async def test_an_unknown_name_chooses_nothing_and_nothing_is_sent(page: Page, arena: Arena):
    await open_chat(page, arena, "?model_a=no-such-model")
    assert await page.text_content(SELECTORS["picker"]) == "Choose a model"
    await page.fill(SELECTORS["composer"], "hello")
    await page.press(SELECTORS["composer"], "Enter")
    assert await page.is_disabled(SELECTORS["send"])
    assert arena.requests == []


async def test_rotated_ids_are_unknown(page: Page, arena: Arena):
    await open_chat(page, arena)
    arena.rotate_models()
    await send(page, "hello")
    await answer(page, "failed")
    assert (arena.latest.status, arena.latest.model) == (404, None)


async def test_flight_data_is_split_within_names_and_escapes():
    models = catalogue(1000)
    chunks = flight(models)
    ends = {chunk[-1] for chunk in chunks[:-1]}
    assert len(chunks) > 10
    assert chunks[0].endswith('"initial')
    assert "\\" in ends
    assert any(chunk.endswith("\\u00") for chunk in chunks)
    row = next(row for row in "".join(chunks).split("\n") if "initialModels" in row)
    entries = json.loads(row.partition(":")[2])[3]["initialModels"]
    assert entries == [model.entry for model in models]
    shapes = [type(entry["capabilities"]["inputCapabilities"]) for entry in entries]
    assert (shapes.count(list), shapes.count(dict)) == (500, 500)
    assert len({model.name for model in models}) == 1000


# --- what a script in the page can and cannot do -------------------------------------------------------


async def test_a_plain_value_changes_nothing_and_the_native_setter_does(page: Page, arena: Arena):
    await open_chat(page, arena)
    write = """([text, native]) => {
        const field = document.querySelector("textarea");
        if (native) {
          const { set } = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value");
          set.call(field, text);
        } else field.value = text;
        field.dispatchEvent(new Event("input", { bubbles: true }));
        const at_once = document.querySelector("[type=submit]").disabled;
        return new Promise(done => setTimeout(() => done(
          [at_once, document.querySelector("[type=submit]").disabled], 50)));
    }"""
    assert await page.evaluate(write, ["plain", False]) == [True, True]
    assert await page.evaluate(write, ["native", True]) == [True, False]
    await page.click(SELECTORS["send"])
    await answer(page)
    assert [prompt.text for prompt in arena.requests] == ["native"]


async def test_what_is_typed_before_the_script_arrives_is_lost(page: Page, arena: Arena):
    arena.script_delay_s = 0.3
    await page.goto(f"{arena.url}/text/direct", wait_until="commit")
    await page.fill(SELECTORS["composer"], "too early")
    assert await page.text_content(SELECTORS["picker"]) == ""
    await page.locator(SELECTORS["picker"], has_text=arena.models[0].name).wait_for()
    assert await page.input_value(SELECTORS["composer"]) == ""
    assert await page.is_disabled(SELECTORS["send"])


POST = """
async ([path, body]) => (await fetch(path, { method: "POST", body: JSON.stringify(body) })).status
"""


async def test_only_the_page_itself_can_ask(page: Page, arena: Arena):
    await open_chat(page, arena)
    async with page.expect_request("**/create-evaluation") as caught:
        await send(page, "mine")
    await answer(page)
    sent = (await caught.value).post_data_json
    path = "/nextjs-api/stream/create-evaluation"
    without = {name: value for name, value in sent.items() if name != "verification"}
    number = sent["verification"].split(".")
    number[1] = str(int(number[1]) + 1)
    other = {**sent, "userMessage": {**sent["userMessage"], "content": "other"}}
    for body in (sent, without, {**without, "verification": ".".join(number)}, other):
        assert await page.evaluate(POST, [path, body]) == 403
    async with aiohttp.ClientSession() as outside, outside.post(arena.url + path, json=sent) as r:
        assert (r.status, await r.json()) == (403, {"error": "recaptcha validation failed"})
    assert arena.forged == 5
    assert [prompt.outcome for prompt in arena.requests] == ["answered", *["forged"] * 5]
    assert await page.evaluate("self.__boot") is None
    assert arena.visits[sent["verification"].split(".")[0]].secret not in await page.content()


@pytest.mark.parametrize("reader_cancel", [False, True])
@pytest.mark.parametrize("mark", ["[[stall]]", "[[hang]]", "[[slow pieces=10000]]"])
async def test_stop_reaches_the_site(mark: str, reader_cancel: bool, page: Page, arena: Arena):
    arena.reader_cancel = reader_cancel
    await open_chat(page, arena)
    assert await page.locator(SELECTORS["stop"]).count() == 0
    await send(page, mark)
    await arena.reached(mark)
    if "hang" not in mark:
        await page.locator("[data-answer]", has_text="word").wait_for()
    await page.click(SELECTORS["stop"])
    await arena.aborted(mark)
    await answer(page, "stopped")
    assert await page.locator(SELECTORS["stop"]).count() == 0
    assert arena.stops == [arena.latest]


async def test_a_branch_that_nobody_cancels_keeps_a_cancelled_answer_running(
    page: Page, arena: Arena
):
    arena.reader_cancel = True
    await page.add_init_script("""
        const native = fetch;
        fetch = (...given) => native(...given).then((response) => {
          if (response.url.includes("evaluation")) self.branch = response.clone();
          return response;
        });
    """)
    await open_chat(page, arena)
    await send(page, "[[stall]]")
    await page.locator("[data-answer]", has_text="word").wait_for()
    await page.click(SELECTORS["stop"])
    await answer(page, "stopped")
    assert arena.latest.outcome == "open"
    await page.evaluate("self.branch.body.cancel()")
    await arena.aborted("[[stall]]")


async def test_what_is_held_goes_on_when_released(page: Page, arena: Arena):
    await open_chat(page, arena)
    await send(page, "[[stall]]")
    await page.locator("[data-answer]", has_text="word").wait_for()
    arena.release("stall")
    assert await answer(page) == "word released"


@pytest.mark.parametrize("saves_fetch", [False, True])
async def test_a_page_that_saves_fetch_is_only_seen_by_who_came_before(
    saves_fetch: bool, page: Page, arena: Arena
):
    wrap = """(name) => {
        const inner = self.fetch;
        self.fetch = (...given) => { if (given[0].includes("evaluation")) self[name] = true; return inner(...given); };
    }"""
    arena.saves_fetch = saves_fetch
    await page.add_init_script(f"({wrap})('early')")
    await open_chat(page, arena)
    await page.evaluate(wrap, "late")
    await send(page, "hello")
    await answer(page)
    assert await page.evaluate("[!!self.early, !!self.late]") == [True, not saves_fetch]


async def test_strict_csp_blocks_what_it_should_and_the_page_still_works(page: Page, arena: Arena):
    arena.csp = "strict"
    await open_chat(page, arena)
    await send(page, "hello [[image]]")
    await answer(page)
    await page.wait_for_function("() => document.images[0]?.naturalWidth")
    # The dialog proves that the page's own socket is allowed.
    arena.modal = "challenge"
    await page.locator("[role=dialog]:visible").wait_for()
    async with practice_arena(models=1) as other:
        seen = await page.evaluate(
            """async (url) => {
                const tried = async (act) => { try { await act(); return "allowed"; } catch (e) { return e.name; } };
                return {
                  fetch: await tried(() => fetch(url + "/practice/blank", { mode: "no-cors" })),
                  socket: await new Promise((done) => {
                    const socket = new WebSocket(url.replace("http", "ws") + "/nextjs-api/live");
                    socket.onopen = () => done("allowed");
                    socket.onerror = () => done("error");
                  }),
                  html: await tried(() => { document.createElement("p").innerHTML = "<b>x</b>"; }),
                  code: await tried(() => new Function("return 1")),
                  policy: await tried(() => trustedTypes.createPolicy("p", {})),
                };
            }""",
            other.url,
        )
        assert other.counts.total() == 0
    assert seen == {
        "fetch": "TypeError",
        "socket": "error",
        "html": "TypeError",
        "code": "EvalError",
        "policy": "TypeError",
    }


# --- redesigns -----------------------------------------------------------------------------------------


async def test_a_new_design_has_nothing_that_the_profile_knows(page: Page, arena: Arena):
    arena.design = "new"
    await open_chat(page, arena)
    await page.fill("[role=textbox]", "hello")
    await page.locator("[aria-label='Send prompt'][aria-disabled=false]").click()
    shown = await answer(page)
    assert shown == arena.answer_to("hello")
    await page.click("[aria-haspopup=menu]")
    await page.locator("[role=menuitemradio]").first.wait_for()
    for name in SELECTORS.keys() - {"files"}:
        assert await page.locator(SELECTORS[name]).count() == 0, name


@pytest.mark.parametrize("design", ["renamed", "codes"])
async def test_a_new_profile_fits_some_designs(design: str, page: Page, arena: Arena):
    arena.design = design
    profile = fitting(PROFILE, design)
    selectors, chat = profile["selectors"], profile["new_chat"]
    name = arena.models[900].name
    await page.goto(f"{arena.url}{chat['path']}?{chat['model_parameter']}={name}")
    assert await page.text_content(selectors["picker"]) == name
    await page.click(selectors["picker"])
    await page.fill(selectors["picker_filter"], arena.models[901].name)
    await page.locator(selectors["option"], has_text=arena.models[901].name).click()
    await page.fill(selectors["composer"], "hello [[stall]]")
    async with page.expect_response("**/create-evaluation") as caught:
        await page.click(selectors["send"])
    await page.locator(selectors["stop"]).wait_for()
    arena.release()
    assert await answer(page) == "word released"
    assert arena.latest.model == arena.models[901].name
    lines = (await (await caught.value).text()).splitlines()
    assert [profile["lines"][line[1]] for line in lines] == ["text", "text", "end"]
    known = {line[1] for line in lines} <= PROFILE["lines"].keys()
    assert known == (design != "codes")
    await page.click(selectors["new_chat"])
    await page.locator("article").wait_for(state="detached")


async def test_todays_profile_names_what_todays_page_has(page: Page, arena: Arena):
    await open_chat(page, arena)
    await page.click(SELECTORS["picker"])
    for name in SELECTORS.keys() - {"stop"}:
        await page.locator(SELECTORS[name]).first.wait_for(state="attached")


# --- as a process --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[str]:
    """`python -m tests.arena`; its address."""
    arena = await create_subprocess_exec(
        sys.executable, "-m", "tests.arena", *arguments, stdout=PIPE
    )
    assert arena.stdout is not None
    try:
        yield (await arena.stdout.readline()).decode().strip()
    finally:
        arena.terminate()
        assert await arena.wait() == 0


async def test_a_process_is_switched_and_asked_over_https(page: Page, tmp_path: Path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    options = ["--csp", "strict", "--tls-cert", str(tmp_path / "cert.pem")]
    async with (
        process(*options, "--tls-key", str(tmp_path / "key.pem")) as url,
        aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=tls)) as backstage,
    ):
        assert url.startswith("https://127.0.0.1:")
        changes = {"scenario": "stall", "design": "today"}
        async with backstage.post("/practice/state", json=changes) as response:
            assert (await response.json())["scenario"] == "stall"
        await page.goto(f"{url}/text/direct")
        await send(page, "over https")
        await page.locator("[data-answer]", has_text="word").wait_for()
        async with backstage.post("/practice/state", json={"release": "over"}) as response:
            assert response.status == 200
        assert await answer(page) == "word released"
        async with backstage.get("/practice/state") as response:
            seen = await response.json()
        assert seen["csp"] == "strict"
        assert [prompt["outcome"] for prompt in seen["requests"]] == ["answered"]
        for wrong in ({"design": "gothic"}, {"colour": "red"}):
            async with backstage.post("/practice/state", json=wrong) as response:
                assert response.status == 400
