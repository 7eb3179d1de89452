"""Agents with a range of slots are told to have more while requests wait, and fewer when they do not."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol import Drain, End, JobFrame, Piece, Scale, StatusFrame
from hub.rules.scaling import Load
from hub.settings import Scaling
from tests.doors import ask, eventually, socket_worker

RULES = Scaling(grow_after_s=5, shrink_after_s=100)

# --- on paper --------------------------------------------------------------------------------------------


def test_requests_that_wait_call_for_more_slots_and_it_is_said_once():
    load = Load(RULES, 0)
    said = [load.look(now, 2, 2, 3, 100) for now in (5, 10, 15)]
    assert said == [5, None, None]


def test_slots_that_were_not_used_are_given_up_after_a_while():
    load = Load(RULES, 0)
    said = [load.look(now, 8, 3 if now < 50 else 0, 0, 100) for now in range(5, 206, 5)]
    assert [slots for slots in said if slots is not None] == [3, 1]


def test_a_busy_agent_keeps_its_slots():
    load = Load(RULES, 0)
    assert not any(load.look(now, 4, 4, 0, 100) for now in range(5, 1000, 5))


def test_no_more_than_its_token_allows():
    assert Load(RULES, 0).look(5, 2, 2, 50, most=4) == 4


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 50))))
def test_what_it_is_told_is_within_bounds_and_never_repeated(looks):
    load, told = Load(RULES, 0), None
    for number, (slots, busiest, waiting) in enumerate(looks):
        said = load.look(number * 30.0, slots, busiest, waiting, 10)
        assert said is None or 1 <= said <= max(10, busiest, 20)
        assert said is None or said != told
        told = said if said is not None else told


# --- in a hub --------------------------------------------------------------------------------------------


def look(hub: Any) -> None:
    """As the hub does every few seconds."""
    hub.hub.scaling.look()


async def test_an_agent_is_asked_for_more_slots_and_then_for_fewer(start_hub):
    hub = await start_hub(scaling={"grow_after_s": 0, "shrink_after_s": 0.05})
    async with socket_worker(hub, slots=1) as agent:
        asking = [asyncio.create_task(ask(hub)) for _ in range(4)]
        first = await agent.hear(JobFrame)
        await eventually(lambda: hub.hub.dispatch.waiting == 3)
        look(hub)
        assert (await agent.hear(Scale)).slots == 4
        await agent.say(StatusFrame("ready", slots=4))
        for job in [first, *[await agent.hear(JobFrame) for _ in range(3)]]:
            await agent.say(Piece(job.job, "x"), End(job.job))
        assert [reply.status for reply in await asyncio.gather(*asking)] == [200] * 4
        look(hub)
        await asyncio.sleep(0.06)
        look(hub)
        await asyncio.sleep(0.06)
        look(hub)
        assert (await agent.hear(Scale)).slots == 1


@pytest.mark.parametrize(
    "card", [{"kind": "userscript", "slots": 0}, {"models": [{"id": "other"}]}]
)
async def test_only_agents_that_offer_the_model_are_asked(start_hub, card):
    hub = await start_hub(scaling={"grow_after_s": 0})
    async with socket_worker(hub, slots=1), socket_worker(hub, worker="w-2", **card) as other:
        asking = [asyncio.create_task(ask(hub)) for _ in range(2)]
        await eventually(lambda: hub.hub.dispatch.waiting == 1)
        look(hub)
        next(w for w in hub.hub.roster if w.id == "w-2").drain()
        await other.hear(Drain)
        assert not [frame for frame in other.unread if isinstance(frame, Scale)]
        for task in asking:
            task.cancel()


async def test_agents_share_what_waits(start_hub):
    hub = await start_hub(scaling={"grow_after_s": 0})
    async with socket_worker(hub, slots=1) as a, socket_worker(hub, slots=1, worker="w-2") as b:
        asking = [asyncio.create_task(ask(hub)) for _ in range(6)]
        await eventually(lambda: hub.hub.dispatch.waiting == 4)
        look(hub)
        assert [(await agent.hear(Scale)).slots for agent in (a, b)] == [3, 3]
        for task in asking:
            task.cancel()


async def test_a_private_agent_is_not_asked_for_others_requests(start_hub):
    hub = await start_hub(scaling={"grow_after_s": 0})
    user = await hub.new_user("ann@example.org")
    token = await hub.new_worker_token(user=user.id, shared=False)
    async with (
        socket_worker(hub, slots=1) as shared,
        socket_worker(hub, token=token, worker="hers", slots=1),
    ):
        asking = [asyncio.create_task(ask(hub)) for _ in range(3)]
        await eventually(lambda: hub.hub.dispatch.waiting == 2)
        look(hub)
        assert (await shared.hear(Scale)).slots == 3
        for task in asking:
            task.cancel()
