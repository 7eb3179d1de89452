"""The load: raw callers and one raw worker in one process, several times cheaper than any server under test.

Every piece carries its number and its caller's tag, and every answer is compared with what was sent: a piece
that is missing, doubled, misplaced or another caller's is a problem, and a run with problems fails. Prints one
line of JSON. The caller's key is read from BENCH_KEY and the worker's token from BENCH_TOKEN.
"""

import asyncio
import base64
import gc
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
import orjson
import uvloop

SUBPROTOCOL = "lmarena-bridge.1"
MODEL = "bench"
SLOTS = 600
CONNECT_TIMEOUT_S = 15.0
DRAIN_TIMEOUT_S = 15.0
ACK_EVERY_S = 1.0
PACKETS_PER_TURN = 4
"""How many packets of one answer leave before the next answer's turn: answers are interleaved."""
MAX_PROBLEMS = 50
MAX_EXAMPLES = 5
LETTERS_PER_NUMBER = 3
MAX_PIECES = 26**LETTERS_PER_NUMBER
MAX_CALLERS = 26**2
PROMPT = "Caller {tag} asks: write a paragraph about bridges, plainly, and stop when it is said."
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")

_TAG = re.compile(r"Caller ([a-z]{2}) asks")
_CONTENT = re.compile(rb'"content":\s*"([^"\\]*)"')
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class Plan(msgspec.Struct, frozen=True):
    """What to do to a server, for how long."""

    url: str
    stream: bool
    concurrency: int
    pieces: int
    frames_per_packet: int
    warmup_s: float
    seconds: float
    server_pid: int | None = None


class Report(msgspec.Struct):
    """What came of it. CPU times are seconds within the measured window."""

    requests: int
    pieces: int
    seconds: float
    p50_ms: float
    p99_ms: float
    load_cpu_s: float
    server_cpu_s: float | None
    server_kept_waiting_s: float | None
    """How long its main thread could have run and another had the core."""
    problems: dict[str, int]
    examples: list[str]


class Tally:
    """What is counted while `recording`, and what went wrong at any time."""

    def __init__(self) -> None:
        self.recording = False
        self.latencies: list[int] = []
        self.problems: Counter[str] = Counter()
        self.examples: list[str] = []
        self.aborted = asyncio.Event()

    def problem(self, kind: str, example: str = "", count: int = 1) -> None:
        self.problems[kind] += count
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(f"{kind}: {example}"[:300])
        if self.problems.total() >= MAX_PROBLEMS:
            self.aborted.set()


# --- the text of an answer ---------------------------------------------------------------------------


def letters(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 26)
        digits = chr(ord("a") + digit) + digits
    return digits


def words(pieces: int, tag: str) -> list[str]:
    """The pieces of one answer. Letters, because a tokenizer finds digits dearer than prose."""
    return [f" {letters(number, LETTERS_PER_NUMBER)}{tag}" for number in range(pieces)]


def compare(text: bytes, expected: list[bytes], tally: Tally) -> None:
    """Say how the text of an answer differs from what its worker sent."""
    wanted, seen = Counter(expected), Counter(text.split())
    for word, count in (wanted - seen).items():
        tally.problem("missing pieces", word.decode(), count)
    for word, count in (seen - wanted).items():
        kind = "doubled pieces" if word in wanted else "foreign pieces"
        tally.problem(kind, word.decode(errors="replace"), count)
    if wanted == seen:
        tally.problem("pieces out of order", text[:120].decode())


# --- the worker --------------------------------------------------------------------------------------


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """A client's WebSocket frame; the mask of zeros is allowed and changes nothing."""
    size = len(payload)
    if size < 126:
        return b"%c%c\0\0\0\0%b" % (0x80 | opcode, 0x80 | size, payload)
    if size < 1 << 16:
        return b"%c\xfe%b\0\0\0\0%b" % (0x80 | opcode, size.to_bytes(2, "big"), payload)
    return b"%c\xff%b\0\0\0\0%b" % (0x80 | opcode, size.to_bytes(8, "big"), payload)


