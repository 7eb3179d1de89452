"""Admission: what limits promise to the callers, over real sockets and on a real journal."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.errors import HubError
from hub.live.gate import Account, Gate, Reservation, Subject, dollars, month_start, periods
from hub.protocol import End, Fail, JobFrame, Piece
from hub.rules.tiers import Limits, Price, Tier
from hub.settings import load
from hub.store import Store, open_store
from hub.store.journal import Accepted, History, Past, Settled
from hub.store.keys import Caller
from hub.store.ledger import Spent
from tests.conftest import TEST, RunningHub
from tests.doors import ask, eventually, send, socket_worker

EMAIL = "ann@example.org"


async def caller_with(store: Store, tier: Tier, limits: Limits | None = None) -> Caller:
    await store.tiers.set("t", tier, TEST)
    await store.users.create(EMAIL, TEST, tier="t")
    key = await store.keys.create("k", TEST, user=EMAIL, limits=limits or Limits())
    caller = await store.keys.find(key.secret)
    assert caller is not None
    return caller


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(load({"data_dir": str(tmp_path)}, environ={}, directory=tmp_path)) as it:
        yield it


async def echo(hub: RunningHub, worker: Any, *, text: str = "hi") -> None:
    """Answer everything, for ever."""
    while True:
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, text), End(job.job))


async def limited(hub: RunningHub, limits: Limits | None = None, **tier: Any) -> RunningHub:
    """The hub as a user of a tier of their own calls it."""
    await hub.new_user(EMAIL, Tier(**tier))
    return hub.calling(await hub.new_key("limited", user=EMAIL, limits=limits or Limits()))


# --- requests ------------------------------------------------------------------------------------


async def test_no_more_are_admitted_than_the_limit_and_the_rest_hears_when(hub):
    ann = await limited(hub, requests_per_minute=5)
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(echo(hub, worker))
        replies = await asyncio.gather(*(ask(ann) for _ in range(20)))
        answering.cancel()
    assert sorted(reply.status for reply in replies) == [200] * 5 + [429] * 15
    for refused in (reply for reply in replies if reply.status == 429):
        assert (refused.error["type"], refused.error["code"]) == ("requests", "rate_limit_exceeded")
        assert 50 <= int(refused.headers["Retry-After"]) <= 60
        wait_ms = int(refused.headers["retry-after-ms"])
        assert wait_ms <= int(refused.headers["Retry-After"]) * 1000 <= wait_ms + 1000
        assert "x-should-retry" not in refused.headers
    assert len(await hub.rows()) == 5


async def test_a_refused_request_consumes_nothing(hub):
    ann = await limited(hub, requests_per_minute=1, tokens_per_day=100_000)
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(echo(hub, worker))
        assert (await ask(ann)).status == 200
        before = (await ask(ann)).headers
        for _ in range(10):
            after = (await ask(ann)).headers
        answering.cancel()
    assert before["x-ratelimit-remaining-tokens"] == after["x-ratelimit-remaining-tokens"]
    assert int(after["Retry-After"]) <= int(before["Retry-After"])


async def test_a_bad_request_consumes_nothing(hub):
    ann = await limited(hub, requests_per_minute=1)
    async with socket_worker(hub) as worker:
        for bad in ({"messages": []}, {"model": "unknown"}, {"tools": [{}]}):
            assert (await ask(ann, **bad)).status in (400, 404)
        answering = asyncio.create_task(echo(hub, worker))
        assert (await ask(ann)).status == 200
        answering.cancel()


async def test_the_headers_tell_of_the_tightest_window(hub):
    ann = await limited(
        hub, Limits(requests_per_minute=3), requests_per_minute=10, requests_per_hour=100
    )
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(echo(hub, worker))
        first = (await ask(ann)).headers
        answering.cancel()
    assert first["x-ratelimit-limit-requests"] == "3"
    assert first["x-ratelimit-remaining-requests"] == "2"
    assert first["x-ratelimit-reset-requests"] in ("59s", "1m0s")
    assert first["x-ratelimit-limit-tokens"] == "2147483647"


async def test_every_answer_to_a_known_key_has_the_six_headers(hub):
    ann = await limited(hub, requests_per_hour=7, tokens_per_minute=1_000)
    listed = await send(ann, method="GET", path="/v1/models")
    refused = await ask(ann, messages=[])
    for reply in (listed, refused):
        assert reply.headers["x-ratelimit-limit-requests"] == "7"
        assert reply.headers["x-ratelimit-remaining-tokens"] == "1000"
        assert reply.headers["x-ratelimit-reset-tokens"] == "0s"


async def test_at_most_so_many_at_once(hub):
    ann = await limited(hub, concurrent=2)
    async with socket_worker(hub) as worker:
        running = [asyncio.create_task(ask(ann)) for _ in range(2)]
        jobs = [await worker.hear(JobFrame) for _ in range(2)]
        refused = await ask(ann)
        assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
        assert refused.headers["Retry-After"] == "1"
        await worker.say(End(jobs[0].job))
        assert (await running[0]).status == 200 or (await running[1]).status == 200
        third = asyncio.create_task(ask(ann))
        job = await worker.hear(JobFrame)
        await worker.say(End(jobs[1].job), End(job.job))
        assert {(await each).status for each in (*running, third)} == {200}


async def test_a_change_of_the_tier_holds_from_the_next_request_on(hub):
    ann = await limited(hub, requests_per_minute=1)
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(echo(hub, worker))
        assert [(await ask(ann)).status for _ in range(2)] == [200, 429]
        await hub.hub.store.tiers.set(EMAIL, Tier(requests_per_minute=2), TEST)
        assert [(await ask(ann)).status for _ in range(2)] == [200, 429]
        await hub.hub.store.tiers.set(EMAIL, Tier(), TEST)
        assert [(await ask(ann)).status for _ in range(2)] == [200, 200]
        # What happened while there was no limit counts as soon as there is one again.
        await hub.hub.store.tiers.set(EMAIL, Tier(requests_per_minute=4), TEST)
        assert (await ask(ann)).status == 429
        answering.cancel()


async def test_the_sdk_waits_as_it_is_told_and_then_succeeds(hub):
    ann = await limited(hub, requests_per_minute=1)
    await remembered(hub, seconds_ago=58.2)
    async with (
        socket_worker(hub) as worker,
        openai.AsyncOpenAI(base_url=f"{hub.url}/v1", api_key=ann.key, max_retries=1) as client,
    ):
        answering = asyncio.create_task(echo(hub, worker))
        refused = await ask(ann)
        assert refused.status == 429
        began = time.monotonic()
        answer = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}]
        )
        assert answer.choices[0].message.content == "hi"
        assert time.monotonic() - began < 10
        answering.cancel()


async def remembered(
    hub: RunningHub, *, seconds_ago: float, tokens: int = 10, cost: int = 0
) -> None:
    """A request of an earlier life."""
    [key] = await hub.hub.store.keys.all(EMAIL)
    user = await hub.hub.store.users.find(EMAIL)
    await write_past(hub.hub.store, user.id, key.id, time.time() - seconds_ago, tokens, cost)


async def write_past(
    store: Store, user: str, key: str, at: float, tokens: int = 10, cost: int = 0
) -> str:
    us = int(at * 1e6)
    request = f"{us:013x}{time.monotonic_ns():016x}"
    await store.journal.accept(Accepted(request, key, user, "/", "m", False, us, tokens))
    await store.journal.settle(end_of(request, user, key, us, tokens, cost))
    return request


def end_of(request: str, user: str, key: str, us: int, tokens: int, cost: int) -> Settled:
    return Settled(
        "completed", "m", us, us, us, us, "w", False, 1, 1, tokens, 0, 0, 0, False, cost, None,
        "stop", None, request, user, key, us,
    )  # fmt: skip


async def test_after_a_restart_the_windows_are_as_before(start_hub, tmp_path):
    hub = await start_hub(data_dir=str(tmp_path / "first"))
    ann = await limited(hub, requests_per_minute=3, tokens_per_day=100_000)
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(echo(hub, worker))
        for _ in range(3):
            last = await ask(ann)
        answering.cancel()
    before = last.headers
    await hub.hub.drain()
    async with open_store(
        load({"data_dir": str(tmp_path / "first")}, environ={}, directory=tmp_path)
    ) as store:
        gate = Gate(store)
        caller = await store.keys.find(ann.key)
        assert caller is not None
        standings = {each.what: each for each in await gate.standings(caller)}
        assert standings["requests"].remaining == 0
        assert str(standings["tokens"].remaining) == before["x-ratelimit-remaining-tokens"]
        with pytest.raises(HubError) as refused:
            await gate.admit(caller, "r", 1, 0)
        assert 50 < (refused.value.retry_after or 0) <= 60


async def test_the_wait_is_that_of_the_last_limit_to_let_it_in(hub):
    ann = await limited(hub, requests_per_minute=2, tokens_per_minute=100, tokens_per_day=300)
    await remembered(hub, seconds_ago=3_600, tokens=290)
    await remembered(hub, seconds_ago=30, tokens=5)
    await remembered(hub, seconds_ago=10, tokens=5)
    async with socket_worker(hub):
        refused = await ask(ann, max_tokens=50)
    assert refused.error["type"] == "tokens"
    assert 82_700 < int(refused.headers["Retry-After"]) <= 82_800
    assert refused.headers["x-should-retry"] == "false"


# --- tokens --------------------------------------------------------------------------------------


async def test_tokens_are_held_back_and_trued_up(hub):
    ann = await limited(hub, tokens_per_minute=5_000)
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(ann, max_tokens=3_000))
        job = await worker.hear(JobFrame)
        refused = await ask(ann, max_tokens=3_000)
        assert (refused.status, refused.error["type"]) == (429, "tokens")
        assert 50 <= int(refused.headers["Retry-After"]) <= 60
        await worker.say(Piece(job.job, "hi"), End(job.job))
        used = (await asking).json["usage"]["total_tokens"]
        answering = asyncio.create_task(echo(hub, worker))
        again = await ask(ann, max_tokens=3_000)
        answering.cancel()
    assert again.status == 200
    assert int(again.headers["x-ratelimit-remaining-tokens"]) < 5_000 - used


async def test_what_could_never_fit_is_told_so_for_good(hub):
    ann = await limited(hub, tokens_per_minute=100)
    async with socket_worker(hub):
        refused = await ask(ann, max_tokens=101)
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-should-retry"] == "false"
    assert "Retry-After" not in refused.headers


async def test_an_answer_longer_than_foreseen_holds_back_more_while_it_runs(start_hub):
    hub = await start_hub(limits={"answer_tokens": 10})
    ann = await limited(hub, tokens_per_minute=1_000)
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(ann, stream=True))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "word " * 990))
        await eventually(lambda: hub.hub.gate._open and _held(hub.hub.gate) > 900)
        assert (await ask(ann)).status == 429
        await worker.say(End(job.job))
        assert (await asking).status == 200


def _held(gate: Gate) -> int:
    [reservation] = gate._open.values()
    return reservation.tokens


# --- money ---------------------------------------------------------------------------------------


async def test_a_hundred_at_once_cannot_overshoot_a_budget(hub):
    await hub.hub.store.prices.add([Price("*", output=1_000_000)], TEST)
    ann = await limited(hub, budget_per_day=1_000)
    async with socket_worker(hub, slots=100) as worker:
        answering = asyncio.create_task(echo(hub, worker, text="word " * 90))
        replies = await asyncio.gather(*(ask(ann, max_tokens=100) for _ in range(100)))
        answering.cancel()
    refused = [reply for reply in replies if reply.status == 429]
    assert len(refused) == 90
    for reply in refused:
        assert (reply.error["type"], reply.error["code"]) == ("insufficient_quota",) * 2
        assert reply.headers["x-should-retry"] == "false"
    assert sum(row["cost"] for row in await hub.rows()) <= 1_000


async def test_what_was_held_back_and_not_used_is_given_back(hub):
    await hub.hub.store.prices.add([Price("*", output=1_000_000)], TEST)
    ann = await limited(hub, budget_per_month=100)
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(echo(hub, worker))
        statuses = [(await ask(ann, max_tokens=90)).status for _ in range(5)]
        answering.cancel()
    assert statuses == [200] * 5
    assert sum(row["cost"] for row in await hub.rows()) == 5


async def test_a_spent_budget_says_what_is_left_and_stays_spent_after_a_restart(store):
    await store.prices.add([Price("*", output=1_000_000)], TEST)
    caller = await caller_with(store, Tier(budget_per_month=1_000))
    await write_past(store, caller.user_id, caller.key.id, time.time(), 900, 900)
    gate = Gate(store)
    await gate.admit(caller, "r1", 100, 100)
    with pytest.raises(HubError) as refused:
        await gate.admit(caller, "r2", 1, 1)
    assert refused.value.code == "insufficient_quota"
    assert "$0.00 is left" in refused.value.message
    # What costs nothing may still enter.
    await gate.admit(caller, "r3", 1, 0)


async def test_a_failed_request_costs_nothing(hub):
    await hub.hub.store.prices.add([Price("*", input=1_000_000, output=1_000_000)], TEST)
    ann = await limited(hub, tokens_per_day=1_000_000)
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(ann))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "half an ans"))
        await worker.say(Fail(job.job, "upstream_error", "broke"))
        failed = await asking
    assert failed.status == 502
    assert failed.headers["x-ratelimit-remaining-tokens"] == "1000000"
    [row] = await hub.rows()
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost"]) == (0, 0, 0)


async def test_a_caller_that_leaves_midway_pays_for_what_was_delivered(hub):
    await hub.hub.store.prices.add([Price("*", input=1_000_000, output=1_000_000)], TEST)
    ann = await limited(hub)
    async with socket_worker(hub) as worker:
        async with aiohttp.ClientSession() as session:
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            headers = {"Authorization": f"Bearer {ann.key}"}
            url = f"{hub.url}/v1/chat/completions"
            async with session.post(url, json=body, headers=headers) as response:
                job = await worker.hear(JobFrame)
                await worker.say(Piece(job.job, "one two three"))
                await response.content.readuntil(b"three")
        rows: list[Any] = []
        while not rows or rows[0]["settled_at"] is None:
            rows = await hub.rows()
    [row] = rows
    assert row["state"] == "cancelled"
    assert row["completion_tokens"] == 3
    assert row["cost"] == row["prompt_tokens"] + 3
    assert hub.hub.gate.open == 0


# --- on paper ------------------------------------------------------------------------------------


def test_what_was_settled_while_its_account_was_read_counts_once():
    subject, now = Subject("user_id", "u"), time.monotonic()
    settled = Reservation("r1", [subject], 30, 7, now, 1, 1)
    settled.over = True
    history = History([Past("r1", int(time.time() * 1e6), 30, 7)], Spent(10, 20))
    account = Account(subject, history, [settled], 1, 1)
    limits = Limits(requests_per_day=9, tokens_per_day=100, budget_per_day=50, budget_per_month=50)
    account.keep_to(limits)
    left = [(each.what, each.remaining) for each in account.standings(now, 1, 1)]
    assert left == [("requests", 8), ("tokens", 70), ("cost", 40), ("cost", 30)]


async def test_a_count_that_comes_after_the_end_changes_nothing(store):
    caller = await caller_with(store, Tier(tokens_per_day=1_000, budget_per_day=1_000))
    gate = Gate(store)
    reservation = await gate.admit(caller, "r1", 100, 100)
    gate.settle(reservation, 30, 40)
    gate.grow(reservation, 500, 600)
    assert (reservation.tokens, reservation.cost) == (30, 40)
    left = {each.what: each.remaining for each in await gate.standings(caller)}
    assert left == {"tokens": 970, "cost": 960}


def test_periods_are_utc_days_and_months():
    assert periods(0) == (0, 1970 * 12)
    assert periods(951_782_399.9) == (11_015, 2000 * 12 + 1)  # the 28th of February 2000
    for unix in (0, 951_782_400, 1_735_689_599, 1_735_689_600):
        assert month_start(periods(unix)[1]) <= unix < month_start(periods(unix)[1] + 1)


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "$0.00"), (1, "$0.000001"), (1_500_000, "$1.50"), (10_250_000, "$10.25")],
)
def test_money_is_shown_exactly(micro, text):
    assert dollars(micro) == text


class Model:
    """The plainest account: everything is kept, and counted anew each time. Nothing grows old meanwhile."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.requests: dict[str, tuple[int, int]] = {}
        self.running: set[str] = set()

    def admits(self, tokens: int, cost: int) -> bool:
        used = sum(t for t, _ in self.requests.values())
        spent = sum(c for _, c in self.requests.values())
        tier = self.tier
        return (
            len(self.requests) < (tier.requests_per_hour or 0)
            and used + tokens <= (tier.tokens_per_day or 0)
            and len(self.running) < (tier.concurrent or 0)
            and (cost == 0 or spent + cost <= (tier.budget_per_month or 0))
        )

    def remaining(self) -> dict[str, int]:
        tier = self.tier
        used = sum(t for t, _ in self.requests.values())
        spent = sum(c for _, c in self.requests.values())
        return {
            "requests": max(0, (tier.requests_per_hour or 0) - len(self.requests)),
            "tokens": max(0, (tier.tokens_per_day or 0) - used),
            "concurrent": max(0, (tier.concurrent or 0) - len(self.running)),
            "cost": max(0, (tier.budget_per_month or 0) - spent),
        }


