"""The fault proxy does what it says, before anything is shown by it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from tests.doors import PATIENCE_S, eventually
from tests.faults import FaultProxy, Passage

LONG = bytes(range(256)) * 4096
"""A mebibyte."""


class Peer:
    """The echo server behind the proxy; it keeps its connections' ends."""

    def __init__(self) -> None:
        self.heard = 0
        self.ends: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                self.heard += len(data)
                writer.write(data)
                await writer.drain()
            self.ends.append("closed")
        except ConnectionError:
            self.ends.append("reset")
        writer.close()


class Through:
    """A connection through the proxy."""

    def __init__(self, proxy: FaultProxy, peer: Peer) -> None:
        self.proxy = proxy
        self.peer = peer
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    @property
    def passage(self) -> Passage:
        return self.proxy.passages[-1]

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read()


@contextlib.asynccontextmanager
async def dialled(proxy: FaultProxy, peer: Peer) -> AsyncIterator[Through]:
    through = Through(proxy, peer)
    host, _, port = proxy.url.removeprefix("http://").partition(":")
    through.reader, through.writer = await asyncio.open_connection(host, int(port))
    yield through
    through.writer.transport.abort()


@pytest.fixture
async def through() -> AsyncIterator[Through]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with FaultProxy("127.0.0.1", port) as proxy, dialled(proxy, peer) as connection:
        await connection.say(b"hello")
        assert await connection.hear(5) == b"hello"
        yield connection
    server.close()


async def test_without_faults_everything_passes_and_the_end_too(through):
    saying = asyncio.create_task(through.say(LONG))
    assert await through.hear(len(LONG)) == LONG
    await saying
    assert through.passage.passed == {"up": len(LONG) + 5, "down": len(LONG) + 5}
    through.writer.write_eof()
    assert await through.rest() == b""
    assert through.peer.ends == ["closed"]
    await eventually(lambda: not through.proxy.passages)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_delay_holds_what_passes(through, way):
    getattr(through.proxy, way).delay_s = 0.2
    began = monotonic()
    await through.say(b"one")
    assert await through.hear(3) == b"one"
    assert monotonic() - began >= 0.19


async def test_a_throttle_lets_only_so_much_through(through):
    through.proxy.down.bytes_per_s = 10_000
    began = monotonic()
    await through.say(LONG[:4000])
    assert await through.hear(4000) == LONG[:4000]
    assert monotonic() - began >= 0.35


async def test_a_closed_road_holds_everything_and_loses_nothing(through):
    through.proxy.up.open.clear()
    await through.say(b"held")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await through.hear(1)
    through.proxy.clear()
    assert await through.hear(4) == b"held"


async def test_a_cut_closes_both_ends(through):
    through.passage.cut()
    assert await through.rest() == b""
    await eventually(lambda: through.peer.ends)


async def test_a_reset_is_a_reset_at_both_ends(through):
    through.passage.reset()
    with pytest.raises(ConnectionResetError):
        await through.rest()
    await eventually(lambda: through.peer.ends == ["reset"])


async def test_half_open_leaves_the_server_waiting(through):
    through.passage.half_open()
    assert await through.rest() == b""
    assert through.peer.ends == []
    assert not through.passage.over.is_set()


async def test_a_truncated_passage_ends_in_the_middle(through):
    through.passage.truncate("down", 3)
    await through.say(b"seven!!")
    assert await through.rest() == b"sev"
    await eventually(lambda: through.peer.ends)


async def test_a_black_hole_takes_everything_and_says_nothing(through):
    through.passage.black_hole = True
    heard = through.peer.heard
    await through.say(LONG)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await through.hear(1)
    assert through.peer.heard == heard
    assert through.peer.ends == []


async def test_a_black_hole_for_all_takes_new_connections_too(through):
    through.proxy.black_hole = True
    async with dialled(through.proxy, through.peer) as another:
        await another.say(b"anybody?")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await another.hear(1)
        through.proxy.clear()
        await another.say(b"now")
        assert await another.hear(3) == b"now"


async def test_who_dials_a_server_that_is_gone_is_reset(through):
    through.proxy.target = ("127.0.0.1", 1)
    async with dialled(through.proxy, through.peer) as another:
        with pytest.raises(ConnectionResetError):
            await another.rest()


async def test_one_passage_may_fail_and_another_go_on(through):
    async with dialled(through.proxy, through.peer) as another:
        await another.say(b"x")
        assert await another.hear(1) == b"x"
        through.proxy.passages[0].cut()
        assert await through.rest() == b""
        await another.say(b"y")
        assert await another.hear(1) == b"y"