class Script:
    """The packets of one answer, written once; only job, tag and numbers are filled in later."""

    def __init__(self, pieces: int, frames_per_packet: int) -> None:
        texts = [
            f'{{"t":"piece","job":"<job>","text":"{word}"}}' for word in words(pieces, "<tag>")
        ]
        frames = [
            '{"t":"started","job":"<job>"}',
            *texts,
            '{"t":"end","job":"<job>","finish_reason":"stop"}',
        ]
        groups = [
            frames[start : start + frames_per_packet]
            for start in range(0, len(frames), frames_per_packet)
        ]
        self.sizes = [len(group) for group in reversed(groups)]
        self._template = "\n".join(",".join(group) for group in reversed(groups)).encode()

    def packets(self, job: bytes, tag: bytes) -> list[bytes]:
        """The frames of each packet, the last packet first so that `pop` takes the next one."""
        return self._template.replace(b"<job>", job).replace(b"<tag>", tag).split(b"\n")


class Worker(asyncio.Protocol):
    """A worker that answers each job by the script, as fast as the socket takes it."""

    def __init__(self, host: str, token: str, script: Script, tally: Tally) -> None:
        self._host = host
        self._token = token
        self._script = script
        self._tally = tally
        self._buffer = b""
        self._receive: Callable[[], None] = self._receive_upgrade
        self._active: dict[bytes, list[bytes]] = {}
        self._sent = 0
        self._received = 0
        self._ack_sent = 0
        self._turning = False
        self._paused = False
        self._leaving = False
        self._loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[None] = self._loop.create_future()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /worker/socket HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._receive()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._leaving:
            self._fail("worker's connection lost", "")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._want_turn()

    def leave(self) -> None:
        self._leaving = True
        self._transport.write(masked(b"\x03\xe8", CLOSE))
        self._transport.close()

    # what arrives

    def _receive_upgrade(self) -> None:
        head, found, rest = self._buffer.partition(_HEAD_END)
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 101"):
            self._fail("worker refused", head.decode(errors="replace"))
            return
        self._transport.write(masked(orjson.dumps({"hello": hello(self._token)})))
        self._receive = self._receive_frames
        self._buffer = rest
        self._receive()

    def _receive_frames(self) -> None:
        buffer, start = self._buffer, 0
        while len(buffer) - start >= 2:
            opcode, size, body = buffer[start] & 0x0F, buffer[start + 1], start + 2
            if size > 125:
                body = start + (4 if size == 126 else 10)
                size = int.from_bytes(buffer[start + 2 : body], "big")
            if len(buffer) < body + size:
                break
            start = body + size
            self._take(opcode, buffer[body:start])
        self._buffer = buffer[start:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._take_message(orjson.loads(payload))
        elif opcode == PING:
            self._transport.write(masked(payload, PONG))
        elif opcode == CLOSE and not self._leaving:
            code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
            self._fail("worker closed by the server", f"{code} {reason}")

    def _take_message(self, message: dict) -> None:
        if "welcome" in message:
            self.welcomed.set_result(None)
            self._loop.call_later(ACK_EVERY_S, self._ack_if_owed)
            return
        if message["ack"] > self._sent:
            self._fail("wrong ack", f"{message['ack']} of {self._sent}")
        frames = message["frames"]
        if frames and message["n"] != self._received + 1:
            self._fail("wrong numbering", f"{message['n']} after {self._received}")
        self._received += len(frames)
        for frame in frames:
            self._take_frame(frame)

    def _take_frame(self, frame: dict) -> None:
        kind = frame["t"]
        if kind == "job":
            tag = _TAG.search(frame["body"]["messages"][-1]["content"])
            job = frame["job"].encode()
            self._active[job] = self._script.packets(job, tag[1].encode() if tag else b"??")
            self._want_turn()
        elif kind == "cancel":
            self._active.pop(frame["job"].encode(), None)
            self._tally.problem("jobs cancelled", frame["reason"])
        elif kind == "ping":
            self._transport.write(self._packet(b'{"t":"pong"}', 1))

    def _fail(self, kind: str, example: str) -> None:
        self._tally.problem(kind, example)
        self._tally.aborted.set()
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError(f"{kind}: {example}"))

    # what leaves

    def _packet(self, frames: bytes, count: int) -> bytes:
        packet = b'{"n":%d,"ack":%d,"frames":[%b]}' % (self._sent + 1, self._received, frames)
        self._sent += count
        self._ack_sent = self._received
        return masked(packet)

    def _want_turn(self) -> None:
        if self._active and not self._turning and not self._paused:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """A few packets of each answer in hand, in one write."""
        self._turning = False
        sizes = self._script.sizes
        leaving: list[bytes] = []
        for job, packets in list(self._active.items()):
            for _ in range(min(PACKETS_PER_TURN, len(packets))):
                frames = packets.pop()
                leaving.append(self._packet(frames, sizes[len(packets)]))
            if not packets:
                del self._active[job]
        self._transport.write(b"".join(leaving))
        self._want_turn()

    def _ack_if_owed(self) -> None:
        if self._leaving or self._transport.is_closing():
            return
        if self._received > self._ack_sent:
            self._transport.write(self._packet(b"", 0))
        self._loop.call_later(ACK_EVERY_S, self._ack_if_owed)


