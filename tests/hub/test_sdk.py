"""The official `openai` library, unchanged, against a running hub."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from hub.protocol import Cancel, End, JobFrame, Piece, Started
from tests.doors import Worker, echo_agent, eventually, health, socket_worker

HELLO = [{"role": "user", "content": "one two three"}]


@pytest.fixture
async def sdk(hub) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client(hub) as sdk:
        yield sdk


def client(hub: Any, key: str | None = None) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{hub.url}/v1", api_key=key or hub.key, max_retries=0)


@pytest.fixture
async def echo(hub) -> AsyncIterator[None]:
    """A real agent with the echo engine, connected."""
    async with echo_agent(hub.url, hub.worker_token):
        await eventually(lambda: len(hub.hub.roster))
        yield


def ask(sdk: openai.AsyncOpenAI, **members: Any) -> Any:
    return sdk.chat.completions.create(**{"model": "m", "messages": HELLO, **members})


# --- what works ----------------------------------------------------------------------------------------


async def test_no_worker_means_no_models(sdk):
    assert (await sdk.models.list()).data == []


async def test_the_models_of_live_workers_are_listed(sdk, echo):
    models = (await sdk.models.list()).data
    assert [model.id for model in models] == ["echo", "echo-fail", "echo-slow", "echo-tools"]
    assert {model.owned_by for model in models} == {"echo"}


async def test_one_model_is_retrieved(sdk, echo):
    model = await sdk.models.retrieve("echo")
    assert (model.id, model.object) == ("echo", "model")


async def test_a_model_with_a_slash_is_retrieved(hub, sdk):
    async with socket_worker(hub, models=[{"id": "maker/model-1"}]):
        assert (await sdk.models.retrieve("maker/model-1")).id == "maker/model-1"


async def test_a_model_that_is_not_live_is_not_found(sdk, echo):
    with pytest.raises(openai.NotFoundError) as refused:
        await sdk.models.retrieve("nonesuch")
    assert refused.value.code == "model_not_found"


async def test_a_plain_completion(sdk, echo):
    answer = await ask(sdk, model="echo")
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens == 3


async def test_a_streamed_completion_with_usage(sdk, echo):
    options = {"include_usage": True}
    chunks = [c async for c in await ask(sdk, model="echo", stream=True, stream_options=options)]
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "one two three"
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 3)


async def test_the_librarys_own_stream_helper_puts_the_answer_together(sdk, echo):
    async with sdk.chat.completions.stream(model="echo", messages=HELLO) as stream:
        answer = await stream.get_final_completion()
    assert answer.choices[0].message.content == "one two three"


async def test_the_request_id_reaches_the_library_and_the_journal(hub, sdk, echo):
    answer = await ask(sdk, model="echo")
    rows = await hub.rows()
    assert [(row["id"], row["state"]) for row in rows] == [(answer._request_id, "completed")]


async def test_twenty_at_once_each_get_their_own_answer(sdk, echo):
    async def one(number: int) -> None:
        messages = [{"role": "user", "content": f"I am number {number}"}]
        if number % 2:
            answer = await ask(sdk, model="echo", messages=messages)
            assert answer.choices[0].message.content == f"I am number {number}"
        else:
            chunks = await ask(sdk, model="echo", messages=messages, stream=True)
            texts = [chunk.choices[0].delta.content or "" async for chunk in chunks]
            assert "".join(texts) == f"I am number {number}"

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(one(number))


# --- errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["sk-wrong", "a b"])
async def test_a_wrong_key_is_an_authentication_error(hub, key):
    with pytest.raises(openai.AuthenticationError) as refused:
        await client(hub, key).models.list()
    assert refused.value.code == "invalid_api_key"


async def test_a_worker_token_is_no_key(hub):
    with pytest.raises(openai.AuthenticationError):
        await client(hub, hub.worker_token).models.list()


async def test_an_unknown_model_is_a_not_found_error(sdk, echo):
    with pytest.raises(openai.NotFoundError) as refused:
        await ask(sdk, model="nonesuch")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": []}, "messages"),
        ({"temperature": "hot"}, "temperature"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "wizard", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"content": "who?"}]}, "messages[0].role"),
    ],
)
async def test_a_bad_body_is_a_bad_request_that_names_the_parameter(
    sdk, echo, stream, members, param
):
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(sdk, **{"model": "echo", **members, "stream": stream})
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


async def test_a_failure_in_mid_stream_is_raised(sdk, echo):
    stream = await ask(sdk, model="echo-fail", stream=True)
    got = [(await anext(stream)).choices[0].delta.content for _ in range(4)]
    assert got == ["", "one ", "two ", "three"]
    with pytest.raises(openai.APIError, match="provider failed"):
        await anext(stream)


async def test_a_failure_of_a_plain_answer_is_its_status(sdk, echo):
    with pytest.raises(openai.InternalServerError) as failed:
        await ask(sdk, model="echo-fail")
    assert (failed.value.status_code, failed.value.code) == (502, "upstream_error")


# --- callers that leave --------------------------------------------------------------------------------


async def heard_cancelled(hub: Any, worker: Worker, job: JobFrame) -> None:
    """The worker was told, is free for another caller at once, and the journal knows."""
    cancel = await worker.hear(Cancel)
    assert (cancel.job, cancel.reason) == (job.job, "caller_left")
    async with client(hub) as sdk:
        asking = asyncio.create_task(ask(sdk))
        after = await worker.hear(JobFrame)
        await worker.say(Piece(after.job, "free again"), End(after.job))
        assert (await asking).choices[0].message.content == "free again"
    states = {row["id"]: row["state"] for row in await hub.rows()}
    assert (states[job.job], states[after.job]) == ("cancelled", "completed")


async def test_leaving_midway_frees_the_worker(hub, sdk):
    async with socket_worker(hub, slots=1) as worker:
        asking = asyncio.create_task(ask(sdk, stream=True))
        job = await worker.hear(JobFrame)
        await worker.say(Started(job.job), Piece(job.job, "half an"))
        async with await asking as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content == "half an":
                    break
        await heard_cancelled(hub, worker, job)
        row = next(row for row in await hub.rows() if row["id"] == job.job)
        assert (row["delivered_chars"], row["completion_tokens"]) == (7, 2)


async def test_leaving_before_the_worker_said_anything_frees_it(hub, sdk):
    async with socket_worker(hub, slots=1) as worker:
        asking = asyncio.create_task(ask(sdk, stream=True))
        job = await worker.hear(JobFrame)
        await cancelled(asking)
        await heard_cancelled(hub, worker, job)


@pytest.mark.parametrize("said", [[], ["half an"]])
async def test_leaving_a_plain_answer_frees_the_worker(hub, sdk, said):
    async with socket_worker(hub, slots=1) as worker:
        asking = asyncio.create_task(ask(sdk))
        job = await worker.hear(JobFrame)
        await worker.say(Started(job.job), *(Piece(job.job, text) for text in said))
        await cancelled(asking)
        await heard_cancelled(hub, worker, job)


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_while_in_line_gives_up_the_place(hub, sdk, stream):
    async with socket_worker(hub, slots=1) as worker:
        first = asyncio.create_task(ask(sdk))
        busy = await worker.hear(JobFrame)
        waiting = asyncio.create_task(ask(sdk, stream=stream))
        await eventually(lambda: hub.hub.dispatch.waiting == 1)
        await cancelled(waiting)
        await eventually(lambda: hub.hub.dispatch.waiting == 0)
        await worker.say(Piece(busy.job, "done"), End(busy.job))
        assert (await first).choices[0].message.content == "done"
        assert [row["state"] for row in await hub.rows()] == ["completed", "cancelled"]
        assert not worker.unread
        assert (await health(hub))["active"] == 0


async def test_many_that_leave_at_once_leave_nothing_behind(hub, sdk):
    async with socket_worker(hub, slots=5):
        asking = [asyncio.create_task(ask(sdk, stream=number % 2 == 0)) for number in range(20)]
        await eventually(lambda: hub.hub.dispatch.active + hub.hub.dispatch.waiting == 20)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await eventually(lambda: not hub.hub.dispatch.active and not hub.hub.dispatch.waiting)
        assert {row["state"] for row in await hub.rows()} == {"cancelled"}


async def cancelled(asking: "asyncio.Task[Any]") -> None:
    """The caller closes its connection."""
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
