"""Callers that send rubbish get a clean answer; odd ones get what they meant; others notice nothing."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.protocol import End, JobFrame, Piece
from tests.doors import (
    PATIENCE_S,
    Reply,
    ask,
    chat,
    send,
    socket_worker,
    undisturbed,
)

MIB = 1024 * 1024
COMPLETIONS = "/v1/chat/completions"


@pytest.fixture
async def fine(hub) -> AsyncIterator[None]:
    """A worker that answers every job with `fine`."""
    async with socket_worker(hub) as worker:

        async def answer() -> None:
            while True:
                job = await worker.hear(JobFrame)
                await worker.say(Piece(job.job, "fine"), End(job.job))

        answering = asyncio.create_task(answer())
        yield
        answering.cancel()


def refused(reply: Reply, status: int, code: str | None = None, param: str | None = None) -> None:
    error = reply.error
    assert (reply.status, error["code"], error["param"]) == (status, code, param), error
    assert error["message"]
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["x-request-id"]
    assert reply.headers["openai-processing-ms"]


# --- rubbish -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"model": "m", "messages": [}',
        b'{"model": "m"} trailing',
        b"{'model': 'm'}",
        b"\x00" * 100,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"model": "m", "n": ' + b"9" * 10_000 + b"}",
    ],
)
async def test_what_is_no_json_object_is_a_bad_request(hub, fine, body):
    async with undisturbed(hub):
        refused(await send(hub, body), 400)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
async def test_what_json_does_not_know_is_a_bad_request(hub, fine, number):
    whole = json.dumps(chat(temperature=0)).encode()
    reply = await send(hub, whole.replace(b'"temperature": 0', b'"temperature": ' + number))
    assert reply.status == 400


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": "hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 5}, "stream_options"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": 5}, "stop"),
        ({"tools": "hammer"}, "tools"),
        ({"seed": 10**30}, "seed"),
        ({"response_format": {}}, "response_format.type"),
    ],
)
async def test_a_wrong_value_is_named(hub, fine, members, param):
    refused(await ask(hub, **members), 400, None, param)


@pytest.mark.parametrize("missing", ["model", "messages"])
async def test_a_missing_field_is_named(hub, fine, missing):
    body = chat()
    del body[missing]
    refused(await send(hub, body), 400, None, missing)


# --- too much ------------------------------------------------------------------------------------------


async def slow_post(hub: Any, headers: str, first: bytes, rest: int) -> tuple[bytes, int]:
    """The head of the answer to a large body, and how much of the body was sent until then."""
    url = urlsplit(hub.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {hub.key}\r\n"
    writer.write(f"{head}{headers}\r\n\r\n".encode() + first)
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    sent = 0
    part = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    while sent < rest and not answer.done():
        writer.write(part)
        sent += 65_536
        await writer.drain()
        await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        got = await answer
    writer.transport.abort()
    return got, sent


async def test_a_body_that_says_it_is_too_large_is_refused_unread(hub):
    async with undisturbed(hub):
        head, _ = await slow_post(hub, f"Content-Length: {30 * MIB}", b"{", 0)
    assert head.startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_is_refused_once_it_is_too_large(hub):
    async with undisturbed(hub):
        head, sent = await slow_post(hub, "Transfer-Encoding: chunked", b"", 100 * MIB)
    assert head.startswith(b"HTTP/1.1 413 ")
    assert 20 * MIB <= sent < 30 * MIB


async def test_a_body_that_is_too_large_gets_the_error_of_all(hub):
    async with undisturbed(hub):
        refused(await send(hub, b" " * (20 * MIB + 1)), 413, "request_too_large")


async def test_a_large_body_of_allowed_size_is_let_in(hub, fine):
    reply = await ask(hub, metadata="x" * (19 * MIB))
    assert reply.text == "fine"


async def test_the_limit_holds_for_a_short_chunked_body(start_hub):
    hub = await start_hub(max_body_bytes=1024)
    body = json.dumps(chat(metadata="x" * 2000)).encode()

    async def in_chunks() -> AsyncIterator[bytes]:
        yield body

    headers = {"Authorization": f"Bearer {hub.key}"}
    refused(await post_stream(hub, in_chunks(), headers), 413, "request_too_large")


async def test_a_compressed_body_cannot_grow_beyond_the_limit(hub):
    bomb = gzip.compress(json.dumps(chat(metadata=" " * (40 * MIB))).encode())
    assert len(bomb) < MIB
    headers = {"Authorization": f"Bearer {hub.key}", "Content-Encoding": "gzip"}
    async with undisturbed(hub):
        refused(await send(hub, bomb, headers=headers), 413, "request_too_large")


async def post_stream(hub: Any, body: AsyncIterator[bytes], headers: dict[str, str]) -> Reply:
    async with (
        aiohttp.ClientSession() as session,
        session.post(hub.url + COMPLETIONS, data=body, headers=headers) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


@pytest.mark.parametrize("depth", [100, 300, 1000, 3000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_deep_nesting_has_a_clean_answer(hub, fine, opening, depth):
    closing = "]" if opening == "[" else "}"
    deep = opening * depth + "1" + closing * depth
    body = json.dumps(chat())[:-1] + f', "metadata": {deep}}}'
    async with undisturbed(hub):
        reply = await send(hub, body.encode())
    if reply.status != 200:
        refused(reply, 400)


@pytest.mark.parametrize("text", ["\\ud83d", "a\\udc00b", "\\ud83d\\ud83d", "\\ude00\\ud83d"])
async def test_lone_surrogates_have_a_clean_answer(hub, fine, text):
    body = json.dumps(chat()).replace("hi", text)
    assert (await send(hub, body.encode())).text == "fine"


async def test_lone_surrogates_in_names_have_a_clean_answer(hub, fine):
    body = json.dumps(chat())[:-1] + ', "\\ud83d": "\\ud83d"}'
    assert (await send(hub, body.encode())).text == "fine"


@pytest.mark.parametrize("text", [" " * MIB, "\n" * MIB, "a" * MIB, "\x00" * MIB])
async def test_a_megabyte_of_the_same_character_has_a_clean_answer(hub, fine, text):
    async with undisturbed(hub):
        assert (await ask(hub, messages=[{"role": "user", "content": text}])).text == "fine"


async def test_thousands_of_messages_have_a_clean_answer(hub, fine):
    messages = [{"role": "user", "content": "hi"}] * 20_000
    assert (await ask(hub, messages=messages)).text == "fine"


async def test_a_caller_that_never_sends_its_body_disturbs_nobody(hub):
    url = urlsplit(hub.url)
    _, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {hub.key}\r\n"
    writer.write(f"{head}Content-Length: 100\r\n\r\n{{".encode())
    async with undisturbed(hub):
        await writer.drain()
    writer.transport.abort()


@pytest.mark.parametrize(
    "rubbish", [b"\x16\x03\x01\x02\x00" * 20, b"GET\r\n\r\n", b"\x00" * 1000, b"A" * 100_000]
)
async def test_what_is_no_http_disturbs_nobody(hub, rubbish):
    url = urlsplit(hub.url)
    async with undisturbed(hub):
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(rubbish + b"\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.read(12)
        assert answer in (b"HTTP/1.1 400", b"HTTP/1.0 400", b"")
        writer.transport.abort()


# --- who is asking -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_bearer_in_any_case(hub, fine, scheme):
    headers = {"Authorization": f"{scheme}  {hub.key} "}
    assert (await send(hub, chat(), headers=headers)).text == "fine"


@pytest.mark.parametrize("name", ["x-api-key", "api-key", "X-API-KEY"])
async def test_other_headers_for_the_key(hub, fine, name):
    assert (await send(hub, chat(), headers={name: hub.key})).text == "fine"


async def test_all_three_headers_at_once(hub, fine):
    names = {"x-api-key": hub.key, "api-key": hub.key, "Authorization": f"Bearer {hub.key}"}
    assert (await send(hub, chat(), headers=names)).text == "fine"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer sk-wrong"},
        {"Authorization": "Basic eDp5"},
        {"x-api-key": ""},
        {"api-key": "x" * 5000},
        {"Authorization": "Bearer " + "\u00fc"},
    ],
)
async def test_without_a_good_key_it_is_always_401(hub, headers):
    refused(await send(hub, chat(), headers=headers), 401, "invalid_api_key")
    refused(await send(hub, b"not json", headers=headers), 401, "invalid_api_key")
    models = await send(hub, method="GET", path="/v1/models", headers=headers)
    refused(models, 401, "invalid_api_key")


async def test_a_key_in_the_url_counts_for_nothing(hub):
    path = f"{COMPLETIONS}?api_key={hub.key}&key={hub.key}"
    refused(await send(hub, chat(), path=path, headers={}), 401, "invalid_api_key")


async def test_the_key_is_checked_before_the_body_is_read(hub):
    url = urlsplit(hub.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(
        f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n".encode()
    )
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
    writer.transport.abort()


# --- where they ask ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat//completions",
        "/v1/chat/completions/",
        "//v1//chat//completions//",
        "/v1/chat/completions?api-version=2024-02-01",
        "/v1/chat/completions/?api-version=",
    ],
)
async def test_odd_spellings_of_the_url(hub, fine, path):
    assert (await send(hub, chat(), path=path)).text == "fine"


@pytest.mark.parametrize("path", ["/v1/models/", "//v1/models", "/v1//models?api-version=x"])
async def test_odd_spellings_of_the_list_of_models(hub, fine, path):
    reply = await send(hub, method="GET", path=path)
    assert [model["id"] for model in reply.json["data"]] == ["m"]


@pytest.mark.parametrize("path", ["maker/model", "maker%2Fmodel"])
async def test_a_model_id_with_a_slash(hub, path):
    async with socket_worker(hub, models=[{"id": "maker/model"}]):
        reply = await send(hub, method="GET", path=f"/v1/models/{path}")
        assert reply.json["id"] == "maker/model"


@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1", "/v1/nowhere", "/v1/%00", "/%ff%fe", "/v2/models", "/" + "x" * 4000]
)
async def test_an_unknown_url(hub, path):
    refused(await send(hub, method="GET", path=path), 404, "unknown_url")


@pytest.mark.parametrize("path", ["/chat/completions", "/chat/completions/", "//chat/completions"])
async def test_a_missing_v1_is_explained(hub, path):
    reply = await send(hub, chat(), path=path)
    refused(reply, 404, "unknown_url")
    assert "/v1" in reply.error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", COMPLETIONS, "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/healthz", "GET"),
        ("GET", "/worker/hello", "POST"),
        ("PROPFIND", COMPLETIONS, "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(hub, method, path, allowed):
    reply = await send(hub, method=method, path=path)
    refused(reply, 405, "method_not_allowed")
    assert allowed in reply.headers["Allow"].split(", ")


# --- what they mean ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"unknown": {"key": [1]}, "x": None},
        dict.fromkeys(["temperature", "top_p", "n", "stop", "tools", "stream", "stream_options"]),
        {"n": 1},
        {"temperature": 1, "top_p": 1},
        {"max_tokens": 5, "max_completion_tokens": 5},
        {"tools": [], "tool_choice": "auto"},
        {"response_format": {"type": "text"}},
        {"stream": False, "stream_options": {"include_usage": True}},
        {"stop": []},
        {"user": "somebody", "metadata": {}, "store": False, "parallel_tool_calls": True},
        {"messages": [{"role": "developer", "content": "be brief"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
        {"messages": [{"role": "user", "content": "hi", "name": "me", "extra": 1}]},
        {
            "messages": [
                {
                    "role": "system",
                    "content": [
                        {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
                    ],
                }
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "do"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "done"},
            ]
        },
    ],
)
async def test_what_clients_in_the_wild_send_is_tolerated(hub, fine, members):
    assert (await ask(hub, **members)).text == "fine"


async def test_the_accept_header_does_not_make_a_stream(hub, fine):
    headers = {"Authorization": f"Bearer {hub.key}", "Accept": "text/event-stream"}
    reply = await send(hub, chat(), headers=headers)
    assert reply.headers["Content-Type"].startswith("application/json")


async def test_the_content_type_does_not_matter(hub, fine):
    headers = {"Authorization": f"Bearer {hub.key}", "Content-Type": "text/plain"}
    assert (await send(hub, chat(), headers=headers)).text == "fine"


# --- anything at all -----------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
roles = st.sampled_from(["user", "assistant", "system", "tool", "developer", "wizard"])
messages = st.fixed_dictionaries({"role": roles | values, "content": values})
names = st.sampled_from(
    [
        "model",
        "stream",
        "stream_options",
        "n",
        "temperature",
        "max_tokens",
        "stop",
        "tools",
        "seed",
        "response_format",
        "logprobs",
        "logit_bias",
        "top_logprobs",
        "messages",
        "other",
    ]
)
bodies = st.builds(
    lambda base, extra: {**base, **extra},
    st.fixed_dictionaries({"model": st.just("m"), "messages": st.lists(messages) | values}),
    st.dictionaries(names, values, max_size=3),
)
many = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
async def forsaken(start_hub) -> Any:
    """A hub that knows the model `m` but has no worker, and says so at once."""
    hub = await start_hub(deadlines={"absent_s": 0, "absent_stream_s": 0})
    async with socket_worker(hub) as worker:
        await worker.say({"t": "bye", "reason": ""})
        await worker.closed()
    return hub


@many
@given(body=bodies)
async def test_no_body_makes_the_hub_fail(forsaken, body):
    reply = await send(forsaken, body)
    assert set(reply.error) == {"message", "type", "param", "code"}
    assert reply.status in (400, 404, 503), reply.body
    if reply.status == 503:
        assert reply.error["code"] == "no_worker_available"


@many
@given(body=st.binary(max_size=300))
async def test_no_bytes_make_the_hub_fail(forsaken, body):
    assert (await send(forsaken, body)).status == 400


@many
@given(at=st.integers(0, 120), by=st.binary(max_size=4), cut=st.integers(0, 4))
async def test_no_damaged_body_makes_the_hub_fail(forsaken, at, by, cut):
    body = json.dumps(chat(stream=True, temperature=1)).encode()
    reply = await send(forsaken, body[:at] + by + body[at + cut :])
    assert reply.status in (400, 404, 503)
    assert reply.error["message"]
