"""What a pick costs: whose turn it is among many workers of one model, in the hub's own objects.

No sockets: this is the decision alone, between "a request is written down" and "a worker gets its frame".
"""

import asyncio
import sys
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import click
import rich
from rich.table import Table

from hub.live.feed import Feed
from hub.live.gate import Reservation
from hub.live.jobs import Job
from hub.live.workers import Roster, Worker
from hub.protocol import Close, Hello, Model
from hub.rules.tiers import NO_LIMITS
from hub.rules.tokens import Count
from hub.settings import Settings
from hub.store.keys import Caller, Key, Scopes
from hub.store.worker_tokens import WorkerToken

TARGET_US = 200.0
MODEL = "bench"


class Nowhere:
    """A link whose other end reads everything at once."""

    polling = False

    def wake(self) -> None:
        pass

    def close(self, code: Close, reason: str) -> None:
        pass


class Desk:
    """A dispatcher without a line: a worker that has a slot again takes turns again."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def freed(self, worker: Worker) -> None:
        self._roster.rota.back(worker)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Stage:
    """A roster with so many workers, and jobs to give them."""

    def __init__(self, workers: int, weights: int) -> None:
        self.roster = Roster(Settings(), Feed(), {})
        self.desk = Desk(self.roster)
        token = WorkerToken("t", "t", "t", None, None, True, [], None, False, 0, None)
        key = Key("k", "k", "k", None, Scopes(), NO_LIMITS, False, 0, None, None, "k")
        self.caller = Caller(key, None)
        self.jobs = 0
        for number in range(workers):
            name = f"w{number}"
            hello = Hello(1, name, name, "agent", "1", 1, [Model(MODEL, features=["history"])])
            self.roster.admit(hello, token, Nowhere(), self.desk)  # type: ignore[arg-type]
            self.roster.set_weight("t", name, 1 + number % weights)

    def job(self) -> Job:
        self.jobs += 1
        return Job(
            loop=asyncio.get_running_loop(),
            id=f"j{self.jobs}",
            caller=self.caller,
            reservation=Reservation("", [], 0, 0, 0.0, 0, 0),
            kind="chat",
            model=MODEL,
            body=b"{}",
            needs=frozenset(),
            stream=False,
            accepted=time.monotonic(),
            accepted_at=0,
            max_pending=0,
            prompt=Count(0),
        )

    def all_in_turn(self, job: Job) -> Worker | None:
        """The plain way, for comparison: look at every worker."""
        now = time.monotonic()
        return max(
            (worker for worker in self.roster.offering(MODEL) if worker.can_take(job, now)),
            key=lambda worker: worker.heard,
            default=None,
        )

    def pick(self, job: Job) -> Worker | None:
        return self.roster.pick(job, time.monotonic())


def timed(what: Callable[[], Any], number: int) -> list[float]:
    """Microseconds of each of so many calls."""
    took = []
    for _ in range(number):
        start = time.perf_counter_ns()
        what()
        took.append((time.perf_counter_ns() - start) / 1000)
    return took


def measures(workers: int, picks: int) -> dict[str, list[float]]:
    """Microseconds of every pick, by workload."""
    results = {}
    stage = Stage(workers, weights=5)
    job = stage.job()
    results[f"all of {workers:,} looked at, for comparison"] = timed(
        lambda: stage.all_in_turn(job), picks // 10
    )
    results[f"a pick among {workers:,} ready"] = timed(lambda: stage.pick(job), picks)

    def give_and_take() -> None:
        job = stage.job()
        worker = stage.pick(job)
        assert worker is not None
        worker.offer(job)
        worker.release(job)

    results["pick, offer, release"] = timed(give_and_take, picks)
    busy = [stage.job() for _ in range(workers * 9 // 10)]
    for taken in busy:
        worker = stage.pick(taken)
        assert worker is not None
        worker.offer(taken)
    results["a pick with nine of ten busy"] = timed(lambda: stage.pick(job), picks)
    results["pick, offer, release with nine of ten busy"] = timed(give_and_take, picks)
    return results


def show(results: dict[str, list[float]]) -> bool:
    """Print a table; whether the target was met."""
    table = Table("", "median", "p99", "longest")
    for name, took in results.items():
        p99 = quantiles(took, n=100)[98]
        table.add_row(name, f"{median(took):.1f} µs", f"{p99:.1f} µs", f"{max(took):.0f} µs")
    rich.print(table)
    (picking,) = (took for name, took in results.items() if name.endswith("ready"))
    met = median(picking) <= TARGET_US
    rich.print(
        f"target: a pick among the ready <= {TARGET_US:.0f} µs: {'met' if met else 'missed'}"
    )
    return met


@click.command(help=__doc__)
@click.option("--workers", default=1000, show_default=True, type=click.IntRange(10))
@click.option("--picks", default=20_000, show_default=True, type=click.IntRange(100))
def main(workers: int, picks: int) -> None:
    async def run() -> bool:
        return show(measures(workers, picks))

    sys.exit(0 if asyncio.run(run()) else 1)


if __name__ == "__main__":
    main()
