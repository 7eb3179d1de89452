"""A request is written down before anything runs, and settled exactly once, whatever happens."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.settings import load
from hub.store import Store, open_store
from hub.store.audit import Actor
from hub.store.journal import Accepted, Open, Progress, Settled
from tests.processes import PROSE, agent, bearer, chat, eventually, serving, text_of

COLUMNS = Settled._fields[: Settled._fields.index("id")]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(load({"data_dir": str(tmp_path)}, environ={}, directory=tmp_path)) as it:
        await it.keys.create("caller", Actor("test"))
        yield it


def cost(left: Open) -> int:
    """Ten for a token."""
    return 10 * (left.prompt_tokens + left.completion_tokens)


async def accept(store: Store, request: str) -> None:
    [key] = await store.keys.all()
    await store.journal.accept(
        Accepted(request, key.id, "", "/v1/chat/completions", "m", True, 1, 7)
    )


def settled(request: str, state: Any = "completed", **different: Any) -> Settled:
    values: dict[str, Any] = {
        "offered_at": 2,
        "started_at": 3,
        "first_piece_at": 4,
        "settled_at": 5,
        "worker": "w",
        "own_worker": False,
        "deliveries": 1,
        "delivered_chars": 10,
        "prompt_tokens": 7,
        "cached_tokens": 0,
        "completion_tokens": 3,
        "images": 0,
        "tokens_estimated": False,
        "cost": 50,
        "worker_usage": None,
        "finish_reason": "stop",
        "error_code": None,
        "user_id": "",
        "key_id": "k",
        "model": "m",
        "accepted_at": 1,
    }
    return Settled(state=state, id=request, **(values | different))


async def row(store: Store, request: str) -> dict[str, Any]:
    def select(connection: sqlite3.Connection) -> dict[str, Any]:
        return dict(
            connection.execute("SELECT * FROM requests WHERE id = ?", (request,)).fetchone()
        )

    return await store.database.read(select)


def rows_of(data: Path) -> list[dict[str, Any]]:
    """What the database of another process holds, read without touching it."""
    with closing(sqlite3.connect(f"file:{data / 'hub.db'}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(found) for found in connection.execute("SELECT * FROM requests ORDER BY id")]


async def test_an_accepted_request_is_on_disk(store, tmp_path):
    await accept(store, "r1")
    [found] = rows_of(tmp_path)
    assert (found["id"], found["state"], found["settled_at"]) == ("r1", "accepted", None)


async def test_a_request_of_nobodys_key_is_not_accepted(store):
    with pytest.raises(sqlite3.IntegrityError):
        await store.journal.accept(Accepted("r1", "no such key", "", "/", "m", False, 1, 7))


async def test_an_id_is_accepted_once(store):
    await accept(store, "r1")
    with pytest.raises(sqlite3.IntegrityError):
        await accept(store, "r1")


async def test_settling_writes_every_column(store):
    await accept(store, "r1")
    end = settled("r1", "failed", error_code="worker_lost", worker_usage='{"a":1}')
    assert await store.journal.settle(end) is True
    found = await row(store, "r1")
    assert {name: found[name] for name in COLUMNS} == {n: end._asdict()[n] for n in COLUMNS}


async def test_a_request_is_settled_exactly_once(store):
    await accept(store, "r1")
    first, second = (
        store.journal.settle(settled("r1")),
        store.journal.settle(settled("r1", "failed", settled_at=99)),
    )
    assert [await first, await second] == [True, False]
    assert (await row(store, "r1"))["state"] == "completed"
    unchanged = await row(store, "r1")
    assert await store.journal.settle(settled("r1", "cancelled", completion_tokens=0)) is False
    assert await row(store, "r1") == unchanged


async def test_settling_what_was_never_accepted_says_false(store):
    assert await store.journal.settle(settled("nobody")) is False


async def test_progress_is_written_for_open_requests_only(store):
    await accept(store, "open")
    await accept(store, "over")
    await store.journal.settle(settled("over"))
    unchanged = await row(store, "over")
    await store.journal.progress(
        Progress("m", "started", "w", False, 3, 20, 5, r) for r in ("open", "over")
    )
    found = await row(store, "open")
    assert (found["state"], found["worker"], found["delivered_chars"]) == ("started", "w", 20)
    assert await row(store, "over") == unchanged


async def test_what_is_open_is_interrupted_and_what_is_over_is_not(store):
    for request in ("fresh", "running", "over"):
        await accept(store, request)
    await store.journal.progress([Progress("n", "started", "w", False, 3, 20, 5, "running")])
    await store.journal.settle(settled("over"))
    assert await store.journal.interrupt_open(cost) == 2
    assert (await row(store, "fresh"))["state"] == "interrupted"
    running = await row(store, "running")
    assert (running["state"], running["error_code"]) == ("interrupted", "interrupted")
    assert (running["model"], running["delivered_chars"]) == ("n", 20)
    assert (running["prompt_tokens"], running["completion_tokens"]) == (7, 5)
    assert running["cost"] == 120
    fresh = await row(store, "fresh")
    assert (fresh["prompt_tokens"], fresh["completion_tokens"], fresh["cost"]) == (0, 0, 0)
    assert running["settled_at"] > 1_000_000_000_000_000
    assert (await row(store, "over"))["state"] == "completed"
    assert await store.journal.interrupt_open(cost) == 0


async def test_a_late_settlement_does_not_undo_an_interruption(store):
    await accept(store, "r1")
    await store.journal.interrupt_open(cost)
    assert await store.journal.settle(settled("r1")) is False
    assert (await row(store, "r1"))["state"] == "interrupted"


async def test_a_hub_killed_in_mid_stream_remembers_how_far_the_answer_had_come(tmp_path):
    received: list[bytes] = []

    async def read(stream: aiohttp.StreamReader) -> None:
        while True:
            received.append(await stream.readany())

    async with serving(tmp_path) as hub, agent(hub), aiohttp.ClientSession() as http:
        url, headers = f"{hub.url}/v1/chat/completions", bearer(await hub.key())
        async with http.post(url, json=chat("echo-slow", stream=True), headers=headers) as stream:
            reading = asyncio.create_task(read(stream.content))
            await eventually(lambda: rows_of(hub.data)[0]["delivered_chars"])
            await hub.program.end(signal.SIGKILL)
            with pytest.raises(aiohttp.ClientPayloadError):
                await reading
    [left] = rows_of(tmp_path / "data")
    assert (left["state"], left["settled_at"]) == ("started", None)

    async with serving(tmp_path) as hub:
        await hub.program.said("settled as interrupted", '"requests":1')
        [found] = rows_of(hub.data)
    assert found["state"] == "interrupted"
    assert found["settled_at"] > found["started_at"] > found["accepted_at"]
    assert 0 < found["delivered_chars"] == left["delivered_chars"]
    assert found["delivered_chars"] <= len(text_of(b"".join(received))) < len(PROSE)
