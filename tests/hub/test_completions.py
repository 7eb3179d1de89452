"""POST /v1/chat/completions, byte by byte: events, status, waiting in line, shutting down."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from hub.protocol import Cancel, Close, Drain, End, Fail, JobFrame, Piece, Refuse, Started
from tests.doors import (
    PATIENCE_S,
    Worker,
    ask,
    chat,
    eventually,
    health,
    send,
    socket_worker,
    undisturbed,
)
from tests.schemas import check_event

DONE = b"data: [DONE]\n\n"


class Wire:
    """A caller at the level of bytes; an answer's chunks are what the hub wrote at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}

    async def head(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.split("\r\n")[:-2]
        self.status = int(status.split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines)

    async def chunk(self) -> bytes:
        """The next chunk of HTTP's chunked encoding; empty at the end."""
        async with asyncio.timeout(PATIENCE_S):
            size = int(await self.reader.readline(), 16)
            return (await self.reader.readexactly(size + 2))[:-2]

    async def rest(self) -> bytes:
        body = b""
        while part := await self.chunk():
            body += part
        return body


@contextlib.asynccontextmanager
async def wire(hub: Any, **members: Any) -> AsyncIterator[Wire]:
    """A streamed request that has been sent, over a connection with small buffers."""
    url = urlsplit(hub.url)
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, (url.hostname, url.port))
    reader, writer = await asyncio.open_connection(sock=plug, limit=4096)
    body = json.dumps(chat(stream=True, **members)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {hub.key}\r\n"
    head += f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def streamed(hub: Any, *frames: Any, **members: Any) -> tuple[Wire, bytes]:
    """A stream of what a worker says in these frames (without their job), and its bytes."""
    async with socket_worker(hub) as worker, wire(hub, **members) as caller:
        job = await worker.hear(JobFrame)
        for frame in frames:
            frame.job = job.job
        await worker.say(*frames)
        await caller.head()
        return caller, await caller.rest()


def events(body: bytes) -> list[Any]:
    """The data of all events; nothing but whole events and one [DONE] may be there."""
    assert body.endswith(DONE)
    assert body.count(b"[DONE]") == 1
    blocks = body.removesuffix(DONE).split(b"\n\n")
    assert blocks.pop() == b""
    assert all(block.startswith(b"data: {") and b"\n" not in block for block in blocks)
    found = [json.loads(block[6:]) for block in blocks]
    for event in found:
        check_event(event)
    return found


def text_of(chunks: list[Any]) -> str:
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content", "") for delta in deltas)


# --- events --------------------------------------------------------------------------------------------


async def test_a_stream_is_data_events_and_one_done(hub):
    _, body = await streamed(hub, Piece("", "hello "), Piece("", "world"), End(""))
    chunks = events(body)
    assert text_of(chunks) == "hello world"
    assert [chunk["object"] for chunk in chunks] == ["chat.completion.chunk"] * 4


async def test_the_role_comes_first_and_the_finish_reason_last_and_once(hub):
    _, body = await streamed(hub, Piece("", "hello"), End("", "length"))
    first, *_, last = events(body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "length")
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in events(body)]
    assert reasons == [None, None, "length"]


async def test_all_chunks_share_id_created_and_model(hub):
    caller, body = await streamed(hub, Piece("", "a"), Piece("", "b"), End(""))
    heads = {(chunk["id"], chunk["created"], chunk["model"]) for chunk in events(body)}
    assert len(heads) == 1
    assert heads.pop()[0] == "chatcmpl-" + caller.headers["x-request-id"]


async def test_usage_comes_last_and_is_null_before_if_asked_for(hub):
    options = {"include_usage": True}
    _, body = await streamed(hub, Piece("", "hello"), End(""), stream_options=options)
    *before, last = events(body)
    assert [chunk["usage"] for chunk in before] == [None] * 3
    assert last["choices"] == []
    used = last["usage"]
    assert used["completion_tokens"] == 1
    assert used["total_tokens"] == used["prompt_tokens"] + 1


@pytest.mark.parametrize("members", [{}, {"stream_options": None}, {"stream_options": {}}])
async def test_no_usage_unless_asked_for(hub, members):
    _, body = await streamed(hub, Piece("", "hello"), End(""), **members)
    assert b"usage" not in body


async def test_the_usage_is_counted_by_the_hub_and_not_the_worker(hub):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "hello"), End(job.job, usage={"completion_tokens": 999}))
        assert (await asking).json["usage"]["completion_tokens"] == 1
    (row,) = await hub.rows()
    assert json.loads(row["worker_usage"]) == {"completion_tokens": 999}


