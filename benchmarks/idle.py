"""Ten thousand workers that wait: how much memory each takes in the hub, and how busy they keep it.

The figure includes everything that the hub keeps of a worker: its session, its socket's buffers, its timers. The
workers answer pings. Both processes need as many open files as there are workers.
"""

import asyncio
from time import perf_counter

import click
import orjson

from benchmarks.bench import Busy, Hub, fact, many_files, run, verdict
from benchmarks.load import MODEL, Script, Tally, Worker, masked

MOST_BYTES = 25_000
MOST_CPU = 0.05
AT_ONCE = 100
"""Workers that connect at the same time."""
SETTLE_S = 3.0
SPARE_FILES = 200


class IdleWorker(Worker):
    """Says hello under a name of its own, and then only answers pings."""

    script = Script(1, 1)
    count = 0

    def __init__(self, host: str, token: str, tally: Tally) -> None:
        super().__init__(host, token, self.script, tally)

    def _receive_upgrade(self) -> None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 101"):
            self._fail("worker refused", head.decode(errors="replace"))
            return
        IdleWorker.count += 1
        card = {
            "protocol": 1,
            "token": self._token,
            "worker": f"idle-{IdleWorker.count}",
            "name": f"idle {IdleWorker.count}",
            "kind": "userscript",
            "version": "1",
            "slots": 1,
            "models": [{"id": MODEL}],
        }
        self._transport.write(masked(orjson.dumps({"hello": card})))
        self._receive = self._receive_frames
        self._buffer = rest
        self._receive()


async def connect(served: Hub, count: int, tally: Tally) -> list[IdleWorker]:
    """So many workers, all welcomed."""
    host, port = served.address
    loop, workers = asyncio.get_running_loop(), []
    for start in range(0, count, AT_ONCE):
        batch = [
            (
                await loop.create_connection(
                    lambda: IdleWorker(f"{host}:{port}", served.token, tally), host, port
                )
            )[1]
            for _ in range(min(AT_ONCE, count - start))
        ]
        await asyncio.gather(*[worker.welcomed for worker in batch])
        workers += batch
    return workers


async def measure(served: Hub, count: int, seconds: float) -> bool:
    """Whether the targets are met."""
    tally = Tally()
    # The first ones bring in code and caches that are there once, however many follow.
    await connect(served, AT_ONCE, tally)
    await asyncio.sleep(SETTLE_S)
    before, began = served.rss_bytes, perf_counter()
    await connect(served, count, tally)
    took = perf_counter() - began
    await asyncio.sleep(SETTLE_S)
    each = (served.rss_bytes - before) / count
    waiting = Busy(served)
    await asyncio.sleep(seconds)
    waiting.tell()
    busy = waiting.hub
    fact("workers", f"{count:,}")
    fact("connected a second", f"{count / took:,.0f}")
    fact("hub's memory", f"{served.rss_bytes / 1e6:.0f} MB")
    fact("workers' complaints", str(dict(tally.problems) or "none"))
    return all(
        [
            verdict("memory of each", f"{each / 1e3:.1f} KB", "<= 25 KB", each <= MOST_BYTES),
            verdict("CPU while all wait", f"{busy:.1%}", "< 5 %", busy < MOST_CPU),
            verdict("lost", str(tally.problems.total()), "none", not tally.problems),
        ]
    )


@click.command(help=__doc__)
@click.option("--workers", default=10_000, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--seconds", default=40.0, show_default=True, help="The hub pings every 20.")
def main(workers: int, seconds: float) -> None:
    files = many_files()
    if files < workers + AT_ONCE + SPARE_FILES:
        raise click.ClickException(f"{files} open files are allowed: see `ulimit -Hn`")
    run(lambda served: measure(served, workers, seconds))


if __name__ == "__main__":
    main()
