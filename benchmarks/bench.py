"""What the benchmarks of one hub alone share: a hub on a core of its own, its memory and CPU, and verdicts."""

import asyncio
import contextlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlsplit

import orjson
import uvloop

from benchmarks.load import MODEL, Tally, Worker, cpu_s, kept_waiting_s
from benchmarks.relay import hub_subject, pinned, running, two_cores


class Hub(NamedTuple):
    """A running hub."""

    url: str
    pid: int
    key: str
    token: str

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    @property
    def rss_bytes(self) -> int:
        """Its resident memory, from /proc."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self.pid)


class Busy:
    """How busy hub and load were since this was made, and how long their main threads were kept waiting."""

    def __init__(self, served: Hub) -> None:
        self._served = served
        self._began = self._read()

    def _read(self) -> tuple[float, ...]:
        pids = (self._served.pid, os.getpid())
        return (perf_counter(), *map(cpu_s, pids), *map(kept_waiting_s, pids))

    @property
    def hub(self) -> float:
        """The hub's CPU time as a share of one core."""
        began, now = self._began, self._read()
        return (now[1] - began[1]) / (now[0] - began[0])

    def tell(self) -> None:
        """Print it. A main thread that was kept waiting had a neighbour: then run again."""
        wall, *spent = (now - then for now, then in zip(self._read(), self._began, strict=True))
        hub, load, hub_waited, load_waited = (each / wall for each in spent)
        fact("CPU: hub, load", f"{hub:.1%}, {load:.1%}")
        fact("kept waiting: hub, load", f"{hub_waited:.1%}, {load_waited:.1%}")


@contextlib.contextmanager
def hub() -> Iterator[Hub]:
    """A hub with everything on and default settings, on one core; this process is on another meanwhile."""
    server_core, load_core = two_cores()
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as home:
        subject = hub_subject(Path(home), None)
        with running(subject, server_core) as (url, pid), pinned(load_core):
            yield Hub(url, pid, subject.key, subject.token)


def many_files() -> int:
    """Allow this process, and those it starts, as many open files as it may have; how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def run(work: Callable[[Hub], Awaitable[bool]]) -> None:
    """Do this with a hub, and exit: 0 if it says that its targets are met, 1 if not."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with hub() as served, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        met = runner.run(_awaited(work(served)))
    sys.exit(0 if met else 1)


async def _awaited(work: Awaitable[bool]) -> bool:
    return await work


def verdict(name: str, figure: str, target: str, met: bool) -> bool:
    """Print a figure beside its target; whether that is met."""
    print(f"{name:<44} {figure:>16}   {target:<12} {'met' if met else 'MISSED'}")
    return met


def fact(name: str, figure: str) -> None:
    """Print a figure that has no target."""
    print(f"{name:<44} {figure:>16}")


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def request_bytes(served: Hub, prompt: str) -> bytes:
    """A streamed chat completion, as it goes over the wire."""
    message = {"role": "user", "content": prompt}
    body = orjson.dumps({"model": MODEL, "stream": True, "messages": [message]})
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (served.key.encode(), len(body), body)
    )


async def connected(
    served: Hub, worker: Callable[[str, str, Tally], Worker], tally: Tally
) -> Worker:
    """A worker that has been welcomed."""
    host, port = served.address
    _, made = await asyncio.get_running_loop().create_connection(
        lambda: worker(f"{host}:{port}", served.token, tally), host, port
    )
    await made.welcomed
    return made