AMOUNTS = st.integers(0, 60)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), AMOUNTS, AMOUNTS),
        st.tuples(st.just("grow"), AMOUNTS, AMOUNTS),
        st.tuples(st.just("settle"), AMOUNTS, AMOUNTS),
        st.tuples(st.just("settle while an account is read"), AMOUNTS, AMOUNTS),
        st.tuples(st.just("withdraw"), AMOUNTS, AMOUNTS),
        st.tuples(st.just("withdraw while an account is read"), AMOUNTS, AMOUNTS),
        st.tuples(st.just("forget"), AMOUNTS, AMOUNTS),
    ),
    max_size=40,
)
TIER = Tier(requests_per_hour=8, tokens_per_day=200, concurrent=4, budget_per_month=150)


@settings(max_examples=60, deadline=None)
@given(acts=ACTS)
def test_reservations_against_counting_by_hand_with_accounts_that_come_and_go(
    acts, tmp_path_factory
):
    asyncio.run(_against_the_model(acts, tmp_path_factory.mktemp("gate")))


async def _against_the_model(acts: list[tuple[str, int, int]], folder: Path) -> None:
    async with open_store(load({"data_dir": str(folder)}, environ={}, directory=folder)) as store:
        caller = await caller_with(store, TIER)
        gate, model = Gate(store), Model(TIER)
        open_ones: list[Reservation] = []
        reading: list[asyncio.Future[Any]] = []
        for number, (act, tokens, cost) in enumerate(acts):
            if act == "forget":
                gate._accounts.clear()
            elif act == "admit":
                await _admit(store, gate, model, caller, open_ones, number, tokens, cost)
            elif open_ones:
                one = open_ones[tokens % len(open_ones)]
                if act == "grow":
                    gate.grow(one, tokens, cost)
                    held = model.requests[one.id]
                    model.requests[one.id] = (max(held[0], tokens), max(held[1], cost))
                    continue
                open_ones.remove(one)
                model.running.discard(one.id)
                if act.endswith("read"):
                    gate._accounts.clear()
                    reading.append(asyncio.ensure_future(gate.standings(caller)))
                    for _ in range(tokens % 5):
                        await asyncio.sleep(0)
                if act.startswith("settle"):
                    gate.settle(one, tokens, cost)
                    gate.settle(one, 999, 999)
                    us = int(one.id[:13], 16)
                    end = end_of(one.id, caller.user_id, caller.key.id, us, tokens, cost)
                    await store.journal.settle(end)
                    model.requests[one.id] = (tokens, cost)
                else:
                    gate.withdraw(one)
                    await store.database.write(
                        lambda c, i=one.id: (
                            c.execute("DELETE FROM requests WHERE id = ?", (i,)).rowcount
                        )
                    )
                    del model.requests[one.id]
            left = {each.what: each.remaining for each in await gate.standings(caller)}
            assert left == model.remaining()
        assert gate.open == len(open_ones)
        await asyncio.gather(*reading)


def _delete(request: str, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM requests WHERE id = ?", (request,))


async def _admit(
    store: Store,
    gate: Gate,
    model: Model,
    caller: Caller,
    open_ones: list[Reservation],
    number: int,
    tokens: int,
    cost: int,
) -> None:
    us = time.time_ns() // 1000
    request = f"{us:013x}{number:016x}"
    try:
        one = await gate.admit(caller, request, tokens, cost)
    except HubError:
        assert not model.admits(tokens, cost)
        return
    assert model.admits(tokens, cost)
    accepted = Accepted(request, caller.key.id, caller.user_id, "/", "m", False, us, 0)
    await store.journal.accept(accepted)
    model.requests[request] = (tokens, cost)
    model.running.add(request)
    open_ones.append(one)
