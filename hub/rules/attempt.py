"""One job in one worker's hands: what was heard, what is due next, and what follows if it is not.

These are the rules of "Starting and redelivery" and "Deadlines" of the worker protocol, with time passed in.
A job may be given to another worker only while nothing proves or suggests that the first one ran it.
"""

from enum import Enum

from ..protocol import FAILURES, Fail
from ..settings import Deadlines


class Phase(Enum):
    OFFERED = "offered"
    WAITING = "waiting"  # for the worker's human
    STARTED = "started"
    ANSWERING = "answering"


class Attempt:
    """The state of one delivery. Times are seconds on one clock, the caller's choice."""

    __slots__ = ("_deadlines", "due", "phase")

    def __init__(self, deadlines: Deadlines, now: float) -> None:
        self._deadlines = deadlines
        self.phase = Phase.OFFERED
        self.due = now + deadlines.offer_s
        """When the next word must have come."""

    @property
    def has_started(self) -> bool:
        """Whether the upstream may have seen the request."""
        return self.phase in (Phase.STARTED, Phase.ANSWERING)

    def waiting(self, now: float) -> None:
        """The worker waits for its human."""
        if self.phase is Phase.OFFERED:
            self.phase = Phase.WAITING
            self.due = now + self._deadlines.human_s

    def started(self, now: float) -> None:
        """The upstream request is being sent."""
        if not self.has_started:
            self.phase = Phase.STARTED
            self.due = now + self._deadlines.first_piece_s

    def piece(self, now: float) -> None:
        """A piece arrived, or a sign that one may still come."""
        self.phase = Phase.ANSWERING
        self.due = now + self._deadlines.between_pieces_s

    def heartbeat(self, now: float) -> None:
        """An empty piece: the site lives, but has said nothing yet."""
        if self.phase is Phase.ANSWERING:
            self.due = now + self._deadlines.between_pieces_s
        else:
            self.phase = Phase.STARTED
            self.due = now + self._deadlines.first_piece_s

    def may_go_elsewhere(self, fail: Fail) -> bool:
        """Whether this failure proves that nothing ran, so that another worker may try."""
        if self.phase is Phase.ANSWERING or fail.ran is True:
            return False
        return FAILURES[fail.code].proves_not_run or fail.ran is False

    @property
    def leaves_early(self) -> bool:
        """Whether a lost link means that the job leaves before the session does.

        Not once the upstream may have seen it, and not while a person is looking at it.
        """
        return self.phase is Phase.OFFERED
