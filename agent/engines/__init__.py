"""Engines: who really answers. A session gives an engine a job and gets the parts of an answer."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from hub.protocol import FailureCode, Model, State


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the hub gave it; `body` is the validated OpenAI body as JSON text."""

    id: str
    kind: str
    model: str
    body: bytes
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Starts:
    """The upstream's request leaves now. Only a `SiteEngine` says so itself."""


@dataclass(frozen=True, slots=True)
class AwaitsHuman:
    """Nothing starts before its human acts."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer's text; an empty one says that the upstream is alive."""

    text: str


@dataclass(frozen=True, slots=True)
class Delta:
    """An OpenAI delta other than plain text: `reasoning_content`, `tool_calls`, `refusal`…"""

    delta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer's end. `truncated` says that the upstream stopped without saying why."""

    finish_reason: str = "stop"
    usage: dict[str, Any] | None = field(default=None)
    truncated: bool = False


Part = Starts | AwaitsHuman | Text | Delta | Finish


class EngineFailure(Exception):
    """The engine cannot answer. `ran` False proves that the upstream never saw the request."""

    def __init__(
        self,
        code: FailureCode,
        message: str,
        retry_after_s: float | None = None,
        ran: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.ran = ran


class EngineBusy(Exception):
    """The engine did not and will not start this job: another worker may have it."""


class CannotOpen(Exception):
    """The engine cannot begin; the message tells whoever started the agent what to do."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a `SiteEngine` fares."""

    slots: int
    """How many jobs it holds or could begin at once."""
    state: State = "ready"
    reason: str | None = None
    until: float | None = None
    """When a `cooling` is over, in seconds of the event loop's clock; None if nobody knows."""


class Engine(Protocol):
    """Answers jobs. Cancelling the task that reads `answer` stops the upstream's work at once."""

    kinds: frozenset[str]

    async def catalogue(self) -> list[Model]:
        """The models on offer now. Raises EngineFailure."""
        ...

    def answer(self, job: Job) -> AsyncGenerator[Part, None]:
        """The parts of an answer, a Finish last. Raises EngineFailure."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Host(Protocol):
    """What a `SiteEngine` tells about itself, and to whom."""

    def fares(self, condition: Condition) -> None:
        """Its condition, whenever it may have changed."""
        ...

    def notice(self, message: str) -> None:
        """The site is not as its profile says, although an answer came."""
        ...

    def catalogue_changed(self) -> None:
        """`catalogue` has something else to say."""
        ...


@runtime_checkable
class SiteEngine(Engine, Protocol):
    """An engine that drives a site: its slots come and go, it has a human, and it says when it starts.

    A job that it cannot begin in time raises EngineBusy.
    """

    async def open(self, host: Host) -> None:
        """Begin. Raises CannotOpen. `close` follows in any case."""
        ...

    def profile(self, profile: dict[str, Any]) -> None:
        """The hub's description of the site, as it is now."""
        ...

    def scale(self, slots: int) -> None:
        """Have so many slots, as soon as running jobs allow it."""
        ...
