"""The page side alone: the tab's bundle in a real page, which has to do what a job wants and tell how it went."""

import asyncio
import base64
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, Page, expect

from tests.arena import Arena, practice_arena
from tests.arena.app import png
from tests.arena.designs import fitting
from tests.browser.chromium import chromium, spawn_chromium
from tests.doors import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
PROFILE = json.loads((ROOT / "hub/rules/site_profile.json").read_text())
BUNDLE = (ROOT / "userscript/dist/tab.js").read_text()
SELECTORS = PROFILE["selectors"]
PATIENCE_S = 20.0
ENDS = {"end", "fail", "navigate"}
QUICK = "orion-0"
"""The model that the page shows when nobody has asked for another."""

Message = dict[str, Any]


class Tab:
    """A page with the bundle in it, and what an agent does with one: listens, and gives orders."""

    def __init__(self, page: Page, arena: Arena, profile: Message) -> None:
        self.page = page
        self.arena = arena
        self.profile = profile
        self.said: list[Message] = []
        self.names: list[str] = []
        """Of what is put on window for the bundle."""
        self.deaf = False
        """Nothing that is told gets an answer any more."""
        self._gone = asyncio.Event()
        self._orders: deque[str] = deque()
        self._listener: asyncio.Future[str] | None = None
        self._news = asyncio.Event()

    async def inject(self) -> None:
        hear, tell = f"h{secrets.token_hex(8)}", f"t{secrets.token_hex(8)}"
        self.names = [hear, tell, "__lmarena_tab__"]
        await self.page.expose_function(hear, self._hear)
        await self.page.expose_function(tell, self._tell)
        door = json.dumps({"hear": hear, "tell": tell, "profile": self.profile})
        await self.page.add_init_script(f"globalThis.__lmarena_tab__ = {door};\n{BUNDLE}")

    async def open(self, path: str = "/text/direct", *, ready: bool = True) -> None:
        """Load the page; with `ready` until it has said that it is."""
        before = len(self.said)
        await self.page.goto(self.arena.url + path)
        if ready:
            await self.hears(lambda m: m == {"t": "site", "state": "ready"}, since=before)

    async def close(self) -> None:
        self._gone.set()
        self._leave()
        await self.page.close()

    # --- orders

    def order(self, **command: Any) -> None:
        self._orders.append(json.dumps(command))
        self._serve()

    def take(
        self,
        prompt: str | list[Message],
        job: str = "j-1",
        model: str = QUICK,
        mode: str = "automatic",
        **more: Any,
    ) -> None:
        self.order(take=task_of(prompt, job, model, mode=mode, **more))

    async def answered(self, prompt: str | list[Message], **task: Any) -> list[Message]:
        """Everything that is said of a job, from the order to its end."""
        before = len(self.said)
        self.take(prompt, **task)
        return await self.ended(task.get("job", "j-1"), since=before)

    async def obeyed(self) -> None:
        """Wait until the orders so far have been carried out."""
        before = len(self.said)
        self.order(look=True)
        await self.hears(lambda m: m["t"] == "site", since=before)

    # --- what it says

    def of(self, job: str = "j-1") -> list[Message]:
        return [message for message in self.said if message.get("job") == job]

    def kinds(self, job: str = "j-1") -> list[str]:
        """What was said of a job, pieces counted once."""
        kinds = [message["t"] for message in self.of(job)]
        return [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]

    async def hears(self, wanted: Callable[[Message], Any], since: int = 0) -> Message:
        """The first such message, now or later. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for message in self.said[since:]:
                    if wanted(message):
                        return message
                self._news.clear()
                await self._news.wait()

    async def says(self, kind: str, job: str = "j-1") -> Message:
        return await self.hears(lambda m: m["t"] == kind and m.get("job") == job)

    async def ended(self, job: str = "j-1", since: int = 0) -> list[Message]:
        await self.hears(lambda m: m["t"] in ENDS and m.get("job") == job, since)
        return self.of(job)

    async def feels(self, state: str, code: str | None = None) -> Message:
        """Wait until the last word about the site is this."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                site = next((m for m in reversed(self.said) if m["t"] == "site"), {})
                if (site.get("state"), site.get("code")) == (state, code):
                    return site
                self._news.clear()
                await self._news.wait()

    # --- what the page shows

    async def shows(self) -> str:
        """The last answer in the page itself, once the page is done with it."""
        over = ":is([data-state=done],[data-state=truncated],[data-state=stopped])"
        last = self.page.locator(f"article:last-of-type{over}")
        await last.wait_for()
        return await last.locator("[data-answer]").text_content() or ""

    @property
    def composer(self):
        return self.page.locator(SELECTORS["composer"])

    @property
    def send(self):
        return self.page.locator(SELECTORS["send"])

    # --- the two functions

    async def _hear(self) -> str:
        self._leave()
        self._listener = asyncio.get_running_loop().create_future()
        self._serve()
        return await self._listener

    def _leave(self) -> None:
        """The document that listens has gone."""
        if self._listener is not None and not self._listener.done():
            self._listener.set_result("null")

    def _serve(self) -> None:
        if self._orders and self._listener is not None and not self._listener.done():
            self._listener.set_result(self._orders.popleft())

    async def _tell(self, text: str) -> None:
        self.said.append(json.loads(text))
        self._news.set()
        if self.deaf:
            await self._gone.wait()


def task_of(content: Any, job: str, model: str, *, mode: str = "automatic", **more: Any) -> Message:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return {"job": job, "model": model, "mode": mode, "body": body, **more}


def text_of(messages: list[Message]) -> str:
    return "".join(message.get("text", "") for message in messages)


def deltas_of(messages: list[Message], name: str) -> list[Any]:
    return [m["delta"][name] for m in messages if name in m.get("delta", {})]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[BrowserContext]:
    async with chromium() as context:
        yield context


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Arena]:
    async with practice_arena() as arena:
        yield arena


@pytest_asyncio.fixture(loop_scope="module")
async def arena(running: Arena) -> Arena:
    running.forget()
    return running


@pytest_asyncio.fixture(loop_scope="module")
async def blank(browser: BrowserContext, arena: Arena) -> AsyncIterator[Tab]:
    """A tab that has loaded nothing yet. No script may fail in it."""
    failures: list[Any] = []
    page = await browser.new_page()
    page.on("pageerror", lambda failure: failures.append(failure))
    page.set_default_timeout(10_000)
    tab = Tab(page, arena, PROFILE)
    await tab.inject()
    yield tab
    await tab.close()
    assert not failures
    assert not arena.forged


