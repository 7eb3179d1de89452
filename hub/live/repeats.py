"""Requests with an Idempotency-Key: all who send the same one get the answer of one run.

A run takes its job's pieces as they come and hands them to everybody who asked. It outlives its callers for a
while, so that one whose connection broke comes back and finds the answer going on.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ..errors import HubError, IdempotencyKeyInUse, InternalError, SlowCaller
from ..protocol import Piece
from ..store.content import Content, Kept
from ..store.repeats import Repeat
from .dispatch import Dispatch
from .jobs import Job, Outcome

log = structlog.get_logger()

Make = Callable[[], Awaitable[Job]]
"""Makes the job of a request. Raises whatever keeps it from entering."""
Name = tuple[str, str]


class _Run:
    """One run: from the moment when somebody asks until the answer has ended."""

    def __init__(self, repeat: Repeat) -> None:
        self.repeat = repeat
        self.found: asyncio.Future[Job | Kept] = asyncio.get_running_loop().create_future()
        """The job that runs, or the answer that was there already."""
        self.callers = 0
        self.listeners: set[Job] = set()
        self.outcome: Outcome | None = None
        self.task: asyncio.Task[None] | None = None
        self.end: asyncio.TimerHandle | None = None

    def listen(self, job: Job) -> Job:
        """A job of its own for one caller."""
        listener = job.listener()
        self.listeners.add(listener)
        if self.outcome is not None:
            listener.finish(self.outcome)
        return listener

    def hand_on(self, pieces: list[Piece], job: Job) -> None:
        for listener in self.listeners:
            listener.worker, listener.model = job.worker, job.model
            if not listener.is_over and not all(map(listener.put, pieces)):
                _give_up(listener)

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        for listener in self.listeners:
            if not listener.is_over:
                listener.finish(outcome)

    def fail(self, error: HubError) -> None:
        if self.found.done():
            self.finish(Outcome(error=error))
        else:
            self.found.set_exception(error)
            self.found.exception()  # its callers may all have left


class Repeats:
    """The runs that go on."""

    def __init__(self, dispatch: Dispatch, content: Content, linger_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._dispatch = dispatch
        self._content = content
        self._linger_s = linger_s
        self._runs: dict[Name, _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self, repeat: Repeat, make: Make) -> Job | Kept:
        """A job that hands on the answer of the one run of this request, which begins if there is none.

        Or the answer itself, if there was one. Call `leave` with the job in the end. Raises
        IdempotencyKeyInUse, ContentUnreadable, and what `make` raises.
        """
        name = (repeat.owner, repeat.key)
        while (run := self._runs.get(name)) is not None and run.repeat.asked != repeat.asked:
            if run.found.done():
                raise IdempotencyKeyInUse
            # It may be the other one that has no right to this key.
            await asyncio.wait([run.found])
        if run is None:
            run = self._begin(name, repeat, make)
        self._enter(run)
        try:
            # A caller that leaves must not take the others' run along.
            found = await asyncio.shield(run.found)
        except BaseException:
            self._left(run)
            raise
        return run.listen(found) if isinstance(found, Job) else found

    def leave(self, listener: Job) -> None:
        """The caller of this one is gone."""
        repeat = listener.repeat
        run = self._runs.get((repeat.owner, repeat.key)) if repeat is not None else None
        if run is not None and listener in run.listeners:
            run.listeners.discard(listener)
            self._left(run)

    async def close(self) -> None:
        """End all runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, name: Name, repeat: Repeat, make: Make) -> _Run:
        run = self._runs[name] = _Run(repeat)
        run.task = asyncio.create_task(self._carry_out(name, run, make))
        self._tasks.add(run.task)
        run.task.add_done_callback(self._tasks.discard)
        return run

    async def _carry_out(self, name: Name, run: _Run, make: Make) -> None:
        job: Job | None = None
        try:
            kept = await self._content.answer_to(run.repeat)
            if kept is not None:
                run.found.set_result(kept)
                return
            job = await make()
            run.found.set_result(job)
            await self._dispatch.submit(job)
            run.finish(await _follow(run, job))
        except HubError as error:
            run.fail(error)
        except Exception:
            log.exception("unexpected error in a run", request_id=job.id if job else None)
            run.fail(InternalError())
        finally:
            self._end(name, run)
            if job is not None:
                self._dispatch.leave(job, delivered=job.stream)

    def _enter(self, run: _Run) -> None:
        run.callers += 1
        if run.end is not None:
            run.end.cancel()

    def _left(self, run: _Run) -> None:
        """Without anybody who reads, a run ends soon: its worker must not work for nobody."""
        run.callers -= 1
        if not run.callers:
            run.end = self._loop.call_later(self._linger_s, self._abandon, run)

    def _abandon(self, run: _Run) -> None:
        # Whoever comes from now on begins anew.
        self._end((run.repeat.owner, run.repeat.key), run)
        if run.task is not None:
            run.task.cancel()

    def _end(self, name: Name, run: _Run) -> None:
        if self._runs.get(name) is run:
            del self._runs[name]
        if run.end is not None:
            run.end.cancel()
        run.found.cancel()  # nobody waits for it, but those who wait for its end


async def _follow(run: _Run, job: Job) -> Outcome:
    """Hand the answer on until it has ended."""
    while job.outcome is None or job.has_pieces:
        run.hand_on(await job.take(), job)
    return job.outcome


def _give_up(listener: Job) -> None:
    """One who reads too slowly costs only its own answer."""
    listener.finish(Outcome(error=SlowCaller()))
    if listener.on_overflow is not None:
        listener.on_overflow()
