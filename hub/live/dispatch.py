"""Match jobs to workers, keep their deadlines, redeliver before the start, settle once.

The rules are those of "Starting and redelivery" in the worker protocol; `rules/attempt.py` decides, this
module carries out.
"""

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Literal

from .. import errors
from ..errors import (
    ContentPolicyViolation,
    HubError,
    NoWorkerAvailable,
    QueueFull,
    QueueTimeout,
    ShuttingDown,
    SlowCaller,
    UpstreamTimeout,
    WorkerLost,
)
from ..protocol import (
    FAILURES,
    RATE_LIMITED_DEFAULT_S,
    Bye,
    Close,
    End,
    Fail,
    Hello,
    ModelsFrame,
    Notice,
    Pong,
    Refuse,
    Started,
    StatusFrame,
    Waiting,
    Welcome,
    WorkerFrame,
)
from ..rules import tokens
from ..rules.attempt import Phase
from ..rules.openai import dump_usage, finish_reason, trusted_figures
from ..settings import Settings
from ..store import Store
from ..store.content import Stored
from ..store.journal import Accepted, Progress, Settled, State
from ..store.worker_tokens import WorkerToken
from ..store.workers import Seen
from .feed import Feed, RequestSettled, SiteChanged, StorageTrouble, WorkerFailed
from .gate import Gate
from .jobs import NOTHING, NOTHING_DUE, Bill, Billed, Job, Outcome
from .line import Line
from .timer import Timer
from .workers import Held, Link, Roster, Worker

ERRORS: dict[str, type[HubError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, HubError) and kind.code
}

OUR_DOING = (Close.RESTART, Close.UNAUTHORIZED, Close.REMOVED)
"""Endings of a session that are not the worker's fault."""
WORKERS_OWN = ("site_changed", "internal")
"""Failures that count against the whole worker's breaker, whatever the model."""
DAY_US = 86_400_000_000
RECENT = 0.1
"""How much the latest answer weighs in the usual time of one."""
FULL_RETRY_S = 5.0
"""When to come back to a full line of which nobody knows how fast it moves."""
HOPE = 2.0
"""A newcomer is refused when it would probably wait for this many times as long as it may."""
FINAL = (ContentPolicyViolation, QueueFull, ShuttingDown)
"""Errors after which no other model is asked: moderation is not for getting around, the rest is not the model's."""
LINE_WORTH_A_GUESS = 10
"""Shorter lines are too few to guess from."""


class _Wait:
    """A job's stay in line."""

    __slots__ = ("absent_since", "deadline", "patience", "timer")

    def __init__(self, now: float, queue_s: float, patience: float) -> None:
        self.deadline = now + queue_s
        self.patience = patience
        """How long to wait for a worker when there is none at all."""
        self.absent_since: float | None = None
        self.timer: Timer | None = None

    def due(self) -> float:
        if self.absent_since is None:
            return self.deadline
        return min(self.deadline, self.absent_since + self.patience)


