"""Whose turn it is: weights, health, regions, and workers that are busy, late or away."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol import Drain, End, JobFrame, Piece
from hub.rules.health import LEAST, MOST, WHOLE, Track, effective_weight
from hub.settings import Breakers
from tests.doors import Worker, ask, chat, eventually, poll_worker, send, socket_worker

# --- weights on paper ------------------------------------------------------------------------------------


def track(success: float = 1.0, latency: float | None = None) -> Track:
    track = Track(Breakers())
    track.success, track.latency = success, latency
    return track


def test_an_unknown_worker_has_its_operators_weight():
    assert effective_weight(3, None, 1.0) == 3 * WHOLE
    assert effective_weight(3, track(), None) == 3 * WHOLE


def test_a_worker_that_fails_half_the_time_gets_half():
    assert effective_weight(1, track(success=0.5), None) == WHOLE / 2


def test_a_worker_twice_as_slow_as_the_median_gets_half():
    assert effective_weight(1, track(latency=2.0), 1.0) == WHOLE / 2


@given(st.integers(1, 100), st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1e6))
def test_health_moves_a_weight_within_bounds(weight, success, latency, median):
    effective = effective_weight(weight, track(success, latency), median)
    assert weight * WHOLE * LEAST <= effective <= weight * WHOLE * MOST


def test_recent_answers_count_most():
    track = Track(Breakers())
    for _ in range(50):
        track.missed()
    assert track.success < 0.01
    for _ in range(50):
        track.answered(1.0)
    assert track.success > 0.99


# --- in a hub --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(hub: Any, name: str, delay: float = 0, **card: Any) -> AsyncIterator[Worker]:
    """A worker that answers whatever it is asked, its first piece after a delay."""

    async def answer(worker: Worker) -> None:
        while True:
            job = await worker.hear(JobFrame)
            await asyncio.sleep(delay)
            await worker.say(Piece(job.job, "here"), End(job.job))

    async with socket_worker(hub, worker=name, name=name, **card) as worker:
        task = asyncio.create_task(answer(worker))
        yield worker
        task.cancel()


async def answered_by(hub: Any, times: int, **headers: str) -> list[str]:
    """Who answers so many requests, one after the other."""
    names = []
    headers |= {"Authorization": f"Bearer {hub.key}"}
    for _ in range(times):
        reply = await send(hub, chat(), headers=headers)
        assert reply.status == 200, reply.body
        names.append(reply.headers["x-bridge-worker"])
    return names


def weigh(hub: Any, **weights: int) -> None:
    for worker in hub.hub.roster:
        if worker.id in weights:
            hub.hub.roster.set_weight(worker.token.id, worker.id, weights[worker.id])


async def test_an_operators_weights_are_five_to_one_to_one(hub):
    async with answering(hub, "a"), answering(hub, "b"), answering(hub, "c"):
        weigh(hub, a=5)
        assert await answered_by(hub, 14) == [*"aabacaa", *"aabacaa"]
        weigh(hub, a=1)
        assert Counter(await answered_by(hub, 30)) == Counter({"a": 10, "b": 10, "c": 10})


async def test_a_weight_stays_with_its_worker_over_sessions(hub):
    async with answering(hub, "a"), answering(hub, "b"), answering(hub, "c"):
        weigh(hub, a=5)
    await eventually(lambda: not any(w.link for w in hub.hub.roster))
    async with answering(hub, "a"), answering(hub, "b"), answering(hub, "c"):
        assert Counter(await answered_by(hub, 7)) == {"a": 5, "b": 1, "c": 1}


async def test_a_slow_worker_gets_less_once_weights_are_worked_out(hub):
    async with answering(hub, "a"), answering(hub, "b"), answering(hub, "slow", delay=0.3):
        assert (await answered_by(hub, 6)).count("slow") == 2
        hub.hub.roster.rota.weigh_anew()
        assert (await answered_by(hub, 24)).count("slow") <= 4


async def test_a_busy_worker_is_passed_over_and_comes_back(hub):
    async with socket_worker(hub, worker="a", name="a", slots=1) as busy, answering(hub, "b"):
        asking = asyncio.create_task(ask(hub))
        job = await busy.hear(JobFrame)
        assert await answered_by(hub, 3) == [*"bbb"]
        await busy.say(Piece(job.job, "done"), End(job.job))
        await asking
        asking = asyncio.create_task(ask(hub))
        job = await busy.hear(JobFrame)
        await busy.say(Piece(job.job, "done"), End(job.job))
        assert (await asking).headers["x-bridge-worker"] == "a"


async def test_a_late_poller_is_passed_over_and_comes_back(start_hub):
    hub = await start_hub(workers={"wait_s": 0, "poll_late_s": 0.05})
    async with poll_worker(hub, worker="a", name="a") as late, answering(hub, "b"):
        (session,) = [w for w in hub.hub.roster if w.id == "a"]
        session.next_s = 0
        await eventually(lambda: not session.is_connected(asyncio.get_running_loop().time()))
        assert await answered_by(hub, 3) == [*"bbb"]
        await late.exchange()
        asking = [asyncio.create_task(ask(hub)) for _ in range(2)]
        await eventually(lambda: session.jobs)
        await late.exchange()
        job = await late.hear(JobFrame)
        await late.exchange(Piece(job.job, "done"), End(job.job))
        replies = await asyncio.gather(*asking)
        assert {reply.headers["x-bridge-worker"] for reply in replies} == {"a", "b"}


async def test_a_worker_whose_link_was_cut_is_passed_over_and_comes_back(hub):
    async with answering(hub, "a") as a, answering(hub, "b"):
        await a.cut()
        await eventually(lambda: not all(w.link for w in hub.hub.roster))
        assert await answered_by(hub, 3) == [*"bbb"]
        await a.open(resume=True)
        assert "a" in await answered_by(hub, 2)


async def test_a_draining_worker_is_passed_over(hub):
    async with answering(hub, "a") as a, answering(hub, "b"):
        next(w for w in hub.hub.roster if w.id == "a").drain()
        await a.hear(Drain)
        assert await answered_by(hub, 3) == [*"bbb"]


# --- regions ---------------------------------------------------------------------------------------------


async def test_workers_of_the_asked_region_go_first(hub):
    async with answering(hub, "a", region="eu"), answering(hub, "b", region="us"):
        assert await answered_by(hub, 3, **{"X-Bridge-Region": "us"}) == [*"bbb"]
        assert await answered_by(hub, 3, **{"X-Bridge-Region": "eu"}) == [*"aaa"]
        assert Counter(await answered_by(hub, 4)) == {"a": 2, "b": 2}


@pytest.mark.parametrize("region", ["us", "atlantis"])
async def test_others_follow_where_there_is_nobody_of_that_region(hub, region):
    async with answering(hub, "a", region="eu"), socket_worker(hub, worker="b", region="us") as b:
        await b.say(*[])
        next(w for w in hub.hub.roster if w.id == "b").drain()
        assert await answered_by(hub, 2, **{"X-Bridge-Region": region}) == ["a", "a"]
