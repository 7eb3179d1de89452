"""A caller leaves in mid-answer: how long until its worker hears `cancel`.

Callers read a first piece, and close their connection; the worker notes when `cancel` comes. Both are in one
process, so that there is one clock.
"""

import asyncio
from time import perf_counter

import click
import orjson

from benchmarks.bench import Busy, Hub, connected, fact, percentile, request_bytes, run, verdict
from benchmarks.load import Script, Tally, Worker

MOST_S = 0.1
PATIENCE_S = 15.0


class WaitingWorker(Worker):
    """Says one piece of each answer, and waits for its end."""

    def __init__(self, host: str, token: str, tally: Tally) -> None:
        super().__init__(host, token, Script(1, 1), tally)
        self._callers: dict[str, int] = {}
        self.cancelled: dict[int, asyncio.Future[float]] = {}
        """When it heard `cancel`, by the caller's number."""

    def _take_frame(self, frame: dict) -> None:
        if frame["t"] == "job":
            number = int(frame["body"]["messages"][-1]["content"])
            self._callers[frame["job"]] = number
            piece = {"t": "piece", "job": frame["job"], "text": "first"}
            self._transport.write(self._packet(orjson.dumps(piece), 1))
        elif frame["t"] == "cancel":
            self.cancelled[self._callers.pop(frame["job"])].set_result(perf_counter())
        else:
            super()._take_frame(frame)


async def leave(served: Hub, worker: WaitingWorker, number: int) -> float:
    """Ask, read the first piece and leave; seconds until the worker knew."""
    worker.cancelled[number] = asyncio.get_running_loop().create_future()
    reader, writer = await asyncio.open_connection(*served.address)
    writer.write(request_bytes(served, str(number)))
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b'"first"')
        left = perf_counter()
        writer.transport.abort()
        return await worker.cancelled[number] - left


async def measure(served: Hub, callers: int, times: int) -> bool:
    """Whether the target is met."""
    tally = Tally()
    worker = await connected(served, WaitingWorker, tally)
    assert isinstance(worker, WaitingWorker)

    async def keep_leaving(first: int) -> list[float]:
        return [await leave(served, worker, first + number) for number in range(times)]

    await leave(served, worker, -1)
    busy = Busy(served)
    found = await asyncio.gather(*[keep_leaving(times * caller) for caller in range(callers)])
    busy.tell()
    worker.leave()
    took = [seconds for each in found for seconds in each]
    p99 = percentile(took, 0.99)
    fact("callers at once, times each", f"{callers} x {times}")
    fact("p50", f"{percentile(took, 0.5) * 1e3:.2f} ms")
    fact("the longest", f"{max(took) * 1e3:.1f} ms")
    return verdict("p99", f"{p99 * 1e3:.2f} ms", "<= 100 ms", p99 <= MOST_S)


@click.command(help=__doc__)
@click.option("--callers", default=32, show_default=True, type=click.IntRange(1, 500))
@click.option("--times", default=50, show_default=True, type=click.IntRange(1, 10_000))
def main(callers: int, times: int) -> None:
    run(lambda served: measure(served, callers, times))


if __name__ == "__main__":
    main()
