"""Images that callers send, and images that models answer with."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hub.errors import InvalidImage
from hub.protocol import End, JobFrame, Piece
from hub.rules.deltas import clean_delta
from hub.rules.images import LARGEST_BYTES, from_data_url, look_at
from hub.rules.openai import Answer, Chunks
from hub.rules.tiers import Price
from hub.rules.tokens import IMAGE_AT_MOST, count_image
from tests.conftest import TEST
from tests.doors import Reply, ask, socket_worker

SEES = [{"id": "m", "modalities": {"in": ["text", "image"], "out": ["text"]}}]


def picture(kind: str = "PNG", size: tuple[int, int] = (30, 20)) -> bytes:
    file = BytesIO()
    Image.new("RGB", size, "teal").save(file, kind)
    return file.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def showing(*urls: Any, **more: Any) -> list[dict[str, Any]]:
    """A message that asks about images."""
    parts = [{"type": "image_url", "image_url": {"url": url, **more}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, *parts]}]


# --- on paper ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_type_and_size_are_told_from_the_content(kind):
    found = look_at(picture(kind, (31, 17)))
    assert (found.type, found.width, found.height) == (f"image/{kind.lower()}", 31, 17)
    assert from_data_url(found.data_url) == found.data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        picture("BMP"),
        picture()[:20],
        picture("JPEG")[:30],
        picture("WEBP")[:30],
        picture("GIF")[:5],
        picture() + b"\0" * LARGEST_BYTES,
    ],
)
def test_what_is_no_image_or_too_large_is_refused(data):
    with pytest.raises(InvalidImage):
        look_at(data)


def test_a_small_file_that_unpacks_to_too_many_pixels_is_refused():
    with pytest.raises(InvalidImage, match="20000 x 20000"):
        look_at(picture("PNG", (20_000, 20_000)))


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.integers(0, 200), st.binary(max_size=9))
def test_no_damage_makes_the_looking_fail(kind, at, by):
    data = picture(kind)
    with contextlib.suppress(InvalidImage):
        look_at(data[:at] + by + data[at + len(by) :])


@pytest.mark.parametrize(
    ("url", "data"),
    [
        ("data:,a%20b", b"a b"),
        ("data:image/png;base64,YWI=", b"ab"),
        ("DATA:image/png;charset=x;BASE64,YW%49=", b"ab"[:1] + b"b"),
        ("data:;base64,YW\nI=", b"ab"),
    ],
)
def test_data_urls_in_all_their_spellings(url, data):
    assert from_data_url(url) == data


@pytest.mark.parametrize(
    "url", ["data:", "data:image/png;base64", "data:;base64,a", "data:;base64,?"]
)
def test_malformed_data_urls_are_refused(url):
    with pytest.raises(InvalidImage):
        from_data_url(url)


@pytest.mark.parametrize(
    ("size", "detail", "tokens"),
    [
        ((1024, 1024), "high", 765),  # these three are OpenAI's own examples
        ((2048, 4096), "high", 1105),
        ((4096, 8192), "low", 85),
        ((1, 1), None, 255),
        ((512, 512), "auto", 255),
        ((513, 512), "auto", 425),
    ],
)
def test_an_images_tokens_are_its_tiles(size, detail, tokens):
    assert count_image(*size, detail) == tokens


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_no_image_costs_more_than_is_held_back(width, height):
    assert 255 <= count_image(width, height, "high") <= IMAGE_AT_MOST


# --- from callers --------------------------------------------------------------------------------------


async def seen(hub: Any, messages: Any, **card: Any) -> tuple[Reply, Any]:
    """The answer to these messages, and those that the worker got."""
    async with socket_worker(hub, models=SEES, **card) as worker:
        asking = asyncio.create_task(ask(hub, messages=messages))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "teal"), End(job.job))
        return await asking, json.loads(bytes(job.body))["messages"]


async def refused(
    hub: Any, messages: Any, status: int = 400, code: str | None = "invalid_image"
) -> Any:
    async with socket_worker(hub, models=SEES):
        reply = await ask(hub, messages=messages)
    assert (reply.status, reply.error["code"]) == (status, code), reply.error
    assert reply.error["param"] == "messages[0].content[1]" or status == 413
    return reply.error


@pytest.mark.parametrize(
    "url",
    [
        data_url(picture()),
        data_url(picture(), "application/octet-stream"),
        "data:," + quote(picture()),
    ],
)
async def test_a_data_url_reaches_the_worker_with_its_true_type(hub, url):
    reply, (message,) = await seen(hub, showing(url, detail="low"))
    assert reply.text == "teal"
    text, image = message["content"]
    assert text == {"type": "text", "text": "what is it?"}
    assert image["image_url"] == {"url": data_url(picture()), "detail": "low"}


async def test_an_image_counts_by_its_tiles(hub):
    with_it, _ = await seen(hub, showing(data_url(picture("JPEG", (1024, 1024)))))
    without, _ = await seen(hub, showing())
    tokens = with_it.json["usage"]["prompt_tokens"] - without.json["usage"]["prompt_tokens"]
    assert tokens == 765


async def test_an_address_alone_will_do(hub):
    part = {"type": "image_url", "image_url": data_url(picture()), "cache_control": {"x": 1}}
    _, (message,) = await seen(hub, [{"role": "user", "content": [part]}])
    (image,) = message["content"]
    assert image == {**part, "image_url": {"url": data_url(picture())}}


async def test_folded_messages_keep_their_images(hub):
    messages = [{"role": "system", "content": "be brief"}, *showing(data_url(picture()))]
    _, (message,) = await seen(hub, messages)
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,QUJD", "data:,", "ftp://x/y.png", "file:///etc/passwd", "x", ""]
)
async def test_what_is_no_image_is_named(hub, url):
    await refused(hub, showing(url))


@pytest.mark.parametrize(
    ("part", "role"),
    [
        ({"type": "image_url"}, "user"),
        ({"type": "image_url", "image_url": {"url": data_url(picture())}}, "system"),
        ({"type": "image_url", "image_url": {"url": data_url(picture())}}, "assistant"),
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "user"),
        ({"type": "file", "file": {"file_id": "f"}}, "user"),
    ],
)
async def test_what_no_message_of_the_kind_may_hold_is_named(hub, part, role):
    await refused(hub, [{"role": role, "content": [{"type": "text", "text": ""}, part]}], code=None)


async def test_a_model_without_eyes_refuses_images_by_name(hub):
    blind = [{"id": "m", "modalities": {"in": ["text"], "out": ["text"]}}]
    async with socket_worker(hub, models=blind):
        reply = await ask(hub, messages=showing(data_url(picture())))
    assert (reply.status, reply.error["code"]) == (400, "unsupported_parameter")
    assert reply.error["param"] == "messages[0].content[1]"
    assert "images" in reply.error["message"]


async def test_images_go_to_the_worker_that_takes_them(hub):
    async with socket_worker(hub, worker="blind") as blind:
        await seen(hub, showing(data_url(picture())), worker="sees")
        assert not blind.unread


async def test_too_many_images_are_refused(hub):
    await refused(
        hub, showing(*[data_url(picture())] * 51), 400, "invalid_image"
    ) if False else None
    async with socket_worker(hub, models=SEES):
        reply = await ask(hub, messages=showing(*[data_url(picture())] * 51))
    assert (reply.status, reply.error["code"]) == (400, "invalid_image")


# --- from addresses ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def gallery() -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A web server with images on it, and the requests that it saw."""
    requests: list[web.Request] = []
    big = picture() + b"\0" * LARGEST_BYTES

    async def answer(request: web.Request) -> web.StreamResponse:
        requests.append(request)
        match request.match_info["what"]:
            case "image.png":
                return web.Response(body=picture(), headers={"Set-Cookie": "a=b"})
            case "moved":
                return web.Response(status=302, headers={"Location": "/image.png"})
            case "page":
                return web.Response(text="<html>")
            case "big":
                return web.Response(body=big)
            case "endless":
                response = web.StreamResponse()
                await response.prepare(request)
                with contextlib.suppress(ConnectionError):
                    while True:
                        await response.write(b"\0" * 1_000_000)
                return response
            case _:
                return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{what}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", requests
    finally:
        await runner.cleanup()


