"""Callers and small workers in a few words, for tests that look at one thing of a door at a time."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agent.address import HubAddress
from agent.dial import Dial
from agent.engines.echo import EchoEngine
from agent.session import Card, Session
from agent.socket_link import SocketLink
from hub.protocol import (
    SUBPROTOCOL,
    Channel,
    End,
    JobFrame,
    Piece,
    Ping,
    Pong,
    Welcome,
    decode_hub_packet,
    decode_welcome,
    encode,
)
from tests.schemas import check_answer, check_event

PATIENCE_S = 15.0
SITE = "https://arena.ai"


async def eventually(true: Callable[[], Any]) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.005)


# --- callers -------------------------------------------------------------------------------------------


@dataclass
class Reply:
    """An answer as it came."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events, without [DONE] at its end."""
        assert self.body.endswith(b"data: [DONE]\n\n"), self.body[-200:]
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return [json.loads(line[6:]) for line in lines]

    @property
    def text(self) -> str:
        """What the model said, streamed or not."""
        if self.headers["Content-Type"].startswith("application/json"):
            return str(self.json["choices"][0]["message"]["content"])
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return "".join(choice["delta"].get("content", "") for choice in choices)


def chat(**members: Any) -> dict[str, Any]:
    """A chat completion's body."""
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}


async def send(
    hub: Any,
    body: Any = None,
    *,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    headers: dict[str, str] | None = None,
    verify: bool = True,
) -> Reply:
    """Any request, by default with a good key; `body` goes out as JSON unless it is bytes.

    Without `verify` any certificate will do.
    """
    headers = {"Authorization": f"Bearer {hub.key}"} if headers is None else headers
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, hub.url + path, data=body, headers=headers, ssl=verify) as response,
    ):
        reply = Reply(response.status, response.headers, await response.read())
    if path.startswith("/v1/"):
        _check(path, reply)
    return reply


def _check(path: str, reply: Reply) -> None:
    """Whatever is asked for, the answer must be one that OpenAI's description knows."""
    kind = reply.headers.get("Content-Type", "")
    if kind == "application/json":
        check_answer(path, reply.status, reply.body)
    elif kind.startswith("text/event-stream"):
        for event in reply.events:
            check_event(event)


async def ask(hub: Any, **members: Any) -> Reply:
    """A chat completion."""
    return await send(hub, chat(**members))


async def health(hub: Any) -> dict[str, Any]:
    health: dict[str, Any] = (await send(hub, method="GET", path="/healthz")).json
    return health


# --- workers -------------------------------------------------------------------------------------------


def dial(hub: Any, origin: str | None = None, path: str = "/worker/socket", **more: Any) -> connect:
    """A worker socket that has said nothing yet."""
    more.setdefault("max_size", None)
    return connect(
        hub.url.replace("http", "ws") + path,
        origin=origin,  # type: ignore[arg-type]
        subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
        compression=None,
        ping_interval=None,
        proxy=None,
        **more,
    )


async def close_code(socket: ClientConnection) -> int | None:
    """The code that a socket is closed with; what arrives before is thrown away."""
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code


