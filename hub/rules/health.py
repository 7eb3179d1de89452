"""How a worker has fared: its breakers, and for each model how often and how quickly it answered.

Times are seconds on one clock, the caller's choice.
"""

from typing import NamedTuple

import msgspec
from msgspec import Struct

from ..settings import Breakers
from .breaker import Breaker, BreakerState

RECENT = 0.1
"""How much the latest answer weighs in a rate or a latency."""
WHOLE = 10
"""The effective weight of a worker of weight 1 that answers always, and as quickly as the others."""
QUICK_S = 0.05
"""Latencies below this are alike: what differs there is noise."""
LEAST, MOST = 0.1, 4.0
"""How far health may lower or raise a weight: enough work comes in to notice that it is better again."""


MOST_KEPT = 100
"""Models of one worker whose records outlive the hub, those that fared worst."""


class KeptTrack(Struct, omit_defaults=True, frozen=True):
    """A model at a worker, as it is written down. Times are Unix seconds, 0 for never."""

    success: float = 1.0
    latency: float | None = None
    failures: int = 0
    rests_until: float = 0.0


class Kept(Struct, omit_defaults=True, frozen=True):
    """A worker's health, as it is written down."""

    completed: int = 0
    failed: int = 0
    failures: int = 0
    rests_until: float = 0.0
    models: dict[str, KeptTrack] = {}


class Change(NamedTuple):
    """A breaker is in another state; `model` is None for that of the whole worker."""

    model: str | None
    state: BreakerState
    failures: int


class Track:
    """One model at one worker."""

    __slots__ = ("breaker", "latency", "success")

    def __init__(self, rules: Breakers) -> None:
        self.breaker = Breaker(rules)
        self.success = 1.0
        """The share of answers that came, the recent ones weighing most."""
        self.latency: float | None = None
        """Seconds from the offer to the first piece, likewise; None before the first answer."""

    def answered(self, latency: float) -> None:
        self.success += (1.0 - self.success) * RECENT
        usual = latency if self.latency is None else self.latency
        self.latency = usual + (latency - usual) * RECENT

    def missed(self) -> None:
        self.success -= self.success * RECENT


def effective_weight(weight: int, track: Track | None, median: float | None) -> int:
    """The operator's weight, by how often the worker answers and how quickly beside the model's median.

    `median` is the latency of the model at all its workers, None while nothing is known of it.
    """
    if track is None:
        return weight * WHOLE
    quickness = 1.0
    if track.latency is not None and median is not None:
        quickness = max(median, QUICK_S) / max(track.latency, QUICK_S)
    share = min(MOST, max(LEAST, track.success * quickness))
    return max(1, round(weight * WHOLE * share))


class Health:
    """One worker, over all its sessions.

    A failure counts against the model it happened with. It counts against the whole worker too if it is the
    worker's own (lost, silent, a changed site), or if another model failed just before: then it is not the model.
    """

    def __init__(self, rules: Breakers) -> None:
        self._rules = rules
        self.weight = 1
        """How much of the work the operator wants it to get, beside others."""
        self._failing: str | None = None
        """The model that failed last, if nothing was answered since."""
        self.breaker = Breaker(rules)
        self.tracks: dict[str, Track] = {}
        self.completed = 0
        self.failed_jobs = 0
        self.is_saved = True
        """Whether all of this is written down."""

    def track(self, model: str) -> Track:
        track = self.tracks.get(model)
        if track is None:
            track = self.tracks[model] = Track(self._rules)
        return track

    def admits(self, model: str, now: float) -> bool:
        """Whether its breakers let a job for the model through."""
        track = self.tracks.get(model)
        return self.breaker.admits(now) and (track is None or track.breaker.admits(now))

    def rests_until(self, model: str) -> float:
        """When it may be asked for the model again; a time in the past if it may be now."""
        track = self.tracks.get(model)
        own = self.breaker.rests_until
        return own if track is None else max(own, track.breaker.rests_until)

    def resting(self, now: float) -> list[tuple[str | None, Breaker]]:
        """The breakers that are not closed, with their models."""
        breakers: dict[str | None, Breaker] = {None: self.breaker}
        breakers |= {model: track.breaker for model, track in self.tracks.items()}
        return [(name, each) for name, each in breakers.items() if each.state(now) != "closed"]

    def offered(self, model: str) -> bool:
        """A job is on its way; whether it is a probe."""
        track = self.tracks.get(model)
        whole = self.breaker.offered()
        return (track is not None and track.breaker.offered()) or whole

    def succeeded(self, model: str, latency: float, now: float) -> list[Change]:
        """A job was answered, its first piece after `latency` seconds."""
        self.completed += 1
        self.is_saved = False
        self._failing = None
        track = self.track(model)
        track.answered(latency)
        closed = []
        if track.breaker.succeeded(now):
            closed.append(Change(model, "closed", 0))
        if self.breaker.succeeded(now):
            closed.append(Change(None, "closed", 0))
        return closed

    def failed(self, model: str, now: float, *, whole: bool) -> list[Change]:
        """A job failed; `whole` says that it was the worker's own failure, whatever the model."""
        self.failed_jobs += 1
        self.is_saved = False
        before, self._failing = self._failing, model
        track = self.track(model)
        track.missed()
        opened = []
        if track.breaker.failed(now):
            opened.append(Change(model, "open", track.breaker.failures))
        if whole or before not in (None, model) or self.breaker.state(now) == "half_open":
            opened += self.lost(now)
        return opened

    def lost(self, now: float) -> list[Change]:
        """The worker itself failed."""
        self.is_saved = False
        if self.breaker.failed(now):
            return [Change(None, "open", self.breaker.failures)]
        return []

    def unproven(self, model: str, now: float) -> list[str | None]:
        """A probe ended without showing anything; the breakers that wait for another."""
        breakers = {None: self.breaker, model: self.track(model).breaker}
        return [name for name, breaker in breakers.items() if breaker.unproven(now)]

    # --- over a restart

    def save(self, ahead: float) -> str:
        """All of this as JSON; `ahead` is how far Unix time is ahead of the clock used here, in seconds."""
        kept = sorted(self.tracks.items(), key=lambda item: item[1].success)[:MOST_KEPT]
        models = {
            model: KeptTrack(
                round(track.success, 4),
                None if track.latency is None else round(track.latency, 4),
                track.breaker.failures,
                _moved(track.breaker.rests_until, ahead),
            )
            for model, track in kept
        }
        rests_until = _moved(self.breaker.rests_until, ahead)
        values = Kept(self.completed, self.failed_jobs, self.breaker.failures, rests_until, models)
        return msgspec.json.encode(values).decode()

    def restore(self, text: str, ahead: float) -> None:
        """Take up what `save` wrote. Raises ValueError."""
        kept = msgspec.json.decode(text, type=Kept)
        self.completed, self.failed_jobs = kept.completed, kept.failed
        self.breaker.restore(kept.failures, _moved(kept.rests_until, -ahead))
        for model, values in kept.models.items():
            track = self.track(model)
            track.success, track.latency = values.success, values.latency
            track.breaker.restore(values.failures, _moved(values.rests_until, -ahead))


def _moved(time: float, seconds: float) -> float:
    """A time on another clock; 0 stays 0, for never, and what lies before that clock began is just past it."""
    return max(time + seconds, 0.001) if time else 0.0
