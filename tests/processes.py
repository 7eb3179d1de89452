"""Our programs as real processes, and what tests ask of them."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE_S = 30.0
PROSE = "0123456789" * 8

# --- programs of ours in processes of their own --------------------------------------------------


class Program:
    """A running program: what it logs, and its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._ended = False
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            await self._tell(line.decode())
        self._ended = True
        await self._tell("")

    async def _tell(self, line: str) -> None:
        async with self._news:
            self.lines.append(line)
            self._news.notify_all()

    @property
    def log(self) -> str:
        return "".join(self.lines)

    async def said(self, *words: str) -> str:
        """The first log line that holds these words, once it comes."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            while True:
                for line in self.lines:
                    if all(word in line for word in words):
                        return line
                assert not self._ended, f"it ended before it said {words}: {self.log}"
                await self._news.wait()

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            await self._reading
            return await self.process.wait()


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """This process's environment without our own variables, and with those given."""
    ours = ("HUB_", "LMARENA_", "TIKTOKEN_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | more


@asynccontextmanager
async def program(directory: Path, *arguments: str, **environ: str) -> AsyncIterator[Program]:
    """Run one of our modules; it is killed at the latest when the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        cwd=directory,
        env=environment(**environ),
        stderr=asyncio.subprocess.PIPE,
    )
    running = Program(process)
    try:
        yield running
    finally:
        await running.end(signal.SIGKILL)


async def run(directory: Path, *arguments: str, **environ: str) -> Ran:
    """One `lmarena-hub` command, from start to end, with `directory` as the working directory."""
    return await execute(directory, sys.executable, "-m", "hub", *arguments, **environ)


async def execute(directory: Path, *command: str | Path, **environ: str) -> Ran:
    """Any command, from start to end; it has nothing to read."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env=environment(**environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def secret(directory: Path, group: str) -> str:
    """A new API key (`key`) or worker token (`worker-token`)."""
    made = await run(directory, group, "create", "--name", "from a test")
    assert made.code == 0, made.err
    return made.out.strip()


class Served(NamedTuple):
    """A hub that listens."""

    program: Program
    url: str
    directory: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    async def key(self) -> str:
        return await secret(self.directory, "key")

    async def token(self) -> str:
        return await secret(self.directory, "worker-token")


@asynccontextmanager
async def serving(directory: Path, *options: str, **environ: str) -> AsyncIterator[Served]:
    """`lmarena-hub serve` on a free port, logging JSON; ready when the block begins."""
    environ = {"HUB_PORT": "0", "HUB_LOG_FORMAT": "json", **environ}
    async with program(directory, "hub", "serve", *options, **environ) as started:
        ready = json.loads(await started.said("hub is ready"))
        yield Served(started, ready["address"], directory)


@asynccontextmanager
async def agent(hub: Served, *options: str, token: str = "") -> AsyncIterator[Program]:
    """`lmarena-agent` with the echo engine, by default with a new token; the hub has it when the block begins."""
    address = ("agent", "--hub", hub.url, "--engine", "echo", "--name", "a real agent")
    environ = {
        "LMARENA_TOKEN": token or await hub.token(),
        "LMARENA_STATE_DIR": str(hub.directory / "agent"),
    }
    async with program(hub.directory, *address, *options, **environ) as started:
        await hub.program.said("worker joined", "a real agent")
        yield started


async def eventually(true: Callable[[], Any]) -> Any:
    """Wait for something of which no event tells; what it was."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := true()):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)
    return found


def chat(model: str = "echo", text: str = PROSE, *, stream: bool = False) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def text_of(events: bytes) -> str:
    """The content of all deltas in a stream that may have broken off."""
    lines = [line for line in events.split(b"\n") if line.startswith(b"data: {")]
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines]
    return "".join(delta.get("content", "") for delta in deltas)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
