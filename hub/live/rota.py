"""Whose turn it is: the workers of each model in smooth rotation, without a look at all of them.

A rotation is kept for every model that was asked for, and every pool of workers: those for everybody, and each
owner's. A worker that turns out to have no slot, to rest or to be away steps aside in that rotation; `back` lets it
step back wherever it stepped aside. So a pick looks at few workers, whoever is busy, and a worker that takes a
job or becomes late by the mere passing of time costs nothing before somebody comes upon it.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from statistics import median
from typing import Generic, NamedTuple, Protocol, TypeVar

from ..protocol import Model
from ..rules.health import Health, effective_weight
from ..rules.rotation import Rotation, Suits
from .jobs import Job

EVERYBODY = ""
"""The pool of workers that serve everybody; the others are named for their owners' user ids."""


class Kind(NamedTuple):
    """What workers must share to be the same to any job of a model."""

    region: str | None
    abilities: frozenset[str]


class Taker(Hashable, Protocol):
    """What must be known of a worker."""

    models: dict[str, Model]
    health: Health
    region: str | None

    @property
    def pool(self) -> str: ...

    def is_free(self, model: str, now: float) -> bool: ...

    def suits(self, job: Job) -> bool: ...

    def abilities(self, model: str) -> frozenset[str]: ...


T = TypeVar("T", bound=Taker)


class Rota(Generic[T]):
    """All workers that offer something, by model and pool, and who is next."""

    def __init__(self) -> None:
        self._offering: dict[str, dict[str, dict[T, None]]] = {}
        self._rotations: dict[tuple[str, str], Rotation[T]] = {}
        self._aside: dict[T, set[Rotation[T]]] = {}
        self._features: dict[tuple[str, str], frozenset[str]] = {}
        self._medians: dict[str, float] = {}
        self._fared: set[str] = set()

    # --- who offers what

    def add(self, worker: T) -> None:
        """It offers its models from now on."""
        for model in worker.models:
            pools = self._offering.setdefault(model, {})
            pools.setdefault(worker.pool, {})[worker] = None
            self._features.pop((model, worker.pool), None)
            if (rotation := self._rotations.get((model, worker.pool))) is not None:
                self._seat(rotation, worker, model)

    def remove(self, worker: T) -> None:
        """It does not any more; what it is owed is forgotten."""
        for model in worker.models:
            pools = self._offering.get(model, {})
            pool = pools.get(worker.pool, {})
            pool.pop(worker, None)
            self._features.pop((model, worker.pool), None)
            if (rotation := self._rotations.get((model, worker.pool))) is not None:
                rotation.forget(worker)
            if not pool:
                pools.pop(worker.pool, None)
                self._rotations.pop((model, worker.pool), None)
            if not pools:
                self._offering.pop(model, None)
                self._medians.pop(model, None)
        self._aside.pop(worker, None)

    @property
    def offering(self) -> Mapping[str, Mapping[str, Mapping[T, None]]]:
        """The workers by model and pool, able or not."""
        return self._offering

    def of(self, model: str, pools: Iterable[str] | None = None) -> Iterator[T]:
        """The workers of a model, of all pools or of some."""
        offering = self._offering.get(model, {})
        for pool in list(offering) if pools is None else pools:
            yield from offering.get(pool, ())

    def features(self, model: str, pools: Iterable[str]) -> frozenset[str]:
        """What any worker of these pools honours for the model."""
        return frozenset().union(*(self._features_of(model, pool) for pool in pools))

    def _features_of(self, model: str, pool: str) -> frozenset[str]:
        known = self._features.get((model, pool))
        if known is None:
            workers = self._offering.get(model, {}).get(pool)
            if not workers:
                return frozenset()
            known = frozenset().union(*(worker.models[model].features for worker in workers))
            self._features[model, pool] = known
        return known

    # --- who is next

    def pick(self, job: Job, pools: Iterable[str], now: float) -> T | None:
        """Whose turn it is, the first pools first, and in each those of the job's region."""
        for rotation, accepts in self._choices(job, pools):
            worker = rotation.pick(self._suits(rotation, job, now), accepts)
            if worker is not None:
                return worker
        return None

    def has_room(self, job: Job, pools: Iterable[str], now: float) -> bool:
        """Whether a pick would find anybody."""
        return any(
            rotation.has(self._suits(rotation, job, now), accepts)
            for rotation, accepts in self._choices(job, pools)
        )

    def _choices(
        self, job: Job, pools: Iterable[str]
    ) -> Iterator[tuple[Rotation[T], Callable[[Kind], bool]]]:
        for pool in pools:
            rotation = self._rotation(job.model, pool)
            if rotation is None:
                continue
            if job.region is not None:
                yield (
                    rotation,
                    lambda kind: kind.region == job.region and job.needs <= kind.abilities,
                )
            yield rotation, lambda kind: job.needs <= kind.abilities

    def _rotation(self, model: str, pool: str) -> Rotation[T] | None:
        rotation = self._rotations.get((model, pool))
        workers = self._offering.get(model, {}).get(pool)
        if rotation is None and workers:
            rotation = self._rotations[model, pool] = Rotation()
            for worker in workers:
                self._seat(rotation, worker, model)
        return rotation

    def _seat(self, rotation: Rotation[T], worker: T, model: str) -> None:
        kind = Kind(worker.region, worker.abilities(model))
        rotation.put(worker, self._weight(worker, model), kind)

    def _suits(self, rotation: Rotation[T], job: Job, now: float) -> Suits[T]:
        """Who takes the job at once; those that could take no job of this rotation step aside."""

        def suits(worker: T) -> bool | None:
            if worker.is_free(job.model, now):
                return worker.suits(job)
            self._aside.setdefault(worker, set()).add(rotation)
            return None

        return suits

    def back(self, worker: T) -> None:
        """It may be able to take jobs again that it could not take before."""
        for rotation in self._aside.pop(worker, ()):
            rotation.step_back(worker)

    # --- weights

    def fared(self, model: str) -> None:
        """A job for a model has ended: weights may change, when they are next worked out."""
        self._fared.add(model)

    def weigh_anew(self) -> None:
        """Work out the weights of models that were asked for since the last time."""
        fared, self._fared = self._fared, set()
        for model in fared & self._offering.keys():
            self.weigh(model)

    def weigh(self, model: str) -> None:
        """Work out the weights of a model's workers."""
        workers = [worker for worker in self.of(model) if model in worker.health.tracks]
        latencies = [worker.health.tracks[model].latency for worker in workers]
        if known := [latency for latency in latencies if latency is not None]:
            self._medians[model] = median(known)
        for worker in workers:
            if (rotation := self._rotations.get((model, worker.pool))) is not None:
                rotation.weigh(worker, self._weight(worker, model))

    def reconsider(self, worker: T) -> None:
        """The operator gave it another weight."""
        for model in worker.models:
            if (rotation := self._rotations.get((model, worker.pool))) is not None:
                rotation.weigh(worker, self._weight(worker, model))

    def _weight(self, worker: T, model: str) -> int:
        health = worker.health
        return effective_weight(health.weight, health.tracks.get(model), self._medians.get(model))
