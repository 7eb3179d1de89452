"""Pages for people: how they are made, and the first of them: what this is, and whether it works."""

from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler

from .. import __version__
from ..errors import HubError
from ..rules.addresses import is_loopback
from .addresses import FORWARDED, client
from .session import signed_in
from .state import HUB


def assets(name: str, in_checkout: str = "") -> Path:
    """A folder that lies inside the package once installed, and beside it in a checkout."""
    installed = Path(__file__).parents[1] / name
    return installed if installed.is_dir() else Path(__file__).parents[2] / (in_checkout or name)


STATIC = assets("static")
TEMPLATES = assets("templates")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Cache-Control": "no-store",
    # With no-referrer browsers would send the origin of our own forms as null.
    "Referrer-Policy": "same-origin",
}


def set_up(app: web.Application) -> None:
    """Let handlers of this app render templates; everything put into one is escaped."""
    aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)


async def page(
    request: web.Request,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    error: HubError | None = None,
) -> web.Response:
    """A page; `error` is shown on it, and gives it its status."""
    shared = {
        "root": root(request),
        "user": await signed_in(request),
        "error": error.message if error else "",
        "in_the_clear": in_the_clear(request),
        "version": __version__,
    }
    status = error.status if error else 200
    response = aiohttp_jinja2.render_template(
        template, request, {**shared, **(context or {})}, status=status
    )
    response.headers.update(HEADERS | (error.headers() if error else {}))
    return response


def for_people(handler: Handler) -> Handler:
    """A handler whose errors are pages too."""

    @wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except HubError as error:
            return await page(request, "message.html", error=error)

    return handle


def root(request: web.Request) -> str:
    """The way from this page to the front page; a proxy may have put the hub below a path of its own."""
    return "../" * (request.rel_url.raw_path.count("/") - 1) or "./"


def see_other(request: web.Request, path: str) -> web.Response:
    """On to another page of the hub, whose path begins with one slash."""
    return web.Response(status=303, headers={"Location": root(request) + path[1:], **HEADERS})


def in_the_clear(request: web.Request) -> bool:
    """Whether others on the way can read what is typed here."""
    return client(request).scheme != "https" and not is_loopback(request.headers.get("Host", ""))


async def front(request: web.Request) -> web.Response:
    """The page at the root: the base URL to paste, and how many workers are here."""
    hub = request.app[HUB]
    base = hub.settings.public_url.rstrip("/") or _own_address(request)
    context = {
        "base_url": f"{base}/v1",
        "workers": len(hub.roster),
        "models": len(hub.roster.models()),
    }
    return await page(request, "front.html", context)


def public_address(request: web.Request) -> str | None:
    """The hub's address for browsers, without a slash at its end; None if it cannot be known.

    Without `public_url` only a browser on the hub's own machine is known to reach it where it arrived.
    """
    configured = request.app[HUB].settings.public_url.rstrip("/")
    if configured:
        return configured
    host = request.get_extra_info("sockname", ("",))[0]
    behind_a_proxy = any(name in request.headers for name in FORWARDED)
    local = host in ("127.0.0.1", "::1")
    return _own_address(request) if local and not behind_a_proxy else None


def _own_address(request: web.Request) -> str:
    """Where this request arrived, by the socket and never by what the Host header says."""
    name = request.get_extra_info("sockname", ("127.0.0.1", 8080))
    if isinstance(name, str):
        return "https://<this hub>"  # a Unix socket: the proxy in front has an address, and we do not know it
    host, port = name[:2]
    return f"{request.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
