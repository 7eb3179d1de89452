"""Scripted workers: by socket and by polling, changing from one to the other, losing links, reloading, and logging."""

import asyncio
import contextlib
import random
from time import monotonic
from typing import Any

import aiohttp
import msgspec

from hub.protocol import HubPacket, ProtocolError
from tests.soak.answers import script
from tests.soak.evidence import Attempt
from tests.workers import Door, Frame, Link, Refused, ScriptedWorker

DOORS: list[Door] = ["socket", "poll"]
MODELS = ["m", "other"]
SILENCE_S = 3.0
"""A link that said nothing for so long is given up: the hub pings every second."""
AGAIN_S = 0.2
LOST = (aiohttp.ClientError, OSError, TimeoutError, Refused)
"""How a hub cannot be reached."""
RECOVERS_S = 0.5
"""After it needed its human."""


class LoggedWorker(ScriptedWorker):
    """A scripted worker that notes when it last heard of the hub, and which of its words the hub has."""

    def __init__(self, url: str, token: str, name: str) -> None:
        super().__init__(url, token, name)
        self.heard_at = monotonic()
        self.starting: list[tuple[int, Attempt]] = []
        """`started` frames of this session that the hub has not acknowledged, by their numbers."""

    def _take(self, link: Link, packet: HubPacket) -> None:
        super()._take(link, packet)
        if link is self.link:
            self.heard_at = monotonic()
            # Numbers of a session before this one mean nothing here.
            ours = [each for each in self.starting if each[1].session == self.session]
            for number, attempt in ours:
                attempt.heard = number <= self.frames_acked
            self.starting = [each for each in ours if not each[1].heard]


class SoakWorker:
    """One worker's life: connected somehow, doing jobs somehow."""

    def __init__(
        self, name: str, seed: str, url: str, token: str, log: list[Attempt], job_s: float
    ) -> None:
        self.name = name
        self._chance = random.Random(f"{seed} {name}")
        self._worker = LoggedWorker(url, token, name)
        self._log = log
        self._job_s = job_s
        self._had: dict[str, Attempt] = {}
        """The jobs of this session, by their ids; those that are over too."""
        self._doing: dict[str, asyncio.Task[None]] = {}
        self.complaints: list[str] = []

    async def live(self) -> None:
        """Until cancelled."""
        reading = asyncio.create_task(self._read())
        try:
            while True:
                await self._stay_connected()
                await asyncio.sleep(self._chance.uniform(0, AGAIN_S))
        finally:
            reading.cancel()
            self._forget_jobs()
            with contextlib.suppress(*LOST):
                await self._worker.bye()
            for link in self._worker._links:
                await link.cut()

    # --- links

    async def _stay_connected(self) -> None:
        try:
            await self._connect()
        except LOST:
            return
        except (ProtocolError, msgspec.DecodeError) as problem:
            self.complaints.append(f"{self.name}: {problem}")
            return
        self._worker.heard_at = monotonic()
        tired_at = monotonic() + self._chance.expovariate(1 / 6)
        link = self._worker.link
        assert link is not None
        while not link.closed.done() and monotonic() < tired_at:
            if monotonic() - self._worker.heard_at > SILENCE_S:
                break
            await asyncio.wait([link.closed], timeout=0.1)
        if link.closed.done() and (problem := link.closed.exception()) is not None:
            self.complaints.append(f"{self.name}: {problem!r}")
        if self._chance.random() < 0.5:
            await self._worker.cut()

    async def _connect(self) -> None:
        worker, door = self._worker, self._chance.choice(DOORS)
        reloads = not worker.session or self._chance.random() < 0.1
        if not reloads:
            with contextlib.suppress(Refused):
                welcome = await worker.resume(by=door)
                if welcome.resumed:
                    return
                self._forget_jobs()
                return
        worker.by = door
        self._forget_jobs()
        worker.older = worker.link
        if worker.older is not None:
            worker.older.retire()
        await worker.hello(MODELS, slots=self._chance.randint(1, 4))

    def _forget_jobs(self) -> None:
        """A new session: what belonged to the old one is dropped."""
        for task in self._doing.values():
            task.cancel()
        self._doing.clear()
        self._had.clear()
        self._worker.starting.clear()

    # --- jobs

    async def _read(self) -> None:
        while True:
            frame = await self._worker.next_frame()
            if frame["t"] == "job":
                self._begin(frame)
            elif frame["t"] == "cancel" and frame["job"] in self._had:
                self._had[frame["job"]].cancelled = frame["reason"]
                if (task := self._doing.pop(frame["job"], None)) is not None:
                    task.cancel()

    def _begin(self, frame: Frame) -> None:
        tag = frame["body"]["messages"][-1]["content"].split()[0]
        attempt = Attempt(
            frame["job"],
            tag,
            self.name,
            self._worker.session,
            offered_s=self._job_s - frame["deadline_s"],
        )
        self._log.append(attempt)
        self._had[attempt.job] = attempt
        self._doing[attempt.job] = asyncio.create_task(self._do(attempt))

    async def _do(self, attempt: Attempt) -> None:
        chance = random.Random(f"{self.name} {attempt.tag} {len(attempt.session)}")
        async for frame in script(attempt.tag, chance):
            if attempt.session != self._worker.session:
                # A hello on its way just now began another session.
                return
            self._note(attempt, frame)
            await self._worker.send({**frame, "job": attempt.job})
            if frame["t"] == "started":
                self._worker.starting.append((self._worker.frames_said, attempt))
            if frame["t"] in ("end", "fail", "refuse"):
                self._doing.pop(attempt.job, None)
            if frame["t"] == "fail":
                await self._recover(frame)

    def _note(self, attempt: Attempt, frame: Frame) -> None:
        match frame["t"]:
            case "started":
                attempt.started = True
            case "piece":
                attempt.sent.append(frame["text"])
            case "end":
                attempt.end = "length" if frame.get("truncated") else frame["finish_reason"]
            case "fail":
                attempt.failed, attempt.ran = frame["code"], frame.get("ran")

    async def _recover(self, fail: dict[str, Any]) -> None:
        """What a human or the site's next page would do."""
        await asyncio.sleep(RECOVERS_S)
        if fail["code"] in ("challenge", "login_required", "consent_required"):
            await self._worker.send({"t": "status", "state": "ready"})
        elif fail["code"] == "model_not_found":
            await self._worker.send({"t": "models", "models": [{"id": name} for name in MODELS]})
