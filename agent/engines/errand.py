"""A job in a tab's hand."""

import asyncio
from dataclasses import dataclass, field

from agent.engines import EngineFailure, Finish, Job, Part

MAX_HELD_CHARS = 32 * 1024 * 1024
"""An answer's text that waits to be sent on; beyond it the job fails."""


@dataclass(eq=False)
class Errand:
    """The job, and the parts of its answer; a failure or a Finish is the last."""

    job: Job
    mode: str
    loads: int = 0
    navigated: bool = False
    started: bool = False
    over: bool = False
    _parts: "asyncio.Queue[tuple[Part | EngineFailure, int]]" = field(default_factory=asyncio.Queue)
    _held: int = 0

    def say(self, part: Part, size: int = 0) -> None:
        """Add a part, which is `size` characters long, unless the answer is over."""
        if self.over:
            return
        self.over = isinstance(part, Finish)
        self._held += size
        self._parts.put_nowait((part, size))

    def fail(self, failure: EngineFailure) -> None:
        """End it; a request that was seen to leave is not said to have stayed."""
        if self.over:
            return
        self.over = True
        if self.started and failure.ran is False:
            failure.ran = None
        self._parts.put_nowait((failure, 0))

    def lose(self, message: str) -> None:
        """End it because its page is gone."""
        self.fail(EngineFailure("upstream_error", message, ran=False))

    @property
    def is_overfull(self) -> bool:
        """Whether the page says more than can be sent on."""
        return self._held > MAX_HELD_CHARS

    async def next(self) -> Part:
        """The next part. Raises EngineFailure."""
        part, size = await self._parts.get()
        self._held -= size
        if isinstance(part, EngineFailure):
            raise part
        return part
