"""The soak itself: start everything, let it go wrong, wait for calm, look, and stop."""

import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from hub.rules.tiers import Price
from hub.settings import load
from hub.store import open_store
from hub.store.audit import Actor
from tests.faults import FaultProxy, Passage
from tests.processes import environment, free_port
from tests.records import read
from tests.soak.callers import Caller
from tests.soak.evidence import Attempt, Call, Evidence, Look, Transcript
from tests.soak.upstream import Upstream
from tests.soak.workers import SoakWorker

CALLERS, SCRIPTED = 12, 4
AGENTS = {"socket": "openai", "poll": "openai", "auto": "echo"}
"""By transport."""
PATIENCE_S = 60.0
LAST_CALLS = 24
JOB_S = 20.0
SETTINGS = f"""
data_dir = "data"
max_pending_bytes = 65536

[deadlines]
queue_s = 8
absent_s = 4
absent_stream_s = 3
offer_s = 1
human_s = 3
first_piece_s = 2
between_pieces_s = 2
job_s = {JOB_S}
cut_s = 0.5
headers_s = 0.5
keep_alive_s = 0.5
slow_caller_s = 1
drain_s = 2

[workers]
heartbeat_s = 1
grace_s = 2
poll_gone_s = 3
poll_late_s = 1
wait_s = 0.5
stalled_s = 1

[breaker]
recovery_time_s = 1
health_check_interval_s = 0.5

[line]
max_waiting = 50

[log]
format = "json"
"""
TOKEN_PRICE = 1_000_000
"""Micro-dollars for a million tokens: one each."""
KILLED = {"agent": (3.0, 6.0), "hub": (8.0, 15.0)}
"""Seconds between two kills."""


