"""What the userscript costs: the first piece's way from the page to the caller, and five hundred pieces a second.

A real Chromium with the real userscript, the practice arena and a hub, all on this machine and on one clock. The
page itself notes when it first shows something of an answer; what the caller sees later than that is ours.
"""

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import click
from playwright.async_api import Page
from rich.console import Console
from rich.table import Table

from hub.app import running
from hub.settings import load
from hub.store.audit import Actor
from tests.arena import practice_arena
from tests.browser.chromium import chromium
from tests.browser.extension import make_extension
from tests.browser.stage import Stage, connected, use_local_site, userscript
from tests.conftest import RunningHub

FIRST = "[[stall pieces=2 text=abcdefgh]]"
FIRST_TARGET_MS = 5.0
RATE_TARGET = 500

WATCH = """() => {
  window.firstShown = [];
  const seen = new WeakSet();
  new MutationObserver(() => {
    for (const answer of document.querySelectorAll("[data-answer]")) {
      if (answer.textContent === "" || seen.has(answer)) continue;
      seen.add(answer);
      window.firstShown.push(performance.timeOrigin + performance.now());
    }
  }).observe(document, { childList: true, subtree: true, characterData: true });
}"""


@contextlib.asynccontextmanager
async def set_up(folder: Path, by_socket: bool) -> AsyncIterator[tuple[Stage, Page]]:
    settings = {"data_dir": str(folder / "data"), "port": 0, "allowed_hosts": ["hub.test"]}
    async with (
        practice_arena() as arena,
        running(load(settings, environ={}, directory=folder)) as (live, url),
    ):
        key = (await live.store.keys.create("bench", Actor("bench"))).secret
        token = (await live.store.worker_tokens.create("bench", Actor("bench"))).secret
        hub = RunningHub(live, url, key, token)
        await use_local_site(hub)
        address = "http://hub.test" if by_socket else url
        values = connected(hub) | {"hub": f"{address} {token}"}
        extension = make_extension(await userscript(hub), folder / "extension", values=values)
        names = {"hub.test": url.removeprefix("http://")}
        async with chromium(extension=extension, hosts=names) as browser:
            stage = Stage(hub, arena, browser)
            page = await stage.open()
            await page.evaluate(WATCH)
            wanted = "socket" if by_socket else "poll"
            assert [worker.transport for worker in live.roster] == [wanted]
            yield stage, page


async def pieces(stage: Stage, prompt: str) -> AsyncIterator[tuple[float, str]]:
    """The texts of a streamed answer, each with the Unix time in milliseconds at which it arrived."""
    headers = {"Authorization": f"Bearer {stage.hub.key}"}
    url = f"{stage.hub.url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=stage.body(prompt, stream=True)) as response,
    ):
        async for line in response.content:
            if line.startswith(b"data: {"):
                event: dict[str, Any] = json.loads(line[6:])
                for choice in event["choices"]:
                    if text := choice["delta"].get("content"):
                        yield time.time() * 1000, text


async def first_pieces(stage: Stage, page: Page, rounds: int) -> list[float]:
    """How much later than the page itself a caller sees the beginning of an answer, in milliseconds."""
    late = []
    for number in range(rounds):
        first = None
        async for at, _ in pieces(stage, f"{number} {FIRST}"):
            if first is None:
                first = at
                stage.arena.release()
        shown = await page.evaluate("window.firstShown.at(-1)")
        assert first is not None
        late.append(first - shown)
        await stage.ready()
    return late


async def rate(stage: Stage, count: int) -> tuple[float, bool]:
    """How many of 500 pieces a second arrive in one, and whether all do."""
    prompt = f"[[many pieces={count} per_second={RATE_TARGET}]]"
    text, last = "", 0.0
    async for at, more in pieces(stage, prompt):
        text, last = text + more, at
    sent = await stage.arena.ended(prompt)
    return count / (last / 1000 - sent.at), text == stage.arena.answer_to(prompt)


@click.command()
@click.option("--rounds", default=30, show_default=True)
@click.option("--pieces", "count", default=3000, show_default=True)
def main(rounds: int, count: int) -> None:
    """Measure, and print a table; exit 1 if a target is missed."""
    table = Table(
        "by",
        "first piece, later than the page shows it",
        "500 pieces a second: came at",
        "all there",
    )
    met = True
    for by_socket in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            late, speed, whole = asyncio.run(measure(Path(folder), by_socket, rounds, count))
        median = statistics.median(late)
        table.add_row(
            "WebSocket" if by_socket else "polling",
            f"{median:.1f} ms ({min(late):.1f} to {max(late):.1f})",
            f"{speed:.0f}/s",
            str(whole),
        )
        met &= whole and speed >= RATE_TARGET * 0.95
        met &= median <= FIRST_TARGET_MS or not by_socket
    Console().print(table)
    raise SystemExit(0 if met else 1)


async def measure(
    folder: Path, by_socket: bool, rounds: int, count: int
) -> tuple[list[float], float, bool]:
    async with set_up(folder, by_socket) as (stage, page):
        await first_pieces(stage, page, 3)
        late = await first_pieces(stage, page, rounds)
        speed, whole = await rate(stage, count)
        return late, speed, whole


if __name__ == "__main__":
    main()
