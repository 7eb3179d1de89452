"""What clients in the wild do and rely on, beyond what test_completions and test_bad_callers have."""

import asyncio
import base64
import gc
import io
import json
import os
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.web_protocol import RequestHandler
from PIL import Image

from hub.protocol import End, JobFrame, Piece
from hub.rules.tiers import Tier
from hub.settings import load
from tests.doors import PATIENCE_S, Reply, ask, chat, eventually, send, socket_worker

TOOLS = [{"type": "function", "function": {"name": "look"}}]
CALL = {"index": 0, "id": "call_1", "function": {"name": "look", "arguments": "{}"}}


async def answered(hub: Any, card: dict[str, Any], *frames: Any, **members: Any) -> Reply:
    """An answer made of these frames (without their job)."""
    reply, _ = await seen(hub, card, *frames, **members)
    return reply


async def seen(hub: Any, card: dict[str, Any], *frames: Any, **members: Any) -> tuple[Reply, Any]:
    """The same, and the body that the worker saw."""
    async with socket_worker(hub, **card) as worker:
        asking = asyncio.create_task(ask(hub, **members))
        job = await worker.hear(JobFrame)
        for frame in frames:
            frame.job = job.job
        await worker.say(*frames)
        return await asking, json.loads(bytes(job.body))


def able(*features: str, takes: tuple[str, ...] = ("text",)) -> dict[str, Any]:
    """The card of a worker that declares these, under a token of the operator's."""
    model = {"id": "m", "features": list(features), "modalities": {"in": list(takes), "out": []}}
    return {"models": [model]}


@pytest.fixture
async def trusting(hub: Any) -> Any:
    """A hub whose worker's tool calls are passed on."""
    hub.worker_token = await hub.new_worker_token("trusted", trusted=True)
    return hub


# --- streams -------------------------------------------------------------------------------------------


def test_headers_wait_five_seconds_and_silence_lasts_ten_unless_the_operator_says_otherwise(
    tmp_path,
):
    deadlines = load({}, environ={}, directory=tmp_path).deadlines
    assert (deadlines.headers_s, deadlines.keep_alive_s) == (5, 10)


async def test_the_wait_in_line_is_told_once_the_hub_knows_how_long_answers_take(start_hub):
    hub = await start_hub(deadlines={"keep_alive_s": 0.1, "headers_s": 0.05})
    async with socket_worker(hub, slots=1) as worker:

        async def answer(asking: "asyncio.Task[Any]") -> Any:
            job = await worker.hear(JobFrame)
            await worker.say(Piece(job.job, "done"), End(job.job))
            return await asking

        await answer(asyncio.create_task(ask(hub)))
        first = asyncio.create_task(ask(hub))
        await eventually(lambda: hub.hub.dispatch.active)
        comment = await first_comment(hub)
        assert re.fullmatch(rb": keep-alive position=1 wait=\d+\n", comment), comment
        await answer(first)


async def first_comment(hub: Any) -> bytes:
    """The first comment of a stream; then its caller leaves."""
    headers = {"Authorization": f"Bearer {hub.key}"}
    url = f"{hub.url}/v1/chat/completions"
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession() as session,
        session.post(url, json=chat(stream=True), headers=headers) as response,
    ):
        async for line in response.content:
            if line.startswith(b":"):
                return line
    raise AssertionError("there was no comment")


async def test_no_delta_has_a_null_whatever_the_worker_says(trusting):
    wild = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]}
    pieces = (Piece("", delta=wild), Piece("", delta={"content": None}), End("", "tool_calls"))
    reply = await answered(trusting, able("tools"), *pieces, stream=True, tools=TOOLS)
    deltas = [event["choices"][0]["delta"] for event in reply.events]
    assert [list(delta) for delta in deltas] == [["role", "content"], ["tool_calls"], []]
    assert all(value is not None for delta in deltas for value in delta.values())


@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/html"])
async def test_a_stream_is_one_whatever_is_accepted(hub, accept):
    async with socket_worker(hub) as worker:
        headers = {"Authorization": f"Bearer {hub.key}", "Accept": accept}
        asking = asyncio.create_task(send(hub, chat(stream=True), headers=headers))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "fine"), End(job.job))
        reply = await asking
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    assert reply.text == "fine"


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"messages": []}, 400),
        ({"n": 2}, 400),
        ({"tools": TOOLS}, 400),
        ({"model": "nonesuch"}, 404),
        ({"metadata": "x" * 3000}, 413),
    ],
)
async def test_what_is_known_at_admission_is_a_plain_status_for_a_stream_too(
    start_hub, members, status
):
    hub = await start_hub(max_body_bytes=2048)
    async with socket_worker(hub):
        reply = await ask(hub, stream=True, **members)
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.error["message"]


