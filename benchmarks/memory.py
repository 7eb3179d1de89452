"""Memory under load: requests and streams in turns for as long as you like, and how the hub's memory goes.

After the first five minutes it should be flat: the growth from there on is fitted by a line.
"""

import asyncio
import os
import statistics
import sys
from time import perf_counter

import click

from benchmarks.bench import Hub, fact, run, verdict

SAMPLE_S = 1.0
MOST_GROWTH = 0.02
"""Of the hub's memory, in an hour or in the whole time measured, whichever is more."""
TURN_S = 5.0


async def load(served: Hub, *what: str) -> None:
    """One turn of the load. Raises RuntimeError for wrong answers."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load", "--url", served.url, *what),
        *("--warmup", "0.1", "--seconds", str(TURN_S)),
        env={**os.environ, "BENCH_KEY": served.key, "BENCH_TOKEN": served.token},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(said.decode())


async def keep_loading(served: Hub, until: float) -> None:
    while perf_counter() < until:
        await load(served, "--plain", "--concurrency", "32", "--pieces", "1")
        await load(served, "--stream", "--concurrency", "16", "--pieces", "200")


async def sample(served: Hub, samples: list[tuple[float, float]]) -> None:
    """Note the memory every second, until cancelled."""
    began = perf_counter()
    while True:
        samples.append((perf_counter() - began, served.rss_bytes))
        await asyncio.sleep(SAMPLE_S)


async def measure(served: Hub, seconds: float, settle: float) -> bool:
    """Whether memory is flat once it has settled."""
    samples: list[tuple[float, float]] = []
    sampling = asyncio.create_task(sample(served, samples))
    await keep_loading(served, perf_counter() + settle + seconds)
    sampling.cancel()
    settled = [(when, rss) for when, rss in samples if when >= settle]
    times, sizes = zip(*settled, strict=True)
    slope = statistics.linear_regression(times, sizes).slope
    growth = slope * (times[-1] - times[0]) / sizes[0]
    fact("memory before, settled, in the end", _megabytes(samples[0][1], sizes[0], sizes[-1]))
    fact("most", _megabytes(max(sizes)))
    fact("growth by the hour, if it went on", f"{slope * 3600 / 1e6:+.1f} MB")
    return verdict(
        f"growth over {times[-1] - times[0]:.0f} s",
        f"{growth:+.2%}",
        "<= 2 %",
        growth <= MOST_GROWTH,
    )


def _megabytes(*sizes: float) -> str:
    return ", ".join(f"{size / 1e6:.1f}" for size in sizes) + " MB"


@click.command(help=__doc__)
@click.option("--seconds", default=3_300.0, show_default=True, help="How long to measure.")
@click.option("--settle", default=300.0, show_default=True, help="And how long before that.")
def main(seconds: float, settle: float) -> None:
    run(lambda served: measure(served, seconds, settle))


if __name__ == "__main__":
    main()
