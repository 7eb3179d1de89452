"""Paced streams: 512 answers at once, each at 20 pieces a second, as sites send them.

Every piece is numbered, and checked on arrival: none may be missing, doubled or out of order, and fewer than one
in a hundred may come later than 100 ms after its worker sent it.
"""

import asyncio
import re
from time import perf_counter

import click
import orjson

from benchmarks.bench import Busy, Hub, connected, fact, percentile, request_bytes, run, verdict
from benchmarks.load import Script, Tally, Worker

CONTENT = re.compile(rb'"content":\s*"([^"\\]*)"')
LATE_S = 0.1
MOST_LATE = 0.01


class PacedWorker(Worker):
    """Sends each answer's pieces at a steady pace, every answer at times of its own."""

    def __init__(self, host: str, token: str, tally: Tally, pieces: int, rate: float) -> None:
        super().__init__(host, token, Script(1, 1), tally)
        self.loop = asyncio.get_running_loop()
        self._pieces = pieces
        self._pause_s = 1 / rate
        self.sent: dict[tuple[int, int], float] = {}
        """When a piece left: by the caller's number and the piece's."""

    def _take_frame(self, frame: dict) -> None:
        if frame["t"] != "job":
            super()._take_frame(frame)
            return
        caller = int(frame["body"]["messages"][-1]["content"])
        job = frame["job"]
        self._transport.write(self._packet(orjson.dumps({"t": "started", "job": job}), 1))
        # Spread over the pause, so that they do not all come in one moment.
        first = self.loop.time() + self._pause_s * (caller % 64) / 64
        self.loop.call_at(first, self._next, job, caller, 0, first)

    def _next(self, job: str, caller: int, number: int, due: float) -> None:
        if number == self._pieces:
            end = {"t": "end", "job": job, "finish_reason": "stop"}
            self._transport.write(self._packet(orjson.dumps(end), 1))
            return
        piece = {"t": "piece", "job": job, "text": f"{caller}.{number} "}
        self.sent[caller, number] = perf_counter()
        self._transport.write(self._packet(orjson.dumps(piece), 1))
        due += self._pause_s
        self.loop.call_at(due, self._next, job, caller, number + 1, due)


class Reader(asyncio.Protocol):
    """What one caller reads, piece by piece, with the time of each."""

    def __init__(self, number: int, served: Hub) -> None:
        self.number = number
        self.numbers: list[int] = []
        self.times: list[float] = []
        self.over = asyncio.Event()
        self._request = request_bytes(served, str(number))
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = perf_counter()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                self._take(line, now)
            elif line.startswith(b"data: [DONE]"):
                self.over.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self.over.set()

    def _take(self, line: bytes, now: float) -> None:
        for word in b"".join(CONTENT.findall(line)).split():
            caller, _, number = word.partition(b".")
            # A word of another caller's is none of this answer's numbers.
            self.numbers.append(int(number) if int(caller) == self.number else -1)
            self.times.append(now)


async def measure(served: Hub, streams: int, rate: float, seconds: float) -> bool:
    """Whether the targets are met."""
    tally, pieces = Tally(), round(rate * seconds)
    worker = await connected(
        served, lambda host, token, tally: PacedWorker(host, token, tally, pieces, rate), tally
    )
    assert isinstance(worker, PacedWorker)
    readers = [Reader(number, served) for number in range(streams)]
    busy = Busy(served)
    for reader in readers:
        await worker.loop.create_connection(lambda reader=reader: reader, *served.address)
    for reader in readers:
        await reader.over.wait()
    busy.tell()
    worker.leave()
    delays = [
        came - worker.sent[reader.number, number]
        for reader in readers
        for number, came in zip(reader.numbers, reader.times, strict=True)
        if number >= 0
    ]
    missing = sum(len(set(range(pieces)) - set(reader.numbers)) for reader in readers)
    doubled = sum(len(reader.numbers) - len(set(reader.numbers)) for reader in readers)
    misplaced = sum(reader.numbers != sorted(reader.numbers) for reader in readers)
    late = sum(delay > LATE_S for delay in delays) / max(1, len(delays))
    fact("streams, pieces a second each", f"{streams} x {rate:g}")
    fact("pieces sent", f"{streams * pieces:,}")
    fact(
        "delay p50, p99",
        f"{percentile(delays, 0.5) * 1e3:.1f}, {percentile(delays, 0.99) * 1e3:.1f} ms",
    )
    fact("delay of the latest", f"{max(delays, default=0) * 1e3:.0f} ms")
    fact("worker's complaints", str(dict(tally.problems) or "none"))
    return all(
        [
            verdict("missing", str(missing), "none", not missing),
            verdict("doubled", str(doubled), "none", not doubled),
            verdict("answers out of order", str(misplaced), "none", not misplaced),
            verdict("later than 100 ms", f"{late:.3%}", "< 1 %", late < MOST_LATE),
        ]
    )


@click.command(help=__doc__)
@click.option("--streams", default=512, show_default=True, type=click.IntRange(1, 600))
@click.option("--rate", default=20.0, show_default=True, help="Pieces a second of each.")
@click.option("--seconds", default=20.0, show_default=True, help="How long an answer lasts.")
def main(streams: int, rate: float, seconds: float) -> None:
    run(lambda served: measure(served, streams, rate, seconds))


if __name__ == "__main__":
    main()
