"""From the name that a caller asks for to the models that may answer it, in the order in which they are tried."""

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import NamedTuple

from ..errors import ModelNotAllowed, ModelNotFound
from ..rules.openai import unsupported
from ..rules.routing import MOST_MODELS, is_pattern, models_along, targets_of
from ..store import Store
from ..store.keys import Caller
from .workers import Roster


class Route(NamedTuple):
    """What was asked for, and what may answer; there is at least one model."""

    asked: str
    models: list[str]

    @property
    def alias(self) -> str:
        """The name, if it is an alias; "" if it is the model's own and there is no other."""
        return "" if self.models == [self.asked] else self.asked


class Routing:
    """The operator's aliases, over the workers that are there."""

    def __init__(self, store: Store, roster: Roster) -> None:
        self._store = store
        self._roster = roster

    def route(self, caller: Caller, asked: str, needs: dict[str, str]) -> Route:
        """What may answer a request that needs these features, each asked for by a parameter.

        Raises ModelNotAllowed, ModelNotFound, UnsupportedParameter.
        """
        if not caller.key.scopes.allows_model(asked):
            raise ModelNotAllowed(param="model")
        is_model = self._is_known(caller, asked)
        targets = self._store.aliases.targets
        along = targets_of(asked, targets, is_model=is_model) if targets else None
        if along is None:
            if not is_model:
                message = f"The model {asked[:200]!r} is not known here. GET /v1/models lists those that are live."
                raise ModelNotFound(message, param="model")
            models = [asked]
        else:
            models = self._models(caller, asked, along)
        able = self._able(caller, models, needs) if needs else models
        return Route(asked, able[:MOST_MODELS])

    def listed(self, caller: Caller, live: Iterable[str]) -> dict[str, str]:
        """The names to show a caller who may use these live models, each with the model that is shown by it."""
        aliases = self._store.aliases
        visible, live = [model for model in live if not aliases.hides(model)], set(live)
        shown = {model: model for model in visible}
        for name, targets in aliases.targets.items():
            shown.pop(name, None)
            along = models_along(targets, visible)
            model = next((each for each in along if each in live), None)
            if model and not is_pattern(name) and caller.key.scopes.allows_model(name):
                shown[name] = model
        return dict(sorted(shown.items()))

    def _is_known(self, caller: Caller, model: str) -> bool:
        return self._store.workers.first_seen(model, caller.user_id) is not None

    def _models(self, caller: Caller, alias: str, targets: Sequence[str]) -> list[str]:
        """Models of an alias that this caller may use. Raises ModelNotAllowed, ModelNotFound."""
        found = self._found(caller) if any(map(is_pattern, targets)) else []
        models = list(models_along(targets, found))
        known = [model for model in models if self._is_known(caller, model)]
        if not known:
            message = f"Nothing that {alias[:200]!r} stands for is known here. GET /v1/models lists what is live."
            raise ModelNotFound(message, param="model")
        allowed = [model for model in known if caller.key.scopes.allows_model(model)]
        if not allowed:
            message = f"This API key may not use any model that {alias[:200]!r} stands for."
            raise ModelNotAllowed(message, param="model")
        return allowed

    def _found(self, caller: Caller) -> list[str]:
        """What a pattern finds: live models that are not hidden, the soonest first.

        Where none is live, those that were: one may be back in a moment.
        """
        live, hides = self._roster.models(caller), self._store.aliases.hides
        models = live or self._store.workers.known_to(caller.user_id)
        now = monotonic()
        visible = [(self._rank(caller, model, now), model) for model in models if not hides(model)]
        return [model for _, model in sorted(visible)]

    def _rank(self, caller: Caller, model: str, now: float) -> int:
        """Lower is sooner: a worker is free, or busy, or there is none that takes jobs."""
        workers = list(self._roster.offering_to(caller, model))
        if any(worker.is_free(model, now) for worker in workers):
            return 0
        return 1 if any(worker.is_able(now) for worker in workers) else 2

    def _able(self, caller: Caller, models: list[str], needs: dict[str, str]) -> list[str]:
        """Those of the models whose live workers, if there are any, do what is needed. Raises UnsupportedParameter."""
        lacks = {model: self._lacking(caller, model, needs) for model in models}
        able = [model for model, param in lacks.items() if param is None]
        if not able:
            need, param = next(each for each in needs.items() if each[1] == lacks[models[0]])
            raise unsupported(param, models[0], need)
        return able

    def _lacking(self, caller: Caller, model: str, needs: dict[str, str]) -> str | None:
        """The first parameter that none of its live workers honours, with those before it."""
        offering = list(self._roster.offering_to(caller, model))
        for need, param in needs.items() if offering else ():
            offering = [worker for worker in offering if worker.can(model, need)]
            if not offering:
                return param
        return None
