"""Figures for Prometheus: a listener of the feed that counts, and a look at what is here when somebody asks.

Labels are bounded. Models are labelled only if they were offered to everybody, and only so many; the rest are
`other`, or a worker that offers five thousand would fill a monitoring system.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..settings import Settings
from ..store import Store
from .alarms import KINDS, Alarms
from .dispatch import Dispatch
from .feed import (
    BreakerChanged,
    Event,
    RequestRefused,
    RequestSettled,
    StorageTrouble,
    WorkerCut,
    WorkerFailed,
    WorkerJoined,
    WorkerLeft,
    WorkerMisbehaved,
)
from .workers import CONDITIONS, Roster

_without_created_series: Callable[[], None] = disable_created_metrics
_without_created_series()
OTHER = "other"
QUICK_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
LONG_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class _OfModel(NamedTuple):
    """What is counted with each request of a model."""

    duration: Histogram
    first_piece: Histogram
    pieces: Counter
    tokens_in: Counter
    tokens_out: Counter


class Metrics:
    """Counts what the feed tells."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        alarms: Alarms,
        roster: Roster,
        dispatch: Dispatch,
    ) -> None:
        self._most = settings.metrics.models
        self._known = store.workers.known
        self._models: dict[str, _OfModel] = {}
        self.registry = CollectorRegistry()
        self._count_requests()
        self._count_workers()
        self.registry.register(_Now(alarms, roster, dispatch))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        store.database.on_commit = self._commits.observe

    def _count_requests(self) -> None:
        here = self.registry
        self._requests = Counter(
            "lmarena_requests", "Accepted requests that ended.", ["model", "outcome"], registry=here
        )
        self._errors = Counter(
            "lmarena_request_errors",
            "Accepted requests that ended with an error.",
            ["code"],
            registry=here,
        )
        self._refusals = Counter(
            "lmarena_refusals",
            "Requests that were answered with an error instead of being accepted.",
            ["code"],
            registry=here,
        )
        self._duration = Histogram(
            "lmarena_request_duration_seconds",
            "From acceptance to the end, of completed requests.",
            ["model"],
            buckets=LONG_S,
            registry=here,
        )
        self._first_piece = Histogram(
            "lmarena_time_to_first_piece_seconds",
            "From acceptance to the first piece of the answer.",
            ["model"],
            buckets=QUICK_S,
            registry=here,
        )
        self._queue_wait = Histogram(
            "lmarena_queue_wait_seconds",
            "From acceptance until a worker was offered the request, or it ended in line.",
            buckets=QUICK_S,
            registry=here,
        )
        self._pieces = Counter(
            "lmarena_pieces", "Pieces of answers from workers.", ["model"], registry=here
        )
        self._tokens = Counter(
            "lmarena_tokens", "Tokens that were billed.", ["model", "direction"], registry=here
        )
        self._redeliveries = Counter(
            "lmarena_redeliveries",
            "Offers after the first of a request: another worker did not run it.",
            registry=here,
        )

    def _count_workers(self) -> None:
        here = self.registry
        self._sessions = Counter(
            "lmarena_worker_sessions",
            "What happened to links and sessions of workers.",
            ["event"],
            registry=here,
        )
        self._failures = Counter(
            "lmarena_worker_failures",
            "Jobs that workers reported as failed.",
            ["code"],
            registry=here,
        )
        self._breakers = Counter(
            "lmarena_breaker_changes",
            "Breakers that opened, half-opened or closed.",
            ["scope", "state"],
            registry=here,
        )
        self._commits = Histogram(
            "lmarena_commit_seconds",
            "Transactions of the database: requests are accepted and settled in these.",
            buckets=COMMIT_S,
            registry=here,
        )
        self._trouble = Counter("lmarena_storage_failures", "Writes that failed.", registry=here)

    def page(self, accept: str) -> tuple[bytes, str]:
        """All figures in the format that suits an Accept header best, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def label(self, model: str) -> str:
        """The model's own name while there is room for it and everybody may know it."""
        if model in self._models:
            return model
        return model if model in self._known and len(self._models) < self._most else OTHER

    def hear(self, event: Event) -> None:
        """Take an event of the feed."""
        match event:
            case RequestSettled():
                self._settled(event)
            case RequestRefused(code=code):
                self._refusals.labels(code).inc()
            case WorkerFailed(code=code):
                self._failures.labels(code).inc()
            case WorkerJoined(resumed=resumed):
                self._sessions.labels("resumed" if resumed else "joined").inc()
            case WorkerCut():
                self._sessions.labels("cut").inc()
            case WorkerLeft():
                self._sessions.labels("left").inc()
            case WorkerMisbehaved():
                self._sessions.labels("misbehaved").inc()
            case BreakerChanged(model=model, state=state):
                self._breakers.labels("worker" if model is None else "model", state).inc()
            case StorageTrouble():
                self._trouble.inc()

    def _settled(self, event: RequestSettled) -> None:
        label = self.label(event.model)
        of_model = self._models.get(label) or self._begin(label)
        self._requests.labels(label, event.state).inc()
        self._queue_wait.observe(event.waited_s)
        of_model.pieces.inc(event.pieces)
        of_model.tokens_in.inc(event.prompt_tokens)
        of_model.tokens_out.inc(event.completion_tokens)
        if event.error is not None:
            self._errors.labels(event.error).inc()
        if event.first_piece_s is not None:
            of_model.first_piece.observe(event.first_piece_s)
        if event.state == "completed":
            of_model.duration.observe(event.duration_s)
        if event.deliveries > 1:
            self._redeliveries.inc(event.deliveries - 1)

    def _begin(self, label: str) -> _OfModel:
        made = self._models[label] = _OfModel(
            self._duration.labels(label),
            self._first_piece.labels(label),
            self._pieces.labels(label),
            self._tokens.labels(label, "in"),
            self._tokens.labels(label, "out"),
        )
        return made


