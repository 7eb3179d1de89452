"""How workers fare, over a restart of the hub."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.app import running
from hub.protocol import End, Fail, JobFrame, Piece
from hub.rules.health import MOST_KEPT, Health
from hub.settings import Breakers, load
from hub.store.workers import Fared
from tests.conftest import TEST, RunningHub
from tests.doors import Worker, ask, socket_worker

Start = Callable[[], AbstractAsyncContextManager[RunningHub]]


@pytest.fixture
async def start_again(tmp_path: Path) -> Start:
    """Start a hub on the same data each time; the key and the token are those of the first."""
    secrets: list[str] = []

    @asynccontextmanager
    async def start() -> AsyncIterator[RunningHub]:
        overrides: dict[str, Any] = {
            "data_dir": str(tmp_path / "data"),
            "port": 0,
            "deadlines": {"drain_s": 0.2, "absent_s": 0.05},
        }
        async with running(load(overrides, environ={}, directory=tmp_path)) as (hub, url):
            if not secrets:
                secrets.append((await hub.store.keys.create("caller", TEST)).secret)
                secrets.append((await hub.store.worker_tokens.create("worker", TEST)).secret)
            yield RunningHub(hub, url, *secrets)

    return start


async def ends(hub: RunningHub, worker: Worker, number: int, *frames: Any) -> None:
    for _ in range(number):
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        for frame in frames:
            frame.job = job.job
        await worker.say(*frames)
        await asking


def health_of(hub: RunningHub) -> Health:
    (worker,) = hub.hub.roster
    return worker.health


async def test_a_tripped_worker_rests_on_after_a_restart(start_again):
    async with start_again() as hub, socket_worker(hub) as worker:
        await ends(hub, worker, 3, Fail("", "internal"))
    async with start_again() as hub, socket_worker(hub):
        reply = await ask(hub)
        assert (reply.status, reply.error["code"]) == (503, "no_worker_available")
        assert 280 < int(reply.headers["Retry-After"]) <= 300


async def test_counters_rates_and_weights_are_kept(start_again):
    async with start_again() as hub, socket_worker(hub) as worker:
        await ends(hub, worker, 3, Piece("", "x"), End(""))
        await ends(hub, worker, 1, Fail("", "upstream_error"))
        (session,) = hub.hub.roster
        await hub.hub.store.workers.set_weight(session.token.id, session.id, 7, TEST)
        before = health_of(hub)
    async with start_again() as hub, socket_worker(hub):
        after = health_of(hub)
        assert after is not before
        assert (after.completed, after.failed_jobs, after.weight) == (3, 1, 7)
        assert after.tracks["m"].success == pytest.approx(before.tracks["m"].success, abs=1e-3)
        assert after.tracks["m"].latency == pytest.approx(before.tracks["m"].latency, abs=1e-3)
        assert after.tracks["m"].breaker.failures == 1


async def test_what_cannot_be_read_is_forgotten_and_nothing_else(start_again):
    async with start_again() as hub, socket_worker(hub) as worker:
        await ends(hub, worker, 1, Piece("", "x"), End(""))
        (session,) = hub.hub.roster
        bad = Fared(session.token.id, session.id, 1, '{"completed": "many"}')
        session.health.is_saved = True
        await hub.hub.store.workers.keep([bad])
    async with start_again() as hub, socket_worker(hub) as worker:
        await ends(hub, worker, 1, Piece("", "x"), End(""))
        assert health_of(hub).completed == 1


async def test_only_news_is_written(hub):
    async with socket_worker(hub) as worker:
        await ends(hub, worker, 1, Piece("", "x"), End(""))
        assert len(hub.hub.roster.unsaved(0)) == 1
        assert hub.hub.roster.unsaved(0) == []


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("sfl"), st.floats(0, 100))),
    st.floats(0, 1e10),
)
def test_a_restart_changes_nothing_that_counts(events, ahead):
    health, now = Health(Breakers()), 1000.0
    for model, what, seconds in events:
        now += seconds
        if what == "s":
            health.succeeded(model, 1.0, now)
        elif what == "f":
            health.failed(model, now, whole=False)
        else:
            health.lost(now)
    other = Health(Breakers())
    other.restore(health.save(ahead), ahead)
    for model in "abc":
        for later in (0, 100, 299, 301):
            assert other.admits(model, now + later) == health.admits(model, now + later)
        assert other.rests_until(model) == pytest.approx(health.rests_until(model), abs=0.01)


def test_what_is_kept_of_one_worker_is_bounded():
    health = Health(Breakers())
    for number in range(5_000):
        health.failed(f"m{number}", monotonic(), whole=False)
    assert len(health.save(0)) < 100 * MOST_KEPT
