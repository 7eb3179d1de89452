"""A person's sign-in as a browser carries it: a cookie; and whether a form is a page's of ours."""

from urllib.parse import urlsplit

from aiohttp import web

from ..errors import CrossSite
from ..store.sessions import Visitor
from ..store.users import User
from .addresses import client, client_address
from .state import HUB

SIGNED_IN = web.RequestKey("signed_in", list[User])
COOKIE = "lmarena-session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Browsers take a name like this only over https, and from this very host."""


async def signed_in(request: web.Request) -> User | None:
    """Who is signed in where this request comes from."""
    if SIGNED_IN not in request:
        user = await request.app[HUB].store.sessions.find(_secret(request))
        request[SIGNED_IN] = [user] if user else []
    found = request[SIGNED_IN]
    return found[0] if found else None


def visitor(request: web.Request) -> Visitor:
    """Whose sign-in it would be."""
    agent = request.headers.get("User-Agent", "")
    return Visitor(client_address(request), "".join(filter(str.isprintable, agent)))


async def begin(request: web.Request, response: web.Response, secret: str) -> None:
    """Hand out a new session's secret. The one before is over: nobody else may have known it."""
    await _end_in_store(request)
    lifetime = int(request.app[HUB].settings.sign_in.session_s)
    _set_cookie(request, response, secret, lifetime)


async def end(request: web.Request, response: web.Response) -> None:
    """Sign out."""
    await _end_in_store(request)
    _set_cookie(request, response, "", 0)


async def _end_in_store(request: web.Request) -> None:
    if secret := _secret(request):
        await request.app[HUB].store.sessions.end(secret)


def _secret(request: web.Request) -> str:
    return request.cookies.get(_cookie_name(request), "")


def _cookie_name(request: web.Request) -> str:
    return SECURE_COOKIE if client(request).scheme == "https" else COOKIE


def _set_cookie(request: web.Request, response: web.Response, value: str, lifetime: int) -> None:
    name = _cookie_name(request)
    response.set_cookie(
        name,
        value,
        max_age=lifetime,
        path="/",
        secure=name == SECURE_COOKIE,
        httponly=True,
        samesite="Lax",
    )


def check_same_origin(request: web.Request) -> None:
    """Whether a form was sent by a page of ours, as the browser says. Raises CrossSite.

    Sec-Fetch-Site comes from every browser of today over https and on loopback; Origin comes elsewhere too.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        raise CrossSite
    if site is None and request.headers.get("Origin") not in _own_origins(request):
        raise CrossSite


def _own_origins(request: web.Request) -> list[str]:
    own = urlsplit(request.app[HUB].settings.public_url)
    arrived = f"{client(request).scheme}://{request.headers.get('Host', '').lower()}"
    return [arrived, f"{own.scheme}://{own.netloc}".lower()]
