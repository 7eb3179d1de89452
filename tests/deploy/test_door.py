"""The WSGI door by itself, in front of a stand-in on the hub's Unix socket."""

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hub.passenger import Door
from tests.deploy.servers import processes_with, short_folder


class Called:
    """What a WSGI server would have sent."""

    def __init__(self, root: Path, **environ: Any) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        environ.setdefault("REQUEST_METHOD", "GET")
        environ.setdefault("HTTP_HOST", "localhost")
        environ.setdefault("wsgi.input", io.BytesIO())
        answer = Door(root)(environ, self._start)
        try:
            self.body = b"".join(answer)
        finally:
            getattr(answer, "close", lambda: None)()

    def _start(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status = int(status.split()[0])
        self.headers = dict(headers)


async def call(root: Path, **environ: Any) -> Called:
    return await asyncio.to_thread(lambda: Called(root, **environ))


async def mirror(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        }
    )


async def broken_length(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"half")
    assert request.transport is not None
    request.transport.close()
    return response


async def broken_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: {}\n\ndata: {")
    assert request.transport is not None
    request.transport.close()
    return response


async def early_refusal(request: web.Request) -> web.Response:
    return web.json_response({"too": "large"}, status=413)


@pytest.fixture
async def root() -> AsyncIterator[Path]:
    """A folder as Passenger's, with a stand-in for the hub."""
    with short_folder() as folder:
        (folder / "data").mkdir()
        app = web.Application()
        app.router.add_get("/broken/length", broken_length)
        app.router.add_get("/broken/stream", broken_stream)
        app.router.add_post("/early", early_refusal)
        app.router.add_route("*", "/{_:.*}", mirror)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, folder / "data/hub.sock").start()
        yield folder
        await runner.cleanup()


async def seen(root: Path, **environ: Any) -> dict[str, Any]:
    called = await call(root, **environ)
    assert called.status == 200, called.body
    said: dict[str, Any] = json.loads(called.body)
    return said


async def test_the_target_is_passed_as_it_was_written(root):
    written = await seen(root, REQUEST_URI="/v1/models/a%2Fb?x=%20y", PATH_INFO="/v1/models/a/b")
    assert written["target"] == "/v1/models/a%2Fb?x=%20y"
    without = await seen(root, PATH_INFO="/v1/models", QUERY_STRING="x=1")
    assert without["target"] == "/v1/models?x=1"


async def test_an_application_below_a_path_sees_only_what_is_its_own(root):
    below = await seen(
        root, SCRIPT_NAME="/hub", REQUEST_URI="/hub/v1/models", PATH_INFO="/v1/models"
    )
    assert below["target"] == "/v1/models"


async def test_headers_pass_but_for_those_of_the_connection(root):
    headers = (
        await seen(
            root,
            PATH_INFO="/",
            HTTP_AUTHORIZATION="Bearer sk",
            HTTP_HOST="hub.example.org",
            HTTP_UPGRADE="websocket",
            HTTP_TE="trailers",
            HTTP_X_FORWARDED_HOST="evil.example.org",
            CONTENT_TYPE="text/plain",
        )
    )["headers"]
    assert headers["authorization"] == "Bearer sk"
    assert headers["host"] == "hub.example.org"
    assert headers["content-type"] == "text/plain"
    assert not {"upgrade", "te", "x-forwarded-host"} & set(headers)


async def test_the_hub_is_told_who_calls_and_how(root):
    alone = await seen(root, PATH_INFO="/", REMOTE_ADDR="192.0.2.7")
    assert alone["headers"]["x-forwarded-for"] == "192.0.2.7"
    assert alone["headers"]["x-forwarded-proto"] == "http"
    behind = {"HTTP_X_FORWARDED_FOR": "203.0.113.9", "wsgi.url_scheme": "https"}
    two = await seen(root, PATH_INFO="/", REMOTE_ADDR="192.0.2.7", **behind)
    assert two["headers"]["x-forwarded-for"] == "203.0.113.9, 192.0.2.7"
    assert two["headers"]["x-forwarded-proto"] == "https"


async def test_bodies_pass_with_a_length_and_in_chunks(root):
    posted = {"REQUEST_METHOD": "POST", "PATH_INFO": "/"}
    sized = {"CONTENT_LENGTH": "5", "wsgi.input": io.BytesIO(b"hello, and more")}
    assert (await seen(root, **posted, **sized))["body"] == "hello"
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(b"x" * 100_000)}
    assert (await seen(root, **posted, **chunked))["body"] == "x" * 100_000


async def test_a_caller_that_hangs_up_in_its_body_leaves_nothing_half_done(root):
    cut = {"CONTENT_LENGTH": "50", "wsgi.input": io.BytesIO(b"only this")}
    called = await call(root, REQUEST_METHOD="POST", PATH_INFO="/", **cut)
    assert (called.status, b"hub_stopped" in called.body) == (502, True)


async def test_a_refusal_that_comes_before_the_body_is_read_is_passed_on(root):
    large = {"CONTENT_LENGTH": "50000000", "wsgi.input": io.BytesIO(b"x" * 50_000_000)}
    called = await call(root, REQUEST_METHOD="POST", PATH_INFO="/early", **large)
    assert (called.status, called.body) == (413, b'{"too": "large"}')


async def test_a_stream_that_breaks_off_ends_with_an_error_event(root):
    called = await call(root, PATH_INFO="/broken/stream")
    assert called.body.startswith(b"data: {}\n\ndata: {\n\n")
    assert b'"hub_stopped"' in called.body
    assert called.body.endswith(b"data: [DONE]\n\n")


async def test_an_answer_of_known_length_that_breaks_off_stays_too_short(root):
    with pytest.raises(Exception, match="IncompleteRead"):
        await call(root, PATH_INFO="/broken/length")


async def test_a_forbidden_character_in_the_first_line_is_a_400(root):
    called = await call(root, REQUEST_URI="/v1/\x01models")
    assert called.status == 400


async def test_the_doors_of_one_folder_start_one_hub(tmp_path):
    with short_folder() as folder:
        (folder / "hub.toml").write_text("[hosting]\nidle_end_s = 2\n")
        calls = [call(folder, PATH_INFO="/healthz") for _ in range(5)]
        answers = await asyncio.gather(*calls)
        assert [answer.status for answer in answers] == [200] * 5
        assert len(processes_with(f"{folder}/data/hub.sock")) == 1
        waiting = [t for t in threading.enumerate() if t.name.startswith("the hub")]
        await asyncio.to_thread(lambda: [thread.join(30) for thread in waiting])
        assert not (folder / "data/hub.sock").exists()
