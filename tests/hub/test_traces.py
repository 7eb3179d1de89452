"""Golden traces: scenarios of callers and workers against a running hub, by socket and by polling alike.

Each file in `tests/frames/traces` holds several. A line with `why` begins one; the lines after it are its
steps. By either door the outcome must be the same; `only` names the one door of a trace whose times differ.
Waits are for events; settings in a trace's first line make the hub's own times short.

    {"worker": "a", "hello": {"models": ["m"]}}     a new session; `id` if it differs; `refused` with that code
    {"worker": "a", "send": [{"t": "started"}]}     frames about its last job unless they say "job": "$1";
                                                    a string is sent as it stands, with that job for $job
    {"worker": "a", "expect": {"t": "job"}}         the next frame, with these members
    {"worker": "a", "unheard": {"t": "job"}}        no frame so far had these members
    {"worker": "a", "raw": "{}"}                    a message that no channel would say
    {"worker": "a", "beat": [5, 0.1]}               five signs of life, one each 0.1 s
    {"worker": "a", "cut": true}                    the link breaks
    {"worker": "a", "resume": {}, "by": "other"}    over the other transport; `resumed`: false if refused;
                                                    `of` another worker's session; with `token` "another"
    {"worker": "a", "reload": true}                 a fresh start under the same id
    {"worker": "a", "bye": "closing"}               it leaves on purpose
    {"worker": "a", "mute": true}                   pings are not answered any more
    {"worker": "a", "closed": 4503}                 the hub closes the link; with `older`, the one before
    {"caller": "c1", "ask": {"model": "m"}}         a chat completion
    {"caller": "c1", "reads": "x"}                  that much has arrived
    {"caller": "c1", "leave": true}                 it hangs up
    {"caller": "c1", "expect": {"status": 200}}     the outcome; `event` is an error after the first byte
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.workers import PATIENCE_S, Door, Refused, ScriptedWorker

TRACES = Path(__file__).parent.parent / "frames" / "traces"
OTHER: dict[Door, Door] = {"socket": "poll", "poll": "socket"}
Step = dict[str, Any]


@dataclass
class Trace:
    why: str
    only: Door | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def read_traces(path: Path) -> list[Trace]:
    traces: list[Trace] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        step = json.loads(line)
        if "why" in step:
            traces.append(Trace(**step))
        else:
            traces[-1].steps.append(step)
    return traces


def runs() -> list[Any]:
    """Every trace by every door that it is for."""
    return [
        pytest.param(trace, door, id=f"{path.stem}: {trace.why} ({door})")
        for path in sorted(TRACES.glob("*.jsonl"))
        for trace in read_traces(path)
        for door in OTHER
        if trace.only in (None, door)
    ]


class Caller:
    """Somebody who asks for one chat completion."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        self._asking: asyncio.Task[None]
        self._read = asyncio.Event()
        self.seen: dict[str, Any] = {"text": ""}
        """The outcome as far as it is known."""

    def ask(self, content: str = "hi", **body: Any) -> None:
        body["messages"] = [{"role": "user", "content": content}]
        self._asking = asyncio.get_running_loop().create_task(self._ask(body))

    async def leave(self) -> None:
        self._asking.cancel()
        await asyncio.wait([self._asking])

    async def reads(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.seen["text"] != text:
                self._read.clear()
                await self._read.wait()

    async def outcome(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self._asking)
        return self.seen

    async def _ask(self, body: dict[str, Any]) -> None:
        address = f"{self._url}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {self._key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(address, json=body) as response,
        ):
            self.seen["status"] = response.status
            if "Retry-After" in response.headers:
                self.seen["retry_after"] = int(response.headers["Retry-After"])
            if response.content_type == "text/event-stream":
                await self._stream(response)
            else:
                self._whole(await response.json())

    def _whole(self, answer: dict[str, Any]) -> None:
        if "error" in answer:
            self.seen["code"] = answer["error"]["code"]
            return
        (choice,) = answer["choices"]
        self.seen["text"] = choice["message"]["content"]
        self.seen["finish_reason"] = choice["finish_reason"]

    async def _stream(self, response: aiohttp.ClientResponse) -> None:
        async for line in response.content:
            if line.startswith(b"data: "):
                self._event(line[6:].strip())
                self._read.set()

    def _event(self, data: bytes) -> None:
        assert "done" not in self.seen, "nothing comes after [DONE]"
        if data == b"[DONE]":
            self.seen["done"] = True
            return
        chunk = json.loads(data)
        if "error" in chunk:
            self.seen["event"] = chunk["error"]["code"]
            return
        for choice in chunk["choices"]:
            self.seen["text"] += choice["delta"].get("content") or ""
            if choice["finish_reason"] is not None:
                self.seen["finish_reason"] = choice["finish_reason"]


