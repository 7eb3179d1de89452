"""Roster and line against a simple model: Hypothesis plays workers and callers in any order.

The hub is real, on a real database, without HTTP: workers are sessions with a link that goes nowhere, callers
submit jobs. After every step the model says who may hold what, and nobody may wait whom somebody could serve.
"""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.live.hub import Hub, open_hub
from hub.live.jobs import Job
from hub.live.workers import Worker
from hub.protocol import (
    Close,
    End,
    Fail,
    Hello,
    Model,
    ModelsFrame,
    Refuse,
    Resume,
    Started,
    StatusFrame,
)
from hub.rules.tokens import Count
from hub.settings import load
from hub.store.keys import Caller
from hub.store.worker_tokens import WorkerToken
from tests.conftest import TEST

MODELS = st.sets(st.sampled_from("mno"), min_size=1)
NAMES = st.sampled_from(["w1", "w2", "w3", "w4"])
REGIONS = st.sampled_from([None, "eu", "us"])
SLOTS = st.integers(0, 3)
FAILURES = 3
"""In a row, to trip a breaker."""


class Nowhere:
    """A link whose other end reads everything and says nothing."""

    polling = False

    def wake(self) -> None:
        pass

    def close(self, code: Close, reason: str) -> None:
        pass


@dataclass(eq=False)
class Session:
    """What the model knows of a worker that is here."""

    name: str
    worker: Worker
    models: set[str]
    slots: int
    region: str | None
    connected: bool = True
    draining: bool = False
    state: Literal["ready", "attention"] = "ready"


@dataclass(eq=False)
class Asked:
    """What the model knows of a job."""

    number: int
    job: Job
    key: str
    model: str
    tried: set[Session] = field(default_factory=set)
    at: Session | None = None
    started: bool = False
    over: bool = False
    was_tried_before: bool = False


