"""A TCP gate in front of a hub: it counts, cuts, stays shut for a while, and may refuse WebSockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Gate:
    """Use `gate`."""

    def __init__(self, hub_url: str) -> None:
        self._hub = urlsplit(hub_url)
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.is_shut = False
        self.refuses_sockets = False
        self.sockets = 0
        """WebSocket handshakes that were seen."""

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def shut(self) -> None:
        """Be a network that is gone: break what there is, take nothing new."""
        self.is_shut = True
        self.cut()

    def open(self) -> None:
        self.is_shut = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_shut:
            writer.transport.abort()
            return
        try:
            await self._pass(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readuntil(b"\r\n")
        if b"/worker/socket" in first:
            self.sockets += 1
            if self.refuses_sockets:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(REFUSAL)
                await writer.drain()
                return
        assert self._hub.port is not None
        from_hub, to_hub = await asyncio.open_connection(self._hub.hostname, self._hub.port)
        to_hub.write(first)
        self._writers |= {writer, to_hub}
        try:
            there = asyncio.create_task(_pump(reader, to_hub))
            back = asyncio.create_task(_pump(from_hub, writer))
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            for way in (there, back):
                way.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
        finally:
            self._writers -= {writer, to_hub}
            to_hub.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def gate(hub_url: str) -> AsyncIterator[Gate]:
    """An open gate on a free port of 127.0.0.1."""
    standing = Gate(hub_url)
    server = await asyncio.start_server(standing.serve, "127.0.0.1", 0)
    standing.port = server.sockets[0].getsockname()[1]
    try:
        yield standing
    finally:
        standing.cut()
        server.close()
