"""What happened, announced once: code announces, listeners write lines, count and show."""

from collections.abc import Callable
from dataclasses import dataclass

from ..rules.breaker import BreakerState


@dataclass(frozen=True)
class RequestSettled:
    """A request ended; durations are in seconds, None where that moment never came."""

    request: str
    key: str
    model: str
    state: str
    error: str | None
    worker: str | None
    deliveries: int
    duration_s: float
    first_piece_s: float | None
    prompt_tokens: int
    completion_tokens: int
    waited_s: float
    """In line, before a worker was first offered it."""
    is_fault: bool
    """It failed through no fault of its caller's."""
    pieces: int


@dataclass(frozen=True)
class RequestRefused:
    """A caller got an error instead of being let in."""

    code: str


@dataclass(frozen=True)
class WorkerJoined:
    worker: str
    kind: str
    transport: str
    models: int
    slots: int
    resumed: bool


@dataclass(frozen=True)
class WorkerCut:
    """A link was lost; the session may resume."""

    worker: str


@dataclass(frozen=True)
class WorkerLeft:
    worker: str
    reason: str


@dataclass(frozen=True)
class WorkerChanged:
    worker: str
    state: str
    reason: str | None


@dataclass(frozen=True)
class BreakerChanged:
    """A worker gets no jobs for a while (`open`), one to see (`half_open`), or all again (`closed`).

    `model` is None when it is about the whole worker; `failures` are those in a row.
    """

    worker: str
    model: str | None
    state: BreakerState
    failures: int


@dataclass(frozen=True)
class WorkerFailed:
    """A worker said that a job failed; `message` is its own, for the operator alone."""

    worker: str
    request: str
    model: str
    code: str
    message: str


@dataclass(frozen=True)
class SiteChanged:
    """A worker met something that its site profile does not know; `seen` is its account of it."""

    worker: str
    seen: str


@dataclass(frozen=True)
class WorkerMisbehaved:
    worker: str
    reason: str


@dataclass(frozen=True)
class StorageTrouble:
    problem: str


@dataclass(frozen=True)
class AlarmChanged:
    """An alarm was raised, or is over; `subject` is the worker or model it is about, "" for the hub."""

    kind: str
    subject: str
    is_raised: bool
    message: str


Event = (
    RequestSettled
    | RequestRefused
    | WorkerJoined
    | WorkerCut
    | WorkerLeft
    | WorkerChanged
    | BreakerChanged
    | WorkerFailed
    | SiteChanged
    | WorkerMisbehaved
    | StorageTrouble
    | AlarmChanged
)
Listener = Callable[[Event], None]


class Feed:
    """Announces each event to every listener, at once and in order; a listener must be quick."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def announce(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
