"""Workers as they are now: `Worker` is one session, `Roster` all of them.

A session outlives its links. A link is lent by a door (a socket or an exchange of polls); a newer one takes
the session over, and the older one's late cleanup touches nothing.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol, get_args

from cachetools import LRUCache, TTLCache
from msgspec import Raw

from ..protocol import (
    ACK_EVERY_FRAMES,
    ACK_EVERY_S,
    NEXT_S_BUSY,
    Cancel,
    Channel,
    Close,
    Drain,
    Exchange,
    Hello,
    HubFrame,
    JobFrame,
    Model,
    Piece,
    Ping,
    ProfileFrame,
    ProtocolError,
    Scale,
    State,
    Welcome,
    WorkerFrame,
    WorkerPacket,
    encode,
)
from ..rules.attempt import Attempt, Phase
from ..rules.breaker import Breaker
from ..rules.folding import fold
from ..rules.health import Change, Health
from ..settings import Settings
from ..store.keys import Caller
from ..store.worker_tokens import WorkerToken
from ..store.workers import Fared
from .feed import (
    BreakerChanged,
    Feed,
    WorkerChanged,
    WorkerCut,
    WorkerJoined,
    WorkerLeft,
    WorkerMisbehaved,
)
from .jobs import Job
from .rota import EVERYBODY, Rota
from .timer import Timer

FOREVER = float("inf")
PACKET_ROOM = 1024 * 1024
"""A packet may be this much larger than the largest request body."""
REMEMBERED = 10_000
REMEMBERED_S = 300
"""How many ended sessions are remembered, and how long; and of how many workers how they fared."""
IDLE_STEPS_S = (1.0, 2.0, 5.0, 10.0)
"""When an idle polling worker should come again, where exchanges are not held, as the hub gets quieter."""


Condition = Literal["ready", "busy", "cooling", "attention", "tripped", "draining", "away"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)


class Link(Protocol):
    """What a door lends to a worker's session."""

    polling: bool

    def wake(self) -> None:
        """The worker has something to be sent."""

    def close(self, code: Close, reason: str) -> None:
        """The link is to end now."""


class Desk(Protocol):
    """Who is told what workers do: the dispatcher."""

    def freed(self, worker: "Worker") -> None:
        """The worker has a free slot."""

    def returned(self, worker: "Worker") -> None:
        """The worker takes jobs again, or takes others than before."""

    def barred(self) -> None:
        """A worker takes no jobs for now; somebody may wait in vain."""

    def heard(self, worker: "Worker", frame: WorkerFrame) -> None:
        """A frame about a job, other than a piece."""

    def answering(self, held: "Held", now: float) -> None:
        """The first piece."""

    def overflowed(self, worker: "Worker", held: "Held") -> None:
        """The caller of this job reads too slowly."""

    def enough(self, held: "Held") -> None:
        """The caller has all of the answer that it wanted."""

    def cut(self, worker: "Worker") -> None:
        """The link is lost."""

    def left(self, worker: "Worker") -> None:
        """The session is over; what it held is still in `worker.jobs`."""


@dataclass(eq=False)
class Held:
    """A job in a worker's hands."""

    job: Job
    attempt: Attempt
    since: float
    """When it was offered."""
    is_probe: bool
    """Whether a breaker waits to see how it fares."""
    timer: Timer | None = None
    leave: asyncio.TimerHandle | None = None
    """Set while the link is lost and the job will go elsewhere unless it resumes."""

    def release(self) -> None:
        if self.timer is not None:
            self.timer.stop()
            self.timer = None
        self.stay()

    def stay(self) -> None:
        if self.leave is not None:
            self.leave.cancel()
            self.leave = None


class _Rest(NamedTuple):
    """Why no jobs are given for now; `model` is None for the whole worker."""

    why: Literal["cooling", "breaker"]
    model: str | None


