"""A worker's life in frames. No sockets: links ask it what to say and tell it what was said."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from agent import __version__
from agent.engines import (
    AwaitsHuman,
    Condition,
    Engine,
    EngineBusy,
    EngineFailure,
    Finish,
    Job,
    Part,
    SiteEngine,
    Starts,
)
from agent.voice import MAX_SENTENCE, Voice, whole
from hub.protocol import (
    ACK_EVERY_FRAMES,
    ACK_EVERY_S,
    FAILURES,
    MAX_UNACKED_BYTES,
    MAX_UNACKED_FRAMES,
    VERSION,
    Bye,
    Cancel,
    Channel,
    Drain,
    Hello,
    HelloMessage,
    HubFrame,
    HubPacket,
    JobFrame,
    Model,
    ModelsFrame,
    Notice,
    Ping,
    Pong,
    ProfileFrame,
    ProtocolError,
    Refuse,
    Resume,
    Scale,
    Started,
    State,
    StatusFrame,
    Welcome,
    WorkerFrame,
    encode,
)

log = structlog.get_logger()

DEFAULT_MAX_BYTES = 1024 * 1024
DEFAULT_HEARTBEAT_S = 20.0


@dataclass(frozen=True, slots=True)
class Card:
    """What a worker says of itself in every hello."""

    worker: str
    name: str
    slots: int
    """At first, and at least."""
    region: str | None = None
    most_slots: int | None = None
    """The hub may ask for so many; None for no more than `slots`."""


class _Status(NamedTuple):
    """What a status frame says."""

    state: State = "ready"
    reason: str | None = None
    slots: int | None = None
    until: float | None = None
    """In seconds of the event loop's clock."""

    def is_news(self, told: "_Status") -> bool:
        """Whether the hub would learn something: a second more or less of a pause is nothing."""
        if self[:3] != told[:3] or self.until is None or told.until is None:
            return self != told
        return abs(self.until - told.until) >= 1.0