class _Now(Collector):
    """What is here at the moment of asking."""

    def __init__(self, alarms: Alarms, roster: Roster, dispatch: Dispatch) -> None:
        self._alarms = alarms
        self._roster = roster
        self._dispatch = dispatch

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "lmarena_queue_length", "Requests in line.", value=self._dispatch.waiting
        )
        yield GaugeMetricFamily(
            "lmarena_requests_active", "Requests in workers' hands.", value=self._dispatch.active
        )
        yield self._workers()
        yield self._slots()
        yield self._breakers()
        yield self._raised()

    def _workers(self) -> Metric:
        now = monotonic()
        tally = Tally(worker.condition(now) for worker in self._roster)
        family = GaugeMetricFamily(
            "lmarena_workers", "Sessions of workers by what they are up to.", labels=["state"]
        )
        for state in CONDITIONS:
            family.add_metric([state], tally[state])
        return family

    def _slots(self) -> Metric:
        used = sum(len(worker.jobs) for worker in self._roster)
        there = sum(worker.slots for worker in self._roster)
        family = GaugeMetricFamily(
            "lmarena_worker_slots", "Answers that workers can give at once.", labels=["use"]
        )
        family.add_metric(["used"], used)
        family.add_metric(["free"], max(0, there - used))
        return family

    def _raised(self) -> Metric:
        tally = Tally(kind for kind, _ in self._alarms.raised)
        family = GaugeMetricFamily(
            "lmarena_alarms", "Alarms that are raised now, each about one subject.", labels=["kind"]
        )
        for kind in KINDS:
            family.add_metric([kind], tally[kind])
        return family

    def _breakers(self) -> Metric:
        now = monotonic()
        tally: Tally[tuple[str, str]] = Tally()
        for worker in self._roster:
            for model, breaker in worker.health.resting(now):
                tally["worker" if model is None else "model", breaker.state(now)] += 1
        family = GaugeMetricFamily(
            "lmarena_breakers",
            "Breakers of workers that are here, by scope: a whole worker, or one model at a worker.",
            labels=["scope", "state"],
        )
        for scope in ("worker", "model"):
            for state in ("open", "half_open"):
                family.add_metric([scope, state], tally[scope, state])
        return family
