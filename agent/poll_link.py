"""The polling link: a slow socket made of POSTs, with the WebSocket link's own face."""

import asyncio
import random
import ssl
from dataclasses import dataclass, replace

import aiohttp

from agent.address import HubAddress, may_use_proxy
from agent.link import Closed, Transport, closed_by_status, retry_after
from agent.session import Session
from hub.protocol import (
    NEXT_S_BUSY,
    Farewell,
    HubPacket,
    ProtocolError,
    Welcome,
    decode_hub_packet,
    decode_welcome,
    encode,
)

MAX_FLIGHTS = 2


@dataclass(frozen=True, slots=True)
class PollPace:
    """Seconds that shape polling."""

    hello_s: float = 15.0
    answer_s: float = 20.0
    """How long an exchange may take beyond the hub's `wait_s`."""
    batch_s: float = 0.1
    """Frames wait this long for company where exchanges are not held."""
    overtake_s: float = 0.02
    """A second exchange leaves this long after one that the hub may be holding."""
    retry_first_s: float = 0.1
    retry_longest_s: float = 5.0
    patience_s: float = 30.0
    """After failing for so long the link gives up, and the dial decides."""
    bye_s: float = 3.0


class _Refused(Exception):
    """The hub answered with a status that ends the connection."""

    def __init__(self, closed: Closed) -> None:
        super().__init__(closed.reason)
        self.closed = closed


class _Passing(Exception):
    """A status that says: not now."""

    def __init__(self, status: int, retry_after_s: float) -> None:
        super().__init__(f"HTTP {status}")
        self.retry_after_s = retry_after_s


_NETWORK = (aiohttp.ClientError, OSError, TimeoutError, _Passing)


class PollLink:
    """Carries a session over `POST /worker/hello`, `/worker/exchange` and `/worker/bye`."""

    transport: Transport = "poll"

    def __init__(
        self,
        address: HubAddress,
        token: str,
        tls: ssl.SSLContext | None = None,
        pace: PollPace | None = None,
    ) -> None:
        self._address = address
        self._token = token
        self._tls = tls
        self._pace = pace or PollPace()

    async def carry(self, session: Session) -> Closed:
        """Say hello, then exchange packets until the connection ends."""
        async with self._client() as client:
            door = _Door(client, self._address)
            try:
                welcome = decode_welcome(
                    await door.post("hello", session.hello(), self._pace.hello_s)
                )
                session.welcomed(welcome)
            except _Refused as refused:
                return refused.closed
            except ProtocolError as error:
                session.forget(f"protocol error: {error}")
                return Closed(str(error), "closed", error.code)
            except _NETWORK as error:
                return _unreachable(error)
            try:
                return await _Exchanges(door, session, welcome, self._pace).run()
            finally:
                session.parted()

    def _client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls or True),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            trust_env=may_use_proxy(self._address.http),
        )


class _Door:
    """The three POSTs."""

    def __init__(self, client: aiohttp.ClientSession, address: HubAddress) -> None:
        self._client = client
        self._address = address

    async def post(self, action: str, body: bytes, limit_s: float) -> bytes:
        """The body of a 200. Raises _Refused, _Passing, ClientError, OSError or TimeoutError."""
        request = self._client.post(
            self._address.worker(action),
            data=body,
            timeout=aiohttp.ClientTimeout(total=limit_s),
            allow_redirects=False,
        )
        async with request as response:
            answer = await response.read()
            if response.status == 200:
                return answer
            closed = closed_by_status(response.status, response.headers, answer)
            if closed is not None:
                raise _Refused(closed)
            raise _Passing(response.status, retry_after(response.headers))