@pytest_asyncio.fixture(loop_scope="module")
async def tab(blank: Tab) -> Tab:
    """A tab with a new chat, ready for a job."""
    await blank.open()
    return blank


# --- answers -------------------------------------------------------------------------------------------


async def test_a_job_is_answered_through_the_page(tab: Tab):
    prompt = "Hello there \N{PARROT}\nsecond line  with   spaces"
    said = await tab.answered(prompt)
    assert tab.kinds() == ["started", "piece", "end"]
    assert text_of(said) == tab.arena.answer_to(prompt)
    assert said[-1]["finish_reason"] == "stop"
    assert "truncated" not in said[-1]
    assert await tab.shows() == tab.arena.answer_to(prompt)
    assert [(p.text, p.model, p.outcome) for p in tab.arena.requests] == [
        (prompt, QUICK, "answered")
    ]


async def test_started_is_said_before_the_request_reaches_the_site(tab: Tab):
    tab.take("[[hang]]")
    await tab.arena.reached()
    await tab.says("started")
    assert tab.kinds() == ["started"]
    tab.arena.release()
    assert (await tab.ended())[-1]["t"] == "end"


@pytest.mark.parametrize(
    "variant",
    [
        {"csp": "strict"},
        {"saves_fetch": True},
        {"reader_cancel": True},
        {"csp": "strict", "saves_fetch": True},
    ],
    ids=str,
)
async def test_a_job_is_answered_whatever_the_page_is_like(variant: Message, blank: Tab):
    for name, value in variant.items():
        setattr(blank.arena, name, value)
    await blank.open()
    said = await blank.answered("hello [[reasoning]]")
    assert text_of(said) == blank.arena.answer_to("hello [[reasoning]]") == await blank.shows()


@pytest.mark.parametrize(
    "mark",
    [
        "[[reasoning]]",
        "[[heartbeat]]",
        "[[bytes]]",
        "[[bytes pause_ms=1]]",
        "[[unended]]",
        "[[lookalike]]",
        "[[split_emoji]]",
        "[[citations]]",
        "[[battle]]",
        "[[slow pieces=10 pause_ms=30]]",
        "[[usage spelling=google]]",
    ],
)
async def test_every_stream_arrives_as_the_page_shows_it(mark: str, tab: Tab):
    said = await tab.answered(f"Gr\u00fc\u00dfe {mark}")
    assert said[-1] | {"usage": None} == {
        "t": "end",
        "job": "j-1",
        "finish_reason": "stop",
        "usage": None,
    }
    assert text_of(said) == tab.arena.answer_to(f"Gr\u00fc\u00dfe {mark}") == await tab.shows()
    assert not [m for m in tab.said if m["t"] == "notice"]


async def test_thoughts_are_told_apart_from_text(tab: Tab):
    said = await tab.answered("[[reasoning]]")
    assert "".join(deltas_of(said, "reasoning_content")) == (
        "First, I think \N{THOUGHT BALLOON}.\nThen I answer."
    )


async def test_images_come_as_addresses(tab: Tab):
    said = await tab.answered("[[image count=2]]")
    urls = [image["image_url"]["url"] for images in deltas_of(said, "images") for image in images]
    assert urls == [f"{tab.arena.url}/images/parrot.png?n={n}" for n in range(2)]
    assert said[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize("split", [0, 1])
async def test_citations_come_as_annotations(split: int, tab: Tab):
    said = await tab.answered(f"[[citations split={split}]]")
    found = [c["url_citation"] for some in deltas_of(said, "annotations") for c in some]
    assert [(c["url"], c["title"]) for c in found] == [
        ("https://example.com/parrots", "Parrots"),
        ("https://example.com/a?b=1", "Gr\u00fc\u00dfe"),
        ("https://example.com/c", "https://example.com/c"),
    ]


async def test_heartbeats_are_signs_of_life(tab: Tab):
    said = await tab.answered("[[heartbeat beats=3]]")
    assert said[1:4] == [{"t": "piece", "job": "j-1"}] * 3


@pytest.mark.parametrize("spelling", ["sdk", "openai", "google"])
async def test_usage_has_openais_names(spelling: str, tab: Tab):
    said = await tab.answered(f"[[usage spelling={spelling} prompt=11 completion=22]]")
    assert said[-1]["usage"] == {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33}


@pytest.mark.parametrize(
    ("mark", "end"),
    [
        ("[[finish reason=length]]", {"finish_reason": "length"}),
        ("[[finish reason=content-filter]]", {"finish_reason": "content_filter"}),
        ("[[truncated]]", {"finish_reason": "length", "truncated": True}),
    ],
)
async def test_an_end_says_why(mark: str, end: Message, tab: Tab):
    said = await tab.answered(mark)
    said[-1].pop("usage", None)
    assert said[-1] == {"t": "end", "job": "j-1", **end}
    assert text_of(said) == await tab.shows()


async def test_what_was_not_understood_is_noticed_without_its_content(tab: Tab):
    said = await tab.answered("[[unknown_lines]]")
    assert (text_of(said), said[-1]["t"]) == ("before after", "end")
    notices = [m for m in tab.said if m["t"] == "notice"]
    assert notices == [
        {
            "t": "notice",
            "code": "site_changed",
            "message": "not understood in the site's stream: az (2), ah (1), c0 (1)",
        }
    ]
    assert tab.said.index(notices[0]) < tab.said.index(said[-1])


async def test_a_text_that_was_lost_makes_a_truncated_answer(tab: Tab):
    said = await tab.answered("[[malformed]]")
    assert text_of(said) == "before after"
    assert (said[-1]["finish_reason"], said[-1]["truncated"]) == ("length", True)


# --- failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mark", "code", "more"),
    [
        ("[[recaptcha]]", "challenge", {"retry_after_s": 1200}),
        ("[[cloudflare]]", "challenge", {"retry_after_s": 1200}),
        ("[[just_a_moment]]", "challenge", {"retry_after_s": 1200}),
        ("[[attention_required]]", "challenge", {"retry_after_s": 1200}),
        ("[[attention_required status=200]]", "challenge", {"retry_after_s": 1200}),
        ("[[login_gate]]", "login_required", {}),
        ("[[user_not_found]]", "login_required", {}),
        ("[[rate_limited]]", "rate_limited", {"retry_after_s": 1200}),
        ("[[rate_limited after=77]]", "rate_limited", {"retry_after_s": 77}),
        ("[[too_many]]", "rate_limited", {"retry_after_s": 1200}),
        ("[[too_many after=5]]", "rate_limited", {"retry_after_s": 5}),
        ("[[prompt_failed]]", "moderated", {}),
        ("[[violates_terms]]", "moderated", {}),
        ("[[direct_not_allowed]]", "site_changed", {}),
        ("[[spoofed]]", "site_changed", {}),
        ("[[moved]]", "site_changed", {}),
        ("[[method_not_allowed]]", "site_changed", {}),
        ("[[teapot]]", "site_changed", {}),
        ("[[models_not_found]]", "model_not_found", {}),
        ("[[too_large]]", "attachment_too_large", {}),
        ("[[server_error]]", "upstream_error", {}),
        ("[[unavailable]]", "upstream_error", {}),
        ("[[unavailable after=9]]", "upstream_error", {"retry_after_s": 9}),
        ("[[empty]]", "upstream_error", {}),
        ("[[has_arena_error]]", "upstream_error", {}),
        ("[[provider_error]]", "upstream_error", {}),
        ("[[nested_error]]", "moderated", {}),
        ("[[nested_error quoted=1]]", "moderated", {}),
        ("[[nested_error code=x text=nothing]]", "upstream_error", {}),
        ('[[provider_error text="Too many requests"]]', "rate_limited", {"retry_after_s": 60}),
        ("[[step_error]]", "upstream_error", {}),
        ("[[finish reason=error]]", "upstream_error", {}),
        ("[[cut]]", "upstream_error", {}),
        ("[[cut pieces=0]]", "upstream_error", {}),
    ],
)
async def test_every_error_of_the_site_has_its_code(mark: str, code: str, more: Message, tab: Tab):
    said = await tab.answered(f"hidden words {mark}")
    message = said[-1].pop("message")
    assert said[-1] == {"t": "fail", "job": "j-1", "code": code, **more}
    assert said[0]["t"] == "started"
    assert message
    assert "hidden words" not in message
    assert len(tab.arena.requests) == 1