async def test_a_stream_has_the_headers_that_proxies_and_clients_need(hub):
    caller, _ = await streamed(hub, End(""))
    headers = caller.headers
    assert caller.status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-bridge-worker"] == "worker one"
    assert int(headers["openai-processing-ms"]) >= 0
    assert headers["x-request-id"]
    for unit in ("requests", "tokens"):
        for name in ("limit", "remaining", "reset"):
            assert headers[f"x-ratelimit-{name}-{unit}"]


async def test_a_plain_answer_has_every_member_that_clients_read(hub):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "hello"), End(job.job, truncated=True))
        reply = await asking
    assert reply.headers["Content-Type"].startswith("application/json")
    (choice,) = reply.json["choices"]
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")
    assert choice["message"] == {"role": "assistant", "content": "hello", "refusal": None}
    assert reply.json["usage"]["completion_tokens"] == 1
    assert reply.json["object"] == "chat.completion"


@pytest.mark.parametrize("text", ["x" * 1_000_000, "😀" * 250_000, '"\\\n\x00' * 250_000])
async def test_a_huge_piece_goes_out_in_short_lines_and_whole(hub, text):
    _, body = await streamed(hub, Piece("", text), End(""))
    assert max(map(len, body.split(b"\n"))) < 65_536
    assert text_of(events(body)) == text


async def test_unicode_is_not_escaped(hub):
    _, body = await streamed(hub, Piece("", "naïve 日本 👩‍👩‍👧"), End(""))
    assert "naïve 日本 👩‍👩‍👧".encode() in body


async def test_half_an_emoji_from_a_worker_becomes_a_replacement_character(hub):
    async with socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        piece = '{"n":1,"ack":0,"frames":[{"t":"piece","job":"%s","text":"a\\ud83d"}]}'
        await worker.socket.send(piece % job.job)
        worker.channel.push(b"{}")
        worker.channel.packet(1000)
        await worker.say(End(job.job))
        await caller.head()
        assert text_of(events(await caller.rest())) == "a\N{REPLACEMENT CHARACTER}"


async def test_reasoning_has_its_own_delta(hub):
    pieces = (Piece("", delta={"reasoning_content": "hmm"}), Piece("", "so"), End(""))
    _, body = await streamed(hub, *pieces)
    deltas = [chunk["choices"][0]["delta"] for chunk in events(body)]
    assert deltas[1:3] == [{"reasoning_content": "hmm"}, {"content": "so"}]


async def test_empty_pieces_and_unknown_deltas_make_no_events(hub):
    pieces = (Piece("", ""), Piece("", delta={"secret": 1}), Piece("", delta={}), End(""))
    _, body = await streamed(hub, *pieces)
    assert len(events(body)) == 2


async def test_pieces_that_are_ready_together_leave_in_one_write(hub):
    async with socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "first"))
        await caller.head()
        assert b"first" in await caller.chunk()
        await worker.say(*(Piece(job.job, f"{number} ") for number in range(50)))
        together = await caller.chunk()
        assert together.count(b"data: ") == 50
        assert together.endswith(b"\n\n")
        await worker.say(End(job.job))
        assert (await caller.rest()).endswith(DONE)


# --- keep-alives ---------------------------------------------------------------------------------------


async def test_a_silent_stream_is_kept_alive_by_comments_with_a_single_newline(start_hub):
    hub = await start_hub(deadlines={"keep_alive_s": 0.1, "headers_s": 0.05})
    async with socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        await caller.head()
        assert events(await caller.chunk() + DONE)
        assert await caller.chunk() == b": keep-alive\n"
        assert await caller.chunk() == b": keep-alive\n"
        await worker.say(Piece(job.job, "awake"), End(job.job))
        assert text_of(events(await caller.rest())) == "awake"


async def test_a_comment_in_line_tells_the_position(start_hub):
    hub = await start_hub(deadlines={"keep_alive_s": 0.1, "headers_s": 0.05})
    async with socket_worker(hub, slots=1) as worker:
        busy = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        async with wire(hub) as first, wire(hub) as second:
            await first.head()
            await eventually(lambda: hub.hub.dispatch.waiting == 2)
            await second.head()
            await second.chunk()
            places = {await first.chunk() and await first.chunk(), await second.chunk()}
        assert {place.split()[2] for place in places} == {b"position=1", b"position=2"}
        assert all(place.startswith(b": keep-alive ") for place in places)
        assert all(place.count(b"\n") == 1 for place in places)
        await worker.say(End(job.job))
        await busy


