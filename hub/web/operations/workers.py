"""Operations on the workers that are here, and on the requests that pass; they need a running hub."""

from time import monotonic
from typing import Annotated

from msgspec import Meta, Struct

from ...errors import NotFound
from ...live.hub import Hub
from ...live.workers import Worker
from ...protocol import Close
from .operation import Chosen, Id, Nothing, Office, Operation

MOST_NAMED = 10
"""Models named of a worker whose breakers are open for more."""


class WorkerHere(Struct, frozen=True):
    """A worker's session, as it is now."""

    id: str
    name: str
    kind: str
    token: str
    """The name of its token."""
    region: str | None
    transport: str
    """`socket`, `poll`, or `none` while its link is lost."""
    state: str
    reason: str | None
    slots: int
    busy: int
    """How many of its slots are in use."""
    models: int
    weight: int
    completed: int
    failed: int
    """Jobs over all its sessions."""
    resting: list[str]
    """Models that its breakers keep from it; `*` is all of them."""


class Weighed(Struct, forbid_unknown_fields=True):
    """A worker, and how much of the work it is to get."""

    id: Id
    weight: Annotated[
        int,
        Meta(ge=1, le=100, description="How much of the work it gets, beside others: 1 to 100."),
    ]


class Told(Struct, frozen=True):
    """Which worker was told."""

    id: str
    name: str


class Passing(Struct, forbid_unknown_fields=True):
    """Which requests to show."""

    count: Annotated[int, Meta(ge=1, le=1_000, description="How many at most, the latest.")] = 20
    after: Annotated[
        int, Meta(ge=0, description="Only those that ended after the one of this number.")
    ] = 0


class EndedRequest(Struct, frozen=True):
    """A request that ended; durations are in seconds, and `at` is in Unix seconds."""

    number: int
    at: float
    id: str
    key: str
    model: str
    worker: str | None
    state: str
    error: str | None
    waited_s: float
    first_piece_s: float | None
    duration_s: float
    tokens_in: int
    tokens_out: int


async def list_workers(office: Office, body: Nothing) -> list[WorkerHere]:
    """The workers that are here, and what they are up to."""
    return sorted(map(_here, _hub(office).roster), key=lambda worker: (worker.name, worker.id))


async def drain_worker(office: Office, body: Chosen) -> Told:
    """Let a worker finish what it holds and take no more, until it says hello anew."""
    worker = _worker(office, body.id)
    worker.drain()
    await office.store.audit_log.write(office.actor, "workers.drain", body.id, worker.name)
    return Told(body.id, worker.name)


async def kick_worker(office: Office, body: Chosen) -> Told:
    """Send a worker away for good (4505); what it had started is lost, the rest goes to others."""
    worker = _worker(office, body.id)
    worker.end("the operator removed this worker", Close.REMOVED)
    await office.store.audit_log.write(office.actor, "workers.kick", body.id, worker.name)
    return Told(body.id, worker.name)


async def weigh_worker(office: Office, body: Weighed) -> Told:
    """Say how much of the work a worker is to get beside others; it is kept with the worker."""
    worker = _worker(office, body.id)
    token, roster = worker.token.id, _hub(office).roster
    await office.store.workers.set_weight(token, worker.id, body.weight, office.actor)
    roster.set_weight(token, worker.id, body.weight)
    return Told(body.id, worker.name)


async def list_requests(office: Office, body: Passing) -> list[EndedRequest]:
    """The requests that ended last, the oldest first; a hub remembers a thousand."""
    ended = list(_hub(office).recent.after(body.after))
    return [
        EndedRequest(
            number=number,
            at=at,
            id=request.request,
            key=request.key,
            model=request.model,
            worker=request.worker,
            state=request.state,
            error=request.error,
            waited_s=round(request.waited_s, 3),
            first_piece_s=None
            if request.first_piece_s is None
            else round(request.first_piece_s, 3),
            duration_s=round(request.duration_s, 3),
            tokens_in=request.prompt_tokens,
            tokens_out=request.completion_tokens,
        )
        for number, at, request in ended[-body.count :]
    ]


def _here(worker: Worker) -> WorkerHere:
    now, health = monotonic(), worker.health
    resting = [model or "*" for model, _ in health.resting(now)]
    return WorkerHere(
        id=worker.handle,
        name=worker.name,
        kind=worker.kind,
        token=worker.token.name,
        region=worker.region,
        transport=worker.transport,
        state=worker.condition(now),
        reason=worker.state_reason,
        slots=worker.slots,
        busy=len(worker.jobs),
        models=len(worker.models),
        weight=health.weight,
        completed=health.completed,
        failed=health.failed_jobs,
        resting=resting[:MOST_NAMED],
    )


def _hub(office: Office) -> Hub:
    if office.hub is None:
        raise NotFound("No hub is running on this data directory.")
    return office.hub


def _worker(office: Office, handle: str) -> Worker:
    for worker in _hub(office).roster:
        if worker.handle == handle:
            return worker
    raise NotFound(f"There is no worker {handle!r} here.")


OPERATIONS = [
    Operation("GET", "/admin/api/workers", list_workers),
    Operation("POST", "/admin/api/workers/drain", drain_worker),
    Operation("POST", "/admin/api/workers/kick", kick_worker),
    Operation("POST", "/admin/api/workers/set-weight", weigh_worker),
    Operation("GET", "/admin/api/requests", list_requests),
]
