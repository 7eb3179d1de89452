"""Every shape that the hub says is one of OpenAI's own description; every body has an answer.

`tests/doors.py` checks each reply of every test in the same way.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import ValidationError

from hub.protocol import Cancel, End, Fail, JobFrame, Piece
from tests.doors import Worker, ask, send, socket_worker
from tests.schemas import check, check_answer, check_event

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CALL = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
MORE = {"index": 0, "function": {"arguments": ":1}"}}
TOKEN = {"token": "hi", "logprob": -0.1, "bytes": [104, 105], "top_logprobs": []}
IMAGE = {"type": "image_url", "image_url": {"url": "https://site.example/a.png"}}
ABLE = [
    {
        "id": "m",
        "features": ["tools", "json_schema", "logprobs"],
        "modalities": {"in": ["text", "image"], "out": ["text", "image"]},
    }
]

ANSWERS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "text": ([Piece("", "hello "), Piece("", "world"), End("")], {}),
    "nothing": ([End("")], {}),
    "reasoning": ([Piece("", delta={"reasoning_content": "hm"}), Piece("", "a"), End("")], {}),
    "refusal": ([Piece("", delta={"refusal": "no"}), End("", "content_filter")], {}),
    "tools": (
        [
            Piece("", delta={"tool_calls": [CALL]}),
            Piece("", delta={"tool_calls": [MORE]}),
            End("", "tool_calls"),
        ],
        {"tools": TOOLS},
    ),
    "images": ([Piece("", delta={"images": [IMAGE]}), End("")], {}),
    "probabilities": (
        [Piece("", delta={"content": "hi", "logprobs": {"content": [TOKEN]}}), End("")],
        {"logprobs": True},
    ),
    "stop": ([Piece("", "one END two")], {"stop": "END"}),
    "length": ([Piece("", "one two three ")], {"max_tokens": 1}),
    "failure": ([Piece("", "half"), Fail("", "upstream_error")], {}),
    "early failure": ([Fail("", "moderated")], {}),
    "rate limit": ([Fail("", "rate_limited", retry_after_s=300)], {}),
}


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ANSWERS)
async def test_each_kind_of_answer_is_as_described(hub, kind, stream, usage):
    frames, members = ANSWERS[kind]
    if usage and stream:
        members = {**members, "stream_options": {"include_usage": True}}
    token = await hub.new_worker_token("believed", trusted=True)
    async with socket_worker(hub, token=token, models=ABLE) as worker:
        asking = asyncio.create_task(ask(hub, stream=stream, **members))
        job = await worker.hear(JobFrame)
        for frame in frames:
            frame.job = job.job
        await worker.say(*frames)
        reply = await asking
    if stream and reply.status == 200:
        assert reply.events
        for event in reply.events:
            check_event(event)
    else:
        check_answer("/v1/chat/completions", reply.status, reply.body)


async def test_models_and_refusals_are_as_described(hub):
    async with socket_worker(hub):
        models = await send(hub, method="GET", path="/v1/models")
        check(models.json, "ListModelsResponse")
        check((await send(hub, method="GET", path="/v1/models/m")).json, "Model")
    for reply in [
        await send(hub, b"{"),
        await send(hub, {}, headers={}),
        await send(hub, method="GET", path="/v1/nothing"),
        await send(hub, method="PUT"),
        await ask(hub, model="nonesuch"),
    ]:
        assert reply.status >= 400
        check(reply.json, "ErrorResponse")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("CreateChatCompletionResponse", {"id": "x", "choices": []}),
        ("ErrorResponse", {"error": {"message": "x", "type": "y"}}),
        ("CreateChatCompletionStreamResponse", {"choices": [{"delta": {}, "index": 0}]}),
        ("ListModelsResponse", {"object": "list", "data": [{}]}),
    ],
)
def test_the_checker_knows_wrong_from_right(name, wrong):
    with pytest.raises(ValidationError):
        check(wrong, name)


# --- bodies --------------------------------------------------------------------------------------------

words = st.text(max_size=20) | st.sampled_from(["user", "assistant", "tool", "text", "auto", "f"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)


@st.composite
def mostly(draw: Any, right: st.SearchStrategy[Any]) -> Any:
    """What it should be, or now and then something else."""
    return draw(anything if draw(st.integers(1, 20)) == 20 else right)


PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
urls = st.sampled_from([PIXEL, PIXEL[:40], "http://127.0.0.1:1/x.png", "x", ""])
parts = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": mostly(words)}),
    st.fixed_dictionaries({"type": st.just("refusal"), "refusal": mostly(words)}),
    st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": mostly(st.fixed_dictionaries({"url": mostly(urls)}) | urls),
        }
    ),
    st.fixed_dictionaries({"type": mostly(st.sampled_from(["input_audio", "file"]))}),
)
calls = st.fixed_dictionaries(
    {"id": mostly(words), "type": st.just("function"), "function": anything}
)
messages = st.fixed_dictionaries(
    {
        "role": mostly(st.sampled_from(["system", "developer", "user", "assistant", "tool"])),
        "content": mostly(words | st.lists(mostly(parts), max_size=3)),
    },
    optional={"name": mostly(words), "tool_calls": mostly(st.lists(mostly(calls), max_size=2))},
)
functions = st.fixed_dictionaries({"name": mostly(st.sampled_from(["f", "g"]))})
formats = st.sampled_from(["text", "json_object"])
tools = st.fixed_dictionaries({"type": st.just("function"), "function": mostly(functions)})
bodies = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": mostly(st.lists(mostly(messages), min_size=1, max_size=3))},
    optional={
        "stream": mostly(st.booleans()),
        "stream_options": mostly(st.fixed_dictionaries({"include_usage": mostly(st.booleans())})),
        "stop": mostly(words | st.lists(words, max_size=3)),
        "max_tokens": mostly(st.integers(1, 5)),
        "max_completion_tokens": mostly(st.integers(1, 5)),
        "n": mostly(st.just(1)),
        "temperature": mostly(st.floats(0, 2)),
        "tools": mostly(st.lists(mostly(tools), max_size=2)),
        "tool_choice": mostly(st.sampled_from(["auto", "none"]) | tools),
        "response_format": mostly(st.fixed_dictionaries({"type": mostly(formats)})),
        "logprobs": mostly(st.booleans()),
        "top_logprobs": mostly(st.just(0)),
        "functions": mostly(st.just([])),
        "modalities": mostly(st.just(["text"])),
        "metadata": anything,
    },
)


async def answer_everything(worker: Worker) -> None:
    """The same words to everybody; callers that have enough of them cancel."""
    while True:
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "some text, "), Piece(job.job, "and f more"), End(job.job))
        worker.unread = [frame for frame in worker.unread if not isinstance(frame, Cancel)]


@pytest.fixture(params=["tab", "agent"])
async def answering(start_hub, request) -> AsyncIterator[Any]:
    """A hub whose worker keeps no history and takes text alone, or one that does all there is."""
    hub = await start_hub()
    able = [{**ABLE[0], "features": [*ABLE[0]["features"], "history"]}]
    models = [{"id": "m"}] if request.param == "tab" else able
    token = await hub.new_worker_token("believed", trusted=True)
    async with socket_worker(hub, token=token, models=models) as worker:
        task = asyncio.create_task(answer_everything(worker))
        yield hub
        task.cancel()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=bodies)
async def test_every_body_is_answered_or_refused_by_name(answering, body):
    reply = await send(answering, body)
    assert reply.status in (200, 400), reply.body
    if reply.status == 400:
        assert reply.error["param"], json.dumps(body)