async def test_a_busy_stream_has_no_comments(start_hub):
    hub = await start_hub(deadlines={"keep_alive_s": 0.2})
    async with socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        for _ in range(10):
            await worker.say(Piece(job.job, "x"))
            await asyncio.sleep(0.04)
        await worker.say(End(job.job))
        await caller.head()
        assert text_of(events(await caller.rest())) == "x" * 10


# --- status and errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("moderated", 400, "content_policy_violation"),
        ("context_length_exceeded", 400, "context_length_exceeded"),
        ("attachment_too_large", 413, "attachment_too_large"),
        ("rate_limited", 429, "upstream_rate_limited"),
        ("upstream_error", 502, "upstream_error"),
        ("site_changed", 502, "upstream_contract_changed"),
        ("challenge", 503, "no_worker_available"),
        ("upstream_timeout", 504, "upstream_timeout"),
    ],
)
async def test_a_failure_before_the_first_piece_gets_its_real_status(hub, code, status, error):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, stream=True))
        job = await worker.hear(JobFrame)
        await worker.say(Started(job.job), Fail(job.job, code, "<b>inside</b>"))
        reply = await asking
    assert (reply.status, reply.error["code"]) == (status, error)
    assert "inside" not in reply.error["message"]
    if status in (429, 503):
        assert int(reply.headers["Retry-After"]) > 0


async def test_a_failure_after_the_first_piece_is_an_event_without_a_finish_reason(hub):
    _, body = await streamed(hub, Piece("", "half"), Fail("", "upstream_error"))
    *chunks, error = events(body)
    assert text_of(chunks) == "half"
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert error["error"]["code"] == "upstream_error"
    assert {chunk["choices"][0]["finish_reason"] for chunk in chunks} == {None}


async def test_a_failure_after_the_held_back_headers_is_an_event(start_hub):
    hub = await start_hub(deadlines={"headers_s": 0.05})
    async with socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        await caller.head()
        assert caller.status == 200
        await worker.say(Started(job.job), Fail(job.job, "moderated"))
        role, error = events(await caller.rest())
        assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert error["error"]["code"] == "content_policy_violation"


async def test_headers_do_not_leave_before_the_first_piece(hub):
    async with socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        await worker.say(Started(job.job), Piece(job.job, ""))
        head = asyncio.create_task(caller.head())
        held = next(iter(next(iter(hub.hub.roster)).jobs.values()))
        await eventually(lambda: held.attempt.has_started)
        assert not head.done()
        await worker.say(Piece(job.job, "now"))
        await head
        await worker.say(End(job.job))
        assert text_of(events(await caller.rest())) == "now"


async def test_a_refusal_of_the_only_worker_is_no_worker_available(hub):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, stream=True))
        job = await worker.hear(JobFrame)
        await worker.say(Refuse(job.job, "not now"))
        reply = await asking
    assert (reply.status, reply.error["code"]) == (503, "no_worker_available")


# --- a caller that does not read -----------------------------------------------------------------------


async def flood(worker: Worker, job: str) -> Cancel:
    """Pieces until the hub has had enough."""
    told = asyncio.create_task(worker.hear(Cancel))
    for _ in range(3000):
        if told.done():
            break
        await worker.say(Piece(job, "word " * 4_000))
        await asyncio.sleep(0)
    return await told


async def test_a_caller_that_reads_nothing_costs_its_job_and_nobody_elses(start_hub):
    hub = await start_hub(max_pending_bytes=1_000_000, deadlines={"slow_caller_s": 0})
    async with undisturbed(hub), socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        cancel = await flood(worker, job.job)
        assert (cancel.job, cancel.reason) == (job.job, "slow_caller")
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                assert DONE not in await caller.reader.read()
        await eventually(lambda: job.job not in hub.hub.dispatch._jobs)
    row = next(row for row in await hub.rows() if row["id"] == job.job)
    assert (row["state"], row["error_code"]) == ("failed", "slow_caller")


async def test_a_slow_caller_that_reads_on_learns_why_the_answer_stopped(start_hub):
    hub = await start_hub(max_pending_bytes=1_000_000, deadlines={"slow_caller_s": 30})
    async with socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        await flood(worker, job.job)
        await caller.head()
        *chunks, error = events(await caller.rest())
        assert error["error"]["code"] == "slow_caller"
        assert {chunk["choices"][0]["finish_reason"] for chunk in chunks} == {None}


