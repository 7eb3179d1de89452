"""Pages for people. For now one: what this is, and whether it works."""

from pathlib import Path

import aiohttp_jinja2
import jinja2
from aiohttp import web

from .. import __version__
from .state import HUB


def _assets(name: str) -> Path:
    """A folder that lies beside the package in a checkout, and inside it once installed."""
    installed = Path(__file__).parents[1] / name
    return installed if installed.is_dir() else Path(__file__).parents[2] / name


STATIC = _assets("static")
TEMPLATES = _assets("templates")
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


def _own_address(request: web.Request) -> str:
    """Where this request arrived, by the socket and never by what the Host header says."""
    host, port = request.get_extra_info("sockname", ("127.0.0.1", 8080))[:2]
    return f"{request.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