async def test_a_failure_in_the_middle_comes_after_the_pieces(tab: Tab):
    said = await tab.answered("[[provider_error pieces=3]]")
    assert text_of(said) == "word word word "
    assert tab.kinds() == ["started", "piece", "fail"]


async def test_another_language_of_the_stream_is_a_changed_site(blank: Tab):
    blank.arena.design = "codes"
    await blank.open()
    said = await blank.answered("hello [[normal text=secret]]")
    assert (said[-1]["code"], "ran" in said[-1]) == ("site_changed", False)
    assert "at (" in said[-1]["message"]
    assert "secret" not in said[-1]["message"]


async def test_a_new_profile_teaches_the_new_language(blank: Tab):
    blank.arena.design = "codes"
    await blank.open()
    blank.order(profile=fitting(PROFILE, "codes"))
    said = await blank.answered("hello")
    assert text_of(said) == blank.arena.answer_to("hello")


# --- before anything is sent ---------------------------------------------------------------------------


async def refused(tab: Tab, code: str, *prompt: Any, **task: Any) -> str:
    """The message of a failure that proves that nothing left."""
    said = await tab.answered(*prompt, **task)
    message = said[-1].pop("message")
    assert said == [{"t": "fail", "job": task.get("job", "j-1"), "code": code, "ran": False}], (
        message
    )
    assert tab.arena.requests == []
    return message


async def test_a_prompt_over_the_limit_is_not_sent(tab: Tab):
    message = await refused(tab, "context_length_exceeded", "x" * 113_001)
    assert "113000" in message
    assert await tab.composer.input_value() == ""


async def test_a_prompt_at_the_limit_arrives_whole(tab: Tab):
    prompt = ("Gr\u00fc\u00dfe \N{PARROT} line\n" * 10_000)[:100_000] + "[[normal text=ok]]"
    said = await tab.answered(prompt)
    assert text_of(said) == "ok"
    assert tab.arena.latest.text == prompt


@pytest.mark.parametrize(
    "content",
    [
        "  \n ",
        [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}],
        [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://a/b"}}],
        [
            {"type": "text", "text": "x"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}},
        ],
        None,
    ],
)
async def test_what_a_page_cannot_do_is_not_tried(content: Any, tab: Tab):
    await refused(tab, "unsupported", content)


async def test_one_job_at_a_time(tab: Tab):
    tab.take("first [[hang]]")
    await tab.arena.reached("first")
    second = await tab.answered("second", job="j-2")
    assert (second[-1]["code"], second[-1]["ran"]) == ("internal", False)
    tab.arena.release()
    assert (await tab.ended())[-1]["t"] == "end"
    assert len(tab.arena.requests) == 1


async def test_attachments_arrive_as_they_were(tab: Tab):
    images = [png(8), png(300)]
    urls = [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in images]
    content = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": urls[0]}},
        {"type": "text", "text": "this?"},
        {"type": "image_url", "image_url": {"url": urls[1]}},
    ]
    await tab.answered(content)
    assert tab.arena.latest.text == "what is\n\nthis?"
    attachments = [(a.name, a.content_type, a.data) for a in tab.arena.latest.attachments]
    assert attachments == [
        ("image-1.png", "image/png", images[0]),
        ("image-2.png", "image/png", images[1]),
    ]


# --- chats and models ----------------------------------------------------------------------------------


async def test_each_job_has_a_chat_of_its_own(tab: Tab):
    for number in range(3):
        await tab.answered(f"number {number}", job=f"j-{number}")
        assert tab.kinds(f"j-{number}") == ["started", "piece", "end"]
    assert len({prompt.chat for prompt in tab.arena.requests}) == 3
    assert tab.arena.counts["pages"] == 1


async def test_a_job_begins_a_new_chat_in_a_tab_that_shows_an_old_one(tab: Tab):
    await tab.composer.fill("by hand")
    await tab.send.click()
    await tab.shows()
    await tab.page.reload()
    await tab.answered("by job")
    by_hand, by_job = tab.arena.requests
    assert by_hand.chat != by_job.chat
    assert tab.of()[-1]["t"] == "end"


