"""Where a request comes from, and whether it is meant for this hub."""

from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from ..rules.addresses import Client, Hosts, Proxies, is_loopback
from ..settings import Settings

HOSTS = web.AppKey("hosts", Hosts)
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
"""What a proxy adds."""
PROXIES = web.AppKey("proxies", Proxies)


def set_up(app: web.Application, settings: Settings) -> None:
    """What the functions below need of an application."""
    app[HOSTS] = Hosts(settings.allowed_hosts, urlsplit(settings.public_url).hostname)
    app[PROXIES] = Proxies(settings.trusted_proxies)


@web.middleware
async def known_hosts(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A page elsewhere may let its own name point at this machine; such requests end here."""
    request.app[HOSTS].check(request.headers.get("Host", ""))
    return await handler(request)


def client_address(request: web.Request) -> str:
    """The caller's IP address, as far as `trusted_proxies` let it be known; "" over a Unix socket."""
    return client(request).address


def is_local(request: web.Request) -> bool:
    """Whether a program on this very machine asks, and not for somebody behind it."""
    forwarded = any(name in request.headers for name in FORWARDED)
    return not forwarded and is_loopback(request.remote or "")


def client(request: web.Request) -> Client:
    """The caller's address, and the scheme that the caller used."""
    headers = request.headers
    return request.app[PROXIES].client(
        request.remote or "",
        request.scheme,
        ",".join(headers.getall("X-Forwarded-For", ())),
        ",".join(headers.getall("X-Forwarded-Proto", ())),
    )