class Worker:
    """One session. Times are `time.monotonic()`'s seconds, the event loop's clock."""

    def __init__(
        self,
        hello: Hello,
        token: WorkerToken,
        health: Health,
        settings: Settings,
        desk: Desk,
        feed: Feed,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._desk = desk
        self._feed = feed
        self.link: Link | None = None
        self._ack_timer: asyncio.TimerHandle | None = None
        self._gone_timer: Timer | None = None
        self._heartbeat: Timer | None = None
        self._cooling: dict[str, float] = {}
        self._rests: dict[_Rest, Timer] = {}
        self._pinged = False
        self._busiest = 0
        self.session = secrets.token_hex(16)
        self.connection = ""
        self.token = token
        self.health = health
        self.id = hello.worker
        self.channel = Channel()
        self.jobs: dict[str, Held] = {}
        self.models: dict[str, Model] = {}
        self.heard = monotonic()
        self.next_s = 0.0
        self.holding = 0
        """Exchanges that are held open for this worker now."""
        self.draining = False
        self.over = False
        self.ended_by: Close | None = None
        self.dropped = 0
        """Frames about jobs that this session no longer held."""
        self.introduce(hello)
        for model, breaker in health.resting(monotonic()):
            self._rest_until(model, breaker.rests_until)

    # --- who it is

    def introduce(self, hello: Hello) -> None:
        """What a hello says of the worker; a resume may have changed it."""
        self._wake(_Rest("cooling", None))
        self.name = hello.name or hello.worker
        self.kind = hello.kind
        self.version = hello.version
        self.region = hello.region
        self.set_slots(hello.slots)
        self.state: State = hello.state
        self.state_reason: str | None = None
        self.cooling_until = FOREVER if hello.state == "cooling" else 0.0
        self.set_models(hello.models)

    def set_slots(self, slots: int) -> None:
        """How many jobs at once it takes, as far as its token allows."""
        self.slots = slots if self.token.slots is None else min(slots, self.token.slots)

    def set_models(self, models: Iterable[Model]) -> None:
        """What it offers, as far as its token allows."""
        allowed = self.token.allows_model
        self.models = {model.id: model for model in models if allowed(model.id)}

    def serves(self, caller: Caller) -> bool:
        """Whether this caller may use it: a private worker is its owner's alone."""
        if caller.user is not None and self.token.user_id == caller.user.id:
            return True
        return self.token.shared and not caller.key.own_workers_only

    def is_own(self, caller: Caller) -> bool:
        """Whether it is a private worker of this caller's."""
        token = self.token
        return not token.shared and caller.user is not None and token.user_id == caller.user.id

    @property
    def pool(self) -> str:
        """Whose it is: a user's id, or "" for everybody."""
        return EVERYBODY if self.token.shared else self.token.user_id or EVERYBODY

    @property
    def polling(self) -> bool:
        return self.link is not None and self.link.polling

    @property
    def transport(self) -> str:
        if self.link is None:
            return "none"
        return "poll" if self.link.polling else "socket"

    @property
    def max_bytes(self) -> int:
        return self._settings.max_body_bytes + PACKET_ROOM

    @property
    def handle(self) -> str:
        """Its name for operators: the same over all its sessions, and no help to whoever would resume one."""
        identity = f"{self.token.id}\0{self.id}".encode()
        return blake2b(identity, digest_size=6).hexdigest()

    # --- what it may take

    def condition(self, now: float) -> Condition:
        """What it is up to, in a word."""
        if not self.is_connected(now):
            return "away"
        if self.draining:
            return "draining"
        if self.state != "ready":
            return self.state
        if not self.health.breaker.admits(now):
            return "tripped"
        return "busy" if len(self.jobs) >= self.slots else "ready"

    def is_connected(self, now: float) -> bool:
        """Whether an offer would reach it."""
        if self.link is None:
            return False
        late = self.next_s + self._settings.workers.poll_late_s
        return not self.link.polling or bool(self.holding) or now - self.heard <= late

    def cools_until(self, model: str) -> float:
        """When this worker may be asked for the model again; a time in the past if it may be now."""
        until = self.cooling_until if self.state == "cooling" else 0.0
        return max(until, self._cooling.get(model, 0.0), self.health.rests_until(model))

    def can(self, model: str, need: str) -> bool:
        """Whether it does what a request needs; tool calls are not believed of a stranger's worker."""
        believed = need != "tools" or self.token.trusted or not self.token.shared
        return believed and self.models[model].has(need)

    def abilities(self, model: str) -> frozenset[str]:
        """All that it `can` for a model."""
        offered = self.models[model]
        all_of_it = frozenset(offered.features).union(offered.modalities.takes)
        return frozenset(need for need in all_of_it if self.can(model, need))

    def suits(self, job: Job) -> bool:
        """Whether it could take the job at some time: it offers the model and never had the job."""
        model = self.models.get(job.model)
        return (
            model is not None
            and self.serves(job.caller)
            and self.session not in job.tried
            and self.state in ("ready", "cooling")
            and not self.draining
            and (not job.needs or all(self.can(job.model, need) for need in job.needs))
        )

    def is_able(self, now: float) -> bool:
        """Whether it takes jobs at all, now or when it has a free slot."""
        return self.state == "ready" and not self.draining and self.is_connected(now)

    def is_free(self, model: str, now: float) -> bool:
        """Whether it could take some job for the model at once."""
        return (
            len(self.jobs) < self.slots
            and self.state in ("ready", "cooling")
            and not self.draining
            and self.cools_until(model) <= now
            and self.health.admits(model, now)
            and self.is_connected(now)
        )

    def can_take(self, job: Job, now: float) -> bool:
        """Whether it could take the job at once."""
        return self.is_free(job.model, now) and self.suits(job)

    # --- jobs

    def offer(self, job: Job) -> Held:
        """Give it a job; the frame leaves with the next packet."""
        now = monotonic()
        deadlines = self._settings.deadlines
        held = Held(job, Attempt(deadlines, now), now, self.health.offered(job.model))
        self.jobs[job.ticket] = held
        self._busiest = max(self._busiest, len(self.jobs))
        frame = JobFrame(
            job=job.ticket,
            kind="chat",
            model=job.model,
            body=Raw(self._body_of(job)),
            deadline_s=round(max(0.0, job.accepted + deadlines.job_s - now), 3),
        )
        self._push(frame, exempt=True)
        return held

    def _body_of(self, job: Job) -> bytes:
        """What the caller asked, for a worker that may have room for one message alone."""
        keeps_history = "history" in self.models[job.model].features
        return job.body if keeps_history else fold(job.body, self._settings.folding.template)

    def release(self, job: Job, cancel: str | None = None) -> None:
        """Take a job out of its hands, telling it so if there is a reason to `cancel`."""
        held = self.jobs.pop(job.ticket, None)
        if held is None:
            return
        held.release()
        if held.is_probe:
            self._heed_unproven(job.model)
        if self.over:
            return
        if cancel is not None:
            self._push(Cancel(job.ticket, cancel))
        self._desk.freed(self)

    # --- how it fares

    def succeeded(self, held: Held) -> None:
        """It answered a job."""
        now = monotonic()
        latency = (held.job.first_piece or now) - held.since
        self._heed_changes(self.health.succeeded(held.job.model, latency, now))

    def failed(self, model: str, *, whole: bool = False) -> None:
        """A job for a model failed; `whole` says that it was the worker's own failure."""
        self._heed_changes(self.health.failed(model, monotonic(), whole=whole))

    def lost(self) -> None:
        """It vanished with a job in hand that had started; however many, that is one failure."""
        self._heed_changes(self.health.lost(monotonic()))

    def _heed_changes(self, changes: list[Change]) -> None:
        for change in changes:
            self._feed.announce(BreakerChanged(self.name, *change))
            if self.over:
                continue
            if change.state == "open":
                self._rest_until(change.model, self._breaker(change.model).rests_until)
                self._desk.barred()
            else:
                self._desk.returned(self)

    def _heed_unproven(self, model: str) -> None:
        for name in self.health.unproven(model, monotonic()):
            if not self.over:
                self._rest_until(name, self._breaker(name).rests_until)

    def _breaker(self, model: str | None) -> Breaker:
        return self.health.breaker if model is None else self.health.track(model).breaker

    def _rest_until(self, model: str | None, until: float) -> None:
        self._rest(_Rest("breaker", model), until, lambda: self._half_opened(model))

    def _half_opened(self, model: str | None) -> None:
        breaker = self._breaker(model)
        if breaker.state(monotonic()) == "half_open":
            self._feed.announce(BreakerChanged(self.name, model, "half_open", breaker.failures))
            self._desk.returned(self)

    # --- what it says

    def seen(self) -> None:
        """A sign of life that is no packet."""
        self.heard = monotonic()

    def receive(self, packet: WorkerPacket) -> None:
        """Take a packet. Raises ProtocolError; then the session is over."""
        now = monotonic()
        was_away = self.polling and not self.is_connected(now)
        self.heard = now
        self._pinged = False
        for frame in self.channel.accept(packet.n, packet.ack, packet.frames):
            if type(frame) is Piece:
                self._piece(frame, now)
            else:
                self._desk.heard(self, frame)
        if self.channel.ack_owed:
            self._plan_ack()
        if was_away and not self.over:
            self._desk.returned(self)

    def _piece(self, piece: Piece, now: float) -> None:
        held = self.jobs.get(piece.job)
        if held is None:
            self.dropped += 1
            return
        if piece.delta and "tools" not in held.job.needs:
            piece.delta.pop("tool_calls", None)  # nobody asked for any
        attempt = held.attempt
        if not piece.text and not piece.delta:
            attempt.heartbeat(now)
            held.job.started = held.job.started or now
            return
        first = attempt.phase is not Phase.ANSWERING
        attempt.piece(now)
        if first:
            self._desk.answering(held, now)
        job = held.job
        keeps_up = job.put(piece)
        if job.cutting is not None and job.cut:
            self._desk.enough(held)
        elif not keeps_up:
            self._desk.overflowed(self, held)

    def _plan_ack(self) -> None:
        if self.link is None:
            return
        if self.channel.ack_owed >= ACK_EVERY_FRAMES:
            self.link.wake()
        elif self._ack_timer is None and not self.link.polling:
            self._ack_timer = self._loop.call_later(ACK_EVERY_S, self._ack)

    def _ack(self) -> None:
        self._ack_timer = None
        if self.link is not None and self.channel.ack_owed:
            self.link.wake()

    # --- what it is told

    def _push(self, frame: HubFrame, *, exempt: bool = False) -> None:
        try:
            self.channel.push(encode(frame), exempt=exempt)
        except ProtocolError as error:
            # Not from within somebody else's call: ending a session moves jobs about.
            self._loop.call_soon(self.end, str(error), Close.TOO_SLOW)
            return
        if self.link is not None:
            self.link.wake()

    @property
    def has_news(self) -> bool:
        """Whether a packet would carry something."""
        return self.channel.has_unsent or self.channel.ack_owed > 0

    def packet(self, extra: bytes = b"") -> bytes:
        """The next packet for the link."""
        return self.channel.packet(self.max_bytes, extra)

    def hand(self, profile: dict[str, Any]) -> None:
        """Give it a new site profile."""
        self._push(ProfileFrame(profile))

    def scale(self, slots: int) -> None:
        """Ask it to have so many slots, as far as the range that it was started with allows."""
        self._push(Scale(slots))

    def take_busiest(self) -> int:
        """The most jobs that it had at once since the last time this was asked."""
        busiest, self._busiest = self._busiest, len(self.jobs)
        return busiest

    def drain(self) -> None:
        """Ask it to finish what it holds and take no more."""
        self.draining = True
        self._push(Drain())
        self._desk.barred()

    def change(self, state: State, reason: str | None = None, until: float | None = None) -> None:
        """Its state changed; `until` is in seconds from now."""
        if (state, reason) != (self.state, self.state_reason):
            self._feed.announce(WorkerChanged(self.name, state, reason))
        self.state, self.state_reason = state, reason
        self.cooling_until = FOREVER if until is None else monotonic() + until
        if state == "cooling" and until is not None:
            rest = _Rest("cooling", None)
            self._rest(rest, self.cooling_until, lambda: self.change("ready"))
        else:
            self._wake(_Rest("cooling", None))
        if state == "ready":
            self._desk.returned(self)
        else:
            self._desk.barred()

    def cool_model(self, model: str, seconds: float) -> None:
        """The site limits this worker for one model."""
        until = self._cooling[model] = monotonic() + seconds
        self._rest(_Rest("cooling", model), until, lambda: self._cooled(model))
        self._desk.barred()

    def _cooled(self, model: str) -> None:
        del self._cooling[model]
        self._desk.returned(self)

    def _rest(self, rest: _Rest, until: float, over: Callable[[], None]) -> None:
        """Call `over` at a time, unless this rest is forgotten before. A loop's own timers may ring early."""
        self._wake(rest)

        def passed(now: float) -> None:
            del self._rests[rest]
            over()

        self._rests[rest] = Timer(self._loop, lambda: until, passed)

    def _wake(self, rest: _Rest) -> None:
        if (timer := self._rests.pop(rest, None)) is not None:
            timer.stop()

    # --- links

    def connect(self, link: Link) -> str:
        """A link carries this session from now on; the id of this connection."""
        before, self.link = self.link, link
        self.connection = secrets.token_hex(8)
        if before is not None:
            before.close(Close.REPLACED, "a newer connection took this session over")
        self.channel.rewind()
        self.heard = monotonic()
        self.next_s = 0.0
        self._pinged = False
        self._stop_timers()
        if link.polling:
            self._gone_timer = Timer(self._loop, self._poll_gone_at, self._gone)
        else:
            self._heartbeat = Timer(self._loop, self._heartbeat_at, self._silent)
        for held in self.jobs.values():
            held.stay()
        return self.connection

    def disconnect(self, connection: str) -> None:
        """The link of this connection is lost; nothing happens if it was replaced before."""
        if connection != self.connection or self.link is None:
            return
        self.link = None
        self._stop_timers()
        if self.over:
            return
        lost = monotonic()
        self._gone_timer = Timer(
            self._loop, lambda: lost + self._settings.workers.grace_s, self._gone
        )
        self._feed.announce(WorkerCut(self.name))
        self._desk.cut(self)

    def end(self, reason: str, code: Close) -> None:
        """The session is over, and its link with it."""
        if self.over:
            return
        self.over = True
        self.ended_by = code
        self._stop_timers()
        for rest in list(self._rests):
            self._wake(rest)
        self._desk.left(self)
        link, self.link = self.link, None
        if link is not None:
            link.close(code, reason)
        self._feed.announce(WorkerLeft(self.name, reason))

    def misbehaved(self, error: ProtocolError) -> None:
        """It broke the protocol: the session is over."""
        self._feed.announce(WorkerMisbehaved(self.name, str(error)))
        self.end(str(error), error.code)

    def plan_next(self) -> float:
        """When a polling worker should come again, in seconds; 0 where exchanges are held."""
        if self.jobs:
            self.next_s = NEXT_S_BUSY
        elif self._settings.workers.wait_s:
            self.next_s = 0.0
        else:
            longer = [step for step in IDLE_STEPS_S if step > self.next_s]
            self.next_s = longer[0] if longer else IDLE_STEPS_S[-1]
        return self.next_s

    def _stop_timers(self) -> None:
        for timer in (self._heartbeat, self._gone_timer, self._ack_timer):
            if isinstance(timer, Timer):
                timer.stop()
            elif timer is not None:
                timer.cancel()
        self._heartbeat = self._gone_timer = self._ack_timer = None

    def _heartbeat_at(self) -> float:
        return self.heard + self._settings.workers.heartbeat_s * (2 if self._pinged else 1)

    def _silent(self, now: float) -> None:
        if self._pinged:
            if self.link is not None:
                self.link.close(Close.HEARTBEAT_LOST, "nothing was heard for too long")
                self.disconnect(self.connection)
            return
        self._pinged = True
        self._push(Ping())
        self._heartbeat = Timer(self._loop, self._heartbeat_at, self._silent)

    def _poll_gone_at(self) -> float:
        if self.holding:
            self.heard = monotonic()
        return self.heard + self._settings.workers.poll_gone_s

    def _gone(self, now: float) -> None:
        self.end("it did not come back", Close.SESSION_GONE)


class Roster:
    """All sessions, found by id, by worker and by model."""

    def __init__(self, settings: Settings, feed: Feed, profile: dict[str, Any]) -> None:
        self._settings = settings
        self._feed = feed
        self._profile = profile
        self._sessions: dict[str, Worker] = {}
        self._by_identity: dict[tuple[str, str], Worker] = {}
        self.rota: Rota[Worker] = Rota()
        self._ended: TTLCache[str, Close] = TTLCache(REMEMBERED, REMEMBERED_S)
        self._health: LRUCache[tuple[str, str], Health] = LRUCache(REMEMBERED)
        self.version = 0
        """Grows whenever what is offered changes."""
        self.dropped = 0
        """Frames dropped by sessions that are over."""

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._sessions.values()))

    def health(self, token_id: str, worker_id: str) -> Health:
        """How a worker has fared, over all its sessions."""
        identity = (token_id, worker_id)
        if (here := self._by_identity.get(identity)) is not None:
            return here.health
        return self._health.setdefault(identity, Health(self._settings.breaker))

    def find(self, token_id: str, worker_id: str) -> Worker | None:
        """The worker of that id under that token, if it is here."""
        return self._by_identity.get((token_id, worker_id))

    def restore(self, rows: Iterable[Fared], ahead: float) -> None:
        """Take up how workers fared before a restart; `ahead` is Unix time less this clock's, in seconds."""
        for row in rows:
            health = self.health(row.token_id, row.worker_id)
            health.weight = row.weight
            with suppress(ValueError):  # written by another version: it starts afresh
                health.restore(row.health, ahead)

    def unsaved(self, ahead: float) -> list[Fared]:
        """How those workers fare about whom there is news since the last time."""
        here = {identity: worker.health for identity, worker in self._by_identity.items()}
        news = [item for item in (dict(self._health) | here).items() if not item[1].is_saved]
        for _, health in news:
            health.is_saved = True
        return [Fared(*identity, health.weight, health.save(ahead)) for identity, health in news]

    def set_weight(self, token_id: str, worker_id: str, weight: int) -> None:
        """How much of the work a worker is to get, beside others; here or not."""
        self.health(token_id, worker_id).weight = weight
        if (worker := self.find(token_id, worker_id)) is not None:
            self.rota.reconsider(worker)

    def session(self, session: str, token: WorkerToken) -> Worker | None:
        """The session of that id, if it was opened under this very token."""
        worker = self._sessions.get(session)
        return worker if worker is not None and worker.token.id == token.id else None

    def ended_by(self, session: str) -> Close:
        """Why a session that is gone ended: its poller asks only after the fact."""
        return self._ended.get(session, Close.SESSION_GONE)

    def admit(
        self, hello: Hello, token: WorkerToken, link: Link, desk: Desk
    ) -> tuple[Worker, Welcome]:
        """Resume the session that a hello names, or open a new one in its worker's place."""
        resumed = self._resume(hello, token)
        worker = resumed or self._open(hello, token, desk)
        self._index(worker)
        worker.connect(link)
        self._feed.announce(
            WorkerJoined(
                worker.name,
                worker.kind,
                worker.transport,
                len(worker.models),
                worker.slots,
                resumed is not None,
            )
        )
        return worker, self._welcome(worker, resumed=resumed is not None)

    def _resume(self, hello: Hello, token: WorkerToken) -> Worker | None:
        worker = self._by_identity.get((token.id, hello.worker))
        resume = hello.resume
        if worker is None or resume is None or resume.session != worker.session:
            return None
        if not worker.channel.can_resume(resume.received):
            return None
        worker.channel.acknowledge(resume.received)
        self._unindex(worker)
        worker.introduce(hello)
        return worker

    def _open(self, hello: Hello, token: WorkerToken, desk: Desk) -> Worker:
        before = self._by_identity.get((token.id, hello.worker))
        if before is not None:
            before.end("the worker opened a new session", Close.REPLACED)
        health = self.health(token.id, hello.worker)
        worker = Worker(hello, token, health, self._settings, desk, self._feed)
        self._sessions[worker.session] = worker
        self._by_identity[token.id, worker.id] = worker
        return worker

    def _welcome(self, worker: Worker, *, resumed: bool) -> Welcome:
        workers = self._settings.workers
        return Welcome(
            session=worker.session,
            connection=worker.connection,
            resumed=resumed,
            received=worker.channel.received,
            heartbeat_s=workers.heartbeat_s,
            grace_s=workers.grace_s,
            max_bytes=worker.max_bytes,
            exchange=Exchange(wait_s=workers.wait_s, next_s=worker.plan_next()),
            profile=self._profile,
        )

    def forget(self, worker: Worker) -> None:
        """The session is over."""
        if self._sessions.pop(worker.session, None) is None:
            return
        self._unindex(worker)
        self._ended[worker.session] = worker.ended_by or Close.SESSION_GONE
        self.dropped += worker.dropped
        if self._by_identity.get((worker.token.id, worker.id)) is worker:
            del self._by_identity[worker.token.id, worker.id]

    def heed(self, tokens: Iterable[WorkerToken]) -> None:
        """These are the tokens that work now: sessions under any other end at once."""
        working = {token.id for token in tokens}
        for worker in self:
            if worker.token.id not in working:
                worker.end("the worker token was revoked", Close.UNAUTHORIZED)

    def hand_out(self, profile: dict[str, Any]) -> None:
        """A site profile for every worker, here and to come."""
        self._profile = profile
        for worker in self:
            worker.hand(profile)

    # --- models

    def offering(self, model: str) -> Iterable[Worker]:
        """The workers that offer a model, able or not."""
        return self.rota.of(model)

    def offering_to(self, caller: Caller, model: str) -> Iterable[Worker]:
        """Those of them that this caller may use."""
        offering = self.rota.of(model, _pools(caller))
        return (worker for worker in offering if worker.serves(caller))

    def features(self, caller: Caller, model: str) -> frozenset[str]:
        """What any worker that this caller may use honours for the model."""
        if caller.key.own_workers_only:
            offering = self.offering_to(caller, model)
            return frozenset().union(*(worker.models[model].features for worker in offering))
        return self.rota.features(model, _pools(caller))

    def models(self, caller: Caller | None = None) -> dict[str, Model]:
        """What the live workers offer together, or those that this caller may use."""
        offered: dict[str, Model] = {}
        for model_id, pools in self.rota.offering.items():
            for pool in pools if caller is None else _pools(caller):
                for worker in pools.get(pool, ()):
                    if caller is None or worker.serves(caller):
                        offered.setdefault(model_id, worker.models[model_id])
                        break
        return offered

    def set_models(self, worker: Worker, models: Iterable[Model]) -> None:
        """A worker's catalogue changed."""
        self._unindex(worker)
        worker.set_models(models)
        self._index(worker)

    def _index(self, worker: Worker) -> None:
        self.version += 1
        self.rota.add(worker)

    def _unindex(self, worker: Worker) -> None:
        self.version += 1
        self.rota.remove(worker)

    # --- choosing

    def pick(self, job: Job, now: float) -> Worker | None:
        """Whose turn it is, among those that can take the job at once.

        The caller's own go first, and among them and among the others those of the region that it prefers.
        """
        return self.rota.pick(job, _pools(job.caller), now)

    def has_room(self, job: Job, now: float) -> bool:
        """Whether anybody can take the job at once."""
        return self.rota.has_room(job, _pools(job.caller), now)

    def prospects(self, job: Job, by: float) -> bool:
        """Whether anybody, busy or briefly away, could take the job before `by`."""
        return any(
            worker.suits(job) and worker.cools_until(job.model) < by
            for worker in self.rota.of(job.model, _pools(job.caller))
        )

    def soonest(self, job: Job, now: float) -> float | None:
        """In how many seconds the first cooling worker may be asked again; None if none is cooling."""
        offering = self.offering_to(job.caller, job.model)
        waits = [worker.cools_until(job.model) - now for worker in offering]
        waits = [wait for wait in waits if 0 < wait < FOREVER]
        return min(waits) if waits else None


def _pools(caller: Caller) -> tuple[str, ...]:
    """Whose workers a caller may use, its own first."""
    return (caller.user_id, EVERYBODY) if caller.user_id else (EVERYBODY,)