async def test_another_model_is_chosen_in_the_picker(tab: Tab):
    for number in (900, 901, 37):
        name = tab.arena.models[number].name
        await tab.answered("hello", job=f"j-{number}", model=name)
        assert tab.of(f"j-{number}")[-1]["t"] == "end"
        assert tab.arena.latest.model == name
    assert await tab.page.locator(SELECTORS["option"]).count() == 0


@pytest.mark.parametrize(
    "name",
    ['say "hello" preview', "back\\slash-1", "parrot-\N{PARROT}", "<b>bold</b> & co", "orion"],
)
async def test_a_model_is_told_by_its_exact_name(name: str, tab: Tab):
    said = await tab.answered("hello", model=name)
    assert said[-1]["t"] == "end", said
    assert tab.arena.latest.model == name


async def test_the_address_may_have_chosen_the_model(blank: Tab):
    name = blank.arena.models[900].name
    await blank.open(f"/text/direct?model_a={name}")
    await blank.page.evaluate(
        "addEventListener('click', () => { self.clicks = (self.clicks ?? 0) + 1 }, true)"
    )
    await blank.answered("hello", model=name)
    assert blank.arena.latest.model == name
    assert await blank.page.evaluate("self.clicks") == 1, "the picker was opened for nothing"


async def test_the_address_may_need_a_moment_to_choose_the_model(blank: Tab):
    name = blank.arena.models[900].name
    await blank.page.add_init_script("""
        addEventListener("click", () => { self.clicks = (self.clicks ?? 0) + 1; }, true);
        const { get, set } = Object.getOwnPropertyDescriptor(Node.prototype, "textContent");
        addEventListener("DOMContentLoaded", () => {
          const picker = document.querySelector("[data-part=picker]");
          const name = picker.textContent;
          set.call(picker, "Loading");
          setTimeout(() => set.call(picker, name), 500);
          Object.defineProperty(picker, "textContent", { get, set() {} });
        });
    """)
    await blank.open(f"/text/direct?model_a={name}")
    await blank.answered("hello", model=name)
    assert blank.arena.latest.model == name
    assert await blank.page.evaluate("self.clicks") == 1, "the picker was opened for nothing"


async def test_a_model_that_the_page_does_not_have(tab: Tab):
    await refused(tab, "model_not_found", "hello", model="no-such-model")
    await expect(tab.page.locator(SELECTORS["picker_filter"])).to_have_count(0)
    await tab.answered("and now", job="j-2")
    assert tab.of("j-2")[-1]["t"] == "end"


async def test_without_a_link_to_a_new_chat_the_tab_must_navigate(tab: Tab):
    name = tab.arena.models[900].name
    await tab.answered("first")
    await tab.shows()
    await tab.page.evaluate("document.querySelector('[data-part=new-chat]').style.display = 'none'")
    said = await tab.answered("second \N{PARROT}", job="j-2", model=name)
    assert said == [
        {"t": "navigate", "job": "j-2", "url": f"{tab.arena.url}/text/direct?model_a={name}"}
    ]
    await tab.page.goto(said[0]["url"])
    await tab.answered("second \N{PARROT}", job="j-2", model=name, navigated=True)
    assert tab.kinds("j-2") == ["navigate", "started", "piece", "end"]
    assert tab.arena.latest.model == name
    assert len(tab.arena.requests) == 2


async def test_a_page_with_an_outdated_catalogue_is_loaded_anew(tab: Tab):
    tab.arena.rotate_models()
    fail = (await tab.answered("first"))[-1]
    assert (fail["t"], fail["code"]) == ("fail", "model_not_found")
    said = await tab.answered("second", job="j-2")
    assert [m["t"] for m in said] == ["navigate"]
    await tab.page.goto(said[0]["url"])
    said = await tab.answered("second", job="j-2", navigated=True)
    assert said[-1]["t"] == "end"
    assert tab.arena.latest.model == QUICK


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_chat_on_the_same_address_is_not_taken_for_a_new_one(by_hand: bool, blank: Tab):
    await blank.page.add_init_script("""
        const push = history.pushState.bind(history);
        history.pushState = (state, title, url) => url.startsWith("/c/") || push(state, title, url);
    """)
    await blank.open()
    if by_hand:
        await blank.composer.fill("first")
        await blank.send.click()
    else:
        await blank.answered("first")
    await blank.shows()
    assert blank.page.url.endswith("/text/direct")
    said = await blank.answered("second", job="j-2")
    assert [m["t"] for m in said] == ["navigate"]


async def test_a_page_of_the_site_that_is_no_chat(blank: Tab):
    await blank.open("/practice/blank")
    said = await blank.answered("hello")
    url = f"{blank.arena.url}/text/direct?model_a={QUICK}"
    assert said == [{"t": "navigate", "job": "j-1", "url": url}]
    assert [m["t"] for m in blank.said] == ["site", "navigate"]


async def test_a_navigation_that_leads_nowhere_new_is_a_changed_site(tab: Tab):
    await tab.answered("first")
    await tab.shows()
    await tab.page.evaluate("document.querySelector('[data-part=new-chat]').remove()")
    tab.arena.requests.clear()
    message = await refused(tab, "site_changed", "second", job="j-2", navigated=True)
    assert "not on the page: new_chat" in message


@pytest.mark.parametrize("number", [1000, 0])
async def test_the_catalogue_is_published_by_public_name(number: int, browser: BrowserContext):
    async with practice_arena(models=max(number, 1)) as arena:
        page = await browser.new_page()
        tab = Tab(page, arena, PROFILE if number else {**PROFILE, "catalogue": "noSuchMember"})
        await tab.inject()
        await tab.open()
        if number == 0:
            notice = await tab.hears(lambda m: m["t"] == "notice")
            assert "noSuchMember" in notice["message"]
            assert not [m for m in tab.said if m["t"] == "models"]
        else:
            models = (await tab.hears(lambda m: m["t"] == "models"))["models"]
            assert models == [
                {
                    "id": model.name,
                    "modalities": {"in": list(model.inputs), "out": list(model.outputs)},
                    "kinds": ["chat"],
                    "organization": model.organization,
                }
                for model in arena.models
            ]
        await tab.close()


