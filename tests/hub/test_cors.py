"""Pages of allowed origins may call the API; others may not."""

import asyncio

import pytest

from hub.protocol import End, Fail, JobFrame, Piece
from hub.rules.addresses import Origins
from hub.settings import SettingsError
from tests.doors import Reply, ask, chat, send, socket_worker

PAGE = "https://chat.example"
STAINLESS = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,"
    "x-stainless-runtime-version,x-stainless-timeout"
)
"""What OpenAI's own library asks for in a browser."""


@pytest.fixture
async def hub(start_hub):
    return await start_hub(cors={"origins": [PAGE, "https://*.sub.example", "app://local"]})


async def preflight(
    hub, origin: str | None = PAGE, *, headers: str = STAINLESS, path: str = ""
) -> Reply:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    if origin is not None:
        asks["Origin"] = origin
    return await send(hub, method="OPTIONS", path=path or "/v1/chat/completions", headers=asks)


def names(reply: Reply, header: str) -> set[str]:
    return set(reply.headers.get(header, "").lower().replace(" ", "").split(","))


def allowed_origin(reply: Reply) -> str | None:
    origin: str | None = reply.headers.get("Access-Control-Allow-Origin")
    assert "Access-Control-Allow-Credentials" not in reply.headers
    return origin


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "//v1//models/"])
@pytest.mark.parametrize("origin", [PAGE, "https://a.sub.example", "app://local"])
async def test_a_preflight_is_answered_without_a_key(hub, origin, path):
    reply = await preflight(hub, origin, path=path)
    assert (reply.status, reply.body, allowed_origin(reply)) == (204, b"", origin)
    assert names(reply, "Access-Control-Allow-Headers") == set(STAINLESS.split(","))
    assert {"get", "post", "delete"} <= names(reply, "Access-Control-Allow-Methods")
    assert "origin" in names(reply, "Vary")


async def test_authorization_is_allowed_also_where_it_was_not_asked_for(hub):
    reply = await preflight(hub, headers="X-One, bad name, x-\u00fc, ,")
    assert names(reply, "Access-Control-Allow-Headers") == {"authorization", "x-one"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://chat.example",
        "https://chat.example:8443",
        "https://chat.example.evil",
        "https://sub.example",
        "https://asub.example",
        "null",
        "",
        None,
    ],
)
async def test_other_origins_get_nothing(hub, origin):
    reply = await preflight(hub, origin)
    assert (reply.status, allowed_origin(reply)) == (405, None)
    headers = {
        "Authorization": f"Bearer {hub.key}",
        **({} if origin is None else {"Origin": origin}),
    }
    models = await send(hub, method="GET", path="/v1/models", headers=headers)
    assert (models.status, allowed_origin(models)) == (200, None)
    assert "origin" in names(models, "Vary")


async def test_by_default_no_page_may(start_hub):
    hub = await start_hub()
    reply = await preflight(hub)
    assert (reply.status, allowed_origin(reply)) == (405, None)
    assert "Vary" not in reply.headers


async def test_all_may_where_the_operator_says_so(start_hub):
    hub = await start_hub(cors={"origins": ["*"]})
    for origin in ("https://any.example", "null"):
        assert allowed_origin(await preflight(hub, origin)) == origin


@pytest.mark.parametrize("path", ["/healthz", "/worker/hello", "/", "/v2/models"])
async def test_only_the_api_is_open(hub, path):
    assert allowed_origin(await preflight(hub, path=path)) is None
    assert (
        allowed_origin(await send(hub, method="GET", path=path, headers={"Origin": PAGE})) is None
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_and_errors_can_be_read_with_their_headers(hub, stream):
    headers = {"Authorization": f"Bearer {hub.key}", "Origin": PAGE}
    async with socket_worker(hub) as worker:
        for last, status in ((End, 200), (Fail, 429)):
            asking = asyncio.create_task(send(hub, chat(stream=stream), headers=headers))
            job = await worker.hear(JobFrame)
            said = (
                [Piece(job.job, "hi"), End(job.job)]
                if last is End
                else [Fail(job.job, "rate_limited")]
            )
            await worker.say(*said)
            reply = await asking
            assert (reply.status, allowed_origin(reply)) == (status, PAGE)
            readable = names(reply, "Access-Control-Expose-Headers")
            told = {
                name.lower() for name in reply.headers if name.lower().startswith(("x-r", "retry"))
            }
            assert told <= readable
            assert {"x-request-id", "retry-after", "x-ratelimit-remaining-tokens"} <= readable
    for refused in [
        await send(hub, chat(), headers={"Origin": PAGE}),
        await send(hub, b"{", headers=headers),
        await send(hub, method="GET", path="/v1/nothing", headers=headers),
    ]:
        assert refused.status in (400, 401, 404)
        assert allowed_origin(refused) == PAGE


async def test_a_caller_that_is_no_page_notices_nothing(hub):
    reply = await ask(hub, model="nonesuch")
    assert (reply.status, allowed_origin(reply)) == (404, None)


def test_a_pattern_is_no_more_than_its_subdomains():
    origins = Origins(["https://*.a.example:81"])
    assert "https://x.y.a.example:81" in origins
    for other in ("https://a.example:81", "https://x.a.example", "http://x.a.example:81", ""):
        assert other not in origins


@pytest.mark.parametrize(
    "origin", ["chat.example", "https://chat.example/", "https://a.*.example", "https://", "**"]
)
async def test_what_is_no_origin_is_a_settings_error(start_hub, origin):
    with pytest.raises(SettingsError, match=r"cors\.origins"):
        await start_hub(cors={"origins": [origin]})