class Stage:
    """Where a trace is played."""

    def __init__(self, hub: Any, door: Door, exits: contextlib.AsyncExitStack) -> None:
        self.hub = hub
        self.door: Door = door
        self.exits = exits
        self.workers: dict[str, ScriptedWorker] = {}
        self.callers: dict[str, Caller] = {}

    async def play(self, step: Step) -> None:
        if "caller" in step:
            await self._play_caller(step)
        else:
            await self._play_worker(step)

    # --- callers

    async def _play_caller(self, step: Step) -> None:
        match step:
            case {"caller": name, "ask": body}:
                caller = self.callers[name] = Caller(self.hub.url, self.hub.key)
                self.exits.push_async_callback(caller.leave)
                caller.ask(**body)
            case {"caller": name, "reads": text}:
                await self.callers[name].reads(text)
            case {"caller": name, "leave": True}:
                await self.callers[name].leave()
            case {"caller": name, "expect": wanted}:
                check(await self.callers[name].outcome(), wanted)
            case _:
                raise AssertionError(f"no such step: {step}")

    # --- workers

    async def _play_worker(self, step: Step) -> None:
        worker = await self._worker(step)
        match step:
            case {"hello": members, "refused": code}:
                with pytest.raises(Refused) as refused:
                    await worker.hello(**members)
                assert refused.value.code == code
            case {"hello": members}:
                assert not (await worker.hello(**members)).resumed
            case {"reload": True}:
                assert not (await worker.reload()).resumed
            case {"resume": members}:
                welcome = await self._resume(worker, step, members)
                assert welcome.resumed is step.get("resumed", True)
            case {"send": frames}:
                await worker.send(*frames)
            case {"expect": members}:
                await worker.expect(**members)
            case {"unheard": members}:
                assert not [frame for frame in worker.frames if {**frame, **members} == frame]
            case {"raw": text}:
                assert worker.link is not None
                worker.link.send_raw(text)
            case {"beat": [times, pause]}:
                await beat(worker, times, pause)
            case {"bye": reason}:
                await worker.bye(reason)
            case {"cut": True}:
                await worker.cut()
            case {"mute": True}:
                worker.answers_pings = False
            case {"closed": code}:
                link = worker.older if step.get("older") else None
                assert await worker.closed(link) == code
            case _:
                raise AssertionError(f"no such step: {step}")

    async def _worker(self, step: Step) -> ScriptedWorker:
        name = step["worker"]
        if name not in self.workers:
            worker_id = str(step.get("id", name))
            worker = ScriptedWorker(self.hub.url, self.hub.worker_token, worker_id, by=self.door)
            self.workers[name] = await self.exits.enter_async_context(worker)
        return self.workers[name]

    async def _resume(self, worker: ScriptedWorker, step: Step, members: Step) -> Any:
        if step.get("by") == "other":
            worker.by = OTHER[worker.by]
        if step.get("token") == "another":
            worker.token = await self.hub.new_worker_token("another")
        if "of" in step:
            members = {**members, "session": self.workers[step["of"]].session}
        return await worker.resume(**members)


async def beat(worker: ScriptedWorker, times: int, pause: float) -> None:
    """A site's heartbeats, which are a matter of time."""
    for _ in range(times):
        await worker.send({"t": "piece"})
        await asyncio.sleep(pause)


def check(seen: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Compare an outcome; a complete answer has no error, and a broken one no finish_reason."""
    if wanted.get("retry_after") == "some":
        assert seen["retry_after"] >= 1
        wanted = {**wanted, "retry_after": seen["retry_after"]}
    assert {**seen, **wanted} == seen
    broken = "code" in seen or "event" in seen
    assert ("finish_reason" in seen) is not broken, seen
    assert ("event" in seen) is ("event" in wanted), seen
    if "event" in seen:
        assert seen.get("done"), "an SSE error is followed by [DONE]"


@pytest.fixture
async def exits() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.mark.parametrize(("trace", "door"), runs())
async def test_trace(
    trace: Trace, door: Door, start_hub: Any, exits: contextlib.AsyncExitStack
) -> None:
    stage = Stage(await start_hub(**trace.settings), door, exits)
    for number, step in enumerate(trace.steps, 1):
        try:
            await stage.play(step)
        except BaseException as problem:
            problem.add_note(f"in step {number}: {json.dumps(step)}")
            raise


def test_every_file_has_traces() -> None:
    for path in TRACES.glob("*.jsonl"):
        assert all(trace.steps for trace in read_traces(path)), path