# --- parameters that a worker cannot honour ------------------------------------------------------------


async def answered(hub: Any, card: dict[str, Any], **members: Any) -> tuple[Any, Any]:
    """A plain answer of a worker with this card, and the job that it got."""
    async with socket_worker(hub, **card) as worker:
        asking = asyncio.create_task(ask(hub, **members))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "fine"), End(job.job))
        return await asking, json.loads(bytes(job.body))


async def test_ignored_parameters_are_named_in_a_header(hub):
    reply, _ = await answered(hub, {}, temperature=0.5, top_p=None, seed=5, max_tokens=9, stop="x")
    assert reply.headers["x-bridge-ignored"] == "temperature,seed"


async def test_a_stream_names_them_too(hub):
    caller, _ = await streamed(hub, End(""), seed=1)
    assert caller.headers["x-bridge-ignored"] == "seed"


async def test_nothing_is_ignored_by_a_worker_that_declares_it(hub):
    models = [{"id": "m", "features": ["sampling", "stop"]}]
    reply, body = await answered(hub, {"models": models}, temperature=0.5, stop="x")
    assert "x-bridge-ignored" not in reply.headers
    assert (body["temperature"], body["stop"]) == (0.5, "x")


async def test_the_operator_may_have_them_refused(start_hub):
    hub = await start_hub(unsupported="reject")
    async with socket_worker(hub):
        reply = await ask(hub, temperature=0.5)
    assert (reply.status, reply.error["code"]) == (400, "unsupported_parameter")
    assert reply.error["param"] == "temperature"


# --- where the caller wants the answer to end ----------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("members", "said", "text", "reason", "tokens"),
    [
        ({"stop": "END"}, ["one E", "N", "D two"], "one ", "stop", 2),
        ({"stop": ["?", "END"]}, ["one E", "N", "D? two"], "one ", "stop", 2),
        ({"max_tokens": 2}, ["One t", "wo th", "ree four"], "One two", "length", 2),
        ({"max_completion_tokens": 2, "max_tokens": 9}, ["One two three "], "One two", "length", 2),
    ],
)
async def test_the_hub_ends_an_answer_that_its_worker_would_not(
    hub, stream, members, said, text, reason, tokens
):
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, **members, **options))
        job = await worker.hear(JobFrame)
        await worker.say(*(Piece(job.job, piece) for piece in said), Piece(job.job, "more"))
        assert await worker.hear(Cancel) == Cancel(job.job, reason)
        reply = await asking
    assert (reply.status, reply.text) == (200, text)
    assert "x-bridge-ignored" not in reply.headers
    last = reply.events[-2] if stream else reply.json
    assert last["choices"][0]["finish_reason"] == reason
    assert (reply.events[-1] if stream else last)["usage"]["completion_tokens"] == tokens
    (row,) = await hub.rows()
    assert (row["state"], row["finish_reason"]) == ("completed", reason)
    assert (row["completion_tokens"], row["delivered_chars"]) == (tokens, len(text))


async def test_text_that_might_begin_a_stop_sequence_leaves_once_it_does_not(hub):
    async with socket_worker(hub) as worker, wire(hub, stop="END") as caller:
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "one EN"))
        await caller.head()
        assert b'"content":"one "' in await caller.chunk()
        await worker.say(Piece(job.job, "OUGH EN"))
        assert b'"content":"ENOUGH "' in await caller.chunk()
        await worker.say(End(job.job))
        *_, rest, last = events(await caller.rest())
        assert text_of([rest]) == "EN"
        assert last["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_that_fails_still_gives_what_was_held_back(hub):
    frames = [Piece("", "one EN"), Fail("", "upstream_error")]
    _, body = await streamed(hub, *frames, stop="END")
    *chunks, error = events(body)
    assert text_of(chunks) == "one EN"
    assert error["error"]["code"] == "upstream_error"


async def test_a_worker_that_honours_them_itself_is_let_go_on(hub):
    models = [{"id": "m", "features": ["sampling", "stop"]}]
    async with socket_worker(hub, models=models) as worker:
        asking = asyncio.create_task(ask(hub, max_tokens=1, stop="two"))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "one two three"), End(job.job))
        assert (await asking).text == "one two three"


