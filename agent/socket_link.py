"""The WebSocket link: one socket carries one session's packets."""

import asyncio
import ssl
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    WebSocketException,
)
from websockets.typing import Subprotocol

from agent.address import HubAddress, may_use_proxy
from agent.link import Closed, Transport, closed_by_body
from agent.session import Session
from hub.protocol import SUBPROTOCOL, Close, ProtocolError, decode_hub_packet, decode_welcome

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SocketPace:
    """Seconds that a socket may take."""

    open_s: float = 10.0
    welcome_s: float = 15.0
    send_s: float = 10.0
    """A send that takes longer means that the hub reads nothing."""
    silence_margin_s: float = 5.0
    """Beyond twice the heartbeat, silence means that the link is dead."""
    close_s: float = 2.0


class _Connect(connect):
    """Opens a socket where it was told to, and nowhere else: the hello holds the token."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class SocketLink:
    """Carries a session over `GET /worker/socket`."""

    transport: Transport = "socket"

    def __init__(
        self,
        address: HubAddress,
        token: str,
        tls: ssl.SSLContext | None = None,
        pace: SocketPace | None = None,
    ) -> None:
        self._address = address
        self._token = token
        self._tls = (tls or ssl.create_default_context()) if address.is_tls else None
        self._pace = pace or SocketPace()
        self._opened: ClientConnection | None = None

    async def open(self) -> Closed | None:
        """Open a socket for the next `carry`, without a hello yet. None means that it is open."""
        try:
            self._opened = await self._connect()
        except (InvalidStatus, WebSocketException, OSError) as error:
            return _why_not(error)
        return None

    async def drop(self) -> None:
        """Close the socket that `open` left for a `carry` that never came."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    async def carry(self, session: Session) -> Closed:
        """Say hello, then carry packets until the socket ends."""
        if self._opened is None:
            failure = await self.open()
            if failure is not None:
                return failure
        socket, self._opened = self._opened, None
        assert socket is not None  # noqa: S101 - open() has just succeeded
        try:
            return await self._converse(socket, session)
        finally:
            session.parted()
            # An orderly close has happened by now; whatever else is left must not hang.
            socket.transport.abort()

    async def _connect(self) -> ClientConnection:
        url = self._address.socket
        return await _Connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            open_timeout=self._pace.open_s,
            close_timeout=self._pace.close_s,
            ping_interval=None,
            max_size=MAX_MESSAGE_BYTES,
            proxy=True if may_use_proxy(url) else None,
            ssl=self._tls,
        )

    async def _converse(self, socket: ClientConnection, session: Session) -> Closed:
        welcomed = False
        try:
            await self._be_welcomed(socket, session)
            welcomed = True
            return await self._carry_packets(socket, session)
        except ConnectionClosed as closed:
            return _ended(closed, welcomed)
        except ProtocolError as error:
            session.forget(f"protocol error: {error}")
            await socket.close(error.code, str(error)[:120])
            return Closed(str(error), "closed", error.code, welcomed)
        except TimeoutError:
            reason = "the hub fell silent" if welcomed else "the hub did not say welcome"
            return Closed(reason, "lost" if welcomed else "no_upgrade", welcomed=welcomed)

    async def _be_welcomed(self, socket: ClientConnection, session: Session) -> None:
        await self._send(socket, session.hello(self._token))
        async with asyncio.timeout(self._pace.welcome_s):
            session.welcomed(decode_welcome(await socket.recv(decode=False)))

    async def _carry_packets(self, socket: ClientConnection, session: Session) -> Closed:
        reading = asyncio.create_task(self._read(socket, session))
        writing = asyncio.create_task(self._write(socket, session))
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            return (reading if reading.done() else writing).result()
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(self, socket: ClientConnection, session: Session) -> Closed:
        silence_s = 2 * session.heartbeat_s + self._pace.silence_margin_s
        while True:
            async with asyncio.timeout(silence_s):
                data = await socket.recv(decode=False)
            session.receive(decode_hub_packet(data))

    async def _write(self, socket: ClientConnection, session: Session) -> Closed:
        while True:
            session.wake.clear()
            session.ensure_alive()
            if session.has_unsent or session.ack_due_in() == 0:
                await self._send(socket, session.packet())
            elif session.leaving is not None:
                return await self._say_goodbye(socket, session)
            else:
                await _woken(session)

    async def _say_goodbye(self, socket: ClientConnection, session: Session) -> Closed:
        session.say_bye()
        while session.has_unsent:
            await self._send(socket, session.packet())
        await socket.close()
        return Closed(session.leaving or "", "left", Close.GOING_AWAY, welcomed=True)

    async def _send(self, socket: ClientConnection, message: bytes) -> None:
        async with asyncio.timeout(self._pace.send_s):
            await socket.send(message, text=True)


async def _woken(session: Session) -> None:
    try:
        async with asyncio.timeout(session.ack_due_in()):
            await session.wake.wait()
    except TimeoutError:
        pass


def _why_not(error: Exception) -> Closed:
    if isinstance(error, InvalidStatus):
        response = error.response
        said = closed_by_body(response.status_code, response.headers, bytes(response.body))
        reason = f"the socket's handshake was answered with HTTP {response.status_code}"
        # A proxy says 5xx while the hub is away: that is no proof that sockets do not pass.
        passing = response.status_code >= 500 or response.status_code == 429
        return said or Closed(reason, "no_upgrade" if passing else "not_a_socket")
    if isinstance(error, InvalidHandshake | TimeoutError | ConnectionResetError | EOFError):
        return Closed(f"the socket's handshake failed ({type(error).__name__})", "no_upgrade")
    return Closed(f"the hub cannot be reached ({_plainly(error)})", "unreachable")


def _plainly(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS"
    return getattr(error, "strerror", None) or type(error).__name__


def _ended(closed: ConnectionClosed, welcomed: bool) -> Closed:
    if closed.rcvd is not None:
        reason = closed.rcvd.reason or f"closed with {closed.rcvd.code}"
        return Closed(reason, "closed", closed.rcvd.code, welcomed)
    return Closed("the connection broke", "lost" if welcomed else "no_upgrade", welcomed=welcomed)