# --- a person in front of the tab ----------------------------------------------------------------------


async def test_in_assist_mode_a_person_presses(tab: Tab):
    tab.take("hello", mode="assist")
    assert await tab.says("waiting") == {"t": "waiting", "job": "j-1", "for": "human"}
    await expect(tab.composer).to_have_value("hello")
    assert tab.arena.requests == []
    await tab.send.click()
    await tab.ended()
    assert tab.kinds() == ["waiting", "started", "piece", "end"]
    assert len(tab.arena.requests) == 1


async def test_in_assist_mode_a_person_may_press_enter(tab: Tab):
    tab.take("hello", mode="assist")
    await tab.says("waiting")
    await tab.composer.press("Enter")
    assert (await tab.ended())[-1]["t"] == "end"


async def test_a_person_who_sends_something_else_instead(tab: Tab):
    tab.take("hello", mode="assist")
    await tab.says("waiting")
    await tab.composer.press("End")
    await tab.composer.press_sequentially(", but mine")
    await tab.send.click()
    fail = (await tab.ended())[-1]
    assert (fail["code"], fail["ran"]) == ("upstream_error", False)
    assert await tab.shows() == tab.arena.answer_to("hello, but mine")
    assert tab.kinds() == ["waiting", "fail"]


async def test_a_person_who_chooses_another_model_for_it(tab: Tab):
    name = tab.arena.models[900].name
    tab.take("hello", mode="assist")
    await tab.says("waiting")
    await tab.page.click(SELECTORS["picker"])
    await tab.page.fill(SELECTORS["picker_filter"], name)
    await tab.page.dispatch_event(SELECTORS["option"], "click")
    await expect(tab.page.locator(SELECTORS["picker"])).to_have_text(name)
    await tab.send.click()
    assert (await tab.ended())[-1] == {
        "t": "fail",
        "job": "j-1",
        "code": "upstream_error",
        "message": "another model was chosen in the tab",
    }
    assert await tab.shows() == tab.arena.answer_to("hello")
    assert tab.kinds() == ["waiting", "started", "fail"]


async def test_what_a_person_asks_is_not_read(tab: Tab):
    await tab.composer.fill("my own affair")
    await tab.send.click()
    assert await tab.shows() == tab.arena.answer_to("my own affair")
    assert [m["t"] for m in tab.said] == ["models", "site"]


async def test_nothing_of_a_person_is_read_while_a_job_waits(tab: Tab):
    tab.take("hello", mode="assist")
    await tab.says("waiting")
    await tab.composer.fill("my own affair")
    await tab.send.click()
    await tab.ended()
    assert "affair" not in json.dumps(tab.said)
    assert await tab.shows() == tab.arena.answer_to("my own affair")


async def test_a_person_who_types_comes_first(tab: Tab):
    await tab.composer.press_sequentially("I was about to ask")
    message = await refused(tab, "upstream_error", "hello")
    assert "person" in message
    await expect(tab.composer).to_have_value("I was about to ask")
    await tab.composer.fill("")
    await tab.answered("hello", job="j-2")
    assert tab.of("j-2")[-1]["t"] == "end"


async def test_a_person_who_types_into_our_prompt_comes_first(tab: Tab):
    await tab.page.evaluate(
        "document.querySelector('textarea').addEventListener('input', (e) => e.stopPropagation())"
    )
    tab.take("hello")
    await expect(tab.composer).to_have_value("hello")
    await tab.composer.press("x")
    fail = (await tab.ended())[-1]
    assert (fail["code"], fail["ran"]) == ("upstream_error", False)
    await expect(tab.composer).to_have_value("")


async def test_the_end_of_our_own_answer_is_nobodys(tab: Tab):
    await tab.answered("first")
    await tab.page.evaluate("""() => {
        const stop = document.createElement("button");
        stop.ariaLabel = "Stop";
        stop.textContent = "x";
        document.body.append(stop);
        setTimeout(() => stop.remove(), 500);
    }""")
    await tab.answered("second", job="j-2")
    assert tab.of("j-2")[-1]["t"] == "end"


async def test_a_person_whose_answer_is_running_comes_first(tab: Tab):
    await tab.answered("first", job="j-0")
    await tab.page.click(SELECTORS["new_chat"])
    await tab.composer.fill("mine [[stall]]")
    await tab.send.click()
    await tab.arena.reached("mine")
    said = await tab.answered("hello")
    assert (said[-1]["code"], said[-1]["ran"]) == ("upstream_error", False)
    tab.arena.release()
    assert await tab.shows() == "word released"
    await tab.answered("hello", job="j-2")
    assert tab.of("j-2")[-1]["t"] == "end"


@pytest.mark.parametrize("reader_cancel", [False, True])
async def test_a_person_may_stop_the_answer(reader_cancel: bool, blank: Tab):
    blank.arena.reader_cancel = reader_cancel
    await blank.open()
    blank.take("[[stall pieces=3]]")
    await blank.says("piece")
    await blank.page.click(SELECTORS["stop"])
    await blank.arena.aborted()
    said = await blank.ended()
    assert text_of(said) == "word word word " == await blank.shows()
    assert said[-1] == {"t": "end", "job": "j-1", "finish_reason": "length", "truncated": True}


async def test_a_person_may_stop_it_before_it_began(tab: Tab):
    tab.take("[[hang]]")
    await tab.arena.reached()
    await tab.page.click(SELECTORS["stop"])
    await tab.arena.aborted()
    assert (await tab.ended())[-1]["code"] == "cancelled"


# --- cancelled -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader_cancel", [False, True])
@pytest.mark.parametrize("mark", ["[[stall]]", "[[hang]]", "[[slow pieces=10000]]"])
async def test_a_cancel_reaches_the_site(mark: str, reader_cancel: bool, blank: Tab):
    blank.arena.reader_cancel = reader_cancel
    await blank.open()
    blank.take(mark)
    await blank.arena.reached(mark)
    if "hang" not in mark:
        await blank.says("piece")
    before = len(blank.of())
    blank.order(cancel="j-1")
    await blank.arena.aborted(mark)
    blank.take("another", job="j-2")
    assert (await blank.ended("j-2"))[-1]["t"] == "end"
    assert not [m for m in blank.of()[before:] if m["t"] in ENDS]
    assert blank.arena.counts["prompts"] == 2


