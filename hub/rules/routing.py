"""Routing: which models stand behind the name that a caller asks for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

from msgspec import Meta, Struct

MOST_MODELS = 8
"""Models that one request goes along at most, however many a pattern finds."""
WILD = frozenset("*?[")

Pattern = Annotated[
    str, Meta(min_length=1, max_length=200, description="A model's name, or a pattern: `gpt-4*`.")
]
Targets = Annotated[
    list[Pattern],
    Meta(
        min_length=1,
        max_length=MOST_MODELS,
        description="Models, or patterns, in the order in which they are tried.",
    ),
]


class Alias(Struct, frozen=True):
    """A name, or a pattern of names, and what answers to it."""

    name: str
    targets: list[str]


def is_pattern(name: str) -> bool:
    """Whether it stands for other names than itself, too."""
    return not WILD.isdisjoint(name)


def matches(pattern: str, name: str) -> bool:
    return pattern == name or fnmatchcase(name, pattern)


def targets_of(
    asked: str, aliases: Mapping[str, Sequence[str]], *, is_model: bool
) -> Sequence[str] | None:
    """What answers to a name; None if only the model of that name does.

    An alias of just that name goes before a model, a model before a pattern, and of patterns the one with the
    most letters of its own before the others.
    """
    exact = aliases.get(asked)
    if exact is not None or is_model:
        return exact
    found = [name for name in aliases if is_pattern(name) and fnmatchcase(asked, name)]
    return aliases[max(found, key=_letters)] if found else None


def _letters(pattern: str) -> tuple[int, str]:
    return sum(letter not in "*?[]" for letter in pattern), pattern


def models_along(targets: Iterable[str], found: Iterable[str]) -> Iterator[str]:
    """The models of an alias in their order, each once; a pattern stands for those of `found` that match it."""
    found, seen = list(found), set[str]()
    for target in targets:
        models = [model for model in found if fnmatchcase(model, target)]
        for model in models if is_pattern(target) else [target]:
            if model not in seen:
                seen.add(model)
                yield model