@dataclass(slots=True)
class Tally:
    """How this process's jobs ended."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0


class Session:
    """One worker at one hub: the numbering, the engine and the jobs in hand.

    It outlives links: `hello` and `welcomed` begin a connection, `parted` ends it, and what is said in
    between waits in the channel. It must be made and used inside a running event loop.
    """

    def __init__(self, card: Card, engine: Engine) -> None:
        self.card = card
        self.tally = Tally()
        self.wake = asyncio.Event()
        """Set when a link should look again: frames, an ack that is due, leaving, or the session's end."""
        self.stale = asyncio.Event()
        """Set when the catalogue proved wrong and should be read again."""
        self.missing: set[str] = set()
        """Models in the catalogue that the upstream turned out not to have."""
        self.leaving: str | None = None
        """Why we say goodbye; a link that sees it says the rest, then bye."""
        self.departure = asyncio.Event()
        """Set together with `leaving`."""
        self.connected = False
        self.heartbeat_s = DEFAULT_HEARTBEAT_S
        self.waiting: set[str] = set()
        """Jobs that wait for their human."""
        self._engine = engine
        self._site = engine if isinstance(engine, SiteEngine) else None
        self._condition = Condition(0 if self._site else card.slots)
        self._models: list[Model] = []
        self._unfit: dict[str, str] = {}
        self._draining_for: dict[str, str] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._roomy = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._start_over()
        self._introduced = self._told, self._told_models

    def _start_over(self) -> None:
        self._channel = Channel()
        self._id: str | None = None
        self._max_bytes = DEFAULT_MAX_BYTES
        self._over: ProtocolError | None = None
        self._ack_due_at: float | None = None
        self._told = _Status()
        self._told_models: list[Model] = []

    # --- what it is ---------------------------------------------------------------------------------

    @property
    def busy(self) -> int:
        """How many jobs are in hand."""
        return len(self._jobs)

    @property
    def models(self) -> list[Model]:
        """What is on offer."""
        return self._models

    @property
    def state(self) -> State:
        """How it is, in the protocol's words."""
        return self._status().state

    @property
    def slots(self) -> int:
        """How many jobs it takes at once now."""
        return self._condition.slots

    async def idle(self) -> None:
        """Wait until no job is in hand."""
        await self._idle.wait()

    # --- connections --------------------------------------------------------------------------------

    def hello(self, token: str = "") -> bytes:
        """The first message of a connection; by polling the token travels elsewhere."""
        # A hello has no place for when a pause is over: a status frame tells that after the welcome.
        self._told, self._told_models = self._status()._replace(until=None), self._models
        self._introduced = self._told, self._told_models
        resume = Resume(self._id, self._channel.received) if self._id else None
        return encode(
            HelloMessage(
                Hello(
                    VERSION,
                    self.card.worker,
                    self.card.name,
                    "agent",
                    __version__,
                    self.slots,
                    self._models,
                    token,
                    self.card.region,
                    self.state,
                    resume,
                )
            )
        )

    def welcomed(self, welcome: Welcome) -> None:
        """A connection begins, in the old session or in a new one. Raises ProtocolError."""
        if welcome.resumed:
            self._check_resumed(welcome)
            self._channel.rewind()
            self._channel.acknowledge(welcome.received)
        else:
            self._begin()
        self._id = welcome.session
        self._max_bytes = welcome.max_bytes
        self.heartbeat_s = welcome.heartbeat_s
        self.connected = True
        if welcome.profile is not None:
            self._heed_profile(welcome.profile)
        self._announce()
        self._roomy.set()
        self.wake.set()
        log.info("welcomed", resumed=welcome.resumed, jobs=self.busy)

    def _check_resumed(self, welcome: Welcome) -> None:
        if self._id is None or self._id != welcome.session:
            raise ProtocolError("the hub resumed a session that is not ours")

    def _begin(self) -> None:
        self.forget("the hub began a new session")
        # What was said after the hello went to the old session, and with it.
        self._told, self._told_models = self._introduced
        self._draining_for.pop("hub", None)

    def parted(self) -> None:
        """The connection is gone; jobs go on, and what they say waits for the next one."""
        self.connected = False
        self._roomy.set()

    def forget(self, reason: str) -> None:
        """The session is over: drop its frames and stop its jobs."""
        if self._jobs:
            log.warning("jobs dropped", reason=reason, jobs=self.busy)
        for job in list(self._jobs):
            self.tally.cancelled += 1
            self._drop(job)
        self._start_over()
        self._roomy.set()
        self.wake.set()

    def ensure_alive(self) -> None:
        """Raises ProtocolError (4002) once the peer fell too far behind for this session to go on."""
        if self._over is not None:
            raise self._over

    # --- packets ------------------------------------------------------------------------------------

    @property
    def has_unsent(self) -> bool:
        return self._channel.has_unsent

    @property
    def unacked(self) -> int:
        """How many of our frames the hub has not acknowledged."""
        return self._channel.unacked

    def packet(self, extra: bytes = b"", *, everything: bool = False) -> bytes:
        """The next packet; `everything` repeats what is not acknowledged, as polling does."""
        self.ensure_alive()
        if everything:
            self._channel.rewind()
        self._ack_due_at = None
        return self._channel.packet(self._max_bytes, extra)

    def receive(self, packet: HubPacket) -> None:
        """Take a packet from the hub. Raises ProtocolError."""
        for frame in self._channel.accept(packet.n, packet.ack, packet.frames):
            self._heed(frame)
        if self._channel.ack_owed and self._ack_due_at is None:
            self._ack_due_at = asyncio.get_running_loop().time() + ACK_EVERY_S
            self.wake.set()
        if self._channel.ack_owed >= ACK_EVERY_FRAMES:
            self.wake.set()
        if not self._is_crowded():
            self._roomy.set()

    def ack_due_in(self) -> float | None:
        """Seconds until the hub must be told what we have; None if it knows."""
        if self._ack_due_at is None:
            return None
        if self._channel.ack_owed >= ACK_EVERY_FRAMES:
            return 0.0
        return max(0.0, self._ack_due_at - asyncio.get_running_loop().time())

    def _heed(self, frame: HubFrame) -> None:
        match frame:
            case JobFrame():
                self._take(frame)
            case Cancel():
                self._cancel(frame)
            case Ping():
                self._push(Pong())
            case Drain():
                self.drain("hub", "the hub is shutting down")
            case ProfileFrame(profile=profile):
                self._heed_profile(profile)
            case Scale(slots=slots):
                self._scale(slots)

    def _heed_profile(self, profile: dict[str, Any]) -> None:
        if self._site is not None:
            self._site.profile(profile)

    def _scale(self, wanted: int) -> None:
        least, most = self.card.slots, self.card.most_slots or self.card.slots
        slots = min(max(wanted, least), most)
        log.info("the hub sets the slots", wanted=wanted, slots=slots)
        if self._site is not None:
            self._site.scale(slots)
        else:
            self.fares(Condition(slots))

    def _push(self, frame: WorkerFrame) -> None:
        self._push_encoded(encode(frame))

    def _push_encoded(self, frame: bytes) -> None:
        if self._over is not None:
            return
        try:
            self._channel.push(frame)
        except ProtocolError as error:
            self._overflow(error)
        self.wake.set()

    def _overflow(self, error: ProtocolError) -> None:
        self.forget("too much is unacknowledged")
        if self.connected:
            self._over = error

    # --- jobs ---------------------------------------------------------------------------------------

    def _take(self, frame: JobFrame) -> None:
        if frame.job in self._jobs:
            return
        objection = self._objection(frame)
        if objection:
            self._refuse(frame.job, frame.model, objection)
            return
        job = Job(frame.job, frame.kind, frame.model, bytes(frame.body), frame.deadline_s)
        task = asyncio.create_task(self._work(job))
        self._jobs[job.id] = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._idle.clear()

    def _objection(self, frame: JobFrame) -> str | None:
        if self._draining_for:
            return "draining"
        if self._unfit:
            return "waiting for attention"
        if frame.kind not in self._engine.kinds:
            return f"this agent does not do {frame.kind}"
        # A site's engine knows better: its next slot may be a moment away.
        if self._site is None and self.busy >= self.slots:
            return "no free slot"
        return None

    def _refuse(self, job: str, model: str, reason: str) -> None:
        self.tally.refused += 1
        log.info("job refused", model=model, reason=reason)
        self._push(Refuse(job, reason))

    def _cancel(self, frame: Cancel) -> None:
        if frame.job in self._jobs:
            self.tally.cancelled += 1
            self._drop(frame.job)
            log.info("job cancelled", reason=frame.reason)

    def _drop(self, job: str) -> None:
        self._release(job).cancel()

    def _release(self, job: str) -> "asyncio.Task[None]":
        task = self._jobs.pop(job)
        self.waiting.discard(job)
        if not self._jobs:
            self._idle.set()
        return task

    def _holds(self, job: str) -> bool:
        return self._jobs.get(job) is asyncio.current_task()

    async def _work(self, job: Job) -> None:
        voice = Voice(job.id, self._max_bytes)
        if self._site is None:
            self._push(Started(job.id))
        try:
            async with asyncio.timeout(job.deadline_s if job.deadline_s > 0 else None):
                await self._answer(job, voice)
        except EngineFailure as failure:
            self._fail(job, voice, failure)
        except EngineBusy as busy:
            if self._holds(job.id):
                self._release(job.id)
                self._refuse(job.id, job.model, whole(str(busy)))
        except TimeoutError:
            late = EngineFailure("upstream_timeout", "the answer took longer than it may")
            self._fail(job, voice, late)
        except Exception:
            log.exception("engine broke", model=job.model)
            self._fail(job, voice, EngineFailure("internal", "the agent's engine broke"))

    async def _answer(self, job: Job, voice: Voice) -> None:
        async with aclosing(self._engine.answer(job)) as parts:
            async for part in parts:
                if isinstance(part, Finish):
                    await self._finish(job, voice, part)
                    return
                self._note(job, part)
                for frame in voice.frames(part):
                    await self._room()
                    if not self._holds(job.id):
                        return
                    self._push_encoded(frame)
        raise EngineFailure("internal", "the engine stopped without an end")

    def _note(self, job: Job, part: Part) -> None:
        if isinstance(part, AwaitsHuman) and self._holds(job.id):
            self.waiting.add(job.id)
            log.info("a prompt waits for you: press send in its tab", model=job.model)
        elif isinstance(part, Starts):
            self.waiting.discard(job.id)

    async def _finish(self, job: Job, voice: Voice, finish: Finish) -> None:
        await self._room()
        if not self._holds(job.id):
            return
        self._release(job.id)
        self.tally.done += 1
        log.info("job done", model=job.model)
        for frame in voice.frames(finish):
            self._push_encoded(frame)

    def _fail(self, job: Job, voice: Voice, failure: EngineFailure) -> None:
        if not self._holds(job.id):
            return
        self._release(job.id)
        self.tally.failed += 1
        log.warning("job failed", model=job.model, code=failure.code, message=failure.message)
        for frame in voice.rest():
            self._push_encoded(frame)
        self._push_encoded(voice.failure(failure))
        self._learn(job, failure)

    def _learn(self, job: Job, failure: EngineFailure) -> None:
        if failure.code == "model_not_found":
            self.missing.add(job.model)
            self.offer([model for model in self._models if model.id != job.model])
            self.stale.set()
        elif FAILURES[failure.code].worker == "attention":
            # The hub holds it against the whole worker: what is left of it must be said again.
            self._told = self._told._replace(state="attention", reason=failure.code, until=None)
            if self._site is None and failure.code == "login_required":
                self.needs_attention("engine", failure.message)
            elif self._site is not None:
                self._announce()

    async def _room(self) -> None:
        while self.connected and self._is_crowded():
            self._roomy.clear()
            await self._roomy.wait()

    def _is_crowded(self) -> bool:
        # Half the bound is for engines: pongs, ends and failures never wait, and must still fit.
        channel = self._channel
        return (
            channel.unacked >= MAX_UNACKED_FRAMES // 2 or channel.weight >= MAX_UNACKED_BYTES // 2
        )

    # --- what it offers, and how it feels -----------------------------------------------------------

    def offer(self, models: list[Model]) -> None:
        """The catalogue, as it is now; the hub hears of a change."""
        self._models = models
        self._announce()

    def needs_attention(self, who: str, reason: str) -> None:
        """Its human must act: take no jobs until `at_ease` with the same `who`."""
        self._unfit[who] = whole(reason)[:MAX_SENTENCE]
        self._announce()

    def at_ease(self, who: str) -> None:
        """There is proof that it works again."""
        self._unfit.pop(who, None)
        self._announce()

    def fares(self, condition: Condition) -> None:
        """How many jobs the engine could hold, and why none; the hub hears of a change."""
        self._condition = condition
        self._announce()

    def notice(self, message: str) -> None:
        """The site is not as its profile says: let the operator know."""
        log.warning("the site has changed", seen=message)
        if self._id is not None:
            self._push(Notice("site_changed", whole(message)[:MAX_SENTENCE]))

    def catalogue_changed(self) -> None:
        """The catalogue should be read again."""
        self.stale.set()

    def drain(self, who: str, reason: str) -> None:
        """Finish what is in hand, and take no more."""
        self._draining_for[who] = reason
        self._announce()

    def leave(self, reason: str) -> None:
        """Say goodbye: what is still in hand fails, and links end after the last word."""
        for job in list(self._jobs):
            self.tally.cancelled += 1
            self._drop(job)
            failure = EngineFailure("cancelled", "the agent is shutting down")
            self._push_encoded(Voice(job, self._max_bytes).failure(failure))
        self.leaving = reason
        self.departure.set()
        self.wake.set()

    def say_bye(self) -> None:
        """The frame that ends the session, for links that send frames alone."""
        self._push(Bye(self.leaving or ""))

    async def close(self) -> None:
        """Stop what still runs, and wait until it has."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _status(self) -> _Status:
        # Draining counts before attention: no job comes either way, but draining ends.
        slots = self.slots
        if self._draining_for:
            return _Status("draining", next(iter(self._draining_for.values())), slots)
        if self._unfit:
            return _Status("attention", next(iter(self._unfit.values())), slots)
        condition = self._condition
        reason = condition.reason and whole(condition.reason)[:MAX_SENTENCE]
        return _Status(condition.state, reason, slots, condition.until)

    def _announce(self) -> None:
        if self._id is None:
            return  # The next hello says it.
        if self._models != self._told_models:
            self._told_models = self._models
            self._push(ModelsFrame(self._models))
        status = self._status()
        if status.is_news(self._told):
            slots = None if status.slots == self._told.slots else status.slots
            self._told = status
            self._push(StatusFrame(status.state, status.reason, self._seconds_until(status), slots))

    def _seconds_until(self, status: _Status) -> float | None:
        if status.until is None:
            return None
        return max(0.0, status.until - asyncio.get_running_loop().time())
