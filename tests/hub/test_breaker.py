"""Circuit breakers: on paper, and in a hub whose workers fail."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.live.feed import BreakerChanged
from hub.protocol import End, Fail, JobFrame, Piece, Refuse
from hub.rules.breaker import Breaker
from hub.rules.health import Change, Health
from hub.settings import Breakers
from tests.doors import ask, eventually, socket_worker

RULES = Breakers(failure_threshold=3, recovery_time_s=300, health_check_interval_s=60)


def tripped(now: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.failed(now)
    return breaker


# --- on paper --------------------------------------------------------------------------------------------


def test_failures_in_a_row_open_it():
    breaker = Breaker(RULES)
    assert [breaker.failed(0) for _ in range(3)] == [False, False, True]
    assert (breaker.state(0), breaker.admits(0), breaker.admits(299.9)) == ("open", False, False)


def test_a_success_between_them_does_not():
    breaker = Breaker(RULES)
    for _ in range(10):
        breaker.failed(0)
        breaker.failed(0)
        assert not breaker.succeeded(0)
    assert breaker.state(0) == "closed"


def test_half_open_it_lets_one_probe_through():
    breaker = tripped()
    assert (breaker.state(300), breaker.admits(300)) == ("half_open", True)
    assert breaker.offered()
    assert not breaker.admits(300)


def test_a_probe_that_succeeds_closes_it():
    breaker = tripped()
    breaker.offered()
    assert breaker.succeeded(301)
    assert (breaker.state(301), breaker.admits(301), breaker.offered()) == ("closed", True, False)


def test_a_probe_that_fails_opens_it_again_at_once():
    breaker = tripped()
    breaker.offered()
    assert breaker.failed(310)
    assert (breaker.state(310), breaker.rests_until) == ("open", 610)


def test_a_probe_that_shows_nothing_is_followed_by_another_after_a_while():
    breaker = tripped()
    breaker.offered()
    assert breaker.unproven(310)
    assert [breaker.admits(now) for now in (310, 369.9, 370)] == [False, False, True]


def test_what_was_on_its_way_before_it_opened_changes_nothing():
    breaker = tripped()
    assert not breaker.failed(100)
    assert not breaker.succeeded(100)
    assert (breaker.state(100), breaker.rests_until) == ("open", 300)


def test_a_failing_model_does_not_take_the_workers_others_with_it():
    health = Health(RULES)
    changes = [health.failed("m", 0, whole=False) for _ in range(3)]
    assert changes == [[], [], [Change("m", "open", 3)]]
    assert not health.admits("m", 0)
    assert health.admits("n", 0)


def test_several_failing_models_are_the_workers_failure():
    health = Health(RULES)
    for model in "mnop":
        health.failed(model, 0, whole=False)
    assert not health.admits("never asked for", 0)


def test_the_workers_own_failures_are_too():
    health = Health(RULES)
    for _ in range(3):
        health.lost(0)
    assert not health.admits("m", 0)
    assert health.rests_until("m") == 300


def test_one_probe_at_a_time_for_the_whole_worker():
    health = Health(RULES)
    for _ in range(3):
        health.lost(0)
    assert health.offered("m")
    assert not health.admits("n", 300)
    assert health.failed("m", 300, whole=False) == [Change(None, "open", 4)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["offer", "succeed", "fail", "unproven"]), st.floats(0, 400)),
        max_size=60,
    )
)
def test_it_never_admits_two_probes_and_never_stays_shut(steps):
    breaker, now, probes = Breaker(RULES), 0.0, 0
    for what, seconds in steps:
        now += seconds
        before = breaker.state(now)
        if what == "offer":
            if breaker.admits(now):
                probes += breaker.offered()
        elif what == "succeed":
            breaker.succeeded(now)
        elif what == "fail":
            breaker.failed(now)
        elif probes:
            breaker.unproven(now)
        if what == "unproven" or (what != "offer" and before != "open"):
            probes = 0
        assert probes <= 1
        assert probes == 1 or breaker.admits(now + 300)


# --- in a hub --------------------------------------------------------------------------------------------


def breakers_of(hub: Any) -> list[BreakerChanged]:
    """What the feed tells of breakers from now on."""
    changes: list[BreakerChanged] = []
    hub.hub.feed.listen(lambda e: changes.append(e) if isinstance(e, BreakerChanged) else None)
    return changes


async def fails(hub: Any, worker: Any, times: int, code: Any = "upstream_error") -> None:
    for _ in range(times):
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(Fail(job.job, code))
        assert (await asking).status == 502


async def test_a_worker_that_fails_three_times_is_passed_over(start_hub):
    hub = await start_hub()
    changes = breakers_of(hub)
    async with socket_worker(hub, worker="bad") as bad:
        await fails(hub, bad, 3)
        async with socket_worker(hub, worker="good", name="good") as good:
            for _ in range(3):
                asking = asyncio.create_task(ask(hub))
                job = await good.hear(JobFrame)
                await good.say(Piece(job.job, "here"), End(job.job))
                assert (await asking).headers["x-bridge-worker"] == "good"
    assert changes == [BreakerChanged("worker one", "m", "open", 3)]
    lines = await hub.rows("SELECT kind, subject, message FROM system_log")
    assert [(line["kind"], line["subject"]) for line in lines] == [("breaker", "worker one")]
    assert re.search("no jobs for m .*3 failures", lines[0]["message"])


async def test_the_callers_of_a_tripped_worker_hear_when_to_come_back(start_hub):
    hub = await start_hub(deadlines={"absent_s": 0.05}, breaker={"recovery_time_s": 100})
    async with socket_worker(hub) as worker:
        await fails(hub, worker, 3)
        reply = await ask(hub)
        assert (reply.status, reply.error["code"]) == (503, "no_worker_available")
        assert 95 <= int(reply.headers["Retry-After"]) <= 100


async def test_a_job_waits_for_the_probe_and_the_others_for_its_outcome(start_hub):
    hub = await start_hub(breaker={"recovery_time_s": 0.2})
    changes = breakers_of(hub)
    async with socket_worker(hub) as worker:
        await fails(hub, worker, 3)
        asking = [asyncio.create_task(ask(hub)) for _ in range(3)]
        probe = await worker.hear(JobFrame)
        await eventually(lambda: hub.hub.dispatch.waiting == 2)
        await worker.say(Piece(probe.job, "well"), End(probe.job))
        for _ in range(2):
            job = await worker.hear(JobFrame)
            await worker.say(Piece(job.job, "well"), End(job.job))
        assert [reply.status for reply in await asyncio.gather(*asking)] == [200] * 3
    assert [change.state for change in changes] == ["open", "half_open", "closed"]
    lines = await hub.rows("SELECT message FROM system_log ORDER BY id")
    assert lines[-1]["message"] == "it gets jobs for m again"


async def test_a_probe_that_fails_opens_the_breaker_again(start_hub):
    hub = await start_hub(breaker={"recovery_time_s": 0.1})
    changes = breakers_of(hub)
    async with socket_worker(hub) as worker:
        await fails(hub, worker, 4)
    assert [change.state for change in changes] == ["open", "half_open", "open"]


async def test_a_refused_probe_is_followed_by_another_at_the_health_check(start_hub):
    hub = await start_hub(
        deadlines={"absent_s": 0.1},
        breaker={"recovery_time_s": 0.1, "health_check_interval_s": 100},
    )
    async with socket_worker(hub) as worker:
        await fails(hub, worker, 3)
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(Refuse(job.job, "not now"))
        assert (await asking).status == 503
        assert 95 <= int((await ask(hub)).headers["Retry-After"]) <= 100


@pytest.mark.parametrize("code", ["site_changed", "internal"])
async def test_a_workers_own_failures_count_against_all_its_models(start_hub, code):
    hub = await start_hub(deadlines={"absent_s": 0.05})
    async with socket_worker(hub, models=[{"id": "m"}, {"id": "n"}]) as worker:
        await fails(hub, worker, 3, code)
        assert (await ask(hub, model="n")).status == 503


async def test_a_worker_that_takes_jobs_in_silence_is_passed_over(start_hub):
    hub = await start_hub(deadlines={"offer_s": 0.05, "absent_s": 0.05})
    changes = breakers_of(hub)
    async with socket_worker(hub):
        for _ in range(3):
            await ask(hub)
    assert [(change.model, change.state) for change in changes] == [("m", "open"), (None, "open")]


async def test_a_worker_that_keeps_vanishing_is_passed_over_in_its_next_session_too(start_hub):
    hub = await start_hub(deadlines={"absent_s": 0.05}, workers={"grace_s": 0})
    changes = breakers_of(hub)
    for _ in range(3):
        async with socket_worker(hub) as worker:
            asking = asyncio.create_task(ask(hub))
            job = await worker.hear(JobFrame)
            await worker.say(Piece(job.job, "half an ans"))
            (session,) = hub.hub.roster
            (held,) = session.jobs.values()
            await eventually(lambda attempt=held.attempt: attempt.has_started)
            await worker.cut()
            assert (await asking).error["code"] == "worker_lost"
    async with socket_worker(hub):
        assert [(change.model, change.state) for change in changes] == [(None, "open")]
        assert (await ask(hub)).error["code"] == "no_worker_available"
