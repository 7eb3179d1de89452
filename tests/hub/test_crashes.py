"""kill -9 at any moment under load: afterwards the books are in order, and nobody pays for what never came."""

import asyncio
import contextlib
import json
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hub.rules.tiers import Price
from hub.rules.tokens import count_text
from hub.settings import load
from hub.store import open_store
from hub.store.audit import Actor
from tests.books import check_ledger, journal_of
from tests.doors import echo_agent
from tests.processes import Served, chat, free_port, serving

TEST = Actor("test")
PRICE = Price("*", input=3_000_000, output=7_000_000)
CALLERS = 8
LONGEST_LIFE_S = 2.5
"""Checkpoints are a second apart, so lives end before, between and after them."""
WORDS = "The quick brown fox, it's said, jumps over 12 lazy dogs; 你好\uff0c世界。 Straße 👍🏽 x_y = f(a)."


@dataclass
class Heard:
    """What callers got, by request id: the status, whether streamed, and the text so far."""

    streamed: bool
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass
class Secrets:
    keys: list[str]
    worker_token: str


async def furnish(directory: Path) -> Secrets:
    """A user with a key, a key without a user, a price, and a worker token."""
    (directory / "data").mkdir(mode=0o700)
    settings = load({"data_dir": str(directory / "data")}, environ={}, directory=directory)
    async with open_store(settings) as store:
        await store.prices.add([PRICE], TEST)
        await store.users.create("ann@example.org", TEST, tier="enterprise")
        keys = [
            await store.keys.create("ann's", TEST, user="ann@example.org"),
            await store.keys.create("nobody's", TEST),
        ]
        token = await store.worker_tokens.create("worker", TEST)
    return Secrets([key.secret for key in keys], token.secret)


async def call(hub: Served, key: str, body: dict[str, Any], heard: dict[str, Heard]) -> None:
    """One request, read as it comes until the end or the crash.

    By hand, since client libraries throw away what had arrived when a connection breaks.
    """
    url = urlsplit(hub.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        raw = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {key}\r\nContent-Length: {len(raw)}\r\n\r\n"
        writer.write(head.encode() + raw)
        answer: Heard | None = None
        while line := await reader.readline():
            if line.lower().startswith(b"x-request-id:"):
                answer = heard[line.split()[1].decode()] = Heard(body["stream"])
            elif answer is not None and line.endswith((b"}\n", b"}")) and b"{" in line:
                answer.texts.append(said(json.loads(line.removeprefix(b"data: "))))
    finally:
        writer.close()


def said(event: dict[str, Any]) -> str:
    [choice] = event.get("choices") or [{}]
    said = choice.get("delta") or choice.get("message") or {}
    return said.get("content") or ""


async def call_on_and_on(
    hub: Served, key: str, dice: random.Random, heard: dict[str, Heard]
) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            text = " ".join([WORDS] * dice.randrange(1, 6))
            model = dice.choice(["echo", "echo-slow", "echo-slow", "echo-fail"])
            await call(hub, key, chat(model, text, stream=dice.random() < 0.7), heard)


@contextlib.asynccontextmanager
async def under_load(
    hub: Served, secrets: Secrets, dice: random.Random, heard: dict[str, Heard]
) -> AsyncIterator[None]:
    async with echo_agent(hub.url, secrets.worker_token, slots=CALLERS):
        await hub.program.said("worker joined")
        callers = [
            asyncio.create_task(call_on_and_on(hub, dice.choice(secrets.keys), dice, heard))
            for _ in range(CALLERS)
        ]
        yield
        async with asyncio.timeout(30):
            await asyncio.gather(*callers)


def check_books(data: Path, heard: dict[str, Heard]) -> None:
    check_ledger(data / "hub.db")
    for row in journal_of(data / "hub.db"):
        assert row["settled_at"] is not None
        assert row["state"] in ("completed", "failed", "cancelled", "interrupted")
        prompt, completion = row["prompt_tokens"], row["completion_tokens"]
        assert min(prompt, completion, row["cost"], row["delivered_chars"]) >= 0
        # Never another price than that of the tokens, and never more tokens than came.
        assert row["cost"] == PRICE.cost(prompt, completion)
        got = heard.get(row["id"], Heard(streamed=False)).text
        assert completion <= count_text(got).tokens, row
        if not got:
            assert row["cost"] == 0, row
        if row["state"] == "completed":
            assert completion == count_text(got).tokens, row


def interrupted(data: Path) -> list[dict[str, Any]]:
    return [row for row in journal_of(data / "hub.db") if row["state"] == "interrupted"]


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(4, marks=pytest.mark.slow),
        pytest.param(36, marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
async def test_after_kill_9_at_any_moment_the_books_are_in_order(tmp_path, kills):
    secrets, dice = await furnish(tmp_path), random.Random(kills)
    heard: dict[str, Heard] = {}
    port = str(free_port())
    for number in range(kills):
        async with serving(tmp_path, HUB_PORT=port) as hub:
            check_books(hub.data, heard)
            async with under_load(hub, secrets, dice, heard):
                # Early lives end evenly over the whole time, so that also few of them see checkpoints.
                moment = LONGEST_LIFE_S * ((number + 1) / kills if number < 4 else dice.random())
                await asyncio.sleep(moment)
                await hub.program.end(signal.SIGKILL)
    async with serving(tmp_path, HUB_PORT=port) as hub:
        check_books(hub.data, heard)
    rows = interrupted(tmp_path / "data")
    # It was not for nothing: some were billed at a checkpoint, and some not at all.
    assert any(row["completion_tokens"] for row in rows)
    assert any(not row["cost"] for row in rows)
    assert any(row["state"] == "completed" for row in journal_of(tmp_path / "data" / "hub.db"))
