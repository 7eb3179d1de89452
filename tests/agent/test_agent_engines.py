"""The engines by themselves: echo, and openai against an upstream on a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from double import PATIENCE_S, eventually, free_port, hub_double, running_agent

from agent.catalogue import Catalogue, CataloguePace
from agent.engines import Delta, EngineFailure, Finish, Job, Text
from agent.engines.echo import EchoEngine
from agent.engines.example import example
from agent.engines.openai import OpenAIEngine, UpstreamPace
from agent.engines.sse import Event, EventParser
from hub.protocol import End, ModelsFrame, StatusFrame

KEY = "sk-upstream-secret"
QUICK = UpstreamPace(connect_s=2, idle_s=0.5, afterword_s=0.1, catalogue_s=2, alive_every_s=0)
Script = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return b"data: " + json.dumps({"choices": choices} | more).encode() + b"\n\n"


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
LAST = chunk(finish="stop") + b'data: {"choices":[],"usage":%s}\n\n' % json.dumps(USAGE).encode()
DONE = b"data: [DONE]\n\n"


class Upstream:
    """An OpenAI-compatible server that answers what a test tells it to."""

    def __init__(self) -> None:
        self.models: Any = {"object": "list", "data": [{"id": "m1", "owned_by": "lab"}]}
        self.models_status = 200
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: Any = {}
        self.script: Script | None = None
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.left = asyncio.Event()
        self.url = ""

    async def list(self, request: web.Request) -> web.Response:
        return web.json_response(self.models, status=self.models_status)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.json()))
        if self.script is None:
            return web.json_response(self.body, status=self.status, headers=self.headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self.script(request, response)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        return response

    def streams(self, *pieces: bytes) -> None:
        async def script(request: web.Request, response: web.StreamResponse) -> None:
            for piece in pieces:
                await response.write(piece)

        self.script = script


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    app = web.Application()
    app.router.add_get("/v1/models", server.list)
    app.router.add_post("/v1/chat/completions", server.chat)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


def job(model: str = "m1", **body: Any) -> Job:
    body = {"model": "alias", "messages": [{"role": "user", "content": "hi"}]} | body
    return Job("j", "chat", model, json.dumps(body).encode(), 60.0)


async def heard(server: Upstream, **body: Any) -> list[Any]:
    engine = OpenAIEngine(server.url, KEY, QUICK)
    try:
        return [part async for part in engine.answer(job(**body))]
    finally:
        await engine.close()


async def failure(server: Upstream) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        await heard(server)
    return caught.value


# --- echo --------------------------------------------------------------------------------------------


async def echoed(model: str, content: Any) -> list[Any]:
    engine = EchoEngine(slow_s=0.05)
    messages = [{"role": "user", "content": "no"}, {"role": "user", "content": content}]
    return [part async for part in engine.answer(job(model, messages=messages))]


async def test_echo_says_the_last_user_message_word_by_word():
    parts = await echoed("echo", "  two  words\n")
    assert parts[:-1] == [Text("  "), Text("two  "), Text("words\n")]
    assert parts[-1].usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_echo_joins_text_parts():
    content = [{"type": "text", "text": "a "}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert (await echoed("echo", content))[:-1] == [Text("a "), Text("b")]


async def test_echo_slow_takes_its_time_in_many_pieces():
    began = asyncio.get_running_loop().time()
    parts = await echoed("echo-slow", "x" * 100)
    assert asyncio.get_running_loop().time() - began >= 0.05
    assert "".join(part.text for part in parts[:-1]) == "x" * 100
    assert len(parts) > 30


async def test_echo_fail_fails_after_three_pieces():
    async with hub_double() as hub, running_agent(hub.url, EchoEngine()):
        failing = hub.offer(await hub.worker(), "one", model="echo-fail")
        await hub.over(failing)
        assert failing.pieces == 3
        assert failing.last.code == "upstream_error"


TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"where": {"type": "string"}, "far": {"type": "boolean"}},
            "required": ["where"],
        },
    },
}
OTHER = {"type": "function", "function": {"name": "other"}}


async def able(*messages: dict[str, Any], **members: Any) -> list[Any]:
    said = [{"role": "user", "content": "over there"}, *messages]
    body = job("echo-tools", messages=said, **members)
    return [part async for part in EchoEngine().answer(body)]


@pytest.mark.parametrize(
    ("choice", "name", "arguments"),
    [
        (None, "look", '{"where":"over there"}'),
        ("auto", "look", '{"where":"over there"}'),
        ("required", "look", '{"where":"over there"}'),
        ({"type": "function", "function": {"name": "other"}}, "other", "{}"),
    ],
)
async def test_echo_tools_calls_a_tool_with_what_was_said(choice, name, arguments):
    call, end = await able(tools=[TOOL, OTHER], tool_choice=choice)
    (called,) = call.delta["tool_calls"]
    assert called["function"] == {"name": name, "arguments": arguments}
    assert called["id"].startswith("call_")
    assert end.finish_reason == "tool_calls"


async def test_echo_tools_says_what_a_tool_answered_or_what_was_said():
    answer = {"role": "tool", "tool_call_id": "call_1", "content": "nothing there"}
    assert (await able(answer, tools=[TOOL]))[:-1] == [Text("nothing "), Text("there")]
    assert (await able(tools=[TOOL], tool_choice="none"))[0] == Text("over ")
    assert (await able())[0] == Text("over ")


async def test_echo_tools_keeps_to_the_format_that_is_asked_for():
    schema = {"name": "s", "schema": TOOL["function"]["parameters"]}
    *texts, _ = await able(response_format={"type": "json_schema", "json_schema": schema})
    assert "".join(part.text for part in texts) == '{"where":"over there"}'
    *texts, _ = await able(response_format={"type": "json_object"})
    assert "".join(part.text for part in texts) == '{"echo":"over there"}'


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "so"),
        ({}, "so"),
        (None, "so"),
        (True, "so"),
        ({"const": 5}, 5),
        ({"type": "string", "enum": ["ok", "no"]}, "ok"),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "number"}, 0),
        ({"type": "boolean"}, False),
        ({"type": ["null", "string"]}, None),
        ({"type": "array", "items": {"type": "null"}, "minItems": 2}, [None, None]),
        ({"type": "array"}, []),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, False),
        ({"properties": {"a": {"const": 1}, "b": {"const": 2}}}, {"a": 1, "b": 2}),
        ({"type": "object", "properties": {"a": {"const": 1}}, "required": []}, {}),
        ({"type": "object"}, {}),
        ({"$ref": "#/$defs/it", "$defs": {"it": {"const": 7}}}, 7),
    ],
)
def test_an_example_is_what_its_schema_allows(schema, value):
    assert example(schema, "so") == value


def test_a_schema_that_contains_itself_has_an_end():
    assert example({"$ref": "#"}, "so") == "so"
    inside = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert example(inside, "so")["a"]["a"]


# --- server-sent events ------------------------------------------------------------------------------

STREAM = (
    ": hello\r\n\r\nevent: error\r\ndata: one\r\ndata: tw\u00f6 \U0001f600\r\n\r\n"
    "data:three\n\nid: 5\nretry: 1\ndata\n\nevent: x\n\ndata: four\r\rdata: last"
).encode()
EVENTS = [
    Event("", None),
    Event("error", "one\ntw\u00f6 \U0001f600"),
    Event("", "three"),
    Event("", "four"),
    Event("", "last"),
]


def parsed(*chunks: bytes) -> list[Event]:
    parser = EventParser()
    events = [event for piece in chunks for event in parser.feed(piece)]
    events += parser.end()
    # A `data` line without a value is an empty event, as the specification has it.
    return [event for event in events if event.data != ""]


def test_events_are_the_same_wherever_the_network_cuts():
    assert parsed(STREAM) == EVENTS
    for at in range(len(STREAM) + 1):
        assert parsed(STREAM[:at], STREAM[at:]) == EVENTS
    assert parsed(*[STREAM[at : at + 1] for at in range(len(STREAM))]) == EVENTS


# --- openai ------------------------------------------------------------------------------------------


async def test_the_body_goes_as_it_is_but_streamed():
    async with upstream() as server:
        server.streams(chunk({"content": "x"}), LAST, DONE)
        tools = [{"type": "function", "function": {"name": "f"}}]
        more = {"temperature": 0.25, "tools": tools, "stream": False, "odd": {"big": 2**70}}
        await heard(server, **more, stream_options={"include_obfuscation": False})
        headers, body = server.requests[0]
        assert headers["Authorization"] == f"Bearer {KEY}"
        assert body == {
            "model": "m1",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.25,
            "tools": tools,
            "odd": {"big": 2**70},
            "stream": True,
            "stream_options": {"include_obfuscation": False, "include_usage": True},
        }


async def test_text_reasoning_tool_calls_and_refusal():
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    async with upstream() as server:
        server.streams(
            chunk({"role": "assistant", "content": ""}),
            b": keep-alive\n",
            chunk({"reasoning_content": "hm", "content": None}),
            chunk({"reasoning": "mm"}),
            chunk({"content": "wor"}),
            chunk({"content": "d \U0001f600"}),
            chunk({"tool_calls": [call]}),
            chunk({"refusal": "no"}),
            b'data: {"choices":[{"index":1,"delta":{"content":"other"}}]}\n\n',
            LAST,
            DONE,
        )
        assert await heard(server) == [
            Text(""),
            Delta({"reasoning_content": "hm"}),
            Delta({"reasoning_content": "mm"}),
            Text("wor"),
            Text("d \U0001f600"),
            Delta({"tool_calls": [call]}),
            Delta({"refusal": "no"}),
            Finish("stop", USAGE),
        ]


async def test_a_stream_that_comes_byte_by_byte():
    answer = chunk({"content": "\u00e4\U0001f600\u4e16"}) + b": ping\r\n" + LAST + DONE
    answer = answer.replace(b"\\u00e4", "\u00e4".encode()).replace(b"\\u4e16", "\u4e16".encode())
    async with upstream() as server:
        server.streams(*[answer[at : at + 1] for at in range(len(answer))])
        parts = await heard(server)
        texts = [part.text for part in parts if isinstance(part, Text) and part.text]
        assert texts == ["\u00e4\U0001f600\u4e16"]
        assert parts[-1] == Finish("stop", USAGE)


async def test_half_an_emoji_in_each_chunk_is_whole_at_the_hub():
    async with upstream() as server:
        server.streams(chunk({"content": "a\ud83d"}), chunk({"content": "\ude00b"}), LAST, DONE)
        engine = OpenAIEngine(server.url, KEY, QUICK)
        async with hub_double() as hub, running_agent(hub.url, engine):
            answered = hub.offer(await hub.worker(), model="m1")
            await hub.over(answered)
            assert answered.text == "a\U0001f600b"


@pytest.mark.parametrize("ending", [b"", DONE])
async def test_an_end_without_a_reason_is_truncated(ending):
    async with upstream() as server:
        server.streams(chunk({"content": "cut"}), ending)
        assert await heard(server) == [Text("cut"), Finish("length", None, truncated=True)]


async def test_a_reason_without_done_is_an_end():
    async with upstream() as server:
        server.streams(chunk({"content": "x"}), chunk(finish="length"))
        assert (await heard(server))[-1] == Finish("length")


async def test_an_upstream_that_forgets_to_hang_up_is_finished_all_the_same():
    async def script(request, response):
        await response.write(chunk({"content": "x"}) + chunk(finish="stop"))
        await asyncio.sleep(PATIENCE_S)

    async with upstream() as server:
        server.script = script
        assert (await heard(server))[-1] == Finish("stop")


async def test_an_empty_answer_is_a_failure():
    async with upstream() as server:
        server.streams(b": nothing\n\n")
        assert (await failure(server)).code == "upstream_error"


async def test_a_connection_that_breaks_is_a_failure():
    async def script(request, response):
        await response.write(chunk({"content": "x"}))
        request.transport.abort()

    async with upstream() as server:
        server.script = script
        failed = await failure(server)
        assert (failed.code, failed.ran) == ("upstream_error", None)


async def test_a_silent_upstream_is_a_timeout():
    async def script(request, response):
        await response.write(chunk({"content": "x"}))
        await asyncio.sleep(PATIENCE_S)

    async with upstream() as server:
        server.script = script
        assert (await failure(server)).code == "upstream_timeout"
        async with asyncio.timeout(5):
            await server.left.wait()


async def test_an_upstream_that_does_not_stream():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    async with upstream() as server:
        message = {"role": "assistant", "content": "whole", "tool_calls": [call], "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        server.body = {"choices": [choice], "usage": USAGE}
        assert await heard(server) == [
            Delta({"tool_calls": [call | {"index": 0}]}),
            Text("whole"),
            Finish("tool_calls", USAGE),
        ]


ERRORS = [
    (429, {"message": "slow"}, "rate_limited"),
    (401, {"message": "bad key"}, "login_required"),
    (403, {"message": "no"}, "login_required"),
    (403, {"message": "input was flagged by moderation"}, "moderated"),
    (402, {"message": "pay"}, "login_required"),
    (404, {"message": "no such model"}, "model_not_found"),
    (400, {"message": "x", "code": "context_length_exceeded"}, "context_length_exceeded"),
    (400, {"message": "the maximum context length is 10"}, "context_length_exceeded"),
    (400, {"message": "x", "type": "exceed_context_size_error"}, "context_length_exceeded"),
    (400, {"message": "x", "code": "content_policy_violation"}, "moderated"),
    (400, {"message": "x", "code": "content_filter"}, "moderated"),
    (400, {"message": "temperature is wrong"}, "unsupported"),
    (422, {"message": "what"}, "unsupported"),
    (413, {"message": "too big"}, "attachment_too_large"),
    (413, {"message": "x", "code": "rate_limit_exceeded"}, "rate_limited"),
    (500, {"message": "oops"}, "upstream_error"),
    (503, "plain text", "upstream_error"),
    (504, {}, "upstream_timeout"),
    (302, {}, "upstream_error"),
]


@pytest.mark.parametrize(("status", "error", "code"), ERRORS)
async def test_refusals_in_the_protocols_words(status, error, code):
    async with upstream() as server:
        server.status, server.body = status, {"error": error}
        failed = await failure(server)
        assert failed.code == code
        assert str(status) in failed.message


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (b'data: {"error":{"message":"overloaded"}}\n\n', "upstream_error"),
        (b'data: {"error":{"message":"x","code":429}}\n\n', "rate_limited"),
        (b'data: {"error":"context length exceeded"}\n\n', "context_length_exceeded"),
        (b'event: error\ndata: {"message":"x","type":"content_filter"}\n\n', "moderated"),
        (b"data: {nonsense\n\n", "upstream_error"),
    ],
)
async def test_errors_within_the_stream(event, code):
    async with upstream() as server:
        server.streams(chunk({"content": "x"}), event, DONE)
        assert (await failure(server)).code == code


async def test_a_rate_limit_says_when_and_which():
    async with upstream() as server:
        server.status, server.body = 429, {"error": {"message": "slow down"}}
        server.headers = {"Retry-After": "12", "X-Arena-Rate-Limit-Dimension": "tokens_per_day"}
        failed = await failure(server)
        assert failed.retry_after_s == 12
        assert "tokens_per_day" in failed.message


async def test_the_key_is_in_no_message():
    async with upstream() as server:
        server.status, server.body = 401, {"error": {"message": f"wrong key {KEY}"}}
        assert KEY not in (await failure(server)).message


async def test_an_upstream_that_is_not_there_proves_that_nothing_ran():
    server = Upstream()
    server.url = f"http://127.0.0.1:{free_port()}/v1"
    failed = await failure(server)
    assert (failed.code, failed.ran) == ("upstream_error", False)
    assert "127.0.0.1" not in failed.message


async def test_cancel_closes_the_connection_to_the_upstream():
    async def script(request, response):
        while True:
            await response.write(chunk({"content": "more "}))
            await asyncio.sleep(0.01)

    async with upstream() as server:
        server.script = script
        engine = OpenAIEngine(server.url, KEY, QUICK)
        async with hub_double() as hub, running_agent(hub.url, engine, slots=1):
            running = hub.offer(await hub.worker(), model="m1")
            await hub.until(lambda: running.pieces > 3)
            hub.cancel(running)
            async with asyncio.timeout(2):
                await server.left.wait()


# --- the catalogue -----------------------------------------------------------------------------------


async def test_the_catalogue_lists_what_is_usable():
    async with upstream() as server:
        server.models = {
            "data": [
                {"id": "a", "owned_by": "lab", "context_length": 8192},
                {"id": "eyes", "architecture": {"input_modalities": ["text"]}},
                {"id": "bad\n"},
                {"id": ""},
                {"id": 7},
                "odd",
                {"id": "a"},
            ]
        }
        engine = OpenAIEngine(server.url, KEY, QUICK)
        models = await engine.catalogue()
        await engine.close()
        assert [model.id for model in models] == ["a", "eyes"]
        assert models[1].modalities.takes == ["text"]
        assert models[0].features == ["tools", "json_schema", "sampling", "stop", "history"]


async def test_a_model_that_is_missing_leaves_the_catalogue_until_the_next_reading():
    async with upstream() as server:
        server.models = {"data": [{"id": "m1"}, {"id": "m2"}]}
        server.status, server.body = 404, {"error": {"message": "model not found"}}
        engine = OpenAIEngine(server.url, KEY, QUICK)
        async with hub_double() as hub, running_agent(hub.url, engine) as agent:
            session = await hub.worker()
            keeping = asyncio.create_task(
                Catalogue(agent.session, engine, CataloguePace(every_s=0.3)).keep()
            )
            await hub.over(hub.offer(session, model="m1"))
            await hub.until(lambda: len(session.said(ModelsFrame)) == 2)
            told = [[m.id for m in frame.models] for frame in session.said(ModelsFrame)]
            assert told == [["m2"], ["m1", "m2"]]
            keeping.cancel()


async def test_a_refused_key_asks_for_attention_until_there_is_proof():
    async with upstream() as server:
        server.models_status = 401
        engine = OpenAIEngine(server.url, KEY, QUICK)
        quick = CataloguePace(every_s=0.05, retry_first_s=0.05, retry_longest_s=0.05)
        async with hub_double() as hub, running_agent(hub.url, EchoEngine()) as agent:
            session = await hub.worker()
            keeping = asyncio.create_task(Catalogue(agent.session, engine, quick).keep())
            await eventually(lambda: agent.session.state == "attention")
            await hub.until(lambda: len(session.said(StatusFrame)) == 1)
            server.models_status = 200
            await hub.until(lambda: len(session.said(StatusFrame)) == 2)
            states = [frame.state for frame in session.said(StatusFrame)]
            assert states == ["attention", "ready"]
            keeping.cancel()
        await engine.close()


async def test_a_whole_answer_through_hub_agent_and_upstream():
    async with upstream() as server:
        server.streams(chunk({"reasoning_content": "hm"}), chunk({"content": "yes"}), LAST, DONE)
        engine = OpenAIEngine(server.url, KEY, QUICK)
        async with hub_double() as hub, running_agent(hub.url, engine, "poll"):
            answered = hub.offer(await hub.worker(), "well?", model="m1")
            await hub.over(answered)
            assert (answered.text, answered.deltas) == ("yes", [{"reasoning_content": "hm"}])
            assert isinstance(answered.last, End)
            assert answered.last.usage == USAGE
