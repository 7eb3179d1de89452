"""`make soak`: random faults between a hub, its agents and their callers, then proof that nothing was lost.

Agents reach the hub through a proxy that cuts, stalls and delays their links, and one of them is killed now
and then. Callers ask, and some leave in mid-answer. In the end every transcript is held against what was asked,
and the journal against the transcripts. The seed is printed: the same one gives the same decisions.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.demo import free_port

CALLERS = 12
AGENTS = 3
WORDS = ["alpha", "béta", "gämma", "delta😀", "epsilon", "zeta", "eta", "theta"]


@dataclass
class Transcript:
    """One request as its caller saw it."""

    asked: str
    request_id: str = ""
    text: str = ""
    ending: str = ""
    """"complete", "left", or the code of an error."""


@dataclass
class Soak:
    """What happened so far."""

    chance: random.Random
    url: str
    key: str
    transcripts: list[Transcript] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


class FaultProxy:
    """A TCP proxy in front of the hub that cuts, stalls and delays what passes."""

    def __init__(self, soak: Soak, port: int) -> None:
        self._soak = soak
        self._port = port
        self._links: set[asyncio.StreamWriter] = set()
        self._pipes: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        for source, sink in ((reader, upstream[1]), (upstream[0], writer)):
            self._links.add(sink)
            task = asyncio.create_task(self._pipe(source, sink))
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)

    async def _pipe(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(4096):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        self._links.discard(sink)
        sink.close()

    async def misbehave(self) -> None:
        """One fault every moment, until cancelled."""
        chance = self._soak.chance
        while True:
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            fault = chance.choice(["cut one", "cut one", "cut all", "stall"])
            self._soak.faults[fault] += 1
            links = sorted(self._links, key=id)
            if fault == "stall":
                self._flowing.clear()
                await asyncio.sleep(chance.uniform(0.05, 0.8))
                self._flowing.set()
            elif links:
                for link in links if fault == "cut all" else [chance.choice(links)]:
                    link.transport.abort()


async def call(soak: Soak, session: aiohttp.ClientSession) -> None:
    """One request; its transcript is kept whatever happens."""
    words = soak.chance.choices(WORDS, k=soak.chance.randint(1, 60))
    asked = " ".join(words)
    leaves_after = soak.chance.randint(1, 20) if soak.chance.random() < 0.15 else None
    stream = leaves_after is not None or soak.chance.random() < 0.7
    model = "echo-slow" if soak.chance.random() < 0.3 else "echo"
    body = {
        "model": model,
        "stream": stream,
        "messages": [{"role": "user", "content": asked}],
    }
    transcript = Transcript(asked)
    soak.transcripts.append(transcript)
    headers = {"Authorization": f"Bearer {soak.key}"}
    async with session.post(
        f"{soak.url}/v1/chat/completions", json=body, headers=headers
    ) as response:
        transcript.request_id = response.headers["x-request-id"]
        if response.status != 200:
            transcript.ending = (await response.json())["error"]["code"]
        elif stream:
            await read_stream(transcript, response, leaves_after)
        else:
            answer = await response.json()
            transcript.text = answer["choices"][0]["message"]["content"]
            transcript.ending = "complete"


async def read_stream(
    transcript: Transcript, response: aiohttp.ClientResponse, leaves_after: int | None
) -> None:
    pieces = 0
    async for line in response.content:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            transcript.ending = event["error"]["code"]
            return
        choice = event["choices"][0]
        transcript.text += choice["delta"].get("content", "")
        if choice["finish_reason"]:
            transcript.ending = "complete"
        pieces += 1
        if pieces == leaves_after:
            transcript.ending = "left"
            response.close()
            return


async def keep_calling(soak: Soak, until: float) -> None:
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < until:
            await call(soak, session)


async def start(*command: str, log: Path) -> asyncio.subprocess.Process:
    environment = {**os.environ, "LMARENA_STATE_DIR": str(log.parent / "state")}
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, stdout=output, stderr=output, env=environment
        )


async def stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


async def hub_command(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode().strip()


async def restart_agents(
    soak: Soak, agents: list[asyncio.subprocess.Process], again: object
) -> None:
    """Kill an agent now and then, and start another in its place; until cancelled."""
    while True:
        await asyncio.sleep(soak.chance.uniform(2, 5))
        number = soak.chance.randrange(len(agents))
        agents[number].kill()
        await agents[number].wait()
        soak.faults["agent killed"] += 1
        agents[number] = await again(number)  # type: ignore[operator]


async def run(seconds: float, seed: int, directory: Path) -> Soak:
    data = str(directory / "data")
    key = await hub_command("key", "create", "--name", "soak", "--data", data)
    token = await hub_command("worker-token", "create", "--name", "soak", "--data", data)
    (directory / "token").write_text(token)
    port = free_port()
    soak = Soak(random.Random(seed), f"http://127.0.0.1:{port}", key)
    hub = await start(
        "hub", "serve", "--port", str(port), "--data", data, log=directory / "hub.log"
    )
    proxy = FaultProxy(soak, port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxied = server.sockets[0].getsockname()[1]

    async def agent(number: int) -> asyncio.subprocess.Process:
        transport = ("socket", "poll", "auto")[number % 3]
        return await start(
            *("agent", "--hub", f"http://127.0.0.1:{proxied}", "--engine", "echo"),
            *("--token-file", str(directory / "token"), "--name", f"agent-{number}"),
            *("--transport", transport, "--slots", "4"),
            log=directory / f"agent-{number}.log",
        )

    agents = [await agent(number) for number in range(AGENTS)]
    try:
        await until_ready(soak.url)
        chaos = [
            asyncio.create_task(proxy.misbehave()),
            asyncio.create_task(restart_agents(soak, agents, agent)),
        ]
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(keep_calling(soak, until))
        for task in chaos:
            task.cancel()
        await asyncio.gather(*chaos, return_exceptions=True)
        await until_idle(soak.url)
    finally:
        for process in (*agents, hub):
            await stop(process)
        server.close()
    return soak


async def until_ready(url: str) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/healthz") as response:
                    if (await response.json())["workers"] == AGENTS:
                        return
            await asyncio.sleep(0.1)


async def until_idle(url: str) -> None:
    """No job may be left over."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/healthz") as response:
                counts = await response.json()
            if counts["active"] == counts["waiting"] == 0:
                return
            await asyncio.sleep(0.1)