async def test_a_job_may_follow_a_cancel_at_once(tab: Tab):
    tab.take("first [[slow pieces=10000]]")
    await tab.says("piece")
    tab.order(cancel="j-1")
    tab.take("second", job="j-2")
    await tab.arena.aborted("first")
    assert text_of(await tab.ended("j-2")) == tab.arena.answer_to("second")
    assert [p.text for p in tab.arena.requests] == ["first [[slow pieces=10000]]", "second"]


async def test_a_cancel_before_the_press_leaves_nothing(tab: Tab):
    tab.take("hello", mode="assist")
    await tab.says("waiting")
    tab.order(cancel="j-1")
    await expect(tab.composer).to_have_value("")
    await tab.answered("another", job="j-2")
    assert [p.text for p in tab.arena.requests] == ["another"]
    assert tab.kinds() == ["waiting"]


async def test_a_cancel_while_the_page_is_coming_leaves_nothing(blank: Tab):
    blank.arena.script_delay_s = 0.5
    await blank.page.goto(blank.arena.url + "/text/direct", wait_until="commit")
    blank.take("hello", model=blank.arena.models[900].name)
    blank.order(cancel="j-1")
    await blank.answered("another", job="j-2")
    await blank.answered("and another", job="j-3")
    assert [p.text for p in blank.arena.requests] == ["another", "and another"]
    assert blank.kinds() == []


async def test_a_cancel_between_the_press_and_the_request(blank: Tab):
    await blank.page.add_init_script("""
        const digest = crypto.subtle.digest.bind(crypto.subtle);
        const slowly = new Promise((go) => { self.go = go; });
        crypto.subtle.digest = (...given) => slowly.then(() => digest(...given));
    """)
    await blank.open()
    blank.take("first [[stall]]")
    await blank.page.locator(SELECTORS["stop"]).wait_for()
    blank.order(cancel="j-1")
    blank.take("second", job="j-2")
    blank.order(cancel="j-2")
    blank.take("third", job="j-3")
    await blank.obeyed()
    assert blank.arena.requests == []
    await blank.page.evaluate("self.go()")
    await blank.arena.aborted("first")
    assert (await blank.ended("j-3"))[-1]["t"] == "end"
    assert blank.kinds("j-1") == blank.kinds("j-2") == []
    assert [p.text for p in blank.arena.requests] == ["first [[stall]]", "third"]


async def test_a_cancel_with_attachments_in_the_page(tab: Tab):
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    tab.take([{"type": "text", "text": "first"}, image], mode="assist")
    await tab.says("waiting")
    tab.order(cancel="j-1")
    said = await tab.answered("second", job="j-2")
    # Only another document is certain not to have them any more.
    assert [m["t"] for m in said] == ["navigate"]


async def test_a_cancel_of_something_else_is_nothing(tab: Tab):
    tab.take("[[stall]]")
    await tab.says("piece")
    tab.order(cancel="j-0")
    tab.arena.release()
    assert (await tab.ended())[-1]["t"] == "end"


@pytest.mark.parametrize("times", range(3))
async def test_a_cancel_at_any_moment_is_safe(times: int, tab: Tab):
    """Right after the order: the job is somewhere between the first look and the press."""
    for at in range(8):
        tab.take(f"job {at} [[stall]]", job=f"j-{at}", model=tab.arena.models[at].name)
        await asyncio.sleep(at * 0.01 + times * 0.003)
        tab.order(cancel=f"j-{at}")
    await tab.answered("the last", job="last")
    assert text_of(tab.of("last")) == tab.arena.answer_to("the last")
    await eventually(lambda: all(p.outcome == "aborted" for p in tab.arena.requests[:-1]))
    assert not [m for m in tab.said if m["t"] in ENDS and m["job"] != "last"]


# --- the page needs its human --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "value", "code", "button"),
    [
        ("modal", "challenge", "challenge", "I am human"),
        ("signed_in", False, "login_required", "Sign in"),
        ("consent", False, "consent_required", "Agree"),
    ],
)
async def test_a_sign_stops_the_tab_until_its_human_has_been(
    switch: str, value: Any, code: str, button: str, tab: Tab
):
    setattr(tab.arena, switch, value)
    site = await tab.feels("attention", code)
    assert site["reason"]
    await refused(tab, code, "hello")
    await tab.page.get_by_role("button", name=button).click()
    await tab.feels("ready")
    await tab.answered("and now", job="j-2")
    assert tab.of("j-2")[-1]["t"] == "end"


async def test_a_sign_that_is_there_from_the_start(blank: Tab):
    blank.arena.signed_in = False
    await blank.open(ready=False)
    await blank.feels("attention", "login_required")
    await refused(blank, "login_required", "hello")


async def test_a_hidden_dialog_is_no_sign(tab: Tab):
    hidden = tab.page.locator("[role=dialog]", has_text="Security Verification")
    await expect(hidden).to_have_count(1)
    await expect(hidden).to_be_hidden()
    assert [m for m in tab.said if m["t"] == "site"] == [{"t": "site", "state": "ready"}]


async def test_a_sign_that_comes_while_a_person_is_awaited(tab: Tab):
    tab.take("hello", mode="assist")
    await tab.says("waiting")
    tab.arena.modal = "challenge"
    assert (await tab.ended())[-1]["code"] == "challenge"
    await expect(tab.composer).to_have_value("")
    assert tab.arena.requests == []


async def test_a_sign_does_not_stop_an_answer_that_runs(tab: Tab):
    tab.take("[[stall]]")
    await tab.says("piece")
    tab.arena.modal = "challenge"
    await tab.feels("attention", "challenge")
    tab.arena.release()
    assert (await tab.ended())[-1]["t"] == "end"


@pytest.mark.parametrize("kind", [True, "attention"])
async def test_a_challenge_instead_of_the_page(kind: Any, blank: Tab):
    blank.arena.challenge_page = kind
    await blank.open(ready=False)
    await blank.feels("attention", "challenge")
    await refused(blank, "challenge", "hello")
    blank.arena.challenge_page = False
    await blank.open()
    await blank.feels("ready")


