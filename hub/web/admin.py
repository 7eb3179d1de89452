"""/admin/api: what the command line and scripts may do. One table of operations serves both.

An operation is a function of the store (and of the running hub, where there is one) and of its typed body.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from ..errors import HubError, UnknownUrl
from ..live.hub import Hub
from ..rules.openai import convert, parse_json
from ..rules.profile import Profile
from ..rules.profile import parse as parse_profile
from ..store import Store
from ..store.audit import Actor
from .middleware import json_response, read_body
from .state import HUB

Name = Annotated[str, Meta(min_length=1, max_length=200)]
COMMAND_LINE = Actor("command line")
LARGEST_BODY = 1024 * 1024


class Office(NamedTuple):
    """Where an operation is carried out; `hub` is None when no hub runs."""

    store: Store
    hub: Hub | None
    actor: Actor


class Nothing(Struct, forbid_unknown_fields=True):
    """A body without members."""


class Named(Struct, forbid_unknown_fields=True):
    name: Name


class Chosen(Struct, forbid_unknown_fields=True):
    id: Name


class NewProfile(Struct, forbid_unknown_fields=True):
    profile: dict[str, Any]
    note: Annotated[str, Meta(max_length=200)] = ""


class OlderProfile(Struct, forbid_unknown_fields=True):
    version: Annotated[int, Meta(ge=0)] | None = None


class Latest(Struct, forbid_unknown_fields=True):
    count: Annotated[int, Meta(ge=1, le=10_000)] = 100


async def create_key(office: Office, body: Named) -> Any:
    """Make an API key; its secret is shown this once."""
    return await office.store.keys.create(body.name, office.actor)


async def list_keys(office: Office, body: Nothing) -> Any:
    """All keys that are not revoked."""
    return await office.store.keys.all()


async def revoke_key(office: Office, body: Chosen) -> Any:
    """End an API key from the next request on."""
    return _revoked(await office.store.keys.revoke(body.id, office.actor), body.id)


async def create_worker_token(office: Office, body: Named) -> Any:
    """Make a worker token; its secret is shown this once."""
    return await office.store.worker_tokens.create(body.name, office.actor)


async def list_worker_tokens(office: Office, body: Nothing) -> Any:
    """All worker tokens that are not revoked."""
    return await office.store.worker_tokens.all()


async def revoke_worker_token(office: Office, body: Chosen) -> Any:
    """End a worker token; sessions under it are closed at once."""
    revoked = await office.store.worker_tokens.revoke(body.id, office.actor)
    if office.hub is not None:
        await office.hub.accounts_changed()
    return _revoked(revoked, body.id)


async def show_profile(office: Office, body: Nothing) -> Any:
    """The site profile in force."""
    return office.store.profiles.current


async def set_profile(office: Office, body: NewProfile) -> Any:
    """Put a site profile in force and hand it to every worker; the hub numbers it."""
    profile = parse_profile(body.profile)
    stored = await office.store.profiles.set(profile, body.note, office.actor)
    return _handed_out(office, stored)


async def profile_history(office: Office, body: Nothing) -> Any:
    """Every version of the site profile, the newest first."""
    return await office.store.profiles.history()


async def roll_back_profile(office: Office, body: OlderProfile) -> Any:
    """Put an older version in force again, as a new one; without a number the one before."""
    return _handed_out(office, await office.store.profiles.roll_back(body.version, office.actor))


def _handed_out(office: Office, profile: Profile) -> Profile:
    if office.hub is not None:
        office.hub.hand_out_profile()
    return profile


async def system_log(office: Office, body: Latest) -> Any:
    """The last lines of the system log, the newest first."""
    return await office.store.system_log.latest(body.count)


def _revoked(found: bool, subject: str) -> dict[str, Any]:
    if not found:
        raise UnknownUrl(f"There is no {subject[:200]!r} that could be revoked.")
    return {"id": subject, "revoked": True}


class Operation(NamedTuple):
    method: str
    path: str
    body: type[Struct]
    run: Callable[[Office, Any], Awaitable[Any]]


OPERATIONS = [
    Operation("POST", "/admin/api/keys", Named, create_key),
    Operation("GET", "/admin/api/keys", Nothing, list_keys),
    Operation("POST", "/admin/api/keys/revoke", Chosen, revoke_key),
    Operation("POST", "/admin/api/worker-tokens", Named, create_worker_token),
    Operation("GET", "/admin/api/worker-tokens", Nothing, list_worker_tokens),
    Operation("POST", "/admin/api/worker-tokens/revoke", Chosen, revoke_worker_token),
    Operation("GET", "/admin/api/profile", Nothing, show_profile),
    Operation("POST", "/admin/api/profile", NewProfile, set_profile),
    Operation("GET", "/admin/api/profile/history", Nothing, profile_history),
    Operation("POST", "/admin/api/profile/rollback", OlderProfile, roll_back_profile),
    Operation("GET", "/admin/api/system-log", Latest, system_log),
]


async def carry_out(office: Office, operation: Operation, body: dict[str, Any]) -> Any:
    """Run an operation; what comes back is ready for JSON. Raises HubError."""
    return msgspec.to_builtins(await operation.run(office, convert(body, operation.body)))


def handler(operation: Operation) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The operation as a handler of the control socket, whose users are the operator's own."""

    async def handle(request: web.Request) -> web.Response:
        hub = request.app[HUB]
        raw = await read_body(request, LARGEST_BODY)
        office = Office(hub.store, hub, COMMAND_LINE)
        return json_response(await carry_out(office, operation, parse_json(raw or b"{}")))

    return handle


def find(method: str, path: str) -> Operation:
    """The operation at a method and path. Raises HubError for none."""
    for operation in OPERATIONS:
        if (operation.method, operation.path) == (method, path):
            return operation
    raise HubError(f"there is no {method} {path}")
