"""What every request passes: an id, errors in one shape, headers; and who is calling."""

import os
import time
from time import monotonic

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from ..errors import (
    AccountDisabled,
    HubError,
    InsufficientScope,
    InternalError,
    InvalidApiKey,
    InvalidRequest,
    MethodNotAllowed,
    RequestTooLarge,
    UnknownUrl,
)
from ..live.feed import RequestRefused
from ..live.gate import Standing
from ..rules.durations import go_duration
from ..store.keys import Caller, Endpoint
from .state import CALLER, HUB, RECEIVED, REQUEST_ID

UNLIMITED = {
    f"x-ratelimit-{name}-{unit}": value
    for unit in ("requests", "tokens")
    for name, value in (("limit", "2147483647"), ("remaining", "2147483647"), ("reset", "0s"))
}
"""A key without limits says the largest number that clients are sure to read."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def new_request_id() -> str:
    """Begins with its time, so that journal rows are appended in order."""
    return f"{time.time_ns() // 1000:013x}{os.urandom(8).hex()}"


@web.middleware
async def errors_in_one_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever goes wrong before an answer has begun becomes JSON with a status."""
    request[REQUEST_ID] = new_request_id()
    request[RECEIVED] = monotonic()
    try:
        return await handler(request)
    except HubError as error:
        _tell_of_refusal(request, error)
        return error_response(error)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        translated = _translated(request, error)
        _tell_of_refusal(request, translated)
        return error_response(translated, error)
    except Exception:  # noqa: BLE001 - the last resort
        structlog.get_logger().exception(
            "unexpected error", request_id=request[REQUEST_ID], path=_pattern(request)
        )
        return error_response(InternalError())


def _tell_of_refusal(request: web.Request, error: HubError) -> None:
    if not error.settled and request.path.lstrip("/").startswith("v1/"):
        request.app[HUB].feed.announce(RequestRefused(error.code or "invalid_request"))


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Runs just before an answer's headers leave."""
    headers = response.headers
    if REQUEST_ID in request:
        headers["x-request-id"] = request[REQUEST_ID]
        passed = monotonic() - request[RECEIVED]
        headers["openai-processing-ms"] = str(round(passed * 1000))
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    if CALLER in request:
        headers.update(limit_headers(await request.app[HUB].gate.standings(request[CALLER])))


def limit_headers(standings: list[Standing]) -> dict[str, str]:
    """The six headers: of every unit the tightest window."""
    headers = dict(UNLIMITED) if standings else UNLIMITED
    for unit in ("requests", "tokens"):
        windows = [each for each in standings if each.what == unit]
        if windows:
            tightest = min(windows, key=lambda each: (each.remaining, -each.reset_s))
            headers[f"x-ratelimit-limit-{unit}"] = str(tightest.limit)
            headers[f"x-ratelimit-remaining-{unit}"] = str(tightest.remaining)
            headers[f"x-ratelimit-reset-{unit}"] = go_duration(tightest.reset_s)
    return headers


def error_response(error: HubError, cause: web.HTTPException | None = None) -> web.Response:
    """An error as callers get it."""
    headers = error.headers()
    if isinstance(cause, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(cause.allowed_methods))
    return json_response(error.body(), status=error.status, headers=headers)


def json_response(
    value: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, headers=headers, content_type="application/json"
    )


def _translated(request: web.Request, error: web.HTTPException) -> HubError:
    """aiohttp's own errors in our words."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.path[:200]} answers {allowed}, not {request.method}."
        return MethodNotAllowed(message)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return RequestTooLarge()
    if isinstance(error, web.HTTPNotFound):
        return UnknownUrl(_unknown_url(request))
    return InvalidRequest(error.reason)


def _pattern(request: web.Request) -> str:
    """The path without what it names: that of an invitation holds a secret."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else request.path


def _unknown_url(request: web.Request) -> str:
    path = request.path[:200]
    base = request.app[HUB].settings.public_url.rstrip("/") or "http://<this hub>"
    lost = path.rstrip("/").endswith(("/chat/completions", "/models")) and "/v1" not in path
    if lost or path.lstrip("/").startswith("api/"):
        return f"There is nothing at {path}. The base URL of this API is {base}/v1."
    return f"There is nothing at {path}."


async def authenticate(request: web.Request, endpoint: Endpoint) -> Caller:
    """As `identify`, and raises InsufficientScope if the key is not for this endpoint."""
    caller = await identify(request)
    if not caller.key.scopes.allows_endpoint(endpoint):
        raise InsufficientScope
    return caller


async def identify(request: web.Request) -> Caller:
    """Who is calling, before anything of the body is read. Raises InvalidApiKey, AccountDisabled."""
    keys = request.app[HUB].store.keys
    caller = await keys.find(presented_secret(request))
    if caller is None:
        raise InvalidApiKey
    if caller.user is not None and caller.user.disabled:
        raise AccountDisabled
    keys.seen(caller.key.id)
    request[CALLER] = caller
    return caller


async def authenticate_admin(request: web.Request) -> Caller:
    """As `identify`, and raises InsufficientScope if the key has not the admin scope."""
    caller = await identify(request)
    if not caller.is_admin:
        raise InsufficientScope
    return caller


def preferred_region(request: web.Request, caller: Caller) -> str | None:
    """Where a caller would have its request answered; None for anywhere."""
    return request.headers.get("X-Bridge-Region") or None


def presented_secret(request: web.Request) -> str:
    """The secret in `Authorization: Bearer`, `x-api-key` or `api-key`; "" if there is none."""
    headers = request.headers
    return bearer(request) or headers.get("x-api-key") or headers.get("api-key") or ""


def bearer(request: web.Request) -> str:
    """The secret in `Authorization: Bearer`, in any case; "" if there is none."""
    scheme, _, secret = request.headers.get("Authorization", "").strip().partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body. Raises RequestTooLarge as soon as it is known to be larger than `limit` bytes."""
    too_large = RequestTooLarge(f"The request body may be at most {limit} bytes.")
    if (request.content_length or 0) > limit:
        raise too_large
    if not request.can_read_body:
        return b""
    parts, size = [], 0
    while part := await request.content.readany():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)
