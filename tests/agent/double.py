"""A small hub that speaks the real worker protocol through both doors, and agents to run against it."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from agent.address import HubAddress
from agent.dial import Dial, DialPace
from agent.engines import Engine, Job, Part
from agent.link import Closed
from agent.poll_link import PollLink, PollPace
from agent.session import Card, Session
from agent.socket_link import SocketLink, SocketPace
from hub.protocol import (
    HTTP_STATUS,
    SUBPROTOCOL,
    Bye,
    Cancel,
    Channel,
    Close,
    End,
    Exchange,
    Fail,
    Hello,
    HubFrame,
    JobFrame,
    Model,
    Piece,
    ProtocolError,
    Refuse,
    Welcome,
    WelcomeMessage,
    WorkerFrame,
    WorkerPacket,
    decode_farewell,
    decode_hello,
    decode_worker_packet,
    encode,
)

TOKEN = "wt-0123456789-secret"
PATIENCE_S = 15.0
QUICK_DIAL = DialPace(
    first_s=0.02,
    longest_s=0.1,
    steady_s=0.5,
    restart_s=0.05,
    protocol_error_s=0.2,
    socket_again_s=0.2,
)
QUICK_SOCKET = SocketPace(open_s=2, welcome_s=2, send_s=0.5, silence_margin_s=0.2, close_s=0.5)
QUICK_POLL = PollPace(retry_first_s=0.02, retry_longest_s=0.1, patience_s=2, bye_s=1)


async def eventually(true: Callable[[], Any]) -> None:
    """Wait for something of which no event tells."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - an agent announces nothing to its tests
            await asyncio.sleep(0.005)


class Refusal(Exception):
    """The double closes with this code."""

    def __init__(self, code: Close, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(eq=False)
class HubJob:
    """A job as the double sees it."""

    id: str
    session: "HubSession"
    frames: list[WorkerFrame] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(f.text for f in self.frames if isinstance(f, Piece))

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [f.delta for f in self.frames if isinstance(f, Piece) and f.delta is not None]

    @property
    def pieces(self) -> int:
        return sum(isinstance(f, Piece) for f in self.frames)

    @property
    def is_over(self) -> bool:
        return any(isinstance(f, End | Fail | Refuse) for f in self.frames)

    @property
    def last(self) -> Any:
        return self.frames[-1]


@dataclass(eq=False)
class HubSession:
    """A worker's session as the double sees it."""

    id: str
    hello: Hello
    channel: Channel = field(default_factory=Channel)
    connection: str = ""
    transport: str = ""
    connected: bool = False
    connections: int = 0
    frames: list[WorkerFrame] = field(default_factory=list)
    in_hand: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    wire: asyncio.Transport | None = None
    socket: web.WebSocketResponse | None = None
    holding: asyncio.Event | None = None
    ended: bool = False

    def said(self, kind: type) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]


