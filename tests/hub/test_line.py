"""The line over real sockets: who goes first, who is refused, and when to come back."""

import asyncio
import json
from typing import Any

from hub.protocol import End, JobFrame, Piece
from hub.rules.tiers import Tier
from tests.conftest import RunningHub
from tests.doors import ask, eventually, health, socket_worker


async def user(hub: RunningHub, name: str, priority: int = 0) -> RunningHub:
    email = f"{name}@example.org"
    await hub.new_user(email, Tier(priority=priority))
    return hub.calling(await hub.new_key(name, user=email))


async def busy(hub: RunningHub, worker: Any) -> JobFrame:
    """The worker's only slot is taken."""
    hub.blocking = asyncio.create_task(ask(hub))
    return await worker.hear(JobFrame)


async def line_up(hub: RunningHub, name: str) -> "asyncio.Task[Any]":
    """One more in line, who is certain to be there when this returns."""
    before = (await health(hub))["waiting"]
    asking = asyncio.create_task(ask(hub, messages=[{"role": "user", "content": name}]))
    await eventually(lambda: hub.hub.dispatch.waiting == before + 1)
    return asking


async def served(worker: Any, first: JobFrame, count: int) -> list[str]:
    """Answer one after the other; who asked."""
    order, job = [], first
    for _ in range(count):
        await worker.say(Piece(job.job, "done"), End(job.job))
        job = await worker.hear(JobFrame)
        order.append(worker_saw(job))
    await worker.say(End(job.job))
    return order


def worker_saw(job: JobFrame) -> str:
    return str(json.loads(bytes(job.body))["messages"][0]["content"])


async def test_one_keys_many_requests_do_not_delay_anothers_first(hub):
    many, one = await user(hub, "many"), await user(hub, "one")
    async with socket_worker(hub, slots=1) as worker:
        first = await busy(hub, worker)
        waiting = [await line_up(many, "many") for _ in range(6)]
        waiting.append(await line_up(one, "one"))
        order = await served(worker, first, 7)
        await asyncio.gather(*waiting, hub.blocking)
    assert order.index("one") <= 1


async def test_a_higher_tier_has_more_turns_and_a_lower_one_still_some(hub):
    free, paid = await user(hub, "free", 0), await user(hub, "paid", 2)
    async with socket_worker(hub, slots=1) as worker:
        first = await busy(hub, worker)
        waiting = [await line_up(free, "free") for _ in range(2)]
        waiting += [await line_up(paid, "paid") for _ in range(8)]
        order = await served(worker, first, 10)
        await asyncio.gather(*waiting, hub.blocking)
    assert order[:4].count("paid") >= 3
    assert "free" in order[:5]
    assert order[5:].count("free") <= 1


async def test_a_key_has_only_so_much_of_the_line(start_hub):
    hub = await start_hub(line={"max_waiting_per_key": 2})
    many, one = await user(hub, "many"), await user(hub, "one")
    async with socket_worker(hub, slots=1) as worker:
        first = await busy(hub, worker)
        waiting = [await line_up(many, "many") for _ in range(2)]
        refused = await ask(many)
        assert (refused.status, refused.error["code"]) == (429, "queue_full")
        assert int(refused.headers["Retry-After"]) >= 1
        waiting.append(await line_up(one, "one"))
        await served(worker, first, 3)
        assert {(await each).status for each in waiting} == {200}
        await hub.blocking


async def test_who_is_refused_for_a_full_line_has_used_nothing(start_hub):
    hub = await start_hub(line={"max_waiting": 0})
    await hub.new_user("ann@example.org", Tier(requests_per_day=5))
    ann = hub.calling(await hub.new_key("ann", user="ann@example.org"))
    async with socket_worker(hub, slots=1) as worker:
        first = await busy(hub, worker)
        refused = await ask(ann)
        assert (refused.status, refused.error["code"]) == (429, "queue_full")
        assert refused.headers["x-ratelimit-remaining-requests"] == "5"
        await worker.say(End(first.job))
        await hub.blocking
    assert hub.hub.gate.open == 0


async def test_what_would_only_wait_in_vain_is_refused_at_once(start_hub):
    hub = await start_hub(deadlines={"queue_s": 20})
    many = await user(hub, "many")
    async with socket_worker(hub, slots=1) as worker:
        first = await busy(hub, worker)
        # As if answers took ten seconds each: then ten who wait are a hundred seconds.
        hub.hub.dispatch._usual_s["m"] = 10.0
        waiting = [await line_up(many, "many") for _ in range(10)]
        refused = await ask(many)
        assert (refused.status, refused.error["code"]) == (429, "queue_full")
        assert int(refused.headers["Retry-After"]) == 11 * 10 - 20
        await served(worker, first, 10)
        await asyncio.gather(*waiting, hub.blocking)