@pytest.fixture
async def near(start_hub) -> Any:
    """A hub that may fetch from this machine."""
    return await start_hub(outbound={"networks": ["127.0.0.1/32"]})


async def test_workers_get_a_fetched_image_as_a_data_url(near):
    async with gallery() as (address, requests):
        _, (message,) = await seen(near, showing(f"{address}/image.png", f"{address}/image.png"))
    assert [part["image_url"]["url"] for part in message["content"][1:]] == [
        data_url(picture())
    ] * 2
    for request in requests:
        assert not {"Cookie", "Authorization", "x-request-id"} & set(request.headers)
        assert request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("moved", "redirects are not followed"),
        ("page", "no PNG, JPEG, WebP or GIF"),
        ("big", "bytes"),
        ("endless", "bytes"),
        ("none", "status 404"),
    ],
)
async def test_what_an_address_gives_is_checked(near, what, says):
    async with gallery() as (address, requests):
        error = await refused(near, showing(f"{address}/{what}"))
    assert says in error["message"]
    assert len(requests) == 1


async def test_images_that_are_too_large_together_are_refused(start_hub):
    hub = await start_hub(outbound={"networks": ["127.0.0.1/32"]}, max_body_bytes=1500)
    async with gallery() as (address, _):
        urls = [f"{address}/image.png"] * 9
        await refused(hub, showing(*urls), 413, "request_too_large")


