"""A job: one accepted request on its way to a worker and back.

The job is the only object that both sides touch: a worker puts pieces in, a handler takes them out.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..errors import HubError
from ..protocol import Piece
from ..rules.cutting import Bounds, Cutting, Reason
from ..rules.deltas import characters
from ..rules.openai import NAMES, Answer, with_model
from ..rules.tokens import Count, safe_end
from ..store.content import Batch
from ..store.keys import Caller
from ..store.repeats import Repeat
from .gate import Reservation


class Billed(NamedTuple):
    """What there is to bill: texts, each counted by itself, and a number of images."""

    texts: list[str]
    images: int = 0


NOTHING = Billed([])


class Bill(NamedTuple):
    """What a request comes to: the tokens of what was delivered with those of its prompt, and micro-dollars.

    Where nothing was delivered, nothing is due.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    images: int = 0
    cost: int = 0
    estimated: bool = False
    own_worker: bool = False


NOTHING_DUE = Bill()
PIECE_OVERHEAD = 64
"""Bytes that a waiting piece takes beyond its text, roughly."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a finish reason, or with an error."""

    finish_reason: str | None = None
    error: HubError | None = None
    bill: Bill = NOTHING_DUE
    worker_usage: dict[str, Any] | None = None
    """The worker's own figures; billed only where its token is trusted."""