async def test_the_next_worker_is_watched_by_its_own_features(hub):
    able = [{"id": "m", "features": ["stop"]}]
    async with (
        socket_worker(hub, worker="able", models=able) as first,
        Worker(hub, worker="plain") as second,
    ):
        asking = asyncio.create_task(ask(hub, stop="END"))
        job = await first.hear(JobFrame)
        await second.open()
        await first.say(Refuse(job.job, "not now"))
        await second.hear(JobFrame)
        await second.say(Piece(job.job, "one END"))
        await second.hear(Cancel)
        assert (await asking).text == "one "


async def test_they_are_not_refused_where_others_are(start_hub):
    hub = await start_hub(unsupported="reject")
    reply, _ = await answered(hub, {}, max_tokens=5, max_completion_tokens=5, stop="x")
    assert reply.status == 200


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}),
        ("response_format", {"type": "json_object"}),
        ("n", 2),
        ("logprobs", True),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_no_worker_declares_is_refused(hub, param, value, stream):
    async with socket_worker(hub):
        reply = await ask(hub, **{param: value, "stream": stream})
    assert (reply.status, reply.error["code"]) == (400, "unsupported_parameter")
    assert reply.error["param"] == param


TOOLS = [{"type": "function", "function": {"name": "f"}}]
CALLS = [
    {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a"'}},
    {"index": 0, "function": {"arguments": ":1}"}},
]


def able(*features: str) -> list[dict[str, Any]]:
    return [{"id": "m", "features": [*features]}]


@pytest.mark.parametrize(
    ("feature", "members"),
    [
        ("tools", {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}),
        ("json_schema", {"response_format": {"type": "json_object"}}),
        ("logprobs", {"logprobs": True, "top_logprobs": 2}),
    ],
)
async def test_what_a_worker_declares_goes_to_it_and_no_other(hub, feature, members):
    card = {"worker": "able", "models": able(feature)}
    card["token"] = await hub.new_worker_token("believed", trusted=True)
    async with socket_worker(hub, worker="plain") as plain:
        reply, body = await answered(hub, card, **members)
        assert reply.status == 200
        assert body.items() >= members.items()
        assert not plain.unread


async def test_what_no_single_worker_can_do_together_is_refused(hub):
    members = {"logprobs": True, "response_format": {"type": "json_object"}}
    async with (
        socket_worker(hub, worker="a", models=able("logprobs")),
        socket_worker(hub, worker="b", models=able("json_schema")),
    ):
        reply = await ask(hub, **members)
    assert (reply.status, reply.error["param"]) == (400, "logprobs")


async def calling(hub: Any, token: str, key: str, **members: Any) -> Any:
    """The answer of a worker under this token that calls a tool."""
    async with socket_worker(hub, token=token, models=able("tools")) as worker:
        asking = asyncio.create_task(ask(hub.calling(key), **members))
        job = asyncio.create_task(worker.hear(JobFrame))
        await asyncio.wait([asking, job], return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            job.cancel()
            return await asking
        deltas = [{"content": "x", "tool_calls": [CALLS[0]]}, {"tool_calls": [CALLS[1]]}]
        pieces = [Piece(job.result().job, delta=delta) for delta in deltas]
        await worker.say(*pieces, End(job.result().job, "tool_calls"))
        return await asking


async def test_tool_calls_are_put_together_in_a_plain_answer(hub):
    token = await hub.new_worker_token("believed", trusted=True)
    reply = await calling(hub, token, hub.key, tools=TOOLS)
    (choice,) = reply.json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert (call["id"], call["function"]) == ("call_1", {"name": "f", "arguments": '{"a":1}'})


async def test_tools_are_not_offered_to_a_shared_worker_that_is_not_trusted(hub):
    reply = await calling(hub, hub.worker_token, hub.key, tools=TOOLS)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        400,
        "unsupported_parameter",
        "tools",
    )


async def test_a_users_own_worker_may_call_tools(hub):
    user = await hub.new_user("a@example.org")
    token = await hub.new_worker_token("own", user=user.id)
    key = await hub.new_key(user=user.id)
    reply = await calling(hub, token, key, tools=TOOLS)
    assert reply.json["choices"][0]["message"]["tool_calls"]


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_that_nobody_asked_for_are_dropped(hub, stream):
    reply = await calling(hub, hub.worker_token, hub.key, stream=stream)
    assert reply.text == "x"
    assert b'tool_calls":' not in reply.body


# --- the line ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def busy_worker(hub: Any) -> AsyncIterator[Worker]:
    """A worker whose one slot is taken; its caller gets `done` in the end."""
    async with socket_worker(hub, slots=1) as worker:
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(Started(job.job))
        yield worker
        await worker.say(Piece(job.job, "done"), End(job.job))
        assert (await asking).text == "done"


async def test_a_full_line_refuses_with_a_time_to_come_back(start_hub):
    hub = await start_hub(line={"max_waiting": 1})
    async with busy_worker(hub):
        waiting = asyncio.create_task(ask(hub))
        await eventually(lambda: hub.hub.dispatch.waiting)
        reply = await ask(hub, stream=True)
        assert (reply.status, reply.error["code"]) == (429, "queue_full")
        assert int(reply.headers["Retry-After"]) > 0
        waiting.cancel()
        await eventually(lambda: not hub.hub.dispatch.waiting)
    assert len(await hub.rows()) == 2, "what was refused is not in the journal"


@pytest.mark.parametrize("stream", [False, True])
async def test_waiting_too_long_in_line_is_a_timeout(start_hub, stream):
    hub = await start_hub(deadlines={"queue_s": 0.1})
    async with busy_worker(hub):
        reply = await ask(hub, stream=stream)
    assert (reply.status, reply.error["code"]) == (504, "queue_timeout")
    assert [row["state"] for row in await hub.rows()] == ["completed", "expired"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_known_model_without_a_worker_is_unavailable(start_hub, stream):
    hub = await start_hub(deadlines={"absent_s": 0.1, "absent_stream_s": 0.1})
    async with socket_worker(hub) as worker:
        await worker.say({"t": "bye", "reason": "done"})
        await worker.closed()
    reply = await ask(hub, stream=stream)
    assert (reply.status, reply.error["code"]) == (503, "no_worker_available")
    assert int(reply.headers["Retry-After"]) > 0


async def test_a_worker_that_comes_back_in_time_gets_the_job(hub):
    async with socket_worker(hub) as worker:
        await worker.say({"t": "bye", "reason": "a moment"})
        await worker.closed()
        asking = asyncio.create_task(ask(hub))
        await eventually(lambda: hub.hub.dispatch.waiting)
        await worker.open()
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "back"), End(job.job))
        assert (await asking).text == "back"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_that_was_never_offered_is_not_found(hub, stream):
    reply = await ask(hub, model="nonesuch", stream=stream)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        404,
        "model_not_found",
        "model",
    )
    assert await hub.rows() == []