class _Exchanges:
    """One connection's exchanges: up to two at a time, so that ours can release one that is held."""

    def __init__(self, door: _Door, session: Session, welcome: Welcome, pace: PollPace) -> None:
        self._door = door
        self._session = session
        self._welcome = welcome
        self._pace = pace
        self._next_s = welcome.exchange.next_s
        self._limit_s = welcome.exchange.wait_s + pace.answer_s
        self._flights: set[asyncio.Task[HubPacket]] = set()
        self._clock = asyncio.get_running_loop().time
        self._left_at = float("-inf")
        self._landed_at = float("-inf")
        self._retry_at = 0.0
        self._failures = 0
        self._failing_since = 0.0
        ids = encode(welcome.session), encode(welcome.connection)
        self._extra = b'"session":%b,"connection":%b,' % ids

    async def run(self) -> Closed:
        try:
            while self._session.leaving is None:
                await self._step()
            return await self._say_goodbye()
        except _Refused as refused:
            return replace(refused.closed, welcomed=True)
        except ProtocolError as error:
            self._session.forget(f"protocol error: {error}")
            return Closed(str(error), "closed", error.code, welcomed=True)
        except _NETWORK as error:
            return Closed(f"polling broke ({_plainly(error)})", "lost", welcomed=True)
        finally:
            await self._ground()

    async def _step(self) -> None:
        session = self._session
        session.wake.clear()
        session.ensure_alive()
        if session.leaving is not None:
            return
        due_at = self._due_at()
        now = self._clock()
        if due_at is not None and due_at <= now:
            self._depart()
            return
        await self._wait(None if due_at is None else due_at - now)
        self._land()

    def _due_at(self) -> float | None:
        """When the next exchange leaves; None while only an answer or a new frame can say."""
        if len(self._flights) == MAX_FLIGHTS:
            return None
        if self._failures:
            return None if self._flights else self._retry_at
        if self._session.has_unsent:
            return self._left_at + self._batch_s()
        if self._flights:
            return None
        return self._landed_at + self._pause_s()

    def _batch_s(self) -> float:
        if self._next_s > 0:
            return self._pace.batch_s
        return self._pace.overtake_s if self._flights else 0.0

    def _pause_s(self) -> float:
        # An exchange is never held while a job is in hand, so next_s alone would spin.
        return NEXT_S_BUSY if self._session.busy else self._next_s

    def _depart(self) -> None:
        self._left_at = self._clock()
        body = self._session.packet(self._extra, everything=True)
        self._flights.add(asyncio.create_task(self._exchange(body)))

    async def _exchange(self, body: bytes) -> HubPacket:
        return decode_hub_packet(await self._door.post("exchange", body, self._limit_s))

    async def _wait(self, limit_s: float | None) -> None:
        woken = asyncio.create_task(self._session.wake.wait())
        try:
            await asyncio.wait(
                {*self._flights, woken}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            woken.cancel()

    def _land(self) -> None:
        for flight in [flight for flight in self._flights if flight.done()]:
            self._flights.discard(flight)
            try:
                packet = flight.result()
            except _NETWORK as error:
                self._failed(error)
            else:
                self._arrived(packet)

    def _arrived(self, packet: HubPacket) -> None:
        self._failures = 0
        self._landed_at = self._clock()
        # A hub that neither holds an exchange nor says when to come must not be hammered.
        was_held = self._landed_at - self._left_at > NEXT_S_BUSY or bool(packet.frames)
        self._next_s = packet.next_s
        self._session.receive(packet)
        if packet.next_s == 0 and not was_held:
            self._landed_at += NEXT_S_BUSY / 2

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        if not self._failures:
            self._failing_since = now
        elif now - self._failing_since > self._pace.patience_s:
            raise error
        ceiling = min(self._pace.retry_longest_s, self._pace.retry_first_s * 2**self._failures)
        asked = error.retry_after_s if isinstance(error, _Passing) else 0.0
        self._retry_at = now + max(asked, random.uniform(ceiling / 2, ceiling))  # noqa: S311
        self._failures = min(self._failures + 1, 20)

    async def _say_goodbye(self) -> Closed:
        session = self._session
        reason = session.leaving or ""
        await self._ground()
        bye = Farewell(self._welcome.session, self._welcome.connection, reason)
        try:
            await self._say_the_rest()
            await self._door.post("bye", encode(bye), self._pace.bye_s)
        except (*_NETWORK, _Refused):
            pass  # The hub will miss us in its own time.
        return Closed(reason, "left", welcomed=True)

    async def _say_the_rest(self) -> None:
        if not self._session.unacked:
            return
        body = self._session.packet(self._extra, everything=True)
        try:
            async with asyncio.timeout(self._pace.bye_s / 2):
                self._session.receive(await self._exchange(body))
        except TimeoutError:
            pass  # The hub may be holding the exchange; it has read it all the same.

    async def _ground(self) -> None:
        for flight in self._flights:
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)
        self._flights.clear()


def _unreachable(error: Exception) -> Closed:
    asked = error.retry_after_s if isinstance(error, _Passing) else 0.0
    reason = f"the hub cannot be reached by polling ({_plainly(error)})"
    return Closed(reason, "unreachable", retry_after_s=asked)


def _plainly(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientOSError) and error.strerror:
        return error.strerror
    return str(error) if isinstance(error, _Passing) else type(error).__name__
