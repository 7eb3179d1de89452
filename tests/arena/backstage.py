"""What the practice arena knows and what can be changed of it: the side that tests see."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from tests.arena import scenarios
from tests.arena.catalogue import Model, catalogue, flight, script

PATIENCE_S = 15.0

T = TypeVar("T")


@dataclass(frozen=True)
class Attachment:
    name: str
    content_type: str
    data: bytes


@dataclass(eq=False)
class Prompt:
    """One request with a prompt, as it reached the site."""

    path: str
    text: str
    mode: str
    model: str | None
    """The public name; None for an id that the site does not have."""
    model_id: str
    chat: str
    """The id of its evaluation."""
    verification: str
    attachments: list[Attachment]
    headers: dict[str, str]
    at: float
    """Unix time."""
    status: int = 0
    """What it was answered with; 0 until then."""
    outcome: str = "open"
    """open, then one of: answered, refused, forged, aborted (by the page), cut (by the site)."""
    released: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def described(self) -> dict[str, Any]:
        """As JSON has it; attachments without their data."""
        plain = {
            name: value
            for name, value in vars(self).items()
            if name not in {"attachments", "released"}
        }
        files = [
            {"name": a.name, "content_type": a.content_type, "size": len(a.data)}
            for a in self.attachments
        ]
        return {**plain, "attachments": files}


@dataclass
class Visit:
    """One load of the page: what its verification values are made with."""

    secret: str
    scenario: str
    design: str
    used: set[int] = field(default_factory=set)


class Switch:
    """A setting of the site that can change while it runs; the first choice is the default.

    Raises ValueError for any other value.
    """

    def __init__(self, *choices: Any) -> None:
        self.choices = choices

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, arena: "Arena", owner: type) -> Any:
        return arena.set_to.get(self.name, self.choices[0])

    def __set__(self, arena: "Arena", value: Any) -> None:
        if not any(value is choice or value == choice for choice in self.choices):
            raise ValueError(f"{self.name} is one of {self.choices}, not {value!r}")
        arena.set_to[self.name] = value
        arena.tell_pages()


class Arena:
    """The site, seen from backstage. Switches act at once, on open pages too where they can see it."""

    # How a page is made; open pages stay as they are.
    design = Switch("today", "new", "renamed", "codes")
    csp = Switch(None, "strict")
    saves_fetch = Switch(False, True)
    reader_cancel = Switch(False, True)
    # What stands between the page and its answers.
    signed_in = Switch(True, False)
    modal = Switch(None, "challenge")
    consent = Switch(True, False)
    challenge_page = Switch(False, True, "attention")

    def __init__(self, *, models: int = 1000) -> None:
        self.url = ""
        self.set_to: dict[str, Any] = {}
        self.scenario = "normal"
        """For prompts that name none, on pages whose address names none: `slow pieces=5`."""
        self.script_delay_s = 0.0
        """How long the page's own script takes to arrive."""
        self.models: list[Model] = []
        self.flight: list[str] = []
        """The scripts that hand the models to a page."""
        self.counts: Counter[str] = Counter()
        """pages, prompts, forged, stops, telemetry, images, verify, sign_in, agree, cloudflare."""
        self.requests: list[Prompt] = []
        """Every prompt that reached the site, forged ones too, in order."""
        self.cookie = secrets.token_hex(16)
        """The value of the page's cookie, which must never leave the tab."""
        self.visits: dict[str, Visit] = {}
        self.chats: dict[str, str] = {}
        """The model id of each evaluation."""
        self._news = asyncio.Event()
        self._pages: set[web.WebSocketResponse] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.offer(models)

    # --- what reached it

    @property
    def latest(self) -> Prompt:
        """The last prompt. Raises IndexError when there was none."""
        return self.requests[-1]

    @property
    def stops(self) -> list[Prompt]:
        """The prompts whose answer the page stopped."""
        return [prompt for prompt in self.requests if prompt.outcome == "aborted"]

    @property
    def forged(self) -> int:
        """How many prompts came without a fresh verification value of the page's own making."""
        return self.counts["forged"]

    async def reached(self, text: str = "", times: int = 1) -> Prompt:
        """Wait for a prompt that contains `text` (the `times`-th such). Raises TimeoutError."""
        return await self._until(lambda: self._find(text, times))

    async def ended(self, text: str = "", times: int = 1) -> Prompt:
        """The same, once its answer is over, however it ended."""
        prompt = await self.reached(text, times)
        await self._until(lambda: prompt.outcome != "open" or None)
        return prompt

    async def aborted(self, text: str = "", times: int = 1) -> Prompt:
        """The same, and it must have been stopped by its page. Raises AssertionError otherwise."""
        prompt = await self.ended(text, times)
        assert prompt.outcome == "aborted", prompt
        return prompt

    def release(self, text: str = "") -> None:
        """Let those go on that a scenario holds (hang, stall), of prompts that contain `text`."""
        for prompt in self.requests:
            if text in prompt.text:
                prompt.released.set()

    def forget(self) -> None:
        """Begin anew: nothing has reached it, and every switch is as at first."""
        self.requests.clear()
        self.counts.clear()
        self.set_to.clear()
        self.scenario, self.script_delay_s = "normal", 0.0
        self.tell_pages()

    def model(self, name: str) -> Model:
        """By public name. Raises StopIteration."""
        return next(model for model in self.models if model.name == name)

    def rotate_models(self) -> None:
        """New ids for all models; pages that are open keep the old ones."""
        self.offer(len(self.models))

    def offer(self, count: int) -> None:
        """So many models from now on, with new ids."""
        self.models = catalogue(count)
        self.flight = [script(chunk) for chunk in flight(self.models)]

    def answer_to(self, prompt: str) -> str:
        """The text that a faithful reader makes of the answer to this prompt."""
        return scenarios.text_answered(prompt, self.scenario)

    # --- what its own handlers need

    def take(self, prompt: Prompt) -> None:
        self.requests.append(prompt)
        self.counts["prompts"] += 1
        self.tell()

    def settle(self, prompt: Prompt, outcome: str) -> None:
        prompt.outcome = outcome
        # One that was forgotten meanwhile counts for nothing.
        self.counts["stops"] += outcome == "aborted" and prompt in self.requests
        self.tell()

    def tell(self) -> None:
        """Wake those who wait for something to have happened."""
        self._news.set()
        self._news = asyncio.Event()

    def account(self) -> dict[str, Any]:
        """What open pages know of their human's account."""
        return {"signed_in": self.signed_in, "modal": self.modal, "consent": self.consent}

    def tell_pages(self) -> None:
        for page in self._pages:
            self.spawn(page.send_json(self.account()))

    async def follow(self, page: web.WebSocketResponse) -> None:
        """Keep an open page up to date until it goes."""
        self._pages.add(page)
        try:
            await page.send_json(self.account())
            async for _ in page:
                pass
        finally:
            self._pages.discard(page)

    async def close(self) -> None:
        for page in list(self._pages):
            await page.close()

    def spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and not isinstance(task.exception(), ConnectionError | None):
            task.result()

    def _find(self, text: str, times: int) -> Prompt | None:
        found = [prompt for prompt in self.requests if text in prompt.text]
        return found[times - 1] if len(found) >= times else None

    async def _until(self, found: Callable[[], T | None]) -> T:
        async with asyncio.timeout(PATIENCE_S):
            while (hit := found()) is None:
                await self._news.wait()
        return hit


SWITCHES = tuple(name for name, value in vars(Arena).items() if isinstance(value, Switch))
SETTINGS = (*SWITCHES, "scenario", "script_delay_s")