def hello(token: str) -> dict:
    return {
        "protocol": 1,
        "token": token,
        "worker": "bench-worker",
        "name": "bench",
        "kind": "agent",
        "version": "1",
        "slots": SLOTS,
        "models": [
            {
                "id": MODEL,
                "modalities": {"in": ["text"], "out": ["text"]},
                "kinds": ["chat"],
                "features": [],
            }
        ],
        "state": "ready",
    }


# --- the callers -------------------------------------------------------------------------------------


def dechunk(body: bytes) -> bytes | None:
    """The content of a chunked body; None while it is not whole."""
    parts: list[bytes] = []
    start = 0
    while (line_end := body.find(b"\r\n", start)) >= 0:
        size = int(body[start:line_end].partition(b";")[0], 16)
        begin = line_end + 2
        start = begin + size + 2
        if len(body) < start:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(body[begin : begin + size])
    return None


class Caller(asyncio.Protocol):
    """One connection that asks, checks the answer, and asks again."""

    def __init__(self, number: int, plan: Plan, key: str, tally: Tally) -> None:
        tag = letters(number, 2)
        expected = words(plan.pieces, tag)
        self._text = "".join(expected).encode()
        self._words = [word.strip().encode() for word in expected]
        self._stream = plan.stream
        self._request = request_bytes(plan, key, tag)
        self._tally = tally
        self._buffer = bytearray()
        self._chunked = False
        self._stopping = False
        self._asked_at = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        # Taking a stream apart at each read would cost more than the server does. A shorter read may
        # bring the rest of a last chunk that was split.
        if self._chunked and len(data) >= len(_LAST_CHUNK) and not data.endswith(_LAST_CHUNK):
            return
        head, found, rest = bytes(self._buffer).partition(_HEAD_END)
        if not found:
            return
        self._chunked = _CHUNKED.search(head) is not None
        body = dechunk(rest) if self._chunked else sized(head, rest)
        if body is not None:
            self._buffer.clear()
            self._chunked = False
            self._answered(head, body)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.idle.is_set() or not self._stopping:
            self._tally.problem("callers' connections lost")
        self.idle.set()

    def ask(self) -> None:
        self.idle.clear()
        self._asked_at = time.perf_counter_ns()
        self._transport.write(self._request)

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        self._transport.abort()

    def _answered(self, head: bytes, body: bytes) -> None:
        if self._tally.recording:
            self._tally.latencies.append(time.perf_counter_ns() - self._asked_at)
        self._check(head, body)
        if self._stopping or self._tally.aborted.is_set():
            self.idle.set()
        else:
            self.ask()

    def _check(self, head: bytes, body: bytes) -> None:
        status = head[9:12].decode()
        if status != "200":
            self._tally.problem(f"status {status}", body.decode(errors="replace"))
            return
        text = b"".join(_CONTENT.findall(body))
        if text != self._text:
            compare(text, self._words, self._tally)
        if b'"finish_reason":"stop"' not in body:
            self._tally.problem("no finish_reason", body[-200:].decode(errors="replace"))
        if self._stream and not body.endswith(b"data: [DONE]\n\n"):
            self._tally.problem("no [DONE]", body[-200:].decode(errors="replace"))


def sized(head: bytes, rest: bytes) -> bytes | None:
    """The body that follows a head with a length; None while it is not whole."""
    length = _CONTENT_LENGTH.search(head)
    if length is None:
        raise ValueError(f"neither a length nor chunks: {head!r}")
    return rest if len(rest) >= int(length[1]) else None


def request_bytes(plan: Plan, key: str, tag: str) -> bytes:
    body = orjson.dumps(
        {
            "model": MODEL,
            "stream": plan.stream,
            "messages": [{"role": "user", "content": PROMPT.format(tag=tag)}],
        }
    )
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {urlsplit(plan.url).netloc}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


# --- a run -------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """User and system time of a process, all its threads, from /proc."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / CLOCK_TICKS