class Worker:
    """A worker over either door that says what a test tells it to, and answers pings."""

    def __init__(self, hub: Any, token: str | None = None, **card: Any) -> None:
        self.hub = hub
        self.token = token or hub.worker_token
        self.card = {
            "protocol": 1,
            "worker": "w-1",
            "name": "worker one",
            "kind": "agent",
            "version": "1.0",
            "slots": 4,
            "models": [{"id": "m"}],
            **card,
        }
        self.channel = Channel()
        self.unread: list[Any] = []
        self.mute = False
        self.next_s = 0.0
        self._news = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self.welcome: Welcome
        self.socket: ClientConnection
        self._http: aiohttp.ClientSession

    async def __aenter__(self) -> "Worker":
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def hello(self, *, resume: bool = False, token: str | None = None) -> dict[str, Any]:
        card = {**self.card, "token": self.token if token is None else token}
        if resume:
            known = {"session": self.welcome.session, "received": self.channel.received}
            card["resume"] = known
        return {"hello": card}

    def _welcomed(self, text: bytes | str) -> None:
        self.welcome = decode_welcome(text)
        if not self.welcome.resumed:
            self.channel = Channel()
        self.channel.rewind()

    def _take(self, text: bytes | str) -> None:
        packet = decode_hub_packet(text)
        self.next_s = packet.next_s
        self.unread += self.channel.accept(packet.n, packet.ack, packet.frames)
        self._news.set()

    async def hear(self, kind: type) -> Any:
        """The next frame of a kind, as soon as it is there."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for number, frame in enumerate(self.unread):
                    if isinstance(frame, kind):
                        return self.unread.pop(number)
                self._news.clear()
                await self._news.wait()

    # by socket

    async def open(self, *, resume: bool = False) -> Welcome:
        self.socket = await self._stack.enter_async_context(dial(self.hub))
        await self.socket.send(json.dumps(self.hello(resume=resume)))
        self._welcomed(await self.socket.recv())
        if self.channel.has_unsent:
            await self.say()
        reading = asyncio.create_task(self._read(self.socket))
        self._stack.callback(reading.cancel)
        return self.welcome

    async def _read(self, socket: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._take(await socket.recv())
                if self.unread and isinstance(self.unread[-1], Ping) and not self.mute:
                    await self.say(Pong())

    async def say(self, *frames: Any) -> None:
        """One packet over the socket."""
        for frame in frames:
            self.channel.push(encode(frame))
        await self.socket.send(self.channel.packet(10**9).decode())

    async def closed(self, socket: ClientConnection | None = None) -> int | None:
        """The code that the present socket (or another) is closed with."""
        socket = socket or self.socket
        async with asyncio.timeout(PATIENCE_S):
            await socket.wait_closed()
        return socket.close_code

    async def cut(self) -> None:
        """The network fails."""
        self.socket.transport.abort()
        await self.closed()

    # by polling

    async def post(self, what: str, body: Any, token: str | None = None) -> Reply:
        """A POST to one of the polling URLs; bytes go as they are."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        url = f"{self.hub.url}/worker/{what}"
        async with self._http.post(url, data=raw, headers=headers) as response:
            return Reply(response.status, response.headers, await response.read())

    async def poll(self, *, resume: bool = False) -> Welcome:
        reply = await self.post("hello", self.hello(resume=resume, token=""))
        assert reply.status == 200, reply.body
        self._welcomed(reply.body)
        return self.welcome

    def packet(self, *frames: Any) -> bytes:
        """What an exchange sends: everything that is not acknowledged."""
        for frame in frames:
            self.channel.push(encode(frame))
        self.channel.rewind()
        mine = (self.welcome.session, self.welcome.connection)
        return self.channel.packet(
            10**9, b'"session":"%b","connection":"%b",' % tuple(map(str.encode, mine))
        )

    async def exchange(self, *frames: Any) -> Reply:
        reply = await self.post("exchange", self.packet(*frames))
        if reply.status == 200:
            self._take(reply.body)
        return reply


@contextlib.asynccontextmanager
async def socket_worker(hub: Any, **card: Any) -> AsyncIterator[Worker]:
    """A worker that is connected by a socket."""
    async with Worker(hub, **card) as worker:
        await worker.open()
        yield worker


@contextlib.asynccontextmanager
async def poll_worker(hub: Any, **card: Any) -> AsyncIterator[Worker]:
    """A worker that is connected by polling."""
    async with Worker(hub, **card) as worker:
        await worker.poll()
        yield worker


@contextlib.asynccontextmanager
async def echo_agent(url: str, token: str, slots: int = 4) -> AsyncIterator[None]:
    """The agent with the echo engine, in this process; it comes back when the hub does."""
    engine = EchoEngine()
    session = Session(Card("echo-worker", "echo", slots, None), engine)
    session.offer(await engine.catalogue())
    link = SocketLink(HubAddress.parse(url), token, None)
    running = asyncio.create_task(Dial(session, link, None).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await session.close()


@contextlib.asynccontextmanager
async def undisturbed(hub: Any) -> AsyncIterator[None]:
    """Meanwhile another caller is in the middle of another worker's answer, and gets all of it."""
    async with socket_worker(hub, worker="steady", models=[{"id": "steady"}]) as worker:
        asking = asyncio.create_task(ask(hub, model="steady", stream=True))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "before, "))
        yield
        await worker.say(Piece(job.job, "after"), End(job.job))
        assert (await asking).text == "before, after"
