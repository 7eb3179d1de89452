"""A TCP proxy that does to connections what networks do.

    async with FaultProxy("127.0.0.1", port) as proxy:
        worker = ScriptedWorker(proxy.url, token)
        proxy.up.delay_s = 0.2          # everything on its way to the server waits
        proxy.down.bytes_per_s = 2_000  # throttled
        proxy.black_hole = True         # all is acknowledged and thrown away
        proxy.passages[0].reset()

`up` is the way from whoever dialled to the server, `down` the way back. Roads and the black hole are there for
every connection, open or to come; the rest happens to one passage.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Self

CHUNK = 64 * 1024
TICK_S = 0.02
"""A throttled road lets through what fits into this time."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time at all: closing sends RST instead of FIN."""


@dataclass
class Road:
    """What happens to bytes in one direction."""

    delay_s: float = 0.0
    """What arrives waits this long, and what comes meanwhile goes along with it or waits as long again."""
    bytes_per_s: float | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """While clear, nothing is read: the sender's TCP fills up and waits."""

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def chunk(self) -> int:
        return CHUNK if self.bytes_per_s is None else max(1, int(self.bytes_per_s * TICK_S))

    async def pass_along(self, size: int) -> None:
        """Take as long as so many bytes take here."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.bytes_per_s is not None:
            await asyncio.sleep(size / self.bytes_per_s)
        await self.open.wait()

    def clear(self) -> None:
        """No fault any more."""
        self.delay_s, self.bytes_per_s = 0.0, None
        self.open.set()


class End:
    """One end of a passage: the connection to whoever dialled, or to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def close(self, *, reset: bool = False) -> None:
        """At once; what waits in the proxy is thrown away."""
        if reset:
            with contextlib.suppress(OSError):
                raw: socket.socket = self.writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


class Passage:
    """One connection through the proxy."""

    def __init__(self, proxy: "FaultProxy", dialler: End, server: End) -> None:
        self._proxy = proxy
        self.dialler = dialler
        self.server = server
        self.black_hole = False
        """Both ends go on, acknowledged by TCP, and hear nothing of each other any more."""
        self.passed = {"up": 0, "down": 0}
        """Bytes handed on."""
        self.over = asyncio.Event()
        self._truncated: dict[str, int] = {}

    def cut(self) -> None:
        """Both ends are closed, wherever they were."""
        self.dialler.close()
        self.server.close()

    def reset(self) -> None:
        """Both ends read `connection reset by peer`."""
        self.dialler.close(reset=True)
        self.server.close(reset=True)

    def half_open(self) -> None:
        """Whoever dialled is told that the connection is over; the server is not, and waits."""
        self.black_hole = True
        self.dialler.close()

    def truncate(self, way: str, after: int) -> None:
        """So many more bytes pass in this direction, and then the passage is cut."""
        self._truncated[way] = after

    async def run(self) -> None:
        """Carry until both ends are closed."""
        try:
            await asyncio.gather(
                self._carry("up", self._proxy.up, self.dialler, self.server),
                self._carry("down", self._proxy.down, self.server, self.dialler),
            )
        finally:
            self.cut()
            self.over.set()

    async def _carry(self, way: str, road: Road, source: End, sink: End) -> None:
        with contextlib.suppress(OSError):
            while data := await source.reader.read(road.chunk):
                await road.pass_along(len(data))
                if not self._is_swallowed and not await self._hand_on(way, data, sink):
                    return
        if not self._is_swallowed:
            with contextlib.suppress(OSError):
                sink.writer.write_eof()

    @property
    def _is_swallowed(self) -> bool:
        return self.black_hole or self._proxy.black_hole

    async def _hand_on(self, way: str, data: bytes, sink: End) -> bool:
        """False if the passage was truncated here."""
        left = self._truncated.get(way)
        if left is not None:
            data = data[:left]
            self._truncated[way] = left - len(data)
        self.passed[way] += len(data)
        sink.writer.write(data)
        await sink.writer.drain()
        if self._truncated.get(way) == 0:
            sink.writer.close()
            self.cut()
            return False
        return True


class FaultProxy:
    """In front of one TCP server, on a loopback port of its own."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.up = Road()
        self.down = Road()
        self.black_hole = False
        self.passages: list[Passage] = []
        """Those that are open, oldest first."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    @classmethod
    def before(cls, url: str) -> "FaultProxy":
        """In front of `http://host:port`."""
        host, _, port = url.removeprefix("http://").partition(":")
        return cls(host, int(port))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    def clear(self) -> None:
        """The weather is good again; what was broken stays broken."""
        self.up.clear()
        self.down.clear()
        self.black_hole = False

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(End(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, dialler: End) -> None:
        try:
            server = End(*await asyncio.open_connection(*self.target))
        except OSError:
            dialler.close(reset=True)
            return
        passage = Passage(self, dialler, server)
        self.passages.append(passage)
        try:
            await passage.run()
        finally:
            self.passages.remove(passage)
