"""A worker that does what a test says, over a WebSocket or by polling; it speaks the real protocol.

    async with ScriptedWorker(hub.url, hub.worker_token, "a") as worker:
        await worker.hello(models=["m"])
        job = await worker.expect(t="job")
        await worker.send({"t": "started"}, {"t": "piece", "text": "hi"}, {"t": "end"})
        await worker.cut()
        await worker.resume(by="poll")

Frames are plain dictionaries. A frame about a job that names none is about the last job the worker got. A
frame given as a string is sent as it stands, with that job's id for `$job`.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Literal, Self

import aiohttp

from hub.protocol import (
    SUBPROTOCOL,
    Channel,
    Close,
    HubPacket,
    Welcome,
    decode_hub_packet,
    decode_welcome,
    encode,
)

Door = Literal["socket", "poll"]
Frame = dict[str, Any]
Take = Callable[["Link", HubPacket], None]

PATIENCE_S = 5.0
LAST_WORDS_S = 0.5
ABOUT_A_JOB = frozenset({"refuse", "started", "waiting", "piece", "end", "fail"})
CLOSE_OF_STATUS = {
    400: Close.PROTOCOL_ERROR,
    401: Close.UNAUTHORIZED,
    403: Close.REMOVED,
    409: Close.REPLACED,
    410: Close.SESSION_GONE,
    413: Close.TOO_BIG,
    503: Close.RESTART,
}
CUT = 1006
"""What a link that simply broke is closed with."""


class Refused(Exception):
    """The hub closed instead of welcoming."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code}")
        self.code = code