def kept_waiting_s(pid: int) -> float:
    """How long a process's main thread was ready to run without running, from /proc."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


class Meter:
    """Wall and CPU time since it was made."""

    def __init__(self, server_pid: int | None) -> None:
        self._server_pid = server_pid
        self._began = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        pid = self._server_pid
        server = (cpu_s(pid), kept_waiting_s(pid)) if pid else (0.0, 0.0)
        return time.perf_counter(), time.process_time(), *server

    def read(self) -> tuple[float, float, float | None, float | None]:
        """Wall time, the load's CPU time, the server's, and how long the server was kept waiting."""
        spent = [now - then for now, then in zip(self._read(), self._began, strict=True)]
        wall, load, server, waited = spent
        return (wall, load, server, waited) if self._server_pid else (wall, load, None, None)


def percentile_ms(latencies: list[int], share: float) -> float:
    ordered = sorted(latencies)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1e6 if ordered else 0.0


async def connect(plan: Plan, key: str, token: str, tally: Tally) -> tuple[Worker, list[Caller]]:
    loop = asyncio.get_running_loop()
    target = urlsplit(plan.url)
    script = Script(plan.pieces, plan.frames_per_packet)
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        _, worker = await loop.create_connection(
            lambda: Worker(target.netloc, token, script, tally), target.hostname, target.port
        )
        await worker.welcomed
        callers = [
            (
                await loop.create_connection(
                    lambda number=number: Caller(number, plan, key, tally),
                    target.hostname,
                    target.port,
                )
            )[1]
            for number in range(plan.concurrency)
        ]
    return worker, callers


async def pause(seconds: float, tally: Tally) -> None:
    """Let the load run, but no longer once it has been given up."""
    try:
        async with asyncio.timeout(seconds):
            await tally.aborted.wait()
    except TimeoutError:
        pass


async def finish(worker: Worker, callers: list[Caller], tally: Tally) -> None:
    for caller in callers:
        caller.stop()
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            for caller in callers:
                await caller.idle.wait()
    except TimeoutError:
        stuck = sum(not caller.idle.is_set() for caller in callers)
        tally.problem("answers never finished", count=stuck)
    for caller in callers:
        caller.idle.set()
        caller.close()
    worker.leave()
    await asyncio.sleep(0.05)


async def run(plan: Plan, key: str, token: str) -> Report:
    tally = Tally()
    worker, callers = await connect(plan, key, token, tally)
    for caller in callers:
        caller.ask()
    await pause(plan.warmup_s, tally)
    meter = Meter(plan.server_pid)
    tally.recording = True
    await pause(plan.seconds, tally)
    tally.recording = False
    wall, load_cpu, server_cpu, kept_waiting = meter.read()
    await finish(worker, callers, tally)
    return Report(
        requests=len(tally.latencies),
        pieces=len(tally.latencies) * plan.pieces,
        seconds=wall,
        p50_ms=percentile_ms(tally.latencies, 0.50),
        p99_ms=percentile_ms(tally.latencies, 0.99),
        load_cpu_s=load_cpu,
        server_cpu_s=server_cpu,
        server_kept_waiting_s=kept_waiting,
        problems=dict(tally.problems),
        examples=tally.examples,
    )


@click.command(help=__doc__)
@click.option("--url", required=True, help="The server, as http://127.0.0.1:8080.")
@click.option("--stream/--plain", default=False, show_default=True)
@click.option("--concurrency", default=16, show_default=True, type=click.IntRange(1, MAX_CALLERS))
@click.option("--pieces", default=1, show_default=True, type=click.IntRange(1, MAX_PIECES))
@click.option("--frames-per-packet", default=1, show_default=True, type=click.IntRange(1, 1000))
@click.option("--warmup", default=1.0, show_default=True, help="Seconds before counting.")
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1, 3600))
@click.option("--server-pid", type=int, help="Also count this process's CPU time.")
@click.option("--core", type=int, help="Run on this core alone.")
def main(
    url: str,
    stream: bool,
    concurrency: int,
    pieces: int,
    frames_per_packet: int,
    warmup: float,
    seconds: float,
    server_pid: int | None,
    core: int | None,
) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    plan = Plan(url, stream, concurrency, pieces, frames_per_packet, warmup, seconds, server_pid)
    # A collection here would show up as the server's latency; nothing below makes cycles.
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(
            run(plan, os.environ.get("BENCH_KEY", ""), os.environ.get("BENCH_TOKEN", ""))
        )
    print(msgspec.json.encode(report).decode())
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
