"""Whom a worker serves: a private one its owner alone, a shared one everybody; and what it may offer."""

import asyncio

import pytest

from hub.protocol import End, JobFrame, ModelsFrame, Piece
from hub.protocol import Model as ModelCard
from hub.rules.tiers import Price, Tier
from tests.conftest import TEST, RunningHub
from tests.doors import ask, eventually, send, socket_worker

GENEROUS = Tier()


async def private_worker(hub: RunningHub, email: str, **details: object) -> tuple[str, str]:
    """A user's key and the token of a private worker of theirs."""
    await hub.new_user(email, GENEROUS)
    token = await hub.new_worker_token(email, user=email, **details)
    return await hub.new_key(email, user=email), token


async def models_of(hub: RunningHub, key: str) -> list[str]:
    listed = await send(hub.calling(key), method="GET", path="/v1/models")
    return [model["id"] for model in listed.json["data"]]


async def answer_one(worker, text: str) -> None:
    job = await worker.hear(JobFrame)
    await worker.say(Piece(job.job, text), End(job.job))


async def test_a_private_worker_never_sees_another_users_prompt(start_hub):
    hub = await start_hub(deadlines={"absent_s": 0.05})
    anns, token = await private_worker(hub, "ann@example.org")
    await hub.new_user("bob@example.org", GENEROUS)
    bobs = await hub.new_key("bob", user="bob@example.org")
    async with socket_worker(hub, token=token) as worker:
        for other in (bobs, hub.key):
            refused = await ask(hub.calling(other))
            assert (refused.status, refused.error["code"]) == (404, "model_not_found")
        assert worker.unread == []
        _, answered = await asyncio.gather(answer_one(worker, "yours"), ask(hub.calling(anns)))
        assert answered.text == "yours"


async def test_while_shared_ones_are_away_a_private_one_is_still_nobody_elses(start_hub):
    hub = await start_hub(deadlines={"absent_s": 0.05}, workers={"grace_s": 0.05})
    _, token = await private_worker(hub, "ann@example.org")
    async with socket_worker(hub, worker="shared"):
        pass
    async with socket_worker(hub, token=token) as worker:
        refused = await ask(hub)
        assert (refused.status, refused.error["code"]) == (503, "no_worker_available")
        assert worker.unread == []


async def test_the_list_shows_what_the_caller_may_use(hub):
    anns, token = await private_worker(hub, "ann@example.org")
    await hub.new_user("bob@example.org", GENEROUS)
    bobs = await hub.new_key("bob", user="bob@example.org")
    async with (
        socket_worker(hub, models=[{"id": "shared"}], worker="w-s"),
        socket_worker(hub, token=token, models=[{"id": "private"}], worker="w-p"),
    ):
        assert await models_of(hub, anns) == ["private", "shared"]
        assert await models_of(hub, bobs) == ["shared"]
        assert await models_of(hub, hub.key) == ["shared"]
        path = "/v1/models/private"
        assert (await send(hub.calling(anns), method="GET", path=path)).status == 200
        assert (await send(hub.calling(bobs), method="GET", path=path)).status == 404


async def test_the_list_follows_workers_that_come_and_go(hub):
    anns, token = await private_worker(hub, "ann@example.org")
    assert await models_of(hub, anns) == []
    async with socket_worker(hub, token=token, models=[{"id": "a"}]) as worker:
        assert await models_of(hub, anns) == ["a"]
        await worker.say(ModelsFrame([ModelCard("b")]))
        await eventually(lambda: any("b" in w.models for w in hub.hub.roster))
        assert await models_of(hub, anns) == ["b"]


async def test_own_workers_go_first(hub):
    anns, token = await private_worker(hub, "ann@example.org")
    async with (
        socket_worker(hub, worker="shared", slots=1),
        socket_worker(hub, token=token, worker="private", slots=4) as own,
    ):
        for _ in range(3):
            _, answered = await asyncio.gather(answer_one(own, "own"), ask(hub.calling(anns)))
            assert answered.text == "own"


