"""What an operation is: a function of the store (and of the running hub, where there is one) and a typed body.

Its parameters' types, its result's type and its docstring are all that the doors, the command line and the
description need to know.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta, Struct

from ...errors import InvalidRequest
from ...live.hub import Hub
from ...rules.openai import convert
from ...store import Store
from ...store.audit import Actor

Name = Annotated[
    str, Meta(min_length=1, max_length=200, description="A name that people will recognise.")
]
Id = Annotated[str, Meta(min_length=1, max_length=200, description="The id that the list shows.")]
Who = Annotated[str, Meta(min_length=1, max_length=254, description="A user: address or id.")]


class Office(NamedTuple):
    """Where an operation is carried out; `hub` is None when no hub runs, `public_url` "" if it is not set."""

    store: Store
    hub: Hub | None
    actor: Actor
    public_url: str = ""

    async def accounts_changed(self) -> None:
        """After a change to users or worker tokens: it holds for the workers that are here, too."""
        if self.hub is not None:
            await self.hub.accounts_changed()


class Nothing(Struct, forbid_unknown_fields=True):
    """A body without members."""


class Chosen(Struct, forbid_unknown_fields=True):
    """One of a list."""

    id: Id


class Revoked(Struct):
    """What was ended."""

    id: str
    revoked: bool = True


class Operation(NamedTuple):
    """An operation at its address. A GET takes its body's members from the query string."""

    method: Literal["GET", "POST"]
    path: str
    run: Callable[[Office, Any], Awaitable[Any]]

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def summary(self) -> str:
        return " ".join((self.run.__doc__ or "").split())

    @property
    def body(self) -> type[Struct]:
        body: type[Struct] = _types(self.run)["body"]
        return body

    @property
    def result(self) -> Any:
        return _types(self.run)["return"]

    async def carry_out(self, office: Office, members: dict[str, Any]) -> Any:
        """Run it; what comes back is ready for JSON. Raises HubError."""
        body = convert(members, self.body, strict=self.method != "GET")
        return msgspec.to_builtins(await self.run(office, body))


@cache
def _types(run: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(run, include_extras=True)


def in_the_future(moment: int | None, param: str, now: float) -> None:
    """Raises InvalidRequest for a moment (Unix seconds) that is over."""
    if moment is not None and moment <= now:
        raise InvalidRequest(f"{param}: this moment is over.", param=param)
