"""POST /worker/hello, /worker/exchange and /worker/bye: the same session by polling.

An exchange takes a packet and answers with one. It is held only while there is nothing to say or to do.
"""

import asyncio

from aiohttp import web

from ..errors import HubError, InvalidApiKey
from ..live.hub import Hub
from ..live.workers import Worker
from ..protocol import (
    HTTP_STATUS,
    Close,
    ProtocolError,
    WelcomeMessage,
    decode_farewell,
    decode_hello,
    decode_worker_packet,
    encode,
)
from ..store.worker_tokens import WorkerToken
from .middleware import bearer, json_response, read_body
from .state import HUB


class PollLink:
    """One polling connection, as a worker's session sees it."""

    polling = True

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self.closed: tuple[Close, str] | None = None

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self, code: Close, reason: str) -> None:
        self.closed = self.closed or (code, reason)
        self.wake()

    async def wait(self, seconds: float) -> None:
        """Hold until woken; a newer exchange releases an older one."""
        self.wake()
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        await asyncio.wait([waiter], timeout=seconds)
        if self._waiter is waiter:
            self._waiter = None


async def worker_hello(request: web.Request) -> web.Response:
    """The welcome, or why there is none."""
    hub = request.app[HUB]
    token = await _token(request, hub)
    raw = await read_body(request, hub.settings.max_body_bytes)
    try:
        hello = decode_hello(raw)
    except ProtocolError as error:
        return _refusal(error.code, str(error))
    _, welcome = hub.dispatch.admit(hello, token, PollLink())
    return web.Response(body=encode(WelcomeMessage(welcome)), content_type="application/json")


async def worker_exchange(request: web.Request) -> web.Response:
    """A packet in, a packet out."""
    hub = request.app[HUB]
    token = await _token(request, hub)
    raw = await read_body(request, hub.settings.max_body_bytes + 1024 * 1024)
    try:
        packet = decode_worker_packet(raw)
    except ProtocolError as error:
        _condemn(raw, hub, token, error)
        return _refusal(error.code, str(error))
    worker = hub.roster.session(packet.session, token)
    link = _link(worker, packet.connection)
    if worker is None or link is None:
        return _absent(hub, worker, packet.session)
    try:
        worker.receive(packet)
    except ProtocolError as error:
        worker.misbehaved(error)
        return _refusal(error.code, str(error))
    if not worker.jobs and not worker.has_news and hub.settings.workers.wait_s:
        await _hold(worker, link, hub.settings.workers.wait_s)
    if link.closed is not None:
        return _refusal(*link.closed)
    # A lost answer is made good by the next: each carries all that is not acknowledged.
    worker.channel.rewind()
    extra = b'"next_s":%.3f,' % worker.plan_next()
    return web.Response(body=worker.packet(extra), content_type="application/json")


async def worker_bye(request: web.Request) -> web.Response:
    """The worker leaves on purpose."""
    hub = request.app[HUB]
    token = await _token(request, hub)
    try:
        farewell = decode_farewell(await read_body(request, hub.settings.max_body_bytes))
    except ProtocolError as error:
        return _refusal(error.code, str(error))
    worker = hub.roster.session(farewell.session, token)
    if worker is None or _link(worker, farewell.connection) is None:
        return _absent(hub, worker, farewell.session)
    worker.end(farewell.reason or "it said goodbye", Close.GOING_AWAY)
    return json_response({"bye": True})


async def _token(request: web.Request, hub: Hub) -> WorkerToken:
    """Raises InvalidApiKey; the header alone counts here."""
    token = await hub.store.worker_tokens.find(bearer(request))
    if token is None:
        raise UnknownToken
    return token


class UnknownToken(InvalidApiKey):
    """The worker token is missing, unknown or revoked. Send `Authorization: Bearer <worker token>`."""


async def _hold(worker: Worker, link: PollLink, wait_s: float) -> None:
    worker.holding += 1
    try:
        await link.wait(wait_s)
    finally:
        worker.holding -= 1
        worker.seen()


def _link(worker: Worker | None, connection: str) -> PollLink | None:
    """The worker's link, if this connection is the one that carries it now."""
    if worker is None or worker.connection != connection:
        return None
    return worker.link if isinstance(worker.link, PollLink) else None


def _absent(hub: Hub, worker: Worker | None, session: str) -> web.Response:
    if worker is not None:
        return _refusal(Close.REPLACED, "a newer connection carries this session")
    code = hub.roster.ended_by(session)
    if code is Close.SESSION_GONE:
        return _refusal(code, "there is no such session: say hello again")
    return _refusal(code, "this session is over")


def _condemn(raw: bytes, hub: Hub, token: WorkerToken, error: ProtocolError) -> None:
    """A bad packet ends its session, if it still says which one."""
    session, connection = _addressed(raw)
    worker = hub.roster.session(session, token)
    if worker is not None and worker.connection == connection:
        worker.misbehaved(error)


def _addressed(raw: bytes) -> tuple[str, str]:
    try:
        farewell = decode_farewell(raw)
    except ProtocolError:
        return "", ""
    return farewell.session, farewell.connection


def _refusal(code: Close, reason: str) -> web.Response:
    status = HTTP_STATUS.get(code, 410)
    error = HubError(reason).body()["error"]
    error.update(type="worker_error", code=code.name.lower(), close=int(code))
    headers = {"Retry-After": "5"} if status == 503 else None
    return json_response({"error": error}, status=status, headers=headers)
