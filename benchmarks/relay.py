"""The hub against the floor, in one run: plain requests, added latency, streaming.

The two take turns, several rounds of each; the server has one core to itself and the load another. Exits 1 when
a target is missed, 2 when an answer was wrong or the server could not be measured.
"""

import contextlib
import http.client
import os
import pstats
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.load import Report

ROOT = Path(__file__).resolve().parent.parent
HUB = Path(sys.executable).with_name("lmarena-hub")
HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 60.0
LOAD_SLACK_S = 60.0
BUSY = 0.9
KEPT_WAITING = 0.05
PROFILE_LINES = 30


class Trouble(Exception):
    """Nothing can be measured; the message says why."""


# --- what is measured --------------------------------------------------------------------------------


class Workload(NamedTuple):
    name: str
    stream: bool
    concurrency: int
    pieces: int


PLAIN = Workload("plain, 32 at once", False, 32, 1)
LATENCY = Workload("plain, 1 at once", False, 1, 1)
STREAM = Workload("stream, 16 x 200 pieces", True, 16, 200)
WORKLOADS = (PLAIN, LATENCY, STREAM)


class Measure(NamedTuple):
    """One figure of a workload; compared as a ratio (higher is better), or as a difference in ms."""

    workload: Workload
    name: str
    read: Callable[[Report], float]
    difference: bool = False
    target: float | None = None
    per_cpu_s: Callable[[Report], float] | None = None
    """The same for a second of CPU time, which a neighbour on the core spoils less."""

    def compare(self, floor: float, hub: float) -> float:
        return hub - floor if self.difference else hub / floor if floor else 0.0

    def is_met(self, compared: float) -> bool:
        if self.target is None:
            return True
        return compared <= self.target if self.difference else compared >= self.target


def requests_per_s(report: Report) -> float:
    return report.requests / report.seconds


def pieces_per_s(report: Report) -> float:
    return report.pieces / report.seconds


def requests_per_cpu_s(report: Report) -> float:
    return report.requests / report.server_cpu_s if report.server_cpu_s else 0.0


def pieces_per_cpu_s(report: Report) -> float:
    return report.pieces / report.server_cpu_s if report.server_cpu_s else 0.0


def server_busy(report: Report) -> float:
    return (report.server_cpu_s or 0.0) / report.seconds


def kept_waiting(report: Report) -> float:
    return (report.server_kept_waiting_s or 0.0) / report.seconds


def load_busy(report: Report) -> float:
    return report.load_cpu_s / report.seconds


MEASURES = (
    Measure(PLAIN, "requests/s", requests_per_s, target=0.5, per_cpu_s=requests_per_cpu_s),
    Measure(PLAIN, "requests per CPU second", requests_per_cpu_s),
    Measure(LATENCY, "p50 ms", lambda report: report.p50_ms, difference=True, target=0.7),
    Measure(LATENCY, "p99 ms", lambda report: report.p99_ms, difference=True),
    Measure(LATENCY, "requests per CPU second", requests_per_cpu_s),
    Measure(STREAM, "pieces/s", pieces_per_s, target=1.0, per_cpu_s=pieces_per_cpu_s),
    Measure(STREAM, "pieces per CPU second", pieces_per_cpu_s),
)


# --- the servers -------------------------------------------------------------------------------------


class Subject(NamedTuple):
    """A server to be measured: how to start it, and the secrets it knows."""

    name: str
    command: list[str]
    """Without the port, which is added for each start."""
    directory: Path
    key: str = "none"
    token: str = "none"

    def profiled(self, output: Path) -> "Subject":
        """The same under cProfile, which writes when the server is asked to stop."""
        interpreter, *rest = self.command
        return self._replace(command=[interpreter, "-m", "cProfile", "-o", str(output), *rest])


def floor_subject(name: str) -> Subject:
    command = [sys.executable, "-m", "benchmarks.floor", "--host", HOST]
    return Subject(name, command, ROOT)


