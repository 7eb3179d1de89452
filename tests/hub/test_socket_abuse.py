"""What RFC 6455 forbids, said to /worker/socket over raw TCP: that connection ends, and nothing else notices."""

import asyncio
import contextlib
import json
import logging
import os
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from itertools import cycle
from typing import Any

import pytest

from hub.protocol import SUBPROTOCOL, Close, End, JobFrame, Piece
from tests.doors import PATIENCE_S, Worker, ask, eventually, health, socket_worker, undisturbed

MIB = 1024 * 1024
CARD = {"worker": "raw", "name": "raw", "models": [{"id": "raw"}]}
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
PROTOCOL_ERROR, INVALID_TEXT = 1002, 1007
ABNORMAL = 1006
"""The connection ended without a close frame."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = b"\x01\x02\x03\x04",
    length: int | None = None,
) -> bytes:
    """One frame as section 5.2 has it, or with a `length` that is not its payload's."""
    length = len(payload) if length is None else length
    head = bytes([fin << 7 | reserved << 4 | opcode])
    masked = 0x80 if mask is not None else 0
    if length < 126:
        head += bytes([masked | length])
    elif length < 65_536:
        head += bytes([masked | 126]) + struct.pack(">H", length)
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", length)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))


class Raw:
    """A TCP connection to the hub that says whatever it is told."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> "Raw":
        host, _, port = self.hub.url.removeprefix("http://").partition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def say(self, data: bytes) -> None:
        """Send, if anybody still listens."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def shake_hands(self, **headers: str) -> bytes:
        """The handshake; the head of its answer."""
        fields = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": SUBPROTOCOL,
            **headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        await self.say(f"GET /worker/socket HTTP/1.1\r\n{lines}\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def hello(self) -> None:
        """A worker like any other, so far."""
        assert b" 101 " in await self.shake_hands()
        await self.say(frame(TEXT, json.dumps(Worker(self.hub, **CARD).hello()).encode()))
        opcode, payload = await self.hear()
        assert opcode == TEXT
        assert b'"welcome"' in payload

    async def hear(self) -> tuple[int, bytes]:
        """The next frame. Raises IncompleteReadError at the end, or ConnectionError."""
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self.reader.readexactly(2)
            assert not size & 0x80, "a server never masks"
            if size == 126:
                (size,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def hear_pong(self) -> bytes:
        while True:
            opcode, payload = await self.hear()
            if opcode == PONG:
                return payload

    async def end(self) -> int:
        """The code with which the hub ends the connection."""
        try:
            while True:
                opcode, payload = await self.hear()
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big")
        except (asyncio.IncompleteReadError, ConnectionError):
            return ABNORMAL


@pytest.fixture(autouse=True)
def nothing_unexpected(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Whatever is said, the hub logs no defect of its own."""
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    said = capsys.readouterr()
    for sign in ("Traceback", "unexpected error"):
        assert sign not in said.out + said.err


@contextlib.asynccontextmanager
async def abusing(hub: Any) -> AsyncIterator[Raw]:
    """A raw worker past its hello, while another caller and worker are in mid-answer; in the end no slot is taken."""
    async with undisturbed(hub), Raw(hub) as raw:
        await raw.hello()
        yield raw
    await eventually(lambda: not hub.hub.dispatch.active)
    assert not hub.hub.gate.open


ZEROS = zlib.compressobj(wbits=-15)
BOMB = ZEROS.compress(bytes(256 * MIB)) + ZEROS.flush(zlib.Z_SYNC_FLUSH)
"""A quarter of a gibibyte in a quarter of a mebibyte."""

FORBIDDEN = {
    "opcode 3": (frame(0x3, b"x"), PROTOCOL_ERROR),
    "opcode 7": (frame(0x7), PROTOCOL_ERROR),
    "opcode 11": (frame(0xB, b"x"), PROTOCOL_ERROR),
    "opcode 15": (frame(0xF), PROTOCOL_ERROR),
    "reserved bit 1": (frame(TEXT, b"{}", reserved=4), PROTOCOL_ERROR),
    "reserved bit 2": (frame(TEXT, b"{}", reserved=2), PROTOCOL_ERROR),
    "reserved bit 3": (frame(TEXT, b"{}", reserved=1), PROTOCOL_ERROR),
    "all reserved bits": (frame(PING, b"x", reserved=7), PROTOCOL_ERROR),
    "a compression bomb that nobody agreed on": (
        frame(TEXT, BOMB[:-4], reserved=4),
        PROTOCOL_ERROR,
    ),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), PROTOCOL_ERROR),
    "a message within a message": (
        frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),
        PROTOCOL_ERROR,
    ),
    "two beginnings": (
        frame(TEXT, b"{", fin=False) + frame(TEXT, b"{", fin=False),
        PROTOCOL_ERROR,
    ),
    "a ping in pieces": (frame(PING, b"x", fin=False), PROTOCOL_ERROR),
    "a close in pieces": (frame(CLOSE, b"\x03\xe8", fin=False), PROTOCOL_ERROR),
    "a long ping": (frame(PING, bytes(126)), PROTOCOL_ERROR),
    "a long close": (frame(CLOSE, b"\x03\xe8" + bytes(200)), PROTOCOL_ERROR),
    "a close of one byte": (frame(CLOSE, b"\x03"), PROTOCOL_ERROR),
    "a close code below a thousand": (frame(CLOSE, b"\x00\x01"), PROTOCOL_ERROR),
    "a close code nobody may send": (frame(CLOSE, struct.pack(">H", 1004)), PROTOCOL_ERROR),
    "a close with a reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff\xfe"), INVALID_TEXT),
    "text that is no UTF-8": (frame(TEXT, b'{"n":1,"ack":0,"\xff'), Close.PROTOCOL_ERROR),
    "an overlong UTF-8": (frame(TEXT, b"\xc0\xaf"), Close.PROTOCOL_ERROR),
    "UTF-8 that ends in mid-character": (frame(TEXT, b'"\xf0\x9f\x98'), Close.PROTOCOL_ERROR),
    "fragments that together are no packet": (
        frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"}"),
        Close.PROTOCOL_ERROR,
    ),
    "a binary message": (frame(BINARY, b"{}"), Close.PROTOCOL_ERROR),
    "an empty message": (frame(TEXT), Close.PROTOCOL_ERROR),
    "more than a message may hold": (frame(TEXT, b"x", length=64 * MIB), Close.TOO_BIG),
    "an exabyte": (frame(TEXT, b"x", length=2**62), Close.TOO_BIG),
    "a length that is negative": (frame(TEXT, b"x", length=2**64 - 1), Close.TOO_BIG),
}


@pytest.mark.parametrize("abuse", FORBIDDEN)
async def test_what_is_forbidden_ends_the_connection(hub, abuse):
    said, code = FORBIDDEN[abuse]
    async with abusing(hub) as raw:
        await raw.say(said)
        assert await raw.end() == code


@pytest.mark.parametrize("abuse", FORBIDDEN)
async def test_what_is_forbidden_ends_the_connection_before_the_hello_too(hub, abuse):
    async with undisturbed(hub), Raw(hub) as raw:
        await raw.shake_hands()
        await raw.say(FORBIDDEN[abuse][0])
        assert await raw.end() != 1000


async def test_a_connection_that_breaks_the_rules_may_come_back(hub):
    """What the RFC forbids may be a proxy's doing: the session waits in grace, the job goes on."""
    async with undisturbed(hub), socket_worker(hub, **CARD) as worker:
        asking = asyncio.create_task(ask(hub, model="raw"))
        job = await worker.hear(JobFrame)
        worker.socket.transport.write(frame(0x7))
        await worker.closed()
        assert (await worker.open(resume=True)).resumed
        await worker.say(Piece(job.job, "after all"), End(job.job))
        assert (await asking).text == "after all"


async def test_control_frames_between_fragments_are_answered_and_the_packet_arrives(hub):
    async with abusing(hub) as raw:
        packet = b'{"n":1,"ack":0,"frames":[{"t":"status","state":"ready","slots":3}]}'
        await raw.say(frame(TEXT, packet[:20], fin=False) + frame(PING, b"one"))
        assert await raw.hear_pong() == b"one"
        await raw.say(frame(CONTINUATION, b"", fin=False) + frame(PONG, b"unasked"))
        await raw.say(frame(CONTINUATION, packet[20:], fin=False) + frame(PING, b"two"))
        assert await raw.hear_pong() == b"two"
        await raw.say(frame(CONTINUATION))
        (session,) = [worker for worker in hub.hub.roster if worker.id == "raw"]
        await eventually(lambda: session.slots == 3)


async def test_a_packet_in_single_bytes_arrives(hub):
    async with abusing(hub) as raw:
        packet = b'{"n":1,"ack":0,"frames":[{"t":"status","state":"ready","slots":3}]}'
        pieces = [frame(TEXT, packet[:1], fin=False)]
        pieces += [frame(CONTINUATION, packet[at : at + 1], fin=False) for at in range(1, 60)]
        pieces += [frame(CONTINUATION, packet[60:])]
        for byte in b"".join(pieces):
            await raw.say(bytes([byte]))
        (session,) = [worker for worker in hub.hub.roster if worker.id == "raw"]
        await eventually(lambda: session.slots == 3)


async def test_fragments_count_together_against_the_bound(start_hub):
    hub = await start_hub(max_body_bytes=MIB)
    async with abusing(hub) as raw:
        await raw.say(frame(TEXT, b"{" * MIB, fin=False, mask=bytes(4)))
        await raw.say(frame(CONTINUATION, b"{" * MIB, fin=False, mask=bytes(4)))
        await raw.say(frame(CONTINUATION, b"{", fin=False))
        assert await raw.end() == Close.TOO_BIG


async def test_thousands_of_empty_fragments_and_tiny_frames_are_borne(hub):
    async with abusing(hub) as raw:
        await raw.say(frame(PONG) * 20_000 + frame(TEXT, b"", fin=False))
        await raw.say(frame(CONTINUATION, b"", fin=False) * 20_000)
        await raw.say(frame(CONTINUATION, b'{"n":1,"ack":0,"frames":[]}') + frame(PING, b"still?"))
        assert await raw.hear_pong() == b"still?"


async def test_thousands_of_packets_of_one_frame_are_borne(hub):
    async with abusing(hub) as raw:
        packets = [
            b'{"n":%d,"ack":0,"frames":[{"t":"piece","job":"none","text":"x"}]}' % number
            for number in range(1, 5001)
        ]
        await raw.say(b"".join(frame(TEXT, packet) for packet in packets))
        (session,) = [worker for worker in hub.hub.roster if worker.id == "raw"]
        await eventually(lambda: session.dropped == 5000)


async def test_pings_whose_pongs_nobody_reads_end_with_the_heartbeat(start_hub):
    hub = await start_hub(workers={"heartbeat_s": 1.5, "grace_s": 0.1})
    async with socket_worker(hub, worker="other"), Raw(hub) as raw:
        await raw.hello()
        raw.writer.transport.pause_reading()
        for _ in range(100):
            raw.writer.write(frame(PING, bytes(125), mask=bytes(4)) * 500)
        await eventually(lambda: not [w for w in hub.hub.roster if w.id == "raw"])
        assert [worker.id for worker in hub.hub.roster] == ["other"]


async def test_unmasked_frames_disturb_nobody(hub):
    async with abusing(hub) as raw:
        await raw.say(frame(TEXT, b'{"n":1,"ack":0,"frames":[]}', mask=None))
        await raw.say(frame(TEXT, b"rubbish", mask=None))
        assert await raw.end() in (PROTOCOL_ERROR, Close.PROTOCOL_ERROR)


async def test_compression_is_not_agreed_on(hub):
    async with undisturbed(hub), Raw(hub) as raw:
        offered = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
        head = await raw.shake_hands(**offered)
        assert b" 101 " in head
        assert b"sec-websocket-extensions" not in head.lower()


BAD_HANDSHAKES = {
    "no key": {"Sec-WebSocket-Key": ""},
    "a short key": {"Sec-WebSocket-Key": "c2hvcnQ="},
    "a key that is no base64": {"Sec-WebSocket-Key": "!!!!"},
    "an old version": {"Sec-WebSocket-Version": "6"},
    "no version": {"Sec-WebSocket-Version": ""},
    "no upgrade": {"Upgrade": "", "Connection": "close"},
    "an upgrade to something else": {"Upgrade": "h2c"},
}


@pytest.mark.parametrize("handshake", BAD_HANDSHAKES)
async def test_a_bad_handshake_is_a_clear_400(hub, handshake):
    async with undisturbed(hub), Raw(hub) as raw:
        head = await raw.shake_hands(**BAD_HANDSHAKES[handshake])
        assert head.split()[1] in (b"400", b"426"), head
        error = json.loads(await raw.reader.read(4096))["error"]
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("part", [0, 1, 40, 150])
async def test_half_a_handshake_holds_nobody_up(hub, part):
    whole = (
        f"GET /worker/socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    ).encode()
    async with undisturbed(hub), contextlib.AsyncExitStack() as stack:
        for _ in range(50):
            raw = await stack.enter_async_context(Raw(hub))
            await raw.say(whole[:part])
        assert (await health(hub))["status"] == "ok"


async def test_a_header_that_never_ends_is_refused(hub):
    async with undisturbed(hub), Raw(hub) as raw:
        await raw.say(b"GET /worker/socket HTTP/1.1\r\nX-Long: " + b"x" * MIB)
        async with asyncio.timeout(PATIENCE_S):
            assert b" 400 " in await raw.reader.readline()


async def test_hellos_that_trickle_in_run_out_of_time(start_hub):
    hub = await start_hub(workers={"hello_s": 0.3})
    async with undisturbed(hub), contextlib.AsyncExitStack() as stack:
        raws = [await stack.enter_async_context(Raw(hub)) for _ in range(100)]
        for raw in raws:
            await raw.shake_hands()
            await raw.say(frame(TEXT, b'{"hello": {', length=1000))
        assert {await raw.end() for raw in raws} == {Close.HELLO_TIMEOUT}


async def test_random_bytes_end_the_connection(hub):
    async with undisturbed(hub):
        for _ in range(20):
            async with Raw(hub) as raw:
                await raw.hello()
                # Random bytes may well be the head of a frame that never ends; a bad one follows.
                await raw.say(frame(TEXT, b"{}") + os.urandom(4096))
                assert await raw.end() == Close.PROTOCOL_ERROR