class RosterAndLine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.here: dict[str, Session] = {}
        self.asked: list[Asked] = []
        self.failures: dict[tuple[str, str | None], int] = {}
        self.last: dict[str, str] = {}
        """The model that failed last at a worker, if nothing was answered since."""
        self.callers: dict[str, Caller] = {}
        self.hub: Hub
        self.token: WorkerToken
        self.runner.run(self._open())

    async def _open(self) -> None:
        overrides: dict[str, Any] = {
            "data_dir": self.folder.name,
            "synchronous": "NORMAL",
            "deadlines": {"drain_s": 0},
            "breaker": {"failure_threshold": FAILURES, "recovery_time_s": 10_000},
        }
        loaded = load(overrides, environ={}, directory=Path(self.folder.name))
        self.hub = await self.stack.enter_async_context(open_hub(loaded))
        made = await self.hub.store.worker_tokens.create("token", TEST)
        found = await self.hub.store.worker_tokens.find(made.secret)
        assert found is not None
        self.token = found
        for name in ("k1", "k2"):
            secret = (await self.hub.store.keys.create(name, TEST)).secret
            caller = await self.hub.store.keys.find(secret)
            assert caller is not None
            self.callers[name] = caller

    def teardown(self) -> None:
        async def close() -> None:
            await self.hub.drain()
            assert not self.hub.dispatch.active
            assert not self.hub.dispatch.waiting
            assert all(asked.job.is_over for asked in self.asked)
            await self.stack.aclose()

        self.runner.run(close())
        self.runner.close()
        self.folder.cleanup()

    def run(self, what: Any) -> None:
        """Let the event loop have a step, and see who holds what afterwards."""

        async def step() -> None:
            if asyncio.iscoroutine(result := what()):
                await result
            await asyncio.sleep(0)

        self.runner.run(step())
        self._see_offers()

    # --- workers

    @initialize(models=MODELS, slots=st.lists(st.integers(1, 2), min_size=2, max_size=2))
    def begins(self, models: set[str], slots: list[int]) -> None:
        """Two workers, so that there is something to play with."""
        for name, region, count in zip(("w1", "w2"), (None, "eu"), slots, strict=True):
            self.joins(name, models | {"m"}, count, region)

    @rule(name=NAMES, models=MODELS, slots=SLOTS, region=REGIONS)
    def joins(self, name: str, models: set[str], slots: int, region: str | None) -> None:
        """A worker says hello, in the place of its session if it has one."""
        if (before := self.here.get(name)) is not None:
            self._leaves(before)
        hello = Hello(
            1, name, name, "agent", "1", slots, [offered(m) for m in sorted(models)], region=region
        )
        session = Session(name, None, models, slots, region)  # type: ignore[arg-type]
        self.here[name] = session

        def admit() -> None:
            session.worker, _ = self.hub.dispatch.admit(hello, self.token, Nowhere())

        self.run(admit)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def is_cut(self, data: st.DataObject) -> None:
        session = self._one_here(data)
        if not session.connected:
            return
        session.connected = False
        self.run(lambda: session.worker.disconnect(session.worker.connection))

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def resumes(self, data: st.DataObject) -> None:
        session = self._one_here(data)
        worker = session.worker
        hello = Hello(
            1,
            session.name,
            session.name,
            "agent",
            "1",
            session.slots,
            [offered(model) for model in sorted(session.models)],
            region=session.region,
            state=session.state,
            resume=Resume(worker.session, 0),
        )
        session.connected = True

        def admit() -> None:
            resumed, welcome = self.hub.dispatch.admit(hello, self.token, Nowhere())
            assert welcome.resumed
            assert resumed is worker

        self.run(admit)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def drains(self, data: st.DataObject) -> None:
        session = self._one_here(data)
        session.draining = True
        self.run(session.worker.drain)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        session = self._one_here(data)
        self._leaves(session)
        self.run(lambda: session.worker.end("bye", Close.GOING_AWAY))

    def _one_here(self, data: st.DataObject) -> Session:
        return self.here[data.draw(st.sampled_from(sorted(self.here)))]

    def _leaves(self, session: Session) -> None:
        del self.here[session.name]
        held = [asked for asked in self.asked if asked.at is session]
        if any(asked.started for asked in held):
            self._counts_failure(session, None)
        for asked in held:
            asked.at, asked.over = None, asked.started
            asked.was_tried_before = True

    @precondition(lambda self: self.here)
    @rule(data=st.data(), state=st.sampled_from(["ready", "ready", "attention"]), slots=SLOTS)
    def changes(self, data: st.DataObject, state: Any, slots: int) -> None:
        session = self._one_here(data)
        session.state, session.slots = state, slots
        frame = StatusFrame(state, slots=slots)
        self.run(lambda: self.hub.dispatch.heard(session.worker, frame))

    @precondition(lambda self: self.here)
    @rule(data=st.data(), models=MODELS)
    def offers_others(self, data: st.DataObject, models: set[str]) -> None:
        session = self._one_here(data)
        session.models = models
        frame = ModelsFrame([offered(model) for model in sorted(models)])
        self.run(lambda: self.hub.dispatch.heard(session.worker, frame))

    # --- jobs

    @rule(
        key=st.sampled_from(["k1", "k2"]),
        model=st.sampled_from("mmno"),
        region=REGIONS,
        times=st.integers(1, 5),
    )
    def asks(self, key: str, model: str, region: str | None, times: int) -> None:
        for _ in range(times):
            asked = self._asked(key, model, region)
            self.asked.append(asked)
            self.run(lambda asked=asked: self._submit(asked))
            if asked.at is not None and region is not None:
                # Somebody of its region was free, or nobody was.
                assert asked.at.region == region or not any(
                    self.could_serve(session, asked) and session.region == region
                    for session in self.here.values()
                )

    def _asked(self, key: str, model: str, region: str | None) -> Asked:
        number, now = len(self.asked), time.time()
        job = Job(
            loop=self.runner.get_loop(),
            id=f"job{number:06}",
            caller=self.callers[key],
            reservation=self.runner.run(
                self.hub.gate.admit(self.callers[key], f"job{number:06}", 1, 0)
            ),
            kind="chat",
            model=model,
            body=b"{}",
            needs=frozenset(),
            stream=False,
            accepted=monotonic(),
            accepted_at=int(now * 1e6),
            max_pending=1000,
            prompt=Count(1),
            region=region,
        )
        return Asked(number, job, key, model)

    async def _submit(self, asked: Asked) -> None:
        await self.hub.dispatch.submit(asked.job)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def starts(self, data: st.DataObject) -> None:
        asked = self._one_held(data)
        asked.started = True
        self._hear(asked, Started(asked.job.id))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), times=st.integers(1, 5))
    def ends(self, data: st.DataObject, times: int) -> None:
        for _ in range(min(times, len(self.held))):
            asked = self._one_held(data)
            session = self._taken_back(asked, over=True)
            self._counts_success(session, asked.model)
            self._hear(asked, End(asked.job.id), session)
            if not self.held:
                break

    @precondition(lambda self: self.held)
    @rule(data=st.data(), code=st.sampled_from(["upstream_error", "internal", "moderated"]))
    def fails(self, data: st.DataObject, code: Any) -> None:
        asked = self._one_held(data)
        session = self._taken_back(asked, over=True)
        if code != "moderated":
            self._counts_failure(session, asked.model, whole=code == "internal")
        self._hear(asked, Fail(asked.job.id, code), session)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def refuses(self, data: st.DataObject) -> None:
        asked = self._one_held(data)
        if asked.started:
            return
        session = self._taken_back(asked, over=False)
        self._hear(asked, Refuse(asked.job.id, "busy"), session)
        if asked.job.is_over:  # nobody else offers it
            asked.over = True

    @rule(data=st.data())
    def caller_leaves(self, data: st.DataObject) -> None:
        open_jobs = [asked for asked in self.asked if not asked.over]
        if not open_jobs:
            return
        asked = data.draw(st.sampled_from(open_jobs))
        asked.at, asked.over = None, True
        self.run(lambda: self.hub.dispatch.leave(asked.job, delivered=False))

    @property
    def held(self) -> list[Asked]:
        """Jobs in the hands of workers that can speak."""
        return [asked for asked in self.asked if asked.at is not None and asked.at.connected]

    def _one_held(self, data: st.DataObject) -> Asked:
        return data.draw(st.sampled_from(self.held))

    def _taken_back(self, asked: Asked, *, over: bool) -> Session:
        session, asked.at, asked.over = asked.at, None, over
        asked.was_tried_before = True
        assert session is not None
        return session

    def _hear(self, asked: Asked, frame: Any, session: Session | None = None) -> None:
        session = session or asked.at
        assert session is not None
        self.run(lambda: self.hub.dispatch.heard(session.worker, frame))

    # --- the model: breakers

    def tripped(self, name: str, model: str) -> bool:
        return any(self.failures.get((name, of), 0) >= FAILURES for of in (None, model))

    def _counts_success(self, session: Session, model: str) -> None:
        for of in (None, model):
            if self.failures.get((session.name, of), 0) < FAILURES:
                self.failures[session.name, of] = 0
        self.last.pop(session.name, None)

    def _counts_failure(self, session: Session, model: str | None, *, whole: bool = True) -> None:
        name = session.name
        if model is not None:
            if self.failures.get((name, model), 0) < FAILURES:
                self.failures[name, model] = self.failures.get((name, model), 0) + 1
            before = self.last.get(name)
            self.last[name] = model
            whole = whole or before not in (None, model)
        if whole and self.failures.get((name, None), 0) < FAILURES:
            self.failures[name, None] = self.failures.get((name, None), 0) + 1

    # --- the model: who may hold what

    def could_serve(self, session: Session, asked: Asked) -> bool:
        """Whether a session could take a job at once."""
        in_hand = sum(other.at is session for other in self.asked)
        return (
            in_hand < session.slots
            and session.connected
            and not session.draining
            and session.state == "ready"
            and asked.model in session.models
            and session not in asked.tried
            and not self.tripped(session.name, asked.model)
        )

    def _see_offers(self) -> None:
        """Take note of who was given what, and whether they were the ones to have it."""
        sessions = {session.worker.session: session for session in self.here.values()}
        new = []
        for asked in self.asked:
            holder = next((s for s in sessions.values() if asked.job.id in s.worker.jobs), None)
            if holder is not None and asked.at is not holder:
                assert not asked.over
                assert holder not in asked.tried, "offered twice to one session"
                assert asked.model in holder.models
                asked.at, asked.started = holder, False
                asked.tried.add(holder)
                new.append(asked)
            elif holder is None and asked.at is not None:
                assert asked.job.is_over, "out of its worker's hands although nobody said so"
                asked.at, asked.over = None, True
            elif asked.job.is_over:
                asked.over = True
        for asked in new:
            self._is_not_before_its_turn(asked)

    def _is_not_before_its_turn(self, asked: Asked) -> None:
        """Nobody of the same key waits for the same model who was there before, and suited."""
        if asked.was_tried_before:
            return
        for other in self.asked[: asked.number]:
            is_alike = (other.key, other.model) == (asked.key, asked.model)
            if is_alike and not other.over and other.at is None and not other.was_tried_before:
                raise AssertionError(f"{asked.number} went before {other.number}")

    # --- what holds always

    @invariant()
    def a_job_is_in_one_place(self) -> None:
        in_line = [job.id for job in self.hub.dispatch.in_line()]
        assert len(in_line) == len(set(in_line)) == self.hub.dispatch.waiting
        expected = {a.job.id for a in self.asked if not a.over and a.at is None}
        assert set(in_line) == expected
        assert self.hub.dispatch.active == sum(a.at is not None for a in self.asked)

    @invariant()
    def nobody_holds_more_than_they_can(self) -> None:
        for session in self.here.values():
            held = {asked.job.id for asked in self.asked if asked.at is session}
            assert held == set(session.worker.jobs)

    @invariant()
    def nobody_waits_whom_somebody_could_serve(self) -> None:
        for asked in self.asked:
            if not asked.over and asked.at is None:
                able = [s.name for s in self.here.values() if self.could_serve(s, asked)]
                assert not able, f"{asked.number} waits, {able} could take it"

    @invariant()
    def the_roster_knows_who_is_here(self) -> None:
        assert {w.id for w in self.hub.roster} == set(self.here)
        for model in "mno":
            expected = {s.name for s in self.here.values() if model in s.models}
            assert {w.id for w in self.hub.roster.offering(model)} == expected


def offered(model: str) -> Model:
    return Model(model, features=["history"])


TestRosterAndLine = RosterAndLine.TestCase
TestRosterAndLine.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # A hub is opened for every attempt at a shorter story: that would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