async def test_a_key_and_a_limit_are_plain_statuses_for_a_stream_too(hub):
    async with socket_worker(hub):
        assert (await ask(hub.calling("sk-lmb-wrong"), stream=True)).status == 401
        limits = Tier(requests_per_minute=0)
        user = await hub.new_user("none@example.org", limits)
        reply = await ask(hub.calling(await hub.new_key(user=user.id)), stream=True)
    assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")


async def test_small_writes_leave_at_once(hub):
    """Without Nagle's algorithm, which would hold a piece back until the one before is acknowledged."""
    reader, writer = await asyncio.open_connection(*_address(hub))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    ours = writer.get_extra_info("sockname")
    handlers = (each for each in gc.get_objects() if type(each) is RequestHandler)
    links = [each.transport for each in handlers if each.transport is not None]
    (link,) = [link for link in links if link.get_extra_info("peername") == ours]
    assert link.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()


def _address(hub: Any) -> tuple[str | None, int | None]:
    url = urlsplit(hub.url)
    return url.hostname, url.port


# --- bodies --------------------------------------------------------------------------------------------


async def test_a_photo_of_several_mib_comes_through_whole(hub):
    noise = Image.frombytes("RGB", (1600, 1400), os.urandom(1600 * 1400 * 3))
    file = io.BytesIO()
    noise.save(file, "PNG")
    assert len(file.getvalue()) > 6 * 1024 * 1024
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    part = {"type": "image_url", "image_url": {"url": url}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "this?"}, part]}]
    card = able("history", takes=("text", "image"))
    reply, body = await seen(hub, card, Piece("", "noise"), End(""), messages=messages)
    assert (reply.status, reply.text) == (200, "noise")
    assert body["messages"][0]["content"][1]["image_url"]["url"] == url


async def test_an_answer_may_be_sent_back_as_it_came(trusting):
    """Clients put the message that they got into the history, with everything that is in it."""
    said = (
        Piece("", delta={"reasoning_content": "hmm"}),
        Piece("", "Let me look."),
        Piece("", delta={"tool_calls": [CALL]}),
        End("", "tool_calls"),
    )
    card = able("tools", "history")
    message = (await answered(trusting, card, *said, tools=TOOLS)).json["choices"][0]["message"]
    assert {"refusal", "reasoning_content", "tool_calls"} <= set(message)
    history = [
        {"role": "user", "content": "hi"},
        {**message, "audio": None, "function_call": None, "annotations": []},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "seen"}]},
        {"role": "user", "content": "and?"},
    ]
    end = (Piece("", "fine"), End(""))
    reply, body = await seen(trusting, card, *end, messages=history, tools=TOOLS)
    assert reply.text == "fine"
    assert body["messages"] == history


async def test_the_headers_and_options_that_libraries_add_do_no_harm(hub):
    headers = {
        "Authorization": f"Bearer {hub.key}",
        "OpenAI-Organization": "org",
        "OpenAI-Project": "project",
        "OpenAI-Beta": "assistants=v2",
        "HTTP-Referer": "https://client.example",
        "X-Title": "A client",
        "x-stainless-retry-count": "1",
        "Accept-Encoding": "gzip, deflate, br, zstd",
    }
    options = {"include_usage": True, "include_obfuscation": False}
    async with socket_worker(hub) as worker:
        body = chat(stream=True, stream_options=options, prompt_cache_key="a", service_tier="auto")
        asking = asyncio.create_task(send(hub, body, headers=headers))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "fine"), End(job.job))
        assert (await asking).text == "fine"


async def test_a_plain_answer_is_not_escaped_either(hub):
    reply = await answered(hub, {}, Piece("", "naïve 日本 👩‍👩‍👧"), End(""))
    assert "naïve 日本 👩‍👩‍👧".encode() in reply.body


async def test_a_caller_that_asks_before_it_sends_a_large_body_is_told_to_go_on(hub):
    """curl does, with `Expect: 100-continue`."""
    body = json.dumps(chat(model="nonesuch")).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {hub.key}\r\n"
    head += f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(*_address(hub))
    async with asyncio.timeout(PATIENCE_S):
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    writer.close()