def hub_subject(home: Path, settings: Path | None) -> Subject:
    """The hub as a user would set it up, in an empty directory."""
    if not HUB.exists():
        raise Trouble(
            f"no {HUB.name} next to {Path(sys.executable).name}: install the project first"
        )
    if settings is not None:
        shutil.copy(settings, home / "hub.toml")
    data = home / "data"
    return Subject(
        "hub",
        [sys.executable, str(HUB), "serve", "--host", HOST, "--data", str(data)],
        home,
        key=made("key", home, data),
        token=made("worker-token", home, data),
    )


def made(what: str, home: Path, data: Path) -> str:
    """A new secret, which the hub's command line prints alone."""
    command = [str(HUB), what, "create", "--name", "bench", "--data", str(data)]
    done = subprocess.run(
        command,
        cwd=home,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise Trouble(f"{HUB.name} {what} create failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def environment(**more: str) -> dict[str, str]:
    """Ours without what would configure a hub: a run measures the defaults."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return {**inherited, **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes started inside inherit the core, so that not even their first thread runs elsewhere."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(subject: Subject, core: int) -> Iterator[tuple[str, int]]:
    """The server's address and process id, while it runs."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        with pinned(core):
            process = subprocess.Popen(
                [*subject.command, "--port", str(port)],
                cwd=subject.directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until_healthy(process, port)
            yield f"http://{HOST}:{port}", process.pid
        except Trouble as trouble:
            log.seek(0)
            said = log.read()[-2000:].decode(errors="replace")
            raise Trouble(f"{subject.name}: {trouble}\n{said}") from None
        finally:
            stop(process)


def wait_until_healthy(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Trouble(f"ended with {process.returncode} before it was ready")
        if is_healthy(port):
            return
        time.sleep(0.05)
    raise Trouble(f"not ready within {START_TIMEOUT_S:.0f} s")


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- measuring ---------------------------------------------------------------------------------------


class Options(NamedTuple):
    rounds: int
    seconds: float
    warmup: float
    frames_per_packet: int
    server_core: int
    load_core: int


def measure(subject: Subject, workload: Workload, url: str, pid: int, options: Options) -> Report:
    command = [sys.executable, "-m", "benchmarks.load", "--url", url]
    command += ["--stream" if workload.stream else "--plain"]
    command += ["--concurrency", str(workload.concurrency), "--pieces", str(workload.pieces)]
    command += ["--frames-per-packet", str(options.frames_per_packet)]
    command += ["--warmup", str(options.warmup), "--seconds", str(options.seconds)]
    command += ["--server-pid", str(pid)]
    with pinned(options.load_core):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(BENCH_KEY=subject.key, BENCH_TOKEN=subject.token),
            capture_output=True,
            text=True,
            timeout=options.warmup + options.seconds + LOAD_SLACK_S,
            check=False,
        )
    if not done.stdout:
        raise Trouble(f"the load failed: {done.stderr.strip().splitlines()[-1:]}")
    return msgspec.json.decode(done.stdout, type=Report)


Reports = dict[str, dict[str, list[Report]]]
"""By the subject's name, then by the workload's, one of each round."""


def take_turns(
    subjects: list[Subject], workloads: list[Workload], options: Options, console: Console
) -> Reports:
    reports: Reports = {
        subject.name: {workload.name: [] for workload in workloads} for subject in subjects
    }
    for turn in range(options.rounds):
        for subject in subjects:
            with running(subject, options.server_core) as (url, pid):
                for workload in workloads:
                    console.print(f"round {turn + 1}: {subject.name}, {workload.name}", style="dim")
                    report = measure(subject, workload, url, pid, options)
                    reports[subject.name][workload.name].append(report)
    return reports


# --- results -----------------------------------------------------------------------------------------


class Spread(msgspec.Struct):
    median: float
    low: float
    high: float


class Result(msgspec.Struct):
    """One measure of both servers; `compared` is a ratio or, in ms, a difference, taken round by round."""

    workload: str
    measure: str
    floor: Spread
    hub: Spread
    compared: Spread
    target: float | None
    met: bool | None
    unit: str


def spread(values: list[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def compare(
    measure: Measure, read: Callable[[Report], float], floor: list[Report], hub: list[Report]
) -> Spread:
    rounds = zip(floor, hub, strict=True)
    return spread([measure.compare(read(one), read(other)) for one, other in rounds])


def verdict(
    measure: Measure, compared: Spread, floor: list[Report], hub: list[Report]
) -> bool | None:
    """Whether the target is met, by the clock and by CPU time: either alone can flatter."""
    if measure.target is None:
        return None
    met = measure.is_met(compared.median)
    if measure.per_cpu_s is None:
        return met
    return met and measure.is_met(compare(measure, measure.per_cpu_s, floor, hub).median)


def result_of(measure: Measure, floor: list[Report], hub: list[Report]) -> Result:
    compared = compare(measure, measure.read, floor, hub)
    return Result(
        workload=measure.workload.name,
        measure=measure.name,
        floor=spread([measure.read(report) for report in floor]),
        hub=spread([measure.read(report) for report in hub]),
        compared=compared,
        target=measure.target,
        met=verdict(measure, compared, floor, hub),
        unit="ms" if measure.difference else "ratio",
    )


def results_of(reports: Reports, names: tuple[str, str]) -> list[Result]:
    floor, hub = (reports[name] for name in names)
    return [
        result_of(measure, floor[measure.workload.name], hub[measure.workload.name])
        for measure in MEASURES
        if measure.workload.name in floor
    ]


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}"


def cell(values: Spread) -> str:
    return f"{figure(values.median)} [dim]({figure(values.low)} to {figure(values.high)})[/]"


def compared_cell(result: Result) -> str:
    values = result.compared
    if result.unit == "ms":
        return f"{values.median:+.3f} ms [dim]({values.low:+.3f} to {values.high:+.3f})[/]"
    return f"x {values.median:.2f} [dim]({values.low:.2f} to {values.high:.2f})[/]"


def target_cell(result: Result) -> str:
    if result.target is None:
        return ""
    wanted = f"<= +{result.target} ms" if result.unit == "ms" else f">= {result.target}"
    return f"[green]{wanted} met[/]" if result.met else f"[red]{wanted} missed[/]"


def figures_table(results: list[Result], names: tuple[str, str], options: Options) -> Table:
    table = Table(
        title=f"{names[1]} against {names[0]}: median (lowest to highest) of {options.rounds} rounds "
        f"of {options.seconds:g} s, {options.frames_per_packet} frame(s) a packet"
    )
    for heading in ("workload", "measure"):
        table.add_column(heading)
    for heading in (*names, "compared"):
        table.add_column(heading, justify="right")
    table.add_column("target")
    shown = ""
    for result in results:
        first = result.workload if result.workload != shown else ""
        shown = result.workload
        row = (cell(result.floor), cell(result.hub), compared_cell(result), target_cell(result))
        table.add_row(first, result.measure, *row)
    return table


def cpu_table(reports: Reports) -> Table:
    table = Table(title="who was busy, and what a request and a piece cost the server (medians)")
    for heading in ("workload", "server"):
        table.add_column(heading)
    for heading in ("server busy", "kept waiting", "load busy", "CPU us/request", "CPU us/piece"):
        table.add_column(heading, justify="right")
    for workload in next(iter(reports.values())):
        for name, by_workload in reports.items():
            table.add_row(workload, name, *cpu_cells(by_workload[workload]))
    return table


def cpu_cells(reports: list[Report]) -> list[str]:
    def median(read: Callable[[Report], float]) -> float:
        return statistics.median(read(report) for report in reports)

    return [
        f"{median(server_busy):.0%}",
        f"{median(kept_waiting):.0%}",
        f"{median(load_busy):.0%}",
        f"{1e6 / max(median(requests_per_cpu_s), 1e-9):,.1f}",
        f"{1e6 / max(median(pieces_per_cpu_s), 1e-9):,.2f}",
    ]


def warnings(reports: Reports) -> Iterator[str]:
    """What makes a figure unfit to be believed."""
    for name, by_workload in reports.items():
        for workload, rounds in by_workload.items():
            for report in rounds:
                if report.problems:
                    said = "; ".join(report.examples)
                    yield f"{name}, {workload}: WRONG ANSWERS {report.problems} ({said})"
            # The hub's own threads keep its main thread waiting; the floor has only neighbours.
            if name == "floor" and max(map(kept_waiting, rounds)) > KEPT_WAITING:
                yield f"{name}, {workload}: a neighbour was on the core; run this again"
            if workload != LATENCY.name and statistics.median(map(server_busy, rounds)) < BUSY:
                yield f"{name}, {workload}: the server had time to spare; go by the CPU figures"


def are_right(reports: Reports) -> bool:
    rounds = [rounds for by_workload in reports.values() for rounds in by_workload.values()]
    return not any(report.problems or not report.requests for each in rounds for report in each)


# --- profiles ----------------------------------------------------------------------------------------


def profile(
    subject: Subject,
    workloads: list[Workload],
    options: Options,
    directory: Path,
    console: Console,
) -> None:
    """One profile for each workload; the figures of such a run mean nothing and are not shown."""
    directory.mkdir(parents=True, exist_ok=True)
    for workload in workloads:
        name = f"{subject.name} {workload.name}".replace(",", "").replace(" ", "-")
        output = directory.resolve() / f"{name}.pstats"
        with running(subject.profiled(output), options.server_core) as (url, pid):
            report = measure(subject, workload, url, pid, options)
        console.rule(
            f"{subject.name}, {workload.name}: {report.requests} requests -> {output.name}"
        )
        if report.problems:
            console.print(f"{report.problems} {report.examples}", style="red")
        if not output.exists():
            raise Trouble("the server did not end by itself, so there is no profile")
        pstats.Stats(str(output)).sort_stats("tottime").print_stats(PROFILE_LINES)


# --- the command -------------------------------------------------------------------------------------


def two_cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise click.ClickException("two cores are needed: one for the server, one for the load")
    return cores[0], cores[1]


def save(path: Path, options: Options, results: list[Result], reports: Reports) -> None:
    whole = {"options": options._asdict(), "results": results, "reports": reports}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")


@click.command(help=__doc__)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 100))
@click.option("--seconds", default=4.0, show_default=True, type=click.FloatRange(0.1, 600))
@click.option("--warmup", default=1.0, show_default=True, type=click.FloatRange(0.1, 60))
@click.option("--frames-per-packet", default=1, show_default=True, type=click.IntRange(1, 1000))
@click.option(
    "--only",
    type=click.Choice(["plain", "latency", "stream"]),
    multiple=True,
    help="Only this workload; may be repeated.",
)
@click.option("--against", type=click.Choice(["hub", "floor"]), default="hub", show_default=True)
@click.option("--settings", type=click.Path(path_type=Path, exists=True), help="A hub.toml to use.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write all figures here."
)
@click.option(
    "--profile",
    "profile_path",
    type=click.Path(path_type=Path),
    help="Do not compare: run the hub under cProfile and write the profiles into this directory.",
)
def main(
    rounds: int,
    seconds: float,
    warmup: float,
    frames_per_packet: int,
    only: tuple[str, ...],
    against: str,
    settings: Path | None,
    json_path: Path | None,
    profile_path: Path | None,
) -> None:
    # Ends through the `finally`s, so that no server is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = Options(rounds, seconds, warmup, frames_per_packet, *two_cores())
    named = dict(zip(("plain", "latency", "stream"), WORKLOADS, strict=True))
    workloads = [named[name] for name in named if not only or name in only]
    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as home:
            hub = floor_subject("floor again")
            if against == "hub":
                hub = hub_subject(Path(home), settings)
            if profile_path is not None:
                profile(hub, workloads, options, profile_path, console)
                return
            subjects = [floor_subject("floor"), hub]
            reports = take_turns(subjects, workloads, options, console)
    except (Trouble, subprocess.TimeoutExpired) as trouble:
        console.print(str(trouble), style="red", markup=False)
        sys.exit(2)
    names = ("floor", hub.name)
    results = results_of(reports, names)
    console.print(figures_table(results, names, options))
    console.print(cpu_table(reports))
    for warning in warnings(reports):
        console.print(warning, style="red", markup=False)
    if json_path is not None:
        save(json_path, options, results, reports)
    if not are_right(reports):
        sys.exit(2)
    sys.exit(1 if any(result.met is False for result in results) else 0)


if __name__ == "__main__":
    main()