async def test_a_refusal_without_a_sign_is_believed_until_its_human_says_otherwise(tab: Tab):
    await tab.answered("[[cloudflare]]")
    await tab.feels("attention", "challenge")
    tab.arena.requests.clear()
    await refused(tab, "challenge", "again", job="j-2")
    tab.order(look=True)
    await tab.feels("ready")
    await tab.answered("and now", job="j-3")
    assert tab.of("j-3")[-1]["t"] == "end"
    assert len([m for m in tab.said if m["t"] == "models"]) == 1, "they have not changed"


async def test_a_refusal_without_a_sign_is_over_when_a_person_gets_an_answer(tab: Tab):
    await tab.answered("[[cloudflare]]")
    await tab.feels("attention", "challenge")
    await tab.composer.fill("by hand")
    await tab.send.click()
    await tab.feels("ready")


async def test_the_sites_own_refusal_and_its_dialog(tab: Tab):
    fail = (await tab.answered("[[recaptcha]]"))[-1]
    assert (fail["code"], fail["retry_after_s"]) == ("challenge", 1200)
    await tab.feels("attention", "challenge")
    await tab.page.get_by_role("button", name="I am human").click()
    await tab.feels("ready")
    assert len(tab.arena.requests) == 1


# --- a changed page ------------------------------------------------------------------------------------


async def test_a_page_with_other_parts_is_a_changed_site(blank: Tab):
    blank.arena.design = "renamed"
    await blank.open(ready=False)
    message = await refused(blank, "site_changed", "hidden words")
    assert message == "no picker; not on the page: send, picker, new_chat"


@pytest.mark.slow
async def test_a_page_without_a_composer_is_a_changed_site(blank: Tab):
    blank.arena.design = "new"
    await blank.open(ready=False)
    site = await blank.feels("attention", "site_changed")
    assert "composer" in site["reason"]
    await refused(blank, "site_changed", "hidden words")


