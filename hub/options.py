"""Command-line options made from the members of an operation's body: each is written once."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import click
from msgspec import Struct, inspect

from .rules.durations import parse_day, parse_duration
from .rules.money import micro_dollars

BETWEEN = "__"
"""Between the names of a member of a member, such as limits__concurrent."""
NO_LIMIT = object()
"""What is said by `none`; click keeps None for what was not said."""
SUFFIXES = {"duration": "_s", "moment": "_at"}


class Parsed(click.ParamType[Any]):
    """A value that is read by a function, whose ValueError is the complaint."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class OrNone(click.ParamType[Any]):
    """Another type's value, or `none`."""

    def __init__(self, other: click.ParamType[Any]) -> None:
        self.name = f"{other.name}|none"
        self._other = other

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return NO_LIMIT if value == "none" else self._other.convert(value, param, ctx)


def moment(text: str) -> int:
    """Unix seconds of a day (`2026-01-31`), or of a length of time from now (`30d`). Raises ValueError."""
    for parse, origin in ((parse_duration, int(time.time())), (parse_day, 0)):
        with suppress(ValueError):
            return origin + parse(text)
    raise ValueError(f"{text!r} is neither a day such as 2026-01-31 nor a length such as 30d")


UNITS: dict[str, click.ParamType[Any]] = {
    "dollars": Parsed("dollars", micro_dollars),
    "duration": Parsed("duration", parse_duration),
    "moment": Parsed("date or duration", moment),
}


class Member(NamedTuple):
    """What an option needs to know of a member of a body."""

    path: tuple[str, ...]
    kind: inspect.Type
    required: bool
    help: str
    unit: str
    may_be_none: bool


def parameters(
    body: type[Struct], arguments: tuple[str, ...] = (), prefix: str = ""
) -> list[click.Parameter]:
    """Options for all members of a body, their names behind `prefix`.

    The members named in `arguments` go without a name, in that order.
    """
    members = {member.path[-1]: member for member in _members(body)}
    taken = [_argument(members.pop(name)) for name in arguments]
    return [*taken, *(_option(member, prefix) for member in members.values())]


def members(values: dict[str, Any]) -> dict[str, Any]:
    """A body's members from what click has read; what was not said is left out."""
    body: dict[str, Any] = {}
    for dotted, value in values.items():
        if value is None or value == ():
            continue
        *above, name = dotted.split(BETWEEN)
        place = body
        for step in above:
            place = place.setdefault(step, {})
        place[name] = list(value) if isinstance(value, tuple) else value
        if value is NO_LIMIT:
            place[name] = None
    return body


def _members(body: type[Struct], above: tuple[str, ...] = ()) -> Iterator[Member]:
    info = inspect.type_info(body)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{body} is no struct")
    for field in info.fields:
        member = _read((*above, field.name), field.type, field.required)
        if isinstance(member.kind, inspect.StructType):
            yield from _members(member.kind.cls, member.path)
        else:
            yield member


def _read(path: tuple[str, ...], kind: inspect.Type, required: bool) -> Member:
    """What lies below annotations and unions with null; the outermost description counts."""
    sentence, unit, may_be_none = "", "", False
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.Metadata):
            sentence = sentence or (kind.extra_json_schema or {}).get("description", "")
            unit = unit or (kind.extra or {}).get("unit", "")
            kind = kind.type
        else:
            may_be_none = True
            [kind] = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
    return Member(path, kind, required, sentence, unit, may_be_none)


def _argument(member: Member) -> click.Argument:
    name, shown = BETWEEN.join(member.path), member.path[-1].upper()
    if isinstance(member.kind, inspect.ListType):
        shown = shown.removesuffix("S") + "..."
        return click.Argument([name], type=_type(member), metavar=shown, nargs=-1, required=True)
    return click.Argument([name], type=_type(member), metavar=shown)


def _option(member: Member, prefix: str) -> click.Option:
    name = member.path[-1].removesuffix(SUFFIXES.get(member.unit, "")).removeprefix("valid_")
    flag = f"--{prefix}{name.replace('_', '-')}"
    repeated = isinstance(member.kind, inspect.ListType)
    # A flag that was not said is left out, not false.
    flags: dict[str, Any] = {"is_flag": True, "default": None}
    return click.Option(
        [BETWEEN.join(member.path), *([flag.removesuffix("s")] if repeated else []), flag],
        type=_type(member),
        required=member.required,
        multiple=repeated,
        help=member.help + (" May be repeated." if repeated else ""),
        **flags if isinstance(member.kind, inspect.BoolType) else {},
    )


def _type(member: Member) -> click.ParamType[Any]:
    kind = member.kind.item_type if isinstance(member.kind, inspect.ListType) else member.kind
    kind = _read((), kind, True).kind
    found: click.ParamType[Any] = click.STRING
    if member.unit:
        found = UNITS[member.unit]
    elif isinstance(kind, inspect.IntType):
        found = click.IntRange(kind.ge, kind.le)
    elif isinstance(kind, inspect.BoolType):
        return click.BOOL
    elif isinstance(kind, inspect.LiteralType):
        found = click.Choice(kind.values)
    limit = member.path[:1] == ("limits",) and member.may_be_none
    return OrNone(found) if limit else found
