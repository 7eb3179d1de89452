"""Pages of other origins may call the API where the operator allows it (CORS, fetch.spec.whatwg.org)."""

import re

from aiohttp import web
from aiohttp.typedefs import Handler

from ..rules.addresses import Origins
from ..settings import Settings

ORIGINS = web.AppKey("origins", Origins)
METHODS = "GET, POST, DELETE"
EXPOSED = ", ".join(
    (
        "x-request-id",
        "openai-processing-ms",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        *(
            f"x-ratelimit-{a}-{b}"
            for b in ("requests", "tokens")
            for a in ("limit", "remaining", "reset")
        ),
        "x-bridge-ignored",
        "x-bridge-worker",
        "x-bridge-model",
    )
)
REMEMBERED_S = 600
"""How long a browser need not ask again."""
LONGEST_LIST = 2_000
"""Characters of a list of headers; SDKs in browsers send some three hundred."""
HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


def set_up(app: web.Application, settings: Settings) -> None:
    """Nothing at all happens where no origin is allowed."""
    if settings.cors.origins:
        app[ORIGINS] = Origins(settings.cors.origins)
        app.middlewares.append(preflights)
        app.on_response_prepare.append(add_origin)


@web.middleware
async def preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A browser asks before it sends: answered without a key, which it does not send along."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    if not asks or not _is_allowed(request):
        return await handler(request)
    headers = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": ", ".join(_asked_for(request)),
        "Access-Control-Max-Age": str(REMEMBERED_S),
    }
    return web.Response(status=204, headers=headers)


async def add_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Lets the page read the answer, errors too. Runs just before an answer's headers leave."""
    if _is_api(request):
        response.headers.add("Vary", "Origin")
    if _is_allowed(request):
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        response.headers["Access-Control-Expose-Headers"] = EXPOSED


def _is_api(request: web.Request) -> bool:
    return request.path.lstrip("/").startswith("v1/")


def _is_allowed(request: web.Request) -> bool:
    return _is_api(request) and request.headers.get("Origin", "") in request.app[ORIGINS]


def _asked_for(request: web.Request) -> list[str]:
    """The names of the headers that the page wants to send, and the one that every caller needs."""
    said = request.headers.get("Access-Control-Request-Headers", "")[:LONGEST_LIST].lower()
    names = [name for item in said.split(",") if HEADER_NAME.fullmatch(name := item.strip())]
    return sorted({"authorization", *names})