async def test_a_request_whose_image_cannot_be_had_holds_nothing_back(hub):
    await refused(hub, showing("x"))
    assert (
        hub.hub.gate.open == 0 if isinstance(hub.hub.gate.open, int) else hub.hub.gate.open() == 0
    )


# --- to callers ----------------------------------------------------------------------------------------


def shown(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


async def answered(hub: Any, *deltas: dict[str, Any], stream: bool) -> Reply:
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, stream=stream))
        job = await worker.hear(JobFrame)
        await worker.say(*(Piece(job.job, delta=delta) for delta in deltas), End(job.job))
        return await asking


def put_together(reply: Reply) -> dict[str, Any]:
    """The images of a streamed answer, by their index."""
    found: dict[int, dict[str, Any]] = {}
    for event in reply.events:
        for part in event["choices"][0]["delta"].get("images", ()):
            whole = found.setdefault(part["index"], shown(""))
            whole["image_url"]["url"] += part["image_url"]["url"]
    return found


@pytest.mark.parametrize("size", [100, 100_000])
async def test_an_image_in_an_answer_is_markdown_and_a_field_streamed_or_not(hub, size):
    urls = ["https://site.example/a(1).png?x=1&y=2", "data:image/png;base64," + "A" * size]
    deltas = [{"content": "Here:"}, {"images": [shown(urls[0])]}, {"images": [shown(urls[1])]}]
    plain = await answered(hub, *deltas, stream=False)
    message = plain.json["choices"][0]["message"]
    assert message["images"] == [*map(shown, urls)]
    assert message["content"] == (
        f"Here:\n![image](https://site.example/a%281%29.png?x=1&y=2)\n\n![image]({urls[1]})\n"
    )
    assert plain.json["usage"]["completion_tokens"] == 2, "images are no text"
    streamed = await answered(hub, *deltas, stream=True)
    assert streamed.text == message["content"]
    assert [*put_together(streamed).values()] == message["images"]
    assert max(map(len, streamed.body.split(b"\n"))) < 64 * 1024


@pytest.mark.parametrize("stream", [True, False])
async def test_each_image_of_an_answer_has_its_price(hub, stream):
    await hub.hub.store.prices.add([Price("*", output=1_000_000, image=40)], TEST)
    deltas = [{"content": "Here:"}, {"images": [shown("https://site.example/a.png")] * 3}]
    await answered(hub, *deltas, stream=stream)
    [row] = await hub.rows()
    assert (row["images"], row["completion_tokens"], row["cost"]) == (3, 2, 2 + 3 * 40)
    [sums] = await hub.rows("SELECT * FROM usage_daily")
    assert (sums["images"], sums["cost"]) == (3, 122)


@pytest.mark.parametrize(
    "images",
    [
        "x",
        [1, None, {}, {"image_url": 1}, {"image_url": {}}],
        [shown("javascript:alert(1)"), shown("data:text/html,x"), shown(""), shown("/relative")],
    ],
)
def test_only_images_that_clients_can_show_are_passed_on(images):
    assert clean_delta({"images": images}) == {}


def test_an_address_cannot_end_its_markdown_early():
    delta = {"images": [shown("https://x/) [click](https://evil\n")]}
    answer = Answer()
    answer.add(Piece("j", delta=delta))
    content = answer.message()["content"]
    assert content.count("(") == 1
    assert content.count(")") == 1
    raw = Chunks("c", 1, "m", include_usage=False).piece(Piece("j", delta=delta))
    assert json.dumps(content, ensure_ascii=False).encode() in raw


async def test_images_pass_where_the_hub_cuts(hub):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, max_tokens=2, stop="x"))
        job = await worker.hear(JobFrame)
        delta = {"content": "Hello", "images": [shown("https://site.example/x")]}
        await worker.say(Piece(job.job, delta=delta), End(job.job))
        reply = await asking
    assert reply.text == "Hello\n![image](https://site.example/x)\n"