async def test_a_new_profile_fits_the_new_page(blank: Tab):
    blank.arena.design = "renamed"
    await blank.open("/chat/new", ready=False)
    blank.order(profile=fitting(PROFILE, "renamed"))
    name = blank.arena.models[901].name
    for number in range(2):
        said = await blank.answered(f"hello {number}", job=f"j-{number}", model=name)
        assert text_of(said) == blank.arena.answer_to(f"hello {number}")
        assert blank.arena.latest.model == name


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("send.remove()", "no send button; not on the page: send"),
        (
            "composer.addEventListener('input', (e) => e.stopPropagation())",
            "the send button stays disabled",
        ),
        ("files.remove()", "no input for files"),
        ("picker.replaceWith(picker.cloneNode(true))", "the picker shows no options"),
        ("composer.remove()", "no composer; not on the page: composer"),
        (
            "composer.addEventListener('input', (e) => { e.stopPropagation(); composer.value = 'no' })",
            "the composer does not take the text",
        ),
    ],
)
async def test_a_part_that_does_not_work_is_named(script: str, seen: str, tab: Tab):
    await tab.page.evaluate(
        "const [composer, send, files, picker] = ['composer', 'send', 'files', 'picker']"
        f".map((name) => document.querySelector(`[data-part=${{name}}]`)); {script}"
    )
    url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    image = [
        {"type": "text", "text": "hidden words"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    prompt = image if "files" in script else "hidden words"
    model = "halcyon-1" if "picker" in script else QUICK
    message = await refused(tab, "site_changed", prompt, model=model)
    assert message.startswith(seen)


@pytest.mark.slow
async def test_a_press_without_a_request_is_a_changed_site(tab: Tab):
    await tab.page.evaluate(
        "document.body.addEventListener('submit', (e) => e.stopPropagation(), true)"
    )
    await tab.page.evaluate("document.addEventListener('submit', (e) => e.preventDefault(), true)")
    said = await tab.answered("hidden words")
    # It was pressed: that nothing left cannot be known.
    assert said == [
        {
            "t": "fail",
            "job": "j-1",
            "code": "site_changed",
            "message": "no request 15 s after the click",
        }
    ]
    assert tab.arena.requests == []


async def test_a_request_with_the_prompt_elsewhere_is_a_changed_site(tab: Tab):
    tab.order(profile={**PROFILE, "prompt_at": ["userMessage", "text"]})
    fail = (await tab.answered("hidden words"))[-1]
    assert (fail["code"], "ran" in fail) == ("site_changed", False)
    assert "hidden" not in fail["message"]
    await tab.arena.ended("hidden words")


async def test_a_page_that_wakes_late_gets_its_prompt_all_the_same(blank: Tab):
    blank.arena.script_delay_s = 2.8
    await blank.page.goto(blank.arena.url + "/text/direct", wait_until="commit")
    said = await blank.answered("early bird")
    assert text_of(said) == blank.arena.answer_to("early bird")
    assert len(blank.arena.requests) == 1


@pytest.mark.parametrize("number", [0, 900])
async def test_a_page_that_hears_nothing_at_first_gets_its_prompt_all_the_same(
    number: int, blank: Tab
):
    """As a page that was made on the server, until its scripts have taken it over."""
    await blank.page.add_init_script("""
        const deaf = (event) => { if (!self.awake) event.stopImmediatePropagation(); };
        for (const type of ["click", "input"]) addEventListener(type, deaf, true);
        addEventListener("load", () => setTimeout(() => { self.awake = true; }, 1500));
    """)
    await blank.open()
    name = blank.arena.models[number].name
    await blank.answered("early bird", model=name)
    assert [(p.text, p.model) for p in blank.arena.requests] == [("early bird", name)]


async def test_a_page_that_puts_the_prompt_away_gets_it_again(tab: Tab):
    await tab.page.evaluate("""() => {
        const composer = document.querySelector("textarea");
        const { set } = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value");
        const away = () => {
          set.call(composer, "");
          composer.dispatchEvent(new Event("input", { bubbles: true }));
        };
        composer.addEventListener("input", () => queueMicrotask(away), { once: true });
    }""")
    await tab.answered("hello")
    assert [p.text for p in tab.arena.requests] == ["hello"]


async def test_an_old_draft_is_never_sent(tab: Tab):
    """Nor by a page that takes its time to hear of a change, and whose button was enabled for the draft."""
    await tab.page.evaluate("""() => {
        const composer = document.querySelector("textarea");
        const { set } = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, "value");
        const tell = () => composer.dispatchEvent(new Event("input", { bubbles: true }));
        set.call(composer, "an old draft");
        tell();
        setInterval(() => { document.body.dataset.tick = performance.now(); }, 5);
        let isLate = false;
        addEventListener("input", (event) => {
          if (isLate) return;
          event.stopImmediatePropagation();
          setTimeout(() => { isLate = true; tell(); isLate = false; }, 50);
        }, true);
    }""")
    await expect(tab.send).to_be_enabled()
    said = await tab.answered("hello")
    assert said[-1]["t"] == "end"
    assert [p.text for p in tab.arena.requests] == ["hello"]


# --- the page does not notice --------------------------------------------------------------------------


async def test_nothing_of_ours_is_on_window(blank: Tab):
    await blank.page.add_init_script("self.early = Object.keys(self)")
    await blank.open()
    assert not set(await blank.page.evaluate("self.early")) & set(blank.names)
    fetch = await blank.page.evaluate(
        "({ name: fetch.name, length: fetch.length, mine: String(fetch) })"
    )
    assert (fetch["name"], fetch["length"]) == ("fetch", 1)
    assert "native code" not in fetch["mine"], "it is not disguised"


async def test_the_page_gets_what_the_native_fetch_gives(tab: Tab):
    results = await tab.page.evaluate("""async () => {
        const wrapped = fetch;
        const errors = [];
        for (const self of [undefined, window, {}]) {
            try { await wrapped.call(self, "/practice/blank"); errors.push("ok"); } catch (e) { errors.push(e.name); }
        }
        const promise = fetch("/practice/blank");
        const nothing = await fetch().catch((e) => e.name);
        return { errors, isPromise: promise.constructor === Promise, nothing,
                 status: (await promise).status, head: (await fetch("/practice/blank", { method: "HEAD" })).status };
    }""")
    assert results == {
        "errors": ["ok", "ok", "TypeError"],
        "isPromise": True,
        "nothing": "TypeError",
        "status": 200,
        "head": 200,
    }


async def test_a_listener_that_never_answers_does_not_hold_the_page(tab: Tab):
    tab.deaf = True
    said = await tab.answered("[[many pieces=500 per_second=1000]]")
    assert said[-1]["t"] == "end"
    assert await tab.shows() == "".join(f"{number} " for number in range(500))


async def test_a_listener_in_trouble_is_not_the_pages(blank: Tab):
    await blank.page.add_init_script("""
        self.hearHere = () => new Promise((resolve) => { self.order = resolve; });
        self.tellHere = () => { throw new Error("no") };
    """)
    door = json.dumps({"hear": "hearHere", "tell": "tellHere", "profile": PROFILE})
    await blank.page.add_init_script(f"globalThis.__lmarena_tab__ = {door};\n{BUNDLE}")
    await blank.open(ready=False)
    order = json.dumps({"take": task_of("hello", "j", QUICK)})
    await blank.page.evaluate("(text) => self.order(text)", order)
    assert await blank.shows() == blank.arena.answer_to("hello")


async def test_a_stream_of_500_pieces_a_second_is_kept_up_with(tab: Tab):
    said = await tab.answered("[[many pieces=1000 per_second=500]]")
    assert text_of(said) == "".join(f"{number} " for number in range(1000)) == await tab.shows()


async def test_a_frame_and_another_site_are_left_alone(blank: Tab):
    await blank.open()
    before = len(blank.said)
    frame = await blank.page.evaluate("""() => new Promise((done) => {
        const frame = document.createElement("iframe");
        frame.src = "/practice/blank";
        frame.onload = () => done(String(frame.contentWindow.fetch).includes("native code"));
        document.body.append(frame);
    })""")
    assert frame
    assert len(blank.said) == before
    await blank.page.goto("about:blank")
    assert await blank.page.evaluate("String(fetch).includes('native code')")
    assert not await blank.page.evaluate("'__lmarena_tab__' in self")


async def test_close_gives_the_page_its_own_fetch_back(tab: Tab):
    # An order that is none ends the script's work.
    tab._orders.append("no JSON")
    tab._serve()
    await tab.page.wait_for_function("() => String(fetch).includes('native code')")


# --- a hidden tab --------------------------------------------------------------------------------------

BY_HAND = """
    self.told = [];
    let order;
    let hears;
    self.hearHere = () => new Promise((resolve) => { order = resolve; });
    self.tellHere = (text) => { const message = JSON.parse(text); self.told.push(message); hears?.(message); };
    self.until = (job, kind) => new Promise((resolve) => {
      hears = (message) => { if (message.job === job && message.t === kind) resolve(); };
      self.told.forEach(hears);
    });
    self.give = (command) => order(JSON.stringify(command));
"""
"""The two functions, for a tab without Playwright, whose tabs are never hidden."""


async def test_a_hidden_tab_does_it_all(arena: Arena):
    features = "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/1"
    async with spawn_chromium(arguments=[features]) as browser:
        tab = await browser.new_page()
        door = json.dumps({"hear": "hearHere", "tell": "tellHere", "profile": PROFILE})
        source = f"{BY_HAND}; self.__lmarena_tab__ = {door};\n{BUNDLE}"
        await tab.send("Page.enable")
        await tab.send("Page.addScriptToEvaluateOnNewDocument", {"source": source})
        await tab.goto(f"{arena.url}/text/direct")
        await browser.new_page()
        await tab.evaluate("""new Promise((done) => {
            const look = () => document.visibilityState === "hidden" && done();
            document.addEventListener("visibilitychange", look);
            look();
        })""")
        await asyncio.sleep(1.5)  # past the grace period: timers are throttled now
        frames = "requestAnimationFrame(() => done('frames')); setTimeout(() => done('none'), 100)"
        assert await tab.evaluate(f"new Promise((done) => {{ {frames} }})") == "none"
        prompt = "a line of some length \n" * 4_000
        for number, model in enumerate(arena.models[900:903]):
            content = f"{number} {prompt} [[normal text=ok]]"
            task = json.dumps({"take": task_of(content, f"j-{number}", model.name)})
            await tab.evaluate(f"give({task}); until('j-{number}', 'end')")
            assert (arena.latest.text, arena.latest.model) == (content, model.name)
        task = json.dumps({"take": task_of("[[stall]]", "last", QUICK)})
        await tab.evaluate(f"give({task}); until('last', 'piece')")
        await tab.evaluate("give({cancel: 'last'})")
        await arena.aborted("[[stall]]")
