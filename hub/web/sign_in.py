"""Pages with which people sign in, sign out, accept an invitation, and change their password."""

import re
from urllib.parse import parse_qsl, quote

from aiohttp import web

from ..errors import HubError, InvalidRequest, SignInRefused, TooManySignIns
from ..store.users import User
from .middleware import read_body
from .pages import page, see_other
from .session import begin, check_same_origin, end, signed_in, visitor
from .state import HUB

LARGEST_FORM = 16 * 1024
MOST_FIELDS = 20
LOCAL_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""A path of this hub, in printable ASCII and without a backslash, which browsers take for a slash."""


async def show_sign_in(request: web.Request) -> web.Response:
    """GET /sign-in"""
    wanted = local_path(request.query.get("next", ""))
    if await signed_in(request):
        return see_other(request, wanted)
    return await page(request, "sign_in.html", {"next": wanted})


async def sign_in(request: web.Request) -> web.Response:
    """POST /sign-in"""
    form = await read_form(request)
    email, wanted = form.get("email", ""), local_path(form.get("next", ""))
    try:
        secret = await request.app[HUB].sign_in.sign_in(
            email, form.get("password", ""), visitor(request)
        )
    except (SignInRefused, TooManySignIns) as error:
        return await page(request, "sign_in.html", {"next": wanted, "email": email}, error=error)
    return await _enter(request, secret, wanted)


async def sign_out(request: web.Request) -> web.Response:
    """POST /sign-out"""
    check_same_origin(request)
    response = see_other(request, "/")
    await end(request, response)
    return response


async def show_invitation(request: web.Request) -> web.Response:
    """GET /invitation/{secret}"""
    return await _invitation_page(request)


async def accept_invitation(request: web.Request) -> web.Response:
    """POST /invitation/{secret}"""
    form = await read_form(request)
    try:
        password = _chosen(form)
        secret = await request.app[HUB].sign_in.accept(_link(request), password, visitor(request))
    except (InvalidRequest, TooManySignIns) as error:
        return await _invitation_page(request, error)
    return await _enter(request, secret, "/")


async def _invitation_page(request: web.Request, error: HubError | None = None) -> web.Response:
    try:
        invitation = await request.app[HUB].store.invitations.find(_link(request))
    except HubError as gone:
        return await page(request, "message.html", {"title": "Invitation"}, error=gone)
    return await page(request, "invitation.html", {"invitation": invitation}, error=error)


async def show_password(request: web.Request) -> web.Response:
    """GET /password"""
    if not await signed_in(request):
        return _to_sign_in(request, "/password")
    return await page(request, "password.html")


async def change_password(request: web.Request) -> web.Response:
    """POST /password: every other sign-in of this person ends."""
    form = await read_form(request)
    user = await signed_in(request)
    if user is None:
        return _to_sign_in(request, "/password")
    try:
        secret = await _changed(request, user, form)
    except (InvalidRequest, SignInRefused, TooManySignIns) as error:
        return await page(request, "password.html", error=error)
    return await _enter(request, secret, "/")


async def _changed(request: web.Request, user: User, form: dict[str, str]) -> str:
    new = _chosen(form)
    present = form.get("present", "")
    return await request.app[HUB].sign_in.change_password(user, present, new, visitor(request))


async def _enter(request: web.Request, secret: str, path: str) -> web.Response:
    response = see_other(request, path)
    await begin(request, response, secret)
    return response


def _to_sign_in(request: web.Request, path: str) -> web.Response:
    return see_other(request, f"/sign-in?next={quote(path, safe='')}")


def _link(request: web.Request) -> str:
    return request.match_info["secret"]


def _chosen(form: dict[str, str]) -> str:
    """A new password, typed twice. Raises InvalidRequest."""
    if form.get("password", "") != form.get("again", ""):
        raise InvalidRequest("The two passwords are not the same.", param="again")
    return form.get("password", "")


def local_path(wanted: str) -> str:
    """Where to go next, if that is a path of this hub; else its front page."""
    return wanted if LOCAL_PATH.fullmatch(wanted) else "/"


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a form that a page of ours sent. Raises CrossSite, InvalidRequest, RequestTooLarge."""
    check_same_origin(request)
    body = await read_body(request, LARGEST_FORM)
    try:
        fields = parse_qsl(
            body.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise InvalidRequest(f"A form here has at most {MOST_FIELDS} fields.") from None
    return dict(fields)
