"""What several workers offer under one id, as the one model that callers see."""

from collections.abc import Iterable
from typing import NamedTuple

from ..protocol import Modalities, Model


class Offer(NamedTuple):
    """A model as callers see it, and how many workers offer it."""

    model: Model
    workers: int


def join(models: list[Model]) -> Offer:
    """One or more workers' descriptions of one model, as one.

    A request goes to a worker that can do what it needs, so the model can do what any of them can. The
    context is the shortest: a long prompt may go to any of them.
    """
    if len(models) == 1:
        return Offer(models[0], 1)
    takes = _all(model.modalities.takes for model in models)
    gives = _all(model.modalities.gives for model in models)
    joined = Model(
        id=models[0].id,
        modalities=Modalities(takes, gives),
        kinds=_all(model.kinds for model in models),
        features=_all(model.features for model in models),
        context=min((model.context for model in models if model.context), default=None),
        organization=next((model.organization for model in models if model.organization), None),
    )
    return Offer(joined, len(models))


def _all(lists: Iterable[list[str]]) -> list[str]:
    """Every word of the lists once, in the order in which they first come."""
    return list(dict.fromkeys(word for words in lists for word in words))