async def test_health_counts_who_runs_and_who_waits(hub):
    assert await health(hub) == {"status": "ok", "active": 0, "waiting": 0, "workers": 0}
    async with busy_worker(hub):
        waiting = asyncio.create_task(ask(hub))
        await eventually(lambda: hub.hub.dispatch.waiting)
        assert await health(hub) == {"status": "ok", "active": 1, "waiting": 1, "workers": 1}
        waiting.cancel()
        await eventually(lambda: not hub.hub.dispatch.waiting)


# --- shutting down -------------------------------------------------------------------------------------


async def test_draining_lets_the_running_finish_and_sends_the_rest_away(start_hub):
    hub = await start_hub(deadlines={"drain_s": 30})
    async with socket_worker(hub, slots=1) as worker:
        running = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        waiting = [asyncio.create_task(ask(hub, stream=stream)) for stream in (False, True)]
        await eventually(lambda: hub.hub.dispatch.waiting == 2)
        draining = asyncio.create_task(hub.hub.drain())
        await worker.hear(Drain)
        for reply in [*await asyncio.gather(*waiting), await ask(hub)]:
            assert (reply.status, reply.error["code"]) == (503, "shutting_down")
            assert int(reply.headers["Retry-After"]) > 0
        ready = await send(hub, method="GET", path="/readyz")
        assert (ready.status, ready.json["ready"]) == (503, False)
        assert not draining.done()
        await worker.say(Piece(job.job, "done"), End(job.job))
        assert (await running).text == "done"
        assert await worker.closed() == Close.RESTART
        await draining


async def test_draining_ends_what_takes_too_long(start_hub):
    hub = await start_hub(deadlines={"drain_s": 0.1})
    async with socket_worker(hub) as worker, wire(hub) as caller:
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "half"))
        await caller.head()
        await hub.hub.drain()
        *chunks, error = events(await caller.rest())
        assert (text_of(chunks), error["error"]["code"]) == ("half", "shutting_down")
        assert (await worker.hear(Cancel)).reason == "shutting_down"
        assert await worker.closed() == Close.RESTART
    (row,) = await hub.rows()
    assert (row["state"], row["error_code"]) == ("failed", "shutting_down")