class HubProcess:
    """The hub, which may be killed and comes back on the same port with the same data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.kills: list[float] = []
        self._window = directory / "look.json"
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        command = ("tests.soak.hub_process", str(self._window))
        self._process = await start(self.directory, "hub", *command, HUB_PORT=str(self.port))
        await self.until(lambda health: True)

    async def kill(self) -> None:
        """As a power cut would, as far as the process is concerned; then start again."""
        self.kills.append(time.time())
        self._process.kill()
        await self._process.wait()
        await self.start()

    async def stop(self) -> int:
        self._process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()

    async def until(self, true: Callable[[dict[str, int]], bool]) -> None:
        """Wait until what /healthz says is as wanted."""
        async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as http:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/healthz") as response:
                        if true(await response.json()):
                            return
                await asyncio.sleep(0.05)

    async def look(self) -> Look:
        self._window.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        async with asyncio.timeout(PATIENCE_S):
            while not self._window.exists():  # noqa: ASYNC110 - a file tells of nothing
                await asyncio.sleep(0.02)
        return Look(**json.loads(self._window.read_text()))

    async def settled_look(self, enough: Callable[[Look], bool]) -> Look:
        """What it holds once it holds no more than this, or after a patient wait."""
        until = time.monotonic() + PATIENCE_S / 4
        found = await self.look()
        while not enough(found) and time.monotonic() < until:
            await asyncio.sleep(0.2)
            found = await self.look()
        return found


class Agent:
    """One of our agents, behind a proxy; it may be killed and comes back under its own name."""

    def __init__(self, transport: str, directory: Path, proxy: FaultProxy, upstream: str) -> None:
        self._transport = transport
        self._engine = AGENTS[transport]
        self._directory = directory
        self._proxy = proxy
        self._upstream = upstream
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        engine = ("--engine", self._engine)
        if self._engine == "openai":
            engine += ("--upstream", self._upstream)
        self._process = await start(
            self._directory,
            f"agent-{self._transport}",
            *("agent", "--hub", self._proxy.url, "--token-file", "token", *engine),
            *("--transport", self._transport, "--name", f"agent-{self._transport}"),
            LMARENA_STATE_DIR=str(self._directory / "state"),
        )

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)
        await self.start()

    async def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self._process.wait()


async def start(
    directory: Path, name: str, *command: str, **environ: str
) -> asyncio.subprocess.Process:
    """One of our modules as a process; what it logs goes to `<name>.log`."""
    with (directory / f"{name}.log").open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            cwd=directory,
            env=environment(**environ),
            stdout=output,
            stderr=output,
        )


class Chaos:
    """All that goes wrong on purpose."""

    def __init__(
        self, seed: str, proxies: list[FaultProxy], agents: list[Agent], hub: HubProcess
    ) -> None:
        self._seed = seed
        self._proxies = proxies
        self._agents = agents
        self._hub = hub
        self.faults: Counter[str] = Counter()

    async def reign(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number, proxy in enumerate(self._proxies):
                group.create_task(self._trouble(proxy, random.Random(f"{self._seed} {number}")))
            group.create_task(self._kill("agent", self._kill_agent))
            group.create_task(self._kill("hub", self._kill_hub))

    async def _trouble(self, proxy: FaultProxy, chance: random.Random) -> None:
        faults = [self._break_one, self._break_one, self._slow_down, self._swallow, self._stall]
        while True:
            await asyncio.sleep(chance.uniform(0.1, 2.5))
            await chance.choice(faults)(proxy, chance)
            proxy.clear()

    async def _break_one(self, proxy: FaultProxy, chance: random.Random) -> None:
        fault = chance.choice(["cut", "reset", "half_open", "truncate", "black_hole"])
        way, after, which = chance.choice(["up", "down"]), chance.randint(1, 2000), chance.random()
        if not proxy.passages:
            return
        self.faults[fault] += 1
        passage = proxy.passages[int(which * len(proxy.passages))]
        if fault == "truncate":
            passage.truncate(way, after)
        elif fault == "black_hole":
            passage.black_hole = True
        else:
            getattr(Passage, fault)(passage)

    async def _slow_down(self, proxy: FaultProxy, chance: random.Random) -> None:
        self.faults["slow"] += 1
        road = chance.choice([proxy.up, proxy.down])
        if chance.random() < 0.5:
            road.delay_s = chance.uniform(0.02, 0.4)
        else:
            road.bytes_per_s = chance.uniform(2_000, 50_000)
        await asyncio.sleep(chance.uniform(0.3, 2))

    async def _swallow(self, proxy: FaultProxy, chance: random.Random) -> None:
        self.faults["all swallowed"] += 1
        proxy.black_hole = True
        await asyncio.sleep(chance.uniform(0.1, 2.5))
        # What was swallowed is missing: those connections are worth nothing any more.
        for passage in proxy.passages:
            passage.cut()

    async def _stall(self, proxy: FaultProxy, chance: random.Random) -> None:
        self.faults["stall"] += 1
        chance.choice([proxy.up, proxy.down]).open.clear()
        await asyncio.sleep(chance.uniform(0.1, 2))

    async def _kill(self, what: str, kill: Callable[[random.Random], Awaitable[None]]) -> None:
        chance = random.Random(f"{self._seed} kill {what}")
        while True:
            await asyncio.sleep(chance.uniform(*KILLED[what]))
            self.faults[f"{what} killed"] += 1
            # To its end, even when the chaos ends meanwhile.
            await asyncio.shield(asyncio.ensure_future(kill(chance)))

    async def _kill_agent(self, chance: random.Random) -> None:
        await chance.choice(self._agents).kill()

    async def _kill_hub(self, chance: random.Random) -> None:
        await self._hub.kill()


async def prepare(directory: Path) -> tuple[str, str]:
    """Settings, prices and secrets: the key and the worker token."""
    (directory / "hub.toml").write_text(SETTINGS)
    settings = load({"data_dir": str(directory / "data")}, environ={}, directory=directory)
    settings.data.mkdir()
    me = Actor("soak")
    async with open_store(settings) as store:
        await store.prices.add([Price("*", input=TOKEN_PRICE, output=TOKEN_PRICE)], me)
        key = (await store.keys.create("soak", me)).secret
        token = (await store.worker_tokens.create("soak", me)).secret
    (directory / "token").write_text(token)
    return key, token


async def soak(seconds: float, seed: str, directory: Path) -> Evidence:
    """A soak of so many seconds in an empty directory, and all that was seen."""
    key, token = await prepare(directory)
    transcripts: list[Transcript] = []
    attempts: list[Attempt] = []
    calls: list[Call] = []
    hub = HubProcess(directory)
    await hub.start()
    first = await hub.look()
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(seed, calls))
        proxies = [
            await stack.enter_async_context(FaultProxy("127.0.0.1", hub.port))
            for _ in range(len(AGENTS) + SCRIPTED)
        ]
        agents = [
            Agent(transport, directory, proxy, upstream.url)
            for transport, proxy in zip(AGENTS, proxies, strict=False)
        ]
        workers = [
            SoakWorker(f"worker-{number}", seed, proxy.url, token, attempts, JOB_S)
            for number, proxy in enumerate(proxies[len(agents) :])
        ]
        callers = [
            Caller(f"caller-{number}", seed, hub.url, key, transcripts) for number in range(CALLERS)
        ]
        for agent in agents:
            await agent.start()
        lives = [asyncio.create_task(worker.live()) for worker in workers]
        await hub.until(lambda health: health["workers"] == len(agents) + len(workers))
        chaos = Chaos(seed, proxies, agents, hub)
        await _storm(seconds, chaos, callers)
        calm = await _calm_down(hub, proxies, callers)
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        for agent in agents:
            await agent.stop()
    last = await hub.settled_look(lambda look: look.is_no_more_than(first))
    code = await hub.stop()
    complaints = [complaint for worker in workers for complaint in worker.complaints]
    complaints += [f"{life!r}" for life in lives if not life.cancelled()]
    complaints += [f"the hub ended with {code}"] if code else []
    log = (directory / "hub.log").read_text()
    records = read(directory / "data")
    return Evidence(
        transcripts,
        attempts,
        calls,
        records,
        hub.kills,
        calm,
        first,
        last,
        log,
        complaints,
        dict(chaos.faults),
    )


async def _storm(seconds: float, chaos: Chaos, callers: list[Caller]) -> None:
    until = time.monotonic() + seconds
    reign = asyncio.create_task(chaos.reign())
    async with asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.call_until(lambda: time.monotonic() > until))
    reign.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reign


async def _calm_down(hub: HubProcess, proxies: list[FaultProxy], callers: list[Caller]) -> Look:
    """The weather is good again: everything comes to its end, and the hub still serves."""
    for proxy in proxies:
        proxy.clear()
    await hub.until(lambda health: True)
    left = LAST_CALLS

    def enough() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    await asyncio.gather(*[caller.call_until(enough) for caller in callers])
    await hub.until(lambda health: health["active"] == health["waiting"] == 0)
    return await hub.settled_look(
        lambda look: not any(n for what, n in look.counts.items() if what != "sessions")
    )
