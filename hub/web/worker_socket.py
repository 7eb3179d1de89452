"""GET /worker/socket: a worker's session over a WebSocket. This door carries, and decides nothing."""

import asyncio
import math
from time import monotonic
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from ..errors import Forbidden
from ..live.hub import Hub
from ..live.workers import Worker
from ..protocol import (
    SUBPROTOCOL,
    Close,
    Hello,
    ProtocolError,
    WelcomeMessage,
    decode_hello,
    decode_worker_packet,
    encode,
)
from ..store.worker_tokens import WorkerToken
from .state import HUB

CLOSE_TIMEOUT_S = 2.0
LOOKS_A_STALL = 4
"""How often a peer is looked at before it counts as stalled."""


class SocketLink:
    """One WebSocket, as a worker's session sees it."""

    polling = False

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._socket = socket
        self._transport = transport
        self._news = asyncio.Event()
        self._closing: tuple[Close, str] | None = None

    def wake(self) -> None:
        self._news.set()

    def close(self, code: Close, reason: str) -> None:
        self._closing = self._closing or (code, reason)
        self._news.set()

    async def write(self, worker: Worker, stalled_s: float) -> None:
        """Send what the worker's session has to say, until the link is closed or cut off."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._closing is not None:
                await self.hang_up(*self._closing)
                return
            while worker.has_news and self._closing is None:
                if not await self._send(worker.packet(), stalled_s):
                    return

    async def _send(self, packet: bytes, stalled_s: float) -> bool:
        watch = _Stall(self, stalled_s)
        try:
            await self._socket.send_frame(packet, WSMsgType.TEXT)
        except ConnectionError:
            return False
        finally:
            watch.stop()
        return True

    @property
    def unread(self) -> int:
        """Bytes that the peer's system has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    async def hang_up(self, code: Close, reason: str) -> None:
        """Close with a code, without waiting long for a peer that does not answer."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._socket.close(code=code, message=_short(reason), drain=False)
        except (TimeoutError, ConnectionError):
            pass
        self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Stall:
    """Cuts a link off whose peer reads nothing for `stalled_s` while data waits; reading slowly is no stall."""

    def __init__(self, link: SocketLink, stalled_s: float) -> None:
        self._link = link
        self._stalled_s = stalled_s
        self._loop = asyncio.get_running_loop()
        self._unread = math.inf
        self._read_at = monotonic()
        self._look_later()

    def _look_later(self) -> None:
        self._handle = self._loop.call_later(self._stalled_s / LOOKS_A_STALL, self._look)

    def _look(self) -> None:
        now, unread = monotonic(), self._link.unread
        if unread < self._unread:
            self._unread, self._read_at = unread, now
        if now - self._read_at >= self._stalled_s:
            # A plain close would wait for the peer that does not read.
            self._link.abort()
        else:
            self._look_later()

    def stop(self) -> None:
        self._handle.cancel()


def _short(reason: str) -> bytes:
    """A close frame holds at most 123 bytes of reason."""
    return reason.encode()[:120].decode(errors="ignore").encode()


async def worker_socket(request: web.Request) -> web.StreamResponse:
    """Hello, welcome, then packets both ways until the link ends."""
    hub = request.app[HUB]
    _check_origin(request.headers.get("Origin"), hub)
    socket = web.WebSocketResponse(
        protocols=(SUBPROTOCOL,),
        compress=False,
        autoping=True,
        timeout=CLOSE_TIMEOUT_S,
        max_msg_size=hub.settings.max_body_bytes + 1024 * 1024,
        decode_text=False,
    )
    transport = request.transport
    try:
        await socket.prepare(request)
    except ConnectionError:
        # It went away within its handshake.
        return socket
    link = SocketLink(socket, transport)
    try:
        hello, token = await _introduction(socket, hub)
    except ProtocolError as error:
        await link.hang_up(error.code, str(error))
        return socket
    await _carry(hub, socket, link, hello, token)
    return socket


async def _introduction(socket: web.WebSocketResponse, hub: Hub) -> tuple[Hello, WorkerToken]:
    """The hello and whose token it shows. Raises ProtocolError."""
    try:
        async with asyncio.timeout(hub.settings.workers.hello_s):
            message = await socket.receive()
    except TimeoutError:
        raise ProtocolError("no hello came in time", Close.HELLO_TIMEOUT) from None
    if message.type is not WSMsgType.TEXT:
        raise ProtocolError("the first message must be a hello", Close.BAD_HELLO)
    hello = decode_hello(message.data)
    token = await hub.store.worker_tokens.find(hello.token)
    if token is None:
        raise ProtocolError("the worker token is unknown or revoked", Close.UNAUTHORIZED)
    return hello, token


async def _carry(
    hub: Hub, socket: web.WebSocketResponse, link: SocketLink, hello: Hello, token: WorkerToken
) -> None:
    worker, welcome = hub.dispatch.admit(hello, token, link)
    connection = worker.connection
    writer: asyncio.Task[None] | None = None
    try:
        await socket.send_frame(encode(WelcomeMessage(welcome)), WSMsgType.TEXT)
        link.wake()
        writer = asyncio.create_task(link.write(worker, hub.settings.workers.stalled_s))
        await _read(socket, worker, connection)
    except ConnectionError:
        pass
    finally:
        worker.disconnect(connection)
        if writer is not None:
            link.close(Close.GOING_AWAY, "")
            await asyncio.wait([writer])


async def _read(socket: web.WebSocketResponse, worker: Worker, connection: str) -> None:
    while True:
        message = await socket.receive()
        if worker.connection != connection or worker.over:
            return
        try:
            if message.type is WSMsgType.TEXT:
                worker.receive(decode_worker_packet(message.data))
            elif message.type is WSMsgType.BINARY:
                raise ProtocolError("packets are text messages")
            elif message.type is WSMsgType.ERROR:
                if socket.close_code == WSCloseCode.MESSAGE_TOO_BIG:
                    worker.misbehaved(ProtocolError("a packet was too large", Close.TOO_BIG))
                return
            else:
                return
        except ProtocolError as error:
            worker.misbehaved(error)
            return


def _check_origin(origin: str | None, hub: Hub) -> None:
    """A web page may open a worker socket only from the site's origins and our own. Raises Forbidden."""
    if origin is None or origin_allowed(origin, hub):
        return
    message = f"Pages from {origin[:200]} may not open a worker socket here; see workers.origins."
    raise Forbidden(message)


def origin_allowed(origin: str, hub: Hub) -> bool:
    """Whether an Origin header is the site's, the hub's own, or one of `workers.origins`."""
    try:
        url = urlsplit(origin)
    except ValueError:
        return False
    own = urlsplit(hub.settings.public_url)
    if hub.settings.public_url and (url.scheme, url.netloc) == (own.scheme, own.netloc):
        return True
    if hub.store.profiles.current.is_site(origin):
        return True
    return any(_matches(origin, pattern) for pattern in hub.settings.workers.origins)


def _matches(origin: str, pattern: str) -> bool:
    scheme, wildcard, domain = pattern.partition("*.")
    if not wildcard:
        return origin == pattern
    return origin.startswith(scheme) and origin.endswith("." + domain)
