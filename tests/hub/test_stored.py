"""Stored completions, with the official SDK: told again to whom they belong, and to nobody else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from hub.protocol import End, Fail, JobFrame, Piece
from hub.rules.tiers import Tier
from tests.conftest import RunningHub
from tests.doors import ask, send, socket_worker

SAY = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def worker(hub: RunningHub) -> AsyncIterator[Any]:
    """One that answers "hello world" to everything."""
    async with socket_worker(hub, models=[{"id": "m"}, {"id": "n"}]) as one:
        answering = asyncio.create_task(answer(one))
        yield one
        answering.cancel()


async def answer(worker: Any) -> None:
    while True:
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "hello "), Piece(job.job, "world"), End(job.job))


def client(hub: RunningHub, key: str | None = None) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{hub.url}/v1", api_key=key or hub.key, max_retries=0)


async def stored(sdk: AsyncOpenAI, **more: Any) -> Any:
    return await sdk.chat.completions.create(
        **{"model": "m", "messages": SAY, "store": True, **more}
    )


async def test_a_stored_completion_is_told_again_as_it_was(hub, worker):
    async with client(hub) as sdk:
        made = await stored(sdk, metadata={"topic": "greeting"})
        told = await sdk.chat.completions.retrieve(made.id)
    assert told.choices == made.choices
    assert (told.id, told.created, told.model, told.usage) == (
        made.id,
        made.created,
        made.model,
        made.usage,
    )
    assert told.metadata == {"topic": "greeting"}


async def test_a_streamed_one_is_rebuilt_from_its_pieces(hub, worker):
    streamed = await ask(hub, stream=True, store=True)
    made = streamed.events[0]["id"]
    async with client(hub) as sdk:
        told = await sdk.chat.completions.retrieve(made)
    assert told.choices[0].message.content == "hello world"
    assert told.choices[0].finish_reason == "stop"


async def test_reasoning_and_tool_calls_are_kept_too(hub):
    token = await hub.new_worker_token("believed", trusted=True)
    models = [{"id": "m", "features": ["tools"]}]
    async with socket_worker(hub, token=token, models=models) as worker:
        tools = [{"type": "function", "function": {"name": "f"}}]
        asking = asyncio.create_task(ask(hub, store=True, tools=tools))
        job = await worker.hear(JobFrame)
        call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
        deltas = [{"reasoning_content": "hm"}, {"tool_calls": [call]}]
        await worker.say(*(Piece(job.job, delta=d) for d in deltas), End(job.job, "tool_calls"))
        made = (await asking).json
        path = f"/v1/chat/completions/{made['id']}"
        told = (await send(hub, method="GET", path=path)).json
    assert told["choices"] == made["choices"]


async def test_what_was_not_to_be_stored_is_not(hub, worker):
    async with client(hub) as sdk:
        for more in ({"store": False}, {"store": None}):
            made = await stored(sdk, **more)
            with pytest.raises(openai.NotFoundError):
                await sdk.chat.completions.retrieve(made.id)
    assert await hub.rows("SELECT * FROM request_bodies") == []
    assert await hub.rows("SELECT * FROM response_pieces") == []


async def test_lists_have_pages_and_an_order(hub, worker):
    async with client(hub) as sdk:
        made = [(await stored(sdk)).id for _ in range(5)]
        assert [each.id async for each in sdk.chat.completions.list(limit=2)] == made
        newest = sdk.chat.completions.list(limit=2, order="desc")
        assert [each.id async for each in newest] == made[::-1]
        page = await sdk.chat.completions.list(limit=2, after=made[1])
    assert [each.id for each in page.data] == made[2:4]
    assert page.has_more


async def test_lists_can_be_of_a_model_or_of_some_metadata(hub, worker):
    async with client(hub) as sdk:
        of_n = await stored(sdk, model="n", metadata={"a": "1", "b": "2"})
        of_m = await stored(sdk, metadata={"a": "1"})
        assert [each.id async for each in sdk.chat.completions.list(model="n")] == [of_n.id]
        for labels, found in (
            ({"a": "1"}, [of_n.id, of_m.id]),
            ({"a": "1", "b": "2"}, [of_n.id]),
            ({"a": "2"}, []),
        ):
            listed = sdk.chat.completions.list(metadata=labels)
            assert [each.id async for each in listed] == found


async def test_metadata_can_be_changed(hub, worker):
    async with client(hub) as sdk:
        made = await stored(sdk, metadata={"a": "1"})
        changed = await sdk.chat.completions.update(made.id, metadata={"b": "2"})
        assert changed.metadata == {"b": "2"}
        assert (await sdk.chat.completions.retrieve(made.id)).metadata == {"b": "2"}


async def test_what_is_deleted_is_gone(hub, worker):
    async with client(hub) as sdk:
        made = await stored(sdk)
        assert (await sdk.chat.completions.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.delete(made.id)
    assert await hub.rows("SELECT * FROM response_pieces") == []


async def test_the_messages_that_were_sent_are_told_too(hub, worker):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": parts}]
    async with client(hub) as sdk:
        made = await stored(sdk, messages=messages)
        told = [m async for m in sdk.chat.completions.messages.list(made.id, limit=1)]
    assert [(m.role, m.content) for m in told] == [("system", "be brief"), ("user", "a\nb")]
    assert len({m.id for m in told}) == 2


async def test_to_anybody_else_it_is_not_there(hub, worker):
    for name in ("ann", "bob"):
        await hub.new_user(f"{name}@example.org", Tier())
    anns, bobs = [await hub.new_key(name, user=f"{name}@example.org") for name in ("ann", "bob")]
    second = await hub.new_key("second", user="ann@example.org")
    async with client(hub, anns) as sdk:
        made = (await stored(sdk)).id
    async with client(hub, second) as sdk:
        assert (await sdk.chat.completions.retrieve(made)).id == made
    for other in (bobs, hub.key):
        async with client(hub, other) as sdk:
            for attempt in (
                sdk.chat.completions.retrieve(made),
                sdk.chat.completions.delete(made),
                sdk.chat.completions.update(made, metadata={}),
                sdk.chat.completions.messages.list(made),
            ):
                with pytest.raises(openai.NotFoundError):
                    await attempt
            assert [each async for each in sdk.chat.completions.list()] == []


async def test_an_answer_that_broke_off_is_stored_as_far_as_it_came(hub):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, stream=True, store=True))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "as far as"), Fail(job.job, "upstream_error", "broke"))
        made = (await asking).events[0]["id"]
    told = (await send(hub, method="GET", path=f"/v1/chat/completions/{made}")).json
    assert told["choices"][0]["message"]["content"] == "as far as"
    assert told["choices"][0]["finish_reason"] == "length"
    assert told["incomplete_details"] == {"reason": "upstream_error"}


async def test_one_that_lost_a_piece_says_so(hub, worker):
    async with client(hub) as sdk:
        made = await stored(sdk)
    await hub.hub.store.database.write(lambda c: c.execute("DELETE FROM response_pieces").rowcount)
    told = (await send(hub, method="GET", path=f"/v1/chat/completions/{made.id}")).json
    assert told["incomplete_details"] == {"reason": "storage_failed"}


async def test_once_its_time_is_over_it_is_gone_before_it_is_swept(hub, worker):
    async with client(hub) as sdk:
        made = await stored(sdk)
        await hub.hub.store.database.write(
            lambda c: c.execute("UPDATE request_bodies SET told_until = 1").rowcount
        )
        with pytest.raises(openai.NotFoundError):
            await sdk.chat.completions.retrieve(made.id)
        assert [each async for each in sdk.chat.completions.list()] == []


async def test_while_it_runs_it_is_not_there_yet(hub):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, store=True))
        job = await worker.hear(JobFrame)
        path = f"/v1/chat/completions/chatcmpl-{job.job}"
        assert (await send(hub, method="GET", path=path)).status == 404
        await worker.say(Piece(job.job, "hi"), End(job.job))
        await asking
        await hub.rows()
        assert (await send(hub, method="GET", path=path)).status == 200


@pytest.mark.parametrize(
    "metadata",
    [[], "x", {"a": 1}, {"a" * 65: "b"}, {"a": "b" * 513}, {str(n): "" for n in range(17)}],
)
async def test_bad_metadata_is_refused_and_names_itself(hub, worker, metadata):
    refused = await ask(hub, store=True, metadata=metadata or [1])
    assert refused.status == 400
    assert "metadata" in refused.error["param"]
    assert (await ask(hub, metadata=metadata)).status == 200


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "order=up", "after=nothing", "after=chatcmpl-%00"]
)
async def test_a_bad_list_is_a_clear_answer(hub, worker, query):
    listed = await send(hub, method="GET", path=f"/v1/chat/completions?{query}")
    assert listed.status in (200, 400, 404)
    if listed.status != 200:
        assert listed.error["message"]


async def test_retention_is_the_tiers(hub, worker):
    await hub.new_user("ann@example.org", Tier(retention_days=3))
    key = await hub.new_key("ann", user="ann@example.org")
    async with client(hub, key) as sdk:
        await stored(sdk)
    [row] = await hub.rows("SELECT * FROM request_bodies")
    assert row["expires_at"] - row["created_at"] == 3 * 86_400_000_000


async def test_an_unreadable_one_is_an_honest_error(hub, worker):
    async with client(hub) as sdk:
        made = await stored(sdk)
    await hub.hub.store.database.write(
        lambda c: c.execute("UPDATE request_bodies SET body = zeroblob(40)").rowcount
    )
    told = await send(hub, method="GET", path=f"/v1/chat/completions/{made.id}")
    assert (told.status, told.error["code"]) == (503, "content_unreadable")
    assert told.headers["x-should-retry"] == "false"
    assert made.id in told.error["message"]
    listed = await send(hub, method="GET", path="/v1/chat/completions")
    assert (listed.status, listed.error["code"]) == (503, "content_unreadable")
    # It can be done away with, and everything else goes on.
    path = f"/v1/chat/completions/{made.id}"
    assert (await send(hub, method="DELETE", path=path)).status == 200
    assert (await send(hub, method="GET", path="/v1/chat/completions")).json["data"] == []