class HubDouble:
    """Admits workers, offers them jobs and remembers everything they said."""

    def __init__(self) -> None:
        self.port = 0
        self.sessions: list[HubSession] = []
        self.jobs: dict[str, HubJob] = {}
        self.welcomes: list[Welcome] = []
        self.upgrades = 0
        self.exchanges = 0
        self.most_held = 0
        self.raw_hellos: list[bytes] = []
        self.authorizations: list[str] = []
        self.socket_door = "open"
        self.poll_door = "open"
        self.refuse_resume = False
        self.reading = True
        self.acking = True
        self.lose_requests = 0
        self.lose_answers = 0
        self.heartbeat_s = 20.0
        self.wait_s = 25.0
        self.next_s = 0.0
        self.max_bytes = 1_000_000
        self.tls: Any = None
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._count = 0

    # --- opening and closing ------------------------------------------------------------------------

    async def open(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/worker/socket", self._socket)
        app.router.add_post("/worker/hello", self._hello)
        app.router.add_post("/worker/exchange", self._exchange)
        app.router.add_post("/worker/bye", self._bye)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        for session in self.sessions:
            self.cut(session)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    # --- what a test asks for -----------------------------------------------------------------------

    async def until(self, true: Callable[[], Any]) -> None:
        """Wait for something that a worker's words make true."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(true)

    async def worker(self) -> HubSession:
        """The newest session, once it is connected."""
        await self.until(lambda: self.sessions and self.sessions[-1].connected)
        return self.sessions[-1]

    def offer(self, session: HubSession, text: str = "", **more: Any) -> HubJob:
        self._count += 1
        job = self.jobs[f"j{self._count}"] = HubJob(f"j{self._count}", session)
        model = more.pop("model", "echo")
        kind = more.pop("kind", "chat")
        body = {"model": model, "messages": [{"role": "user", "content": text}]} | more
        session.in_hand.add(job.id)
        self.say(session, JobFrame(job.id, kind, model, msgspec.Raw(encode(body)), 600.0))
        return job

    def cancel(self, job: HubJob) -> None:
        job.session.in_hand.discard(job.id)
        self.say(job.session, Cancel(job.id, "the caller left"))

    def say(self, session: HubSession, frame: HubFrame) -> None:
        session.channel.push(encode(frame), exempt=True)
        session.wake.set()

    async def over(self, *jobs: HubJob) -> None:
        await self.until(lambda: all(job.is_over for job in jobs))

    def cut(self, session: HubSession) -> None:
        """Break the connection as a network does: without a word."""
        if session.wire is not None:
            session.wire.abort()

    async def dismiss(self, session: HubSession, code: Close, reason: str = "") -> None:
        """Close a session's socket with a code."""
        assert session.socket is not None
        await session.socket.close(code=code, message=reason.encode())

    # --- sessions -----------------------------------------------------------------------------------

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _admit(self, hello: Hello, transport: str) -> tuple[HubSession, Welcome]:
        session = self._resumable(hello)
        resumed = session is not None
        if session is None:
            session = HubSession(f"s{len(self.sessions) + 1}", hello)
            self.sessions.append(session)
        else:
            assert hello.resume is not None
            session.channel.rewind()
            session.channel.acknowledge(hello.resume.received)
            session.hello = hello
        session.connections += 1
        session.connection = f"{session.id}-c{session.connections}"
        session.transport, session.connected = transport, True
        welcome = Welcome(
            session.id,
            session.connection,
            resumed,
            session.channel.received if resumed else 0,
            self.heartbeat_s,
            30.0,
            self.max_bytes,
            Exchange(self.wait_s, self.next_s),
        )
        self.welcomes.append(welcome)
        return session, welcome

    def _resumable(self, hello: Hello) -> HubSession | None:
        if hello.resume is None or self.refuse_resume:
            return None
        for session in self.sessions:
            ours = session.id == hello.resume.session and not session.ended
            if ours and session.channel.can_resume(hello.resume.received):
                return session
        return None

    async def _take(self, session: HubSession, packet: WorkerPacket) -> None:
        for frame in session.channel.accept(packet.n, packet.ack, packet.frames):
            session.frames.append(frame)
            if isinstance(frame, Bye):
                session.ended = True
            job = self.jobs.get(getattr(frame, "job", ""))
            if job is not None:
                job.frames.append(frame)
                if isinstance(frame, End | Fail | Refuse):
                    session.in_hand.discard(job.id)
        await self._notify()

    # --- the socket ---------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        self.upgrades += 1
        await self._notify()
        assert request.transport is not None
        if self.socket_door == "404":
            return web.Response(status=404, text="no sockets here")
        if self.socket_door == "reset":
            request.transport.abort()
            return web.Response()
        ws = web.WebSocketResponse(
            protocols=[SUBPROTOCOL], compress=False, max_msg_size=0, timeout=0.5
        )
        await ws.prepare(request)
        try:
            await self._converse(ws, request.transport)
        except Refusal as refusal:
            await ws.close(code=refusal.code, message=str(refusal).encode()[:120])
        except ProtocolError as error:
            await ws.close(code=error.code, message=str(error).encode()[:120])
        except ConnectionError:
            pass
        return ws

    async def _converse(self, ws: web.WebSocketResponse, wire: asyncio.Transport) -> None:
        first = await ws.receive()
        if first.type is not WSMsgType.TEXT:
            return
        self.raw_hellos.append(first.data.encode())
        hello = decode_hello(first.data)
        if hello.token != TOKEN:
            raise Refusal(Close.UNAUTHORIZED, "unknown token")
        session, welcome = self._admit(hello, "socket")
        session.socket, session.wire = ws, wire
        await ws.send_str(encode(WelcomeMessage(welcome)).decode())
        await self._notify()
        writing = asyncio.create_task(self._write(ws, session, welcome.connection))
        try:
            while self.reading:
                message = await ws.receive()
                if message.type is not WSMsgType.TEXT:
                    return
                await self._take(session, decode_worker_packet(message.data))
                if session.ended:
                    return
                if self.acking:
                    session.wake.set()
            wire.pause_reading()
            await asyncio.sleep(PATIENCE_S)
        finally:
            writing.cancel()
            if session.connection == welcome.connection:
                session.connected = False
            await self._notify()

    async def _write(self, ws: web.WebSocketResponse, session: HubSession, connection: str) -> None:
        while session.connection == connection:
            if session.channel.has_unsent or (self.acking and session.channel.ack_owed):
                await ws.send_str(session.channel.packet(self.max_bytes).decode())
            else:
                session.wake.clear()
                await session.wake.wait()

    # --- polling ------------------------------------------------------------------------------------

    def _guard(self, request: web.Request) -> web.Response | None:
        self.authorizations.append(request.headers.get("Authorization", ""))
        if self.poll_door != "open":
            return web.Response(status=int(self.poll_door))
        if self.authorizations[-1] != f"Bearer {TOKEN}":
            return refused(Close.UNAUTHORIZED)
        return None

    async def _hello(self, request: web.Request) -> web.Response:
        refusal = self._guard(request)
        if refusal is not None:
            return refusal
        self.raw_hellos.append(await request.read())
        session, welcome = self._admit(decode_hello(self.raw_hellos[-1]), "poll")
        session.socket, session.wire = None, request.transport
        await self._notify()
        return answered(encode(WelcomeMessage(welcome)))

    async def _exchange(self, request: web.Request) -> web.Response:
        self.exchanges += 1
        refusal = self._guard(request)
        if refusal is not None:
            return refusal
        try:
            packet = decode_worker_packet(await request.read())
            if self.lose_requests and packet.frames:
                self.lose_requests -= 1
                raise ConnectionResetError
            session = self._session_of(packet.session, packet.connection)
            session.wire = request.transport
            await self._take(session, packet)
            await self._hold(session)
            if self.lose_answers and (packet.frames or session.in_hand):
                self.lose_answers -= 1
                raise ConnectionResetError
        except ProtocolError as error:
            return refused(error.code)
        except ConnectionResetError:
            assert request.transport is not None
            request.transport.abort()
            return answered(b"")
        session.channel.rewind()
        extra = b'"next_s":%d,' % self.next_s
        return answered(session.channel.packet(self.max_bytes, extra))

    def _session_of(self, name: str, connection: str) -> HubSession:
        session = next((s for s in self.sessions if s.id == name and not s.ended), None)
        if session is None:
            raise ProtocolError("no such session", Close.SESSION_GONE)
        if session.connection != connection:
            raise ProtocolError("another connection has it", Close.REPLACED)
        return session

    async def _hold(self, session: HubSession) -> None:
        if session.holding is not None:
            session.holding.set()
            session.holding = None
        if session.in_hand or session.channel.unacked or not self.wait_s:
            return
        released = session.holding = session.wake
        released.clear()
        self.most_held += 1
        try:
            async with asyncio.timeout(self.wait_s):
                await released.wait()
        except TimeoutError:
            pass

    async def _bye(self, request: web.Request) -> web.Response:
        farewell = decode_farewell(await request.read())
        try:
            session = self._session_of(farewell.session, farewell.connection)
        except ProtocolError as error:
            return refused(error.code)
        session.frames.append(Bye(farewell.reason))
        session.ended, session.connected = True, False
        await self._notify()
        return answered(b"{}")


def refused(code: Close) -> web.Response:
    error = {"message": "refused", "type": "x", "param": None, "code": None, "close": int(code)}
    return web.json_response({"error": error}, status=HTTP_STATUS[code])


def answered(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


@asynccontextmanager
async def hub_double(**settings: Any) -> AsyncIterator[HubDouble]:
    hub = HubDouble()
    for name, value in settings.items():
        assert hasattr(hub, name), name
        setattr(hub, name, value)
    await hub.open()
    try:
        yield hub
    finally:
        await hub.close()


class ScriptEngine:
    """An engine whose answers a test says part by part; it notes when an answer is stopped."""

    kinds = frozenset({"chat"})

    def __init__(self) -> None:
        self.models = [Model(id="echo")]
        self.jobs: dict[str, Job] = {}
        self.stopped: list[str] = []
        self._parts: dict[str, asyncio.Queue[Part | Exception]] = {}
        self._changed = asyncio.Condition()

    async def catalogue(self) -> list[Model]:
        return self.models

    async def answer(self, job: Job) -> AsyncGenerator[Part, None]:
        self.jobs[job.id] = job
        parts = self._parts.setdefault(job.id, asyncio.Queue())
        ended = False
        try:
            while True:
                part = await parts.get()
                ended = isinstance(part, Exception)
                if isinstance(part, Exception):
                    raise part
                yield part
        finally:
            if not ended:
                self.stopped.append(job.id)
            async with self._changed:
                self._changed.notify_all()

    def say(self, job: HubJob, *parts: Part | Exception) -> None:
        queue = self._parts.setdefault(job.id, asyncio.Queue())
        for part in parts:
            queue.put_nowait(part)

    async def until_stopped(self, job: HubJob) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: job.id in self.stopped)

    async def close(self) -> None:
        pass


@dataclass
class RunningAgent:
    session: Session
    dial: Dial
    task: "asyncio.Task[Closed]"

    async def end(self) -> Closed:
        async with asyncio.timeout(PATIENCE_S):
            return await self.task


@asynccontextmanager
async def running_agent(
    url: str,
    engine: Engine,
    transport: str = "auto",
    *,
    token: str = TOKEN,
    slots: int = 4,
    most_slots: int | None = None,
    pace: DialPace = QUICK_DIAL,
    tls: Any = None,
) -> AsyncIterator[RunningAgent]:
    """A whole agent inside this process, without its command line."""
    address = HubAddress.parse(url)
    session = Session(Card("worker-1", "test agent", slots, "lab", most_slots), engine)
    session.offer(await engine.catalogue())
    by_socket = SocketLink(address, token, tls, QUICK_SOCKET)
    by_poll = PollLink(address, token, tls, QUICK_POLL)
    dial = Dial(
        session,
        None if transport == "poll" else by_socket,
        None if transport == "socket" else by_poll,
        pace,
    )
    task = asyncio.create_task(dial.run())
    try:
        yield RunningAgent(session, dial, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await session.close()
        await engine.close()


def plain(frames: list[WorkerFrame]) -> list[dict[str, Any]]:
    """Frames as JSON values without their job's id, to be compared."""
    values = [json.loads(encode(frame)) for frame in frames]
    return [{key: value for key, value in v.items() if key != "job"} for v in values]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
