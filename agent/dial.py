"""Keeps a session connected: which link, when again, and which ends are final."""

import asyncio
import random
from dataclasses import dataclass

import structlog

from agent.link import Closed, Link, Transport
from agent.session import Session
from agent.socket_link import SocketLink
from hub.protocol import PROTOCOL_ERROR_PAUSE_S, Close, is_final

log = structlog.get_logger()

_ENDS_SESSION = {Close.PROTOCOL_ERROR, Close.SESSION_GONE, Close.TOO_SLOW, Close.TOO_BIG}


@dataclass(frozen=True, slots=True)
class DialPace:
    """Seconds between connections."""

    first_s: float = 0.25
    """The ceiling of the first pause: a hub waits 5 s for a link that dropped."""
    longest_s: float = 30.0
    held_s: float = 3.0
    """The longest while an answer is in hand: a hub waits half a minute for it."""
    steady_s: float = 5.0
    """A connection that lasted so long was a good one: pauses start short again."""
    restart_s: float = 5.0
    protocol_error_s: float = PROTOCOL_ERROR_PAUSE_S
    socket_again_s: float = 180.0
    """While polling, how often the socket is tried."""
    socket_failures: int = 2
    """So many handshakes must fail in a row before polling is tried; a number, not seconds."""


class Dial:
    """Connects a session again and again. Give it both links for `auto`, or one alone."""

    def __init__(
        self,
        session: Session,
        socket: SocketLink | None,
        poll: Link | None,
        pace: DialPace | None = None,
    ) -> None:
        if socket is None and poll is None:
            raise ValueError("a dial needs a link")
        self._session = session
        self._socket = socket
        self._poll = poll
        self._pace = pace or DialPace()
        self._failures = 0
        self._socket_failures = 0
        self.transport: Transport | None = None
        """The link in use, or tried last."""
        self.last: Closed | None = None
        """How the link before this one ended."""

    async def run(self) -> Closed:
        """Stay connected until we leave or the hub says that we must not come back."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            closed = self.last = await self._carry()
            if closed.cause == "left" or self._session.departure.is_set():
                return closed
            if closed.code is not None and is_final(closed.code):
                self._session.forget(closed.reason)
                return closed
            self._digest(closed, clock() - began)
            pause_s = self._pause_s(closed)
            log.warning("disconnected", reason=closed.reason, code=closed.code, again_in_s=pause_s)
            await self._sleep(pause_s)

    async def _carry(self) -> Closed:
        """One connection, given up at once if we leave before it is welcomed."""
        carrying = asyncio.create_task(self._carry_chosen())
        leaving = asyncio.create_task(self._session.departure.wait())
        try:
            await asyncio.wait({carrying, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not carrying.done() and not self._session.connected:
                return Closed("left while not connected", "left")
            return await carrying
        finally:
            leaving.cancel()
            carrying.cancel()
            await asyncio.gather(carrying, leaving, return_exceptions=True)
            if self._socket is not None:
                await self._socket.drop()

    async def _carry_chosen(self) -> Closed:
        if self._poll is None or (self._socket is not None and not self._socket_is_hopeless()):
            return await self._carry_by_socket()
        self.transport = "poll"
        if self._socket is None:
            return await self._poll.carry(self._session)
        return await self._poll_until_a_socket_opens(self._poll, self._socket)

    async def _carry_by_socket(self) -> Closed:
        assert self._socket is not None  # noqa: S101 - a dial has a link
        self.transport = "socket"
        return await self._socket.carry(self._session)

    def _socket_is_hopeless(self) -> bool:
        return self._socket_failures >= self._pace.socket_failures

    async def _poll_until_a_socket_opens(self, poll: Link, socket: SocketLink) -> Closed:
        polling = asyncio.create_task(poll.carry(self._session))
        opening = asyncio.create_task(self._open_again(socket))
        try:
            await asyncio.wait({polling, opening}, return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                return polling.result()
        finally:
            # The exchange in flight may be lost: what it carried is repeated on the socket.
            polling.cancel()
            opening.cancel()
            await asyncio.gather(polling, opening, return_exceptions=True)
        log.info("the socket opens again")
        return await self._carry_by_socket()

    async def _open_again(self, socket: SocketLink) -> None:
        while True:
            await asyncio.sleep(self._pace.socket_again_s)
            if self._session.leaving is None and await socket.open() is None:
                return

    def _digest(self, closed: Closed, lasted_s: float) -> None:
        if closed.code in _ENDS_SESSION:
            self._session.forget(closed.reason)
        if closed.welcomed and lasted_s >= self._pace.steady_s:
            self._failures = 0
        if self.transport == "socket":
            self._count_socket_failure(closed)
        elif not closed.welcomed and closed.cause == "unreachable":
            self._socket_failures = 0  # Nothing answers at all: polling is no better.

    def _count_socket_failure(self, closed: Closed) -> None:
        if closed.welcomed:
            self._socket_failures = 0
        elif closed.cause == "no_upgrade":
            self._socket_failures += 1
        elif closed.cause == "not_a_socket":
            self._socket_failures = self._pace.socket_failures

    def _pause_s(self, closed: Closed) -> float:
        pace = self._pace
        awaited = self._session.busy or self._session.unacked
        longest = min(pace.held_s, pace.longest_s) if awaited else pace.longest_s
        ceiling = min(longest, pace.first_s * 2.0 ** min(self._failures, 20))
        self._failures += 1
        pause_s = random.uniform(0, ceiling)  # noqa: S311 - jitter, no secret
        if closed.code == Close.PROTOCOL_ERROR:
            pause_s = pace.protocol_error_s * random.uniform(1.0, 1.25)  # noqa: S311
        elif closed.code == Close.RESTART:
            pause_s = random.uniform(0, pace.restart_s)  # noqa: S311
        return closed.retry_after_s + pause_s

    async def _sleep(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._session.departure.wait()
        except TimeoutError:
            pass
