"""The line that jobs wait in: bounded, fair between keys, quicker for higher tiers."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import itemgetter

from ..errors import QueueFull
from ..rules.turns import Turns
from .jobs import Job

_place = itemgetter(0, 1)


class Line:
    """Jobs that wait, those whose turn is next first, by model.

    A tier of priority p has 2 to the power of p turns while one of priority 0 has one.
    """

    def __init__(self, limit: int, limit_of_a_key: int) -> None:
        self._limit = limit
        self._limit_of_a_key = limit_of_a_key
        self._turns = Turns()
        self._by_model: dict[str, list[tuple[float, str, Job]]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        for jobs in list(self._by_model.values()):
            yield from [job for _, _, job in jobs]

    def is_full(self, job: Job) -> bool:
        """Whether this job would find no room, in the whole line or in its key's share of it."""
        waiting = self._turns.waiting(_flow(job))
        return self._length >= self._limit or waiting >= self._limit_of_a_key

    def check_room(self, job: Job, retry_after: float) -> None:
        """Raises QueueFull."""
        if self.is_full(job):
            raise QueueFull(retry_after=retry_after)

    def join(self, job: Job) -> None:
        """A job that was in line before, and comes back from a worker that did not run it, has its old place."""
        if job.tag is None:
            job.tag = self._turns.join(_flow(job), 1 << job.priority)
        else:
            self._turns.rejoin(_flow(job), job.tag)
        insort(self._by_model.setdefault(job.model, []), (job.tag, job.id, job), key=_place)
        self._length += 1

    def leave(self, job: Job, *, served: bool) -> bool:
        """Take a job out, since a worker has it or it waits no more; False if it is not in line."""
        place = self._find(job)
        if place is None:
            return False
        jobs = self._by_model[job.model]
        del jobs[place]
        if not jobs:
            del self._by_model[job.model]
        self._length -= 1
        self._turns.leave(_flow(job), job.tag or 0.0, served=served)
        return True

    def models(self) -> list[str]:
        """The models that jobs wait for."""
        return list(self._by_model)

    def waiting_for(self, model: str) -> Iterator[Job]:
        """Jobs for a model, the next first."""
        return (job for _, _, job in self._by_model.get(model, ()))

    def ahead_of(self, job: Job) -> int:
        """How many of its model would have their turn before a job that is not in line."""
        tag = self._turns.tag(_flow(job), 1 << job.priority)
        return bisect_left(self._by_model.get(job.model, ()), (tag, job.id), key=_place)

    def position(self, job: Job) -> int:
        """1 for the next of its model."""
        return (self._find(job) or 0) + 1

    def _find(self, job: Job) -> int | None:
        jobs = self._by_model.get(job.model)
        if jobs is None or job.tag is None:
            return None
        place = bisect_left(jobs, (job.tag, job.id), key=_place)
        return place if place < len(jobs) and jobs[place][2] is job else None


def _flow(job: Job) -> str:
    return job.caller.key.family