async def test_a_key_for_own_workers_only_never_reaches_a_shared_one(start_hub):
    hub = await start_hub(deadlines={"absent_s": 0.05})
    _, token = await private_worker(hub, "ann@example.org")
    key = await hub.new_key("own", user="ann@example.org", own_workers_only=True)
    async with socket_worker(hub, worker="shared") as shared:
        assert await models_of(hub, key) == []
        refused = await ask(hub.calling(key))
        assert refused.status == 503
        async with socket_worker(hub, token=token, worker="private") as own:
            _, answered = await asyncio.gather(answer_one(own, "own"), ask(hub.calling(key)))
            assert answered.text == "own"
        assert shared.unread == []


async def test_a_users_shared_token_serves_everybody(hub):
    await hub.new_user("ann@example.org", GENEROUS)
    token = await hub.new_worker_token("ann", user="ann@example.org", shared=True)
    async with socket_worker(hub, token=token) as worker:
        _, answered = await asyncio.gather(answer_one(worker, "for all"), ask(hub))
        assert answered.text == "for all"


async def test_a_token_says_which_models_its_workers_may_offer(hub):
    token = await hub.new_worker_token("picky", models=["gpt-*", "one[1]"])
    offered = [{"id": name} for name in ("gpt-4", "claude", "one[1]", "xgpt-4")]
    async with socket_worker(hub, token=token, models=offered) as worker:
        assert await models_of(hub, hub.key) == ["gpt-4", "one[1]"]
        await worker.say(ModelsFrame([ModelCard("claude"), ModelCard("gpt-5")]))
        await eventually(lambda: any("gpt-5" in w.models for w in hub.hub.roster))
        assert await models_of(hub, hub.key) == ["gpt-5"]


async def test_a_token_limits_the_slots_of_its_workers(hub):
    token = await hub.new_worker_token("narrow", slots=2)
    async with socket_worker(hub, token=token, slots=50):
        assert [worker.slots for worker in hub.hub.roster] == [2]


async def test_own_workers_have_their_own_price(hub):
    prices = [Price("*", output=1_000_000), Price("*", output=10_000, own_workers=True)]
    await hub.hub.store.prices.add(prices, TEST)
    anns, token = await private_worker(hub, "ann@example.org")
    shared_by = await hub.new_key("operator")
    async with (
        socket_worker(hub, token=token, worker="own") as own,
        socket_worker(hub, worker="shared") as shared,
    ):
        text = " word" * 100
        await asyncio.gather(answer_one(own, text), ask(hub.calling(anns)))
        await asyncio.gather(answer_one(shared, text), ask(hub.calling(shared_by)))
    rows = await hub.rows()
    assert [(row["cost"], row["own_worker"]) for row in rows] == [(1, 1), (100, 0)]


@pytest.mark.parametrize("trusted", [False, True])
async def test_a_workers_own_figures_are_billed_only_where_its_token_is_trusted(hub, trusted):
    await hub.hub.store.prices.add(
        [Price("*", input=1_000_000, output=1_000_000, cached=100_000)], TEST
    )
    token = await hub.new_worker_token("t", trusted=trusted)
    figures = {
        "prompt_tokens": 1_000,
        "completion_tokens": 500,
        "prompt_tokens_details": {"cached_tokens": 400},
    }
    async with socket_worker(hub, token=token) as worker:

        async def answer() -> None:
            job = await worker.hear(JobFrame)
            await worker.say(Piece(job.job, "hello"), End(job.job, usage=figures))

        _, answered = await asyncio.gather(answer(), ask(hub))
    [row] = await hub.rows()
    used = answered.json["usage"]
    if trusted:
        assert (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"]) == (
            1_000,
            400,
            500,
        )
        assert row["cost"] == 600 + 40 + 500
    else:
        assert row["completion_tokens"] == 1
        assert row["cost"] == row["prompt_tokens"] + 1
    assert used["completion_tokens"] == row["completion_tokens"]
    assert '"completion_tokens":500' in row["worker_usage"]


async def test_a_disabled_owners_workers_are_sent_away_for_good(hub):
    _, token = await private_worker(hub, "ann@example.org")
    async with socket_worker(hub, token=token) as worker:
        await hub.hub.store.users.set_disabled("ann@example.org", True, TEST)
        await hub.hub.accounts_changed()
        assert await worker.closed() == 4501
