"""Pages for people. For now one: what this is, and whether it works."""

from pathlib import Path

import aiohttp_jinja2
import jinja2
from aiohttp import web

from .. import __version__
from .state import HUB


def assets(name: str, in_checkout: str = "") -> Path:
    """A folder that lies inside the package once installed, and beside it in a checkout."""
    installed = Path(__file__).parents[1] / name
    return installed if installed.is_dir() else Path(__file__).parents[2] / (in_checkout or name)


STATIC = assets("static")
TEMPLATES = assets("templates")
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def set_up(app: web.Application) -> None:
    """Let handlers of this app render templates; everything put into one is escaped."""
    aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)


async def front(request: web.Request) -> web.Response:
    """The page at the root: the base URL to paste, and how many workers are here."""
    hub = request.app[HUB]
    base = hub.settings.public_url.rstrip("/") or _own_address(request)
    context = {
        "base_url": f"{base}/v1",
        "workers": len(hub.roster),
        "models": len(hub.roster.models()),
        "version": __version__,
    }
    response = aiohttp_jinja2.render_template("front.html", request, context)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


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
    host, port = request.get_extra_info("sockname", ("127.0.0.1", 8080))[:2]
    return f"{request.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