class Link:
    """One connection, by either door."""

    def __init__(self, url: str, token: str, take: Take) -> None:
        self.url = url
        self.token = token
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.http = aiohttp.ClientSession()
        self.channel = Channel()
        self.welcome: Welcome
        self._take = take
        self._listener: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, hello: bytes) -> Welcome:
        """Say hello. Raises Refused."""
        try:
            self.welcome = decode_welcome(await self._introduce(hello))
        except BaseException:
            await self.http.close()
            raise
        return self.welcome

    def carry(self, channel: Channel) -> None:
        """From now on this link carries a session's packets."""
        self.channel = channel
        self._listener = self._spawn(self._listen())

    def flush(self) -> None:
        """Send what the channel has to say."""
        raise NotImplementedError

    def send_raw(self, text: str) -> None:
        """Send what no channel would say; by polling it needs `session` and `connection` filled in."""
        raise NotImplementedError

    def retire(self) -> None:
        """A newer link carries the session: this one has nothing to say any more."""
        self.channel = Channel()

    async def cut(self) -> None:
        """Drop the connection without a word; what was sent before still arrives."""
        # An exchange that the hub holds has arrived long ago: no need to wait for its answer.
        if on_their_way := self._tasks - {self._listener}:
            await asyncio.wait(on_their_way, timeout=LAST_WORDS_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.http.close()
        self._end(CUT)

    def _hear(self, text: str) -> HubPacket:
        packet = decode_hub_packet(text)
        self._take(self, packet)
        return packet

    def _end(self, code: int) -> None:
        if not self.closed.done():
            self.closed.set_result(code)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        if not self.closed.done():
            self.closed.set_exception(task.exception() or AssertionError)

    async def _introduce(self, hello: bytes) -> str:
        raise NotImplementedError

    async def _listen(self) -> None:
        raise NotImplementedError


class SocketLink(Link):
    """GET /worker/socket."""

    async def _introduce(self, hello: bytes) -> str:
        address = f"{self.url}/worker/socket"
        self._socket = await self.http.ws_connect(
            address, protocols=[SUBPROTOCOL], max_msg_size=0, compress=0
        )
        await self._socket.send_str(hello.decode())
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise Refused(self._socket.close_code or CUT)
        return str(message.data)

    def flush(self) -> None:
        while self.channel.has_unsent or self.channel.ack_owed:
            self.send_raw(self.channel.packet(self.welcome.max_bytes).decode())

    def send_raw(self, text: str) -> None:
        self._spawn(self._write(text))

    async def _write(self, text: str) -> None:
        try:
            await self._socket.send_str(text)
        except ConnectionError:
            self._end(CUT)

    def carry(self, channel: Channel) -> None:
        super().carry(channel)
        self.flush()

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                self._end(self._socket.close_code or CUT)
                return
            self._hear(message.data)


class PollLink(Link):
    """POST /worker/hello, /worker/exchange and /worker/bye."""

    async def _introduce(self, hello: bytes) -> str:
        return await self._post("hello", hello)

    def flush(self) -> None:
        # Not awaited: the hub may hold an exchange for as long as it likes.
        self._spawn(self._exchange())

    def send_raw(self, text: str) -> None:
        self._spawn(self._post_raw(text))

    async def bye(self, reason: str) -> None:
        """The goodbye that only polling has."""
        farewell = {
            "session": self.welcome.session,
            "connection": self.welcome.connection,
            "reason": reason,
        }
        await self._post("bye", json.dumps(farewell).encode())

    async def _listen(self) -> None:
        packet = await self._answered()
        while packet is not None:
            # The hub sets the pace.
            await asyncio.sleep(packet.next_s)
            packet = await self._answered()

    async def _exchange(self) -> None:
        await self._answered()

    async def _answered(self) -> HubPacket | None:
        """One exchange; None when the link is closed."""
        self.channel.rewind()
        extra = b'"session":"%b","connection":"%b",' % (
            self.welcome.session.encode(),
            self.welcome.connection.encode(),
        )
        packet = self.channel.packet(self.welcome.max_bytes, extra)
        try:
            return self._hear(await self._post("exchange", packet))
        except Refused as refused:
            self._end(refused.code)
        except aiohttp.ClientError:
            self._end(CUT)
        return None

    async def _post_raw(self, text: str) -> None:
        names = f'"session":"{self.welcome.session}","connection":"{self.welcome.connection}",'
        try:
            await self._post("exchange", text.replace("{", "{" + names, 1).encode())
        except Refused as refused:
            self._end(refused.code)

    async def _post(self, what: str, body: bytes) -> str:
        headers = {"Authorization": f"Bearer {self.token}"}
        address = f"{self.url}/worker/{what}"
        async with self.http.post(address, data=body, headers=headers) as response:
            text = await response.text()
            if response.status != 200:
                error = json.loads(text)["error"]
                raise Refused(error.get("close") or CLOSE_OF_STATUS[response.status])
            return text


LINKS: dict[Door, type[Link]] = {"socket": SocketLink, "poll": PollLink}


class ScriptedWorker:
    """A worker's session, and the link that carries it now."""

    def __init__(
        self, url: str, token: str, worker_id: str = "worker-1", *, by: Door = "socket"
    ) -> None:
        self.url = url
        self.token = token
        self.id = worker_id
        self.by: Door = by
        self.answers_pings = True
        self.link: Link | None = None
        self.older: Link | None = None
        """The link that the present one replaced, if it was still up."""
        self.session = ""
        self.jobs: list[str] = []
        """The ids of the jobs it got, in order."""
        self.frames: list[Frame] = []
        """Everything the hub said but pings, in order."""
        self._channel = Channel()
        self._introduction: dict[str, Any] = {}
        self._links: list[Link] = []
        self._inbox: asyncio.Queue[Frame] = asyncio.Queue()
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        for link in self._links:
            await link.cut()
            # A link that choked on what the hub said must not go unnoticed.
            link.closed.result()

    # --- connections

    async def hello(
        self, models: list[Any] | None = None, slots: int = 1, **members: Any
    ) -> Welcome:
        """Begin a new session. Raises Refused."""
        catalogue = [m if isinstance(m, dict) else {"id": m} for m in models or ["m"]]
        self._introduction = {
            "protocol": 1,
            "worker": self.id,
            "name": self.id,
            "kind": "userscript",
            "version": "test",
            "slots": slots,
            "models": catalogue,
            **members,
        }
        return await self._connect(None)

    async def reload(self) -> Welcome:
        """Lose everything but the id and say hello again, as a tab does that its human reloads."""
        await self.cut()
        return await self._connect(None)

    async def resume(
        self, *, by: Door | None = None, received: int | None = None, session: str | None = None
    ) -> Welcome:
        """Go on with the session over a new link; one that is still up becomes `older`."""
        self.by = by or self.by
        self.older = self.link
        if self.older is not None:
            self.older.retire()
        resume = {
            "session": self.session if session is None else session,
            "received": self._channel.received if received is None else received,
        }
        return await self._connect(resume)

    async def cut(self) -> None:
        """Lose the connection abruptly; the session stays."""
        link, self.link = self.link, None
        if link is not None:
            await link.cut()

    async def bye(self, reason: str = "closing") -> None:
        """Leave on purpose, as this door has it: a frame, or a POST of its own."""
        if isinstance(self.link, PollLink):
            # Two requests may overtake each other.
            await self.acked()
            await self.link.bye(reason)
        else:
            await self.send({"t": "bye", "reason": reason})

    async def closed(self, link: Link | None = None) -> int:
        """The code that the hub closed the present link (or another) with."""
        link = link or self.link or self._links[-1]
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.shield(link.closed)

    async def _connect(self, resume: dict[str, Any] | None) -> Welcome:
        hello = {**self._introduction}
        token = hello.pop("token", self.token)
        if self.by == "socket":
            hello["token"] = token
        if resume is not None:
            hello["resume"] = resume
        link = LINKS[self.by](self.url, token, self._take)
        async with asyncio.timeout(PATIENCE_S):
            welcome = await link.open(encode({"hello": hello}))
        self._links.append(link)
        self.link = link
        self._enter(welcome)
        link.carry(self._channel)
        return welcome

    def _enter(self, welcome: Welcome) -> None:
        self.session = welcome.session
        if welcome.resumed:
            self._channel.rewind()
            self._channel.acknowledge(welcome.received)
        else:
            self._channel = Channel()

    # --- frames

    async def send(self, *frames: Frame | str) -> None:
        """Say these; without a link they wait for the next one."""
        for frame in frames:
            self._channel.push(self._encoded(frame))
        if self.link is not None:
            self.link.flush()

    async def expect(self, **members: Any) -> Frame:
        """The next frame, which has these members."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                frame = await self._inbox.get()
        except TimeoutError:
            raise AssertionError(f"{self.id} waits in vain for {members}") from None
        wanted = self._named(members)
        assert {**frame, **wanted} == frame, f"{self.id} expected {wanted}, got {frame}"
        return frame

    async def next_frame(self) -> Frame:
        """The next frame, however long it takes."""
        return await self._inbox.get()

    @property
    def frames_said(self) -> int:
        """The number of the last frame that was said in this session."""
        return self._channel.acked + self._channel.unacked

    @property
    def frames_acked(self) -> int:
        """The number of the last one that the hub has acknowledged."""
        return self._channel.acked

    async def acked(self) -> None:
        """Wait until the hub has acknowledged everything (on a socket that may take a second)."""
        async with asyncio.timeout(PATIENCE_S):
            while self._channel.unacked:
                self._heard.clear()
                await self._heard.wait()

    def _take(self, link: Link, packet: HubPacket) -> None:
        if link is not self.link:
            return
        frames = self._channel.accept(packet.n, packet.ack, packet.frames)
        self._heard.set()
        for frame in frames:
            self._take_frame(json.loads(encode(frame)))

    def _take_frame(self, frame: Frame) -> None:
        if frame["t"] == "ping":
            if self.answers_pings and self.link is not None:
                self._channel.push(b'{"t":"pong"}')
                self.link.flush()
            return
        if frame["t"] == "job":
            self.jobs.append(frame["job"])
        self.frames.append(frame)
        self._inbox.put_nowait(frame)

    def _encoded(self, frame: Frame | str) -> bytes:
        job = self.jobs[-1] if self.jobs else "none"
        if isinstance(frame, str):
            return frame.replace("$job", job).encode()
        if frame["t"] in ABOUT_A_JOB:
            frame = {"job": job, **self._named(frame)}
        return encode(frame)

    def _named(self, frame: Frame) -> Frame:
        """`"$2"` stands for the second job that this worker got."""
        job = frame.get("job", "")
        if isinstance(job, str) and job.startswith("$"):
            return {**frame, "job": self.jobs[int(job[1:]) - 1]}
        return frame