def check(soak: Soak, database: Path) -> list[str]:
    """Everything that is wrong; an empty list is the proof."""
    connection = sqlite3.connect(database)
    connection.row_factory = sqlite3.Row
    rows = {row["id"]: row for row in connection.execute("SELECT * FROM requests")}
    connection.close()
    problems = [f"{row['id']} has no end" for row in rows.values() if row["settled_at"] is None]
    for transcript in soak.transcripts:
        problems += faults_of(transcript, rows.get(transcript.request_id))
    strangers = rows.keys() - {transcript.request_id for transcript in soak.transcripts}
    problems += [f"{stranger} was never asked" for stranger in strangers]
    return problems


def faults_of(transcript: Transcript, row: sqlite3.Row | None) -> list[str]:
    problems = []
    if not transcript.asked.startswith(transcript.text):
        problems.append(f"{transcript.text!r} is no beginning of {transcript.asked!r}")
    if not transcript.ending:
        problems.append(f"{transcript.request_id} ended without a word")
    if row is None:
        if transcript.ending not in ("queue_full", "model_not_found"):
            problems.append(f"{transcript.request_id} is not in the journal")
        return problems
    if transcript.ending == "complete":
        if transcript.text != transcript.asked:
            problems.append(f"{transcript.request_id} says complete, but is not")
        if row["state"] != "completed":
            problems.append(f"{transcript.request_id} is {row['state']}, its caller has it all")
    elif transcript.ending != "left" and row["error_code"] != transcript.ending:
        problems.append(f"{transcript.request_id}: {transcript.ending} is {row['error_code']} here")
    if row["delivered_chars"] < len(transcript.text):
        problems.append(f"{transcript.request_id} delivered less than its caller has")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:.0f} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="lmarena-soak-") as directory:
        soak = asyncio.run(run(options.seconds, seed, Path(directory)))
        problems = check(soak, Path(directory) / "data" / "hub.db")
        if problems:
            print((Path(directory) / "hub.log").read_text()[-5000:])
    endings = Counter(transcript.ending for transcript in soak.transcripts)
    print(f"faults:  {dict(soak.faults)}\nendings: {dict(endings)}")
    if problems:
        sys.exit("\n".join(["LOST OR DOUBLED:", *problems[:20]]))
    print(
        f"proof: {len(soak.transcripts)} requests, each with exactly one end, no text lost or doubled"
    )


if __name__ == "__main__":
    main()