class Dispatch:
    """All jobs that are not over, and what becomes of them."""

    def __init__(
        self, settings: Settings, store: Store, roster: Roster, gate: Gate, feed: Feed
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._deadlines = settings.deadlines
        self._store = store
        self._roster = roster
        self._gate = gate
        self._feed = feed
        self._line = Line(settings.line.max_waiting, settings.line.max_waiting_per_key)
        self._waits: dict[str, _Wait] = {}
        self._jobs: dict[str, Job] = {}
        self._holders: dict[str, Worker] = {}
        self._counting: set[asyncio.Task[None]] = set()
        self._writes: set[asyncio.Future[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hurried = asyncio.Event()
        self._usual_s: dict[str, float] = {}
        """How long an answer of a model usually takes, by the latest ones."""
        self.draining = False

    # --- a caller's side

    @property
    def active(self) -> int:
        """Jobs in workers' hands."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """Jobs in line."""
        return len(self._line)

    def in_line(self) -> Iterator[Job]:
        """The jobs in line."""
        return iter(self._line)

    def check_open(self) -> None:
        """Raises ShuttingDown."""
        if self.draining:
            raise self._shutting_down()

    async def submit(self, job: Job) -> None:
        """Write a job down and let it in. Raises QueueFull, ShuttingDown, StorageFailed."""
        if not self._roster.has_room(job, monotonic()):
            try:
                self._check_line(job)
            except QueueFull:
                self._gate.withdraw(job.reservation)
                raise
        accepted = Accepted(
            job.id,
            job.caller.key.id,
            job.caller.user_id,
            "/v1/chat/completions",
            job.model,
            job.stream,
            job.accepted_at,
            job.prompt.tokens,
        )
        self._jobs[job.id] = job
        self._idle.clear()
        try:
            await self._store.journal.accept(accepted)
        except asyncio.CancelledError:
            # The row may yet be written; its end is queued behind it.
            self.leave(job, delivered=False)
            raise
        except sqlite3.Error as problem:  # the disk: nothing may run
            self._feed.announce(StorageTrouble(str(problem)))
            self._gate.withdraw(job.reservation)
            self._forget(job)
            raise errors.StorageFailed(retry_after=10) from problem
        except Exception:
            self._gate.withdraw(job.reservation)
            self._forget(job)
            raise
        if job.is_kept and not job.settling and not await self._keep(job):
            self._fail(job, errors.StorageFailed(retry_after=10))
        if job.settling:
            return
        if self.draining:
            self._fail(job, self._shutting_down())
            return
        try:
            self._place(job)
        except QueueFull as full:
            self._fail(job, full)

    async def _keep(self, job: Job) -> bool:
        """Write down that the answer is kept, before there is any; False if the disk did not take it."""
        days, stored = self._store.operator_days, None
        if job.caller.user is not None:
            days = self._store.tiers.get(job.caller.user.tier).retention_days
        if job.metadata is not None:
            stored = Stored(job.metadata, job.accepted_at + days * DAY_US)
        begun = self._store.content.begin(
            job.id,
            job.caller,
            job.name,
            job.body,
            job.accepted_at,
            stored=stored,
            repeat=job.repeat,
        )
        self._await_write(begun)
        await asyncio.wait([begun])
        return begun.exception() is None

    def leave(self, job: Job, *, delivered: bool) -> None:
        """The caller is gone; `delivered` says whether it got what left for it so far.

        Nothing happens to a job that is over, or was never let in.
        """
        if job.id not in self._jobs or job.settling:
            return
        answer = job.billed(delivered_only=True) if delivered else NOTHING
        self._settle(job, "cancelled", Outcome(error=None), answer, cancel="caller_left")

    def outlook(self, job: Job) -> tuple[int, int | None] | None:
        """The job's place in line, 1 for the next, and about how many seconds it will wait.

        None when it is not in line; no seconds while nothing is known of how long answers take.
        """
        if job.id not in self._waits:
            return None
        # Of several who read one answer each has a job of its own, and one of them is in line.
        position = self._line.position(self._jobs[job.id])
        turn_s = self._turn_s(job)
        return position, None if turn_s is None else math.ceil(turn_s * position)

    # --- the line

    def _turn_s(self, job: Job) -> float | None:
        """About how many seconds pass from one turn of the job's model to the next; None if nobody knows."""
        usual = self._usual_s.get(job.model)
        slots = sum(w.slots for w in self._roster.offering_to(job.caller, job.model))
        return None if usual is None or not slots else usual / slots

    def _check_line(self, job: Job) -> None:
        """Refuse early what would only wait in vain. Raises QueueFull."""
        turn_s = self._turn_s(job)
        self._line.check_room(job, retry_after=FULL_RETRY_S if turn_s is None else turn_s)
        ahead = self._line.ahead_of(job)
        if turn_s is None or ahead < LINE_WORTH_A_GUESS:
            return
        wait = turn_s * (ahead + 1)
        if wait > self._deadlines.queue_s * HOPE:
            raise QueueFull(retry_after=wait - self._deadlines.queue_s)

    def _place(self, job: Job, *, first: bool = False) -> None:
        """Give a job to a worker, or put it in line. Raises QueueFull."""
        now = monotonic()
        worker = self._roster.pick(job, now)
        if worker is not None:
            self._offer(job, worker)
            return
        if not first:
            self._line.check_room(job, retry_after=FULL_RETRY_S)
        if job.fallbacks and not self._has_prospects(job) and self._goes_on(job):
            return
        deadlines = self._deadlines
        patience = deadlines.absent_stream_s if job.stream else deadlines.absent_s
        wait = self._waits[job.id] = _Wait(now, deadlines.queue_s, patience)
        if not self._roster.prospects(job, by=wait.deadline):
            wait.absent_since = now
        self._line.join(job)
        wait.timer = Timer(self._loop, wait.due, lambda now: self._waited(job, wait, now))

    # --- along an alias

    def _falls_back(self, job: Job, error: HubError, cancel: str | None) -> bool:
        """Let another model answer instead, where the operator named one and nothing of an answer has come."""
        out_of_time = monotonic() >= job.accepted + self._deadlines.job_s
        final = job.settling or self.draining or out_of_time or isinstance(error, FINAL)
        if final or not job.fallbacks or job.first_piece is not None:
            return False
        return self._goes_on(job, cancel)

    def _goes_on(self, job: Job, cancel: str | None = None) -> bool:
        """Go on to the next model that somebody could answer for; False if there is none."""
        model = self._next_model(job)
        if model is None:
            return False
        self._unwait(job)
        self._take_back(job, cancel)
        job.turn_to(model)
        self._place(job, first=True)
        return True

    def _next_model(self, job: Job) -> str | None:
        model, tried = job.model, job.tried
        try:
            for other in job.fallbacks:
                job.model, job.tried = other, set()
                if self._has_prospects(job):
                    return other
            return None
        finally:
            job.model, job.tried = model, tried

    def _has_prospects(self, job: Job) -> bool:
        return self._roster.prospects(job, by=monotonic() + self._deadlines.queue_s)

    def _unwait(self, job: Job, *, served: bool = False) -> None:
        wait = self._waits.pop(job.id, None)
        if wait is not None:
            if wait.timer is not None:
                wait.timer.stop()
                wait.timer = None
            self._line.leave(job, served=served)

    def _waited(self, job: Job, wait: _Wait, now: float) -> None:
        if self._roster.prospects(job, by=wait.deadline):
            wait.absent_since = None
            if now < wait.deadline:
                wait.timer = Timer(self._loop, wait.due, lambda now: self._waited(job, wait, now))
            else:
                self._fail(job, job.last_fail or QueueTimeout(), state="expired")
        else:
            self._fail(job, self._nobody(job), state="expired")

    def _nobody(self, job: Job) -> HubError:
        """The error of a job that no worker can take."""
        if job.last_fail is not None:
            return job.last_fail
        wait = self._roster.soonest(job, monotonic())
        return NoWorkerAvailable(retry_after=wait or self._deadlines.absent_s)

    # --- offers

    def _offer(self, job: Job, worker: Worker) -> None:
        self._unwait(job, served=True)
        job.tried.add(worker.session)
        job.deliveries += 1
        job.worker = worker.name
        job.own_worker = worker.is_own(job.caller)
        job.trusted = worker.token.trusted
        job.offered = job.offered or monotonic()
        if job.bounds is not None:
            job.cutting = job.bounds.left_by(worker.models[job.model].features)
        held = worker.offer(job)
        self._holders[job.id] = worker
        ends = job.accepted + self._deadlines.job_s

        def due() -> float:
            return min(held.attempt.due, ends)

        held.timer = Timer(self._loop, due, lambda now: self._overdue(worker, held, now >= ends))

    def _take_back(self, job: Job, cancel: str | None) -> None:
        worker = self._holders.pop(job.id, None)
        if worker is not None:
            worker.release(job, cancel)

    def _redeliver(self, job: Job, nobody: Callable[[], HubError] | None) -> None:
        """Give a job that did not run to another worker.

        `nobody` makes the error for when there is no other; without it the job waits for one to come.
        """
        if job.settling:
            return
        if self.draining:
            self._fail(job, self._shutting_down())
        elif nobody and not self._has_prospects(job):
            self._fail(job, nobody())
        else:
            self._place(job, first=True)

    def _overdue(self, worker: Worker, held: Held, out_of_time: bool) -> None:
        job = held.job
        if not out_of_time:
            self._blame_silence(worker, held)
        if out_of_time or held.attempt.has_started:
            self._fail(job, UpstreamTimeout(), state="expired", cancel="timeout")
            return
        self._take_back(job, cancel="not started in time")
        self._redeliver(job, lambda: self._nobody(job))

    def _blame_silence(self, worker: Worker, held: Held) -> None:
        """A worker that said nothing at all failed itself; one that waits for its human did not."""
        if held.attempt.phase is not Phase.WAITING:
            worker.failed(held.job.model, whole=not held.attempt.has_started)

    # --- the desk: what workers do

    def admit(self, hello: Hello, token: WorkerToken, link: Link) -> tuple[Worker, Welcome]:
        """A worker introduces itself under a valid token; jobs may be waiting for it."""
        worker, welcome = self._roster.admit(hello, token, link, self)
        if self.draining:
            worker.drain()
        self._remember(worker)
        self.returned(worker)
        return worker, welcome

    def freed(self, worker: Worker) -> None:
        """Give the jobs whose turn it is, and that it can take, to a worker with free slots."""
        self._roster.rota.back(worker)
        now = monotonic()
        while len(worker.jobs) < worker.slots:
            able = [job for job in self._next_for(worker) if worker.can_take(job, now)]
            if not able:
                break
            self._offer(min(able, key=_turn), worker)

    def returned(self, worker: Worker) -> None:
        """Jobs may have waited for just this worker."""
        self._note_presence(worker)
        self.freed(worker)

    def _next_for(self, worker: Worker) -> list[Job]:
        """The next job of each model that this worker suits."""
        found: list[Job] = []
        for model in self._line.models():
            if model in worker.models:
                suited = (job for job in self._line.waiting_for(model) if worker.suits(job))
                found += [job for job in [next(suited, None)] if job is not None]
        return found

    def _note_presence(self, worker: Worker) -> None:
        for model in self._line.models():
            if model in worker.models:
                for job in self._line.waiting_for(model):
                    wait = self._waits[job.id]
                    if worker.suits(job) and worker.cools_until(model) < wait.deadline:
                        wait.absent_since = None

    def barred(self) -> None:
        """Start the clock of jobs that nobody is left for."""
        now = monotonic()
        for job in self._line:
            self._note_absence(job, now)

    def _note_absence(self, job: Job, now: float) -> None:
        wait = self._waits[job.id]
        if wait.absent_since is None and not self._roster.prospects(job, by=wait.deadline):
            if self._goes_on(job):
                return
            wait.absent_since = now
            if wait.timer is not None:
                wait.timer.check()

    def answering(self, held: Held, now: float) -> None:
        """The first piece, which implies `started`."""
        held.job.started = held.job.started or now
        held.job.first_piece = now
        self._deadline_moved(held)

    def _deadline_moved(self, held: Held) -> None:
        if held.timer is not None:
            held.timer.check()

    def overflowed(self, worker: Worker, held: Held) -> None:
        """Stop a job whose caller reads too slowly."""
        job = held.job
        error = Outcome(error=SlowCaller())
        answer = job.billed(delivered_only=True)
        self._settle(job, "failed", error, answer, cancel="slow_caller")
        if job.on_overflow is not None:
            job.on_overflow()

    def enough(self, held: Held) -> None:
        """Stop a job whose answer has reached a stop sequence or its last token."""
        job = held.job
        outcome = Outcome(finish_reason=job.cut)
        self._settle(job, "completed", outcome, job.billed(), cancel=job.cut)

    def cut(self, worker: Worker) -> None:
        """Without a link, what is not known to have started leaves soon."""
        for held in list(worker.jobs.values()):
            if held.attempt.leaves_early:
                held.leave = self._loop.call_later(
                    self._deadlines.cut_s, self._abandon, worker, held.job
                )

    def _abandon(self, worker: Worker, job: Job) -> None:
        self._take_back(job, cancel="given to another worker")
        self._redeliver(job, None)

    def left(self, worker: Worker) -> None:
        """A session is over: what had not started goes elsewhere, the rest is lost."""
        self._roster.forget(worker)
        if worker.ended_by not in OUR_DOING and any(
            held.attempt.has_started for held in worker.jobs.values()
        ):
            worker.lost()
        for held in list(worker.jobs.values()):
            job = held.job
            if held.attempt.has_started:
                self._fail(job, WorkerLost())
            else:
                self._take_back(job, cancel=None)
                self._redeliver(job, None)
        self.barred()

    def heard(self, worker: Worker, frame: WorkerFrame) -> None:
        """A frame other than a piece."""
        match frame:
            case StatusFrame():
                if frame.slots is not None:
                    worker.set_slots(frame.slots)
                worker.change(frame.state, frame.reason, frame.until)
            case ModelsFrame():
                self._offer_models(worker, frame)
            case Bye():
                worker.end(frame.reason or "it said goodbye", Close.GOING_AWAY)
            case Started() | Waiting() | Refuse() | End() | Fail():
                held = worker.jobs.get(frame.job)
                if held is None:
                    worker.dropped += 1
                else:
                    self._heard_of(worker, held, frame)
            case Notice():
                self._feed.announce(SiteChanged(worker.name, frame.message))
            case Pong():
                pass

    def _offer_models(self, worker: Worker, frame: ModelsFrame) -> None:
        self._roster.set_models(worker, frame.models)
        self._remember(worker)
        self.barred()
        self.returned(worker)

    def _remember(self, worker: Worker) -> None:
        """Write down what the worker offers, so that its models stay known."""
        seen = Seen(worker.id, worker.name, worker.kind, worker.version, worker.region)
        written = self._store.workers.saw(worker.token, seen, list(worker.models))
        self._await_write(written)

    def _heard_of(
        self, worker: Worker, held: Held, frame: Started | Waiting | Refuse | End | Fail
    ) -> None:
        job, now = held.job, monotonic()
        match frame:
            case Started():
                held.attempt.started(now)
                job.started = job.started or now
                self._deadline_moved(held)
            case Waiting():
                held.attempt.waiting(now)
                self._deadline_moved(held)
            case Refuse():
                if held.attempt.has_started:
                    worker.failed(job.model)
                    self._fail(job, ERRORS["upstream_error"]())
                    return
                self._take_back(job, cancel=None)
                self._redeliver(job, lambda: self._nobody(job))
            case End():
                job.close()
                reason = finish_reason(frame.finish_reason, truncated=frame.truncated)
                outcome = Outcome(finish_reason=job.cut or reason, worker_usage=frame.usage)
                worker.succeeded(held)
                self._settle(job, "completed", outcome, job.billed())
            case Fail():
                self._failed(worker, held, frame)

    def _failed(self, worker: Worker, held: Held, fail: Fail) -> None:
        job = held.job
        self._feed.announce(WorkerFailed(worker.name, job.id, job.model, fail.code, fail.message))
        if fail.code == "site_changed":
            self._feed.announce(SiteChanged(worker.name, fail.message))
        elsewhere = held.attempt.may_go_elsewhere(fail)
        if elsewhere:
            job.last_fail = self._error_of(fail)
        self._heed(worker, job.model, fail)
        if elsewhere:
            self._take_back(job, cancel=None)
            self._redeliver(job, lambda: self._error_of(fail))
        else:
            self._fail(job, self._error_of(fail))

    def _heed(self, worker: Worker, model: str, fail: Fail) -> None:
        """What a failure means for the worker itself."""
        match FAILURES[fail.code].worker:
            case "attention":
                worker.change("attention", fail.code)
            case "cooling":
                worker.cool_model(model, _pause(fail))
            case "breaker":
                worker.failed(model, whole=fail.code in WORKERS_OWN)
            case "drop_model":
                kept = [known for known in worker.models.values() if known.id != model]
                self._roster.set_models(worker, kept)

    def _error_of(self, fail: Fail) -> HubError:
        """A failure as its caller reads it; the worker's own words stay with the operator."""
        kind = ERRORS[FAILURES[fail.code].error]
        match fail.code:
            case "rate_limited":
                return kind(retry_after=_pause(fail))
            case "challenge" | "login_required" | "consent_required":
                return kind(retry_after=fail.retry_after_s or self._deadlines.absent_s)
            case _:
                return kind(retry_after=fail.retry_after_s)

    # --- the end

    def _fail(
        self, job: Job, error: HubError, *, state: State = "failed", cancel: str | None = None
    ) -> None:
        if self._falls_back(job, error, cancel):
            return
        error.settled = True
        # A stream still gets what came before the error; any other answer is nothing but the error.
        if not job.settling:
            job.close()
        answer = job.billed() if job.stream else NOTHING
        self._settle(job, state, Outcome(error=error), answer, cancel=cancel)

    def _settle(
        self,
        job: Job,
        state: State,
        outcome: Outcome,
        answer: Billed,
        *,
        cancel: str | None = None,
    ) -> None:
        """End a job, exactly once: free its worker, count, tell the caller, write it down, announce it."""
        if job.settling:
            return
        job.settling = True
        self._unwait(job)
        self._take_back(job, cancel)
        if sum(map(len, answer.texts)) <= tokens.INLINE_CHARACTERS:
            self._conclude(job, state, outcome, tokens.count_texts(answer.texts), answer.images)
            return
        task = asyncio.create_task(self._count_and_conclude(job, state, outcome, answer))
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)

    async def _count_and_conclude(
        self, job: Job, state: State, outcome: Outcome, answer: Billed
    ) -> None:
        count = await asyncio.to_thread(tokens.count_texts, answer.texts)
        self._conclude(job, state, outcome, count, answer.images)

    def _conclude(
        self, job: Job, state: State, outcome: Outcome, count: tokens.Count, images: int
    ) -> None:
        bill = self._bill(job, state, outcome, count, images)
        outcome = Outcome(outcome.finish_reason, outcome.error, bill, outcome.worker_usage)
        self._gate.settle(job.reservation, bill.prompt + bill.completion, bill.cost)
        if state == "completed" and job.offered is not None:
            took = monotonic() - job.offered
            usual = self._usual_s.get(job.model, took)
            self._usual_s[job.model] = usual + (took - usual) * RECENT
        if job.is_kept:
            self._end_keeping(job, whole=state == "completed")
        settled = self._store.journal.settle(_settlement(job, state, outcome))
        self._await_write(settled)
        if job.is_kept:
            # What a caller was told to be whole is kept, whatever happens next.
            settled.add_done_callback(lambda _: job.finish(outcome))
        else:
            job.finish(outcome)
        self._roster.rota.fared(job.model)
        self._feed.announce(_announcement(job, state, outcome))
        self._forget(job)

    def _end_keeping(self, job: Job, *, whole: bool) -> None:
        last = job.unstored()
        self._await_write(
            self._store.content.end(job.id, last, batches=job.batches, repeatable=whole)
        )

    def _bill(
        self, job: Job, state: State, outcome: Outcome, count: tokens.Count, images: int
    ) -> Bill:
        """What was delivered, by the hub's own count or by that of a worker that is trusted."""
        if state != "completed" and not count.tokens and not images:
            return NOTHING_DUE
        prompt, cached, completion = job.prompt.tokens, 0, count.tokens
        estimated = job.prompt.estimated or count.estimated
        figures = trusted_figures(outcome.worker_usage) if job.trusted else None
        if figures is not None and state == "completed":
            prompt, cached, completion = figures
            estimated = False
        price = self._store.prices.of(job.model, job.accepted_at / 1e6, own_worker=job.own_worker)
        cost = price.cost(prompt, completion, cached=cached, images=images)
        return Bill(prompt, cached, completion, images, cost, estimated, job.own_worker)

    def _await_write(self, write: "asyncio.Future[Any]") -> None:
        """Nobody waits for this write, but it must not fail unseen, nor be cut off by a shutdown."""
        self._writes.add(write)
        write.add_done_callback(self._written)

    def _written(self, write: "asyncio.Future[Any]") -> None:
        self._writes.discard(write)
        if not write.cancelled() and (problem := write.exception()) is not None:
            self._feed.announce(StorageTrouble(str(problem)))

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        if not self._jobs:
            self._idle.set()

    # --- upkeep and shutdown

    def store_pieces(self) -> "asyncio.Future[None] | None":
        """Write down what came of the answers that are to be stored; None if nothing did."""
        keeping = [job for job in self._jobs.values() if job.is_kept]
        batches = [batch for job in keeping for batch in job.unstored()]
        return self._store.content.append(batches) if batches else None

    def checkpoint(self) -> "asyncio.Future[None] | None":
        """Write down how far open jobs have come; None if there are none."""
        rows = [_progress(job, self._holders.get(job.id)) for job in self._jobs.values()]
        return self._store.journal.progress(rows) if rows else None

    async def count_running(self) -> None:
        """Count what running answers have delivered since the last time, and hold back what they need."""
        fresh = [(job, texts) for job in self._jobs.values() if (texts := job.uncounted())]
        if not fresh:
            return
        counts = await asyncio.to_thread(lambda: [tokens.count_texts(texts) for _, texts in fresh])
        for (job, _), count in zip(fresh, counts, strict=True):
            job.counted_tokens += count.tokens
            prices, at = self._store.prices, job.accepted_at / 1e6
            prompt, completion = job.prompt.tokens, job.counted_tokens
            cost = prices.at_most(job.model, at, prompt, completion)
            self._gate.grow(job.reservation, prompt + completion, cost)

    def hurry(self) -> None:
        """End the draining now."""
        self._hurried.set()

    async def drain(self) -> None:
        """Take no more, refuse those who wait, let the running end, up to the drain time."""
        self.draining = True
        for worker in self._roster:
            worker.drain()
        for job in self._line:
            self._fail(job, self._shutting_down())
        hurried = asyncio.create_task(self._hurried.wait())
        idle = asyncio.create_task(self._idle.wait())
        await asyncio.wait(
            [hurried, idle], timeout=self._deadlines.drain_s, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        if not idle.done():
            idle.cancel()
            for job in list(self._jobs.values()):
                self._fail(job, ShuttingDown(retry_after=1), cancel="shutting_down")
        while self._counting or self._writes:
            await asyncio.gather(*self._counting, *self._writes, return_exceptions=True)
        await self._store.journal.settle_owed()

    def _shutting_down(self) -> ShuttingDown:
        return ShuttingDown(retry_after=self._deadlines.drain_s)


def _turn(job: Job) -> float:
    return job.tag or 0.0


def _unix_us() -> int:
    return time.time_ns() // 1000


def _pause(fail: Fail) -> float:
    return RATE_LIMITED_DEFAULT_S if fail.retry_after_s is None else fail.retry_after_s


def _settlement(job: Job, state: State, outcome: Outcome) -> Settled:
    now = _unix_us()
    # What the event loop's clock says, as Unix time.
    offset = now - monotonic() * 1e6
    bill = outcome.bill
    return Settled(
        state=state,
        model=job.model,
        offered_at=None if job.offered is None else int(job.offered * 1e6 + offset),
        started_at=None if job.started is None else int(job.started * 1e6 + offset),
        first_piece_at=None if job.first_piece is None else int(job.first_piece * 1e6 + offset),
        settled_at=now,
        worker=job.worker,
        own_worker=bill.own_worker,
        deliveries=job.deliveries,
        delivered_chars=_delivered_chars(job, state),
        prompt_tokens=bill.prompt,
        cached_tokens=bill.cached,
        completion_tokens=bill.completion,
        images=bill.images,
        tokens_estimated=bill.estimated,
        cost=bill.cost,
        worker_usage=dump_usage(outcome.worker_usage),
        finish_reason=outcome.finish_reason,
        error_code=outcome.error.code if outcome.error else None,
        id=job.id,
        user_id=job.caller.user_id,
        key_id=job.caller.key.id,
        accepted_at=job.accepted_at,
    )


def _delivered_chars(job: Job, state: State | None) -> int:
    """What the caller has had, or surely gets: all, unless it left or the answer still runs."""
    if state == "completed" or (state is not None and state != "cancelled" and job.stream):
        return job.received_chars
    return job.delivered_chars if job.stream else 0


def _announcement(job: Job, state: State, outcome: Outcome) -> RequestSettled:
    now = monotonic()
    return RequestSettled(
        request=job.id,
        key=job.caller.key.name,
        model=job.model,
        state=state,
        error=outcome.error.code if outcome.error else None,
        worker=job.worker,
        deliveries=job.deliveries,
        duration_s=now - job.accepted,
        first_piece_s=None if job.first_piece is None else job.first_piece - job.accepted,
        prompt_tokens=outcome.bill.prompt,
        completion_tokens=outcome.bill.completion,
        waited_s=(job.offered or now) - job.accepted,
        is_fault=outcome.error is not None and outcome.error.status >= 500,
        pieces=job.pieces,
    )


def _progress(job: Job, holder: Worker | None) -> Progress:
    state: Literal["queued", "offered", "started"] = "queued"
    if holder is not None and (held := holder.jobs.get(job.ticket)) is not None:
        state = "started" if held.attempt.has_started else "offered"
    started = None
    if job.started is not None:
        started = _unix_us() - int((monotonic() - job.started) * 1e6)
    return Progress(
        job.model,
        state,
        job.worker,
        job.own_worker,
        started,
        _delivered_chars(job, None),
        job.counted_tokens,
        job.id,
    )
