"""Engines: who really answers. A session gives an engine a job and gets the parts of an answer."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Protocol

from hub.protocol import FailureCode, Model


@dataclass(frozen=True, slots=True)
class Job:
    """One job as the hub gave it; `body` is the validated OpenAI body as JSON text."""

    id: str
    kind: str
    model: str
    body: bytes
    deadline_s: float


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


Part = Text | Delta | Finish


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