@dataclass(eq=False)
class Job:
    """Times are `time.monotonic()`'s seconds."""

    loop: asyncio.AbstractEventLoop
    id: str
    caller: Caller
    reservation: Reservation
    kind: str
    model: str
    body: bytes
    needs: frozenset[str]
    stream: bool
    accepted: float
    accepted_at: int
    """The same moment in Unix microseconds."""
    max_pending: int
    """Bytes of pieces that may wait for the caller."""
    prompt: Count
    """The prompt's tokens."""
    asked: str = ""
    """What the caller calls the model, if it is an alias."""
    fallbacks: Sequence[str] = ()
    """Models that may answer instead, in their order, as long as nothing of an answer has come."""
    turns: int = 0
    """How often it went on to another model."""
    deliveries: int = 0
    """How often a worker got it."""
    metadata: dict[str, str] | None = None
    """Its labels, if the caller wants it stored; None if not."""
    repeat: Repeat | None = None
    """What it answers again and again, if it has an Idempotency-Key."""
    priority: int = 0
    """Of its user's tier: higher has more turns."""
    ignored: Sequence[str] = ()
    """Parameters of its body that have no effect."""
    tag: float | None = None
    """Its place in the line, once it had one; see `rules/turns.py`."""
    bounds: Bounds | None = None
    """Where the caller wants the answer to end, if it said so."""
    cutting: Cutting | None = None
    """What the worker that has the job leaves to the hub of these bounds."""
    region: str | None = None
    """Where its caller would have it answered, if there is somebody."""
    tried: set[str] = field(default_factory=set)
    """Sessions that have had this job for this model; none gets it twice."""
    worker: str | None = None
    """The name of the worker that had it last."""
    own_worker: bool = False
    """Whether that was a private worker of the caller's own."""
    trusted: bool = False
    """Whether that worker's own figures are billed."""
    offered: float | None = None
    started: float | None = None
    first_piece: float | None = None
    settling: bool = False
    """Its outcome is decided; a long answer may still be counted."""
    outcome: Outcome | None = None
    last_fail: HubError | None = None
    """What the caller reads if nobody else can take the job either."""
    original: "Job | None" = None
    """The job whose answer this one passes on to one of several callers."""
    on_overflow: Callable[[], None] | None = None
    """Called when the caller reads too slowly; the handler may have to break its connection."""

    def __post_init__(self) -> None:
        self._pieces: list[Piece] = []
        self._taken = 0
        self._pending_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self.received_chars = 0
        """Characters that the worker sent."""
        self.taken_chars = 0
        """Those of them that the caller's side has taken."""
        self._delivered = 0
        self.delivered_chars = 0
        """Those of them that have left the process on their way to the caller."""
        self._stored = 0
        self.batches = 0
        """How many batches of its pieces were given away to be kept."""
        self._counted = 0
        self._uncounted: dict[str, str] = {}
        self.counted_tokens = 0

    @property
    def created(self) -> int:
        """When it was accepted, in Unix seconds."""
        return self.accepted_at // 1_000_000

    @property
    def is_over(self) -> bool:
        """It has an outcome, and nothing more will be put in."""
        return self.outcome is not None

    @property
    def pieces(self) -> int:
        """How many came from the worker."""
        return len(self._pieces)

    @property
    def has_pieces(self) -> bool:
        """Pieces wait to be taken."""
        return self._taken < len(self._pieces)

    @property
    def name(self) -> str:
        """The model as its caller calls it."""
        return self.asked or self.model

    @property
    def ticket(self) -> str:
        """What workers call it: for another model it is another job to them, who may have had it before."""
        return f"{self.id}-{self.turns}" if self.turns else self.id

    def turn_to(self, model: str) -> None:
        """One of its fallbacks is to answer, as if no other had been asked before."""
        self.fallbacks = self.fallbacks[self.fallbacks.index(model) + 1 :]
        self.model, self.tried = model, set()
        self.body = with_model(self.body, model)
        self.turns += 1
        self.worker, self.offered, self.started = None, None, None

    def put(self, piece: Piece) -> bool:
        """A piece from the worker; False when too much waits for a caller that does not take it."""
        if self.cutting is None:
            return self._keep(piece)
        kept = [self._keep(part) for part in self.cutting.push(piece)]
        return all(kept)

    @property
    def cut(self) -> Reason | None:
        """Why the answer ends here, although its worker would go on."""
        return self.cutting.reason if self.cutting is not None else None

    def close(self) -> None:
        """Its worker says no more: what was held back may leave."""
        for piece in self.cutting.end(self.id) if self.cutting is not None else ():
            self._keep(piece)

    def _keep(self, piece: Piece) -> bool:
        size = len(piece.text)
        self.received_chars += size
        if piece.delta is not None:
            self.received_chars += characters(piece.delta)
            size += len(str(piece.delta))
        self._pending_bytes += size + PIECE_OVERHEAD
        self._pieces.append(piece)
        if self._waiter is not None:
            self.nudge()
        # One that is about to take is quick enough, however much arrived at once.
        return self._waiter is not None or self._pending_bytes <= self.max_pending

    def finish(self, outcome: Outcome) -> None:
        """End the job; whoever takes hears of it."""
        self.outcome = outcome
        self.nudge()

    def nudge(self) -> None:
        """Wake whoever takes."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Piece]:
        """All pieces that are ready, waiting for the first.

        Empty when the job is over, or when someone nudged.
        """
        if not self.has_pieces and self.outcome is None:
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        pieces = self._pieces[self._taken :]
        self._taken = len(self._pieces)
        self._pending_bytes = 0
        self.taken_chars = self.received_chars
        return pieces

    def delivered(self) -> None:
        """What was taken so far has left for the caller."""
        self._delivered = self._taken
        self.delivered_chars = self.taken_chars
        if self.original is not None:
            self.original.delivered_to(self)

    def listener(self) -> "Job":
        """A job with the same answer for one more caller, as far as that has come; see `live/repeats.py`."""
        copy = replace(self, cutting=None, outcome=None, on_overflow=None, original=self)
        for piece in self._pieces[: self._taken]:
            copy.put(piece)
        copy._pending_bytes = 0  # nobody has had a chance to take it
        return copy

    def delivered_to(self, listener: "Job") -> None:
        """What left for any caller was delivered."""
        self._delivered = max(self._delivered, listener._delivered)
        self.delivered_chars = max(self.delivered_chars, listener.delivered_chars)

    def answer(self, *, delivered_only: bool = False) -> Answer:
        """All pieces put together, or those that have left for the caller."""
        answer = Answer()
        for piece in self._pieces[: self._delivered] if delivered_only else self._pieces:
            answer.add(piece)
        return answer

    @property
    def is_kept(self) -> bool:
        """Its pieces are written down."""
        return self.metadata is not None or self.repeat is not None

    def unstored(self) -> list[Batch]:
        """The pieces that came since the last time, as one more batch to be kept; none if there are none."""
        fresh = self._pieces[self._stored :]
        if not fresh:
            return []
        self._stored = len(self._pieces)
        self.batches += 1
        return [Batch(self.id, self.batches - 1, [plain(piece) for piece in fresh])]

    def billed(self, *, delivered_only: bool = False) -> Billed:
        """What is billed of the answer, or of what has left of it for the caller."""
        answer = self.answer(delivered_only=delivered_only)
        return Billed([*answer.texts().values()], answer.image_count)

    def uncounted(self) -> list[str]:
        """The delivered texts that were not counted yet, each up to where a token surely ends."""
        answer = Answer()
        for piece in self._pieces[self._counted : self._delivered]:
            answer.add(piece)
        self._counted = self._delivered
        found = []
        for what, text in answer.texts().items():
            if what != NAMES:
                text = self._uncounted.get(what, "") + text
                end = safe_end(text)
                self._uncounted[what] = text[end:]
                found.append(text[:end])
        return [text for text in found if text]


def plain(piece: Piece) -> dict[str, Any]:
    """A piece as it is stored."""
    told: dict[str, Any] = {"text": piece.text} if piece.text else {}
    if piece.delta is not None:
        told["delta"] = piece.delta
    return told
