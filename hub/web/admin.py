"""/admin/api: the operations for scripts, with a key that may administer; and for the command line."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ..errors import InsufficientScope
from ..rules.openai import parse_json
from ..store.audit import Actor
from .addresses import client_address
from .middleware import identify, json_response, read_body
from .openapi import describe
from .operations import OPERATIONS
from .operations.operation import Office, Operation
from .state import HUB

COMMAND_LINE = Actor("command line")
LARGEST_BODY = 1024 * 1024

Admitting = Callable[[web.Request], Awaitable[Actor]]


async def with_a_key(request: web.Request) -> Actor:
    """Whoever holds a key that may administer. Raises InvalidApiKey, AccountDisabled, InsufficientScope."""
    caller = await identify(request)
    if not caller.is_admin:
        raise InsufficientScope
    name = caller.user.email if caller.user is not None else caller.key.name
    return Actor(name, client_address(request))


async def by_command_line(request: web.Request) -> Actor:
    """Whoever may open the control socket is the operator."""
    return COMMAND_LINE


def handler(
    operation: Operation, admitting: Admitting
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """An operation as a handler; nothing of the request is read before it is admitted."""

    async def handle(request: web.Request) -> web.Response:
        hub = request.app[HUB]
        actor = await admitting(request)
        office = Office(hub.store, hub, actor, hub.settings.public_url)
        return json_response(await operation.carry_out(office, await _members(operation, request)))

    return handle


async def _members(operation: Operation, request: web.Request) -> dict[str, Any]:
    if operation.method == "GET":
        return dict(request.query)
    return parse_json(await read_body(request, LARGEST_BODY) or b"{}")


async def openapi(request: web.Request) -> web.Response:
    """The description of all operations, as OpenAPI 3.1."""
    await with_a_key(request)
    return json_response(describe(OPERATIONS, request.app[HUB].settings.public_url))
