"""Operations on what models are called, and which are shown."""

from typing import Annotated

from msgspec import Meta, Struct

from ...rules.routing import Alias, Pattern, Targets
from .operation import Nothing, Office, Operation

AliasName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="What callers say: a name, or a pattern (`gpt-*`) of names that no model has.",
    ),
]


class NewAlias(Struct, forbid_unknown_fields=True):
    """A name, and what answers to it."""

    name: AliasName
    targets: Targets


class ChosenAlias(Struct, forbid_unknown_fields=True):
    """One of the aliases."""

    name: AliasName


class ModelPattern(Struct, forbid_unknown_fields=True):
    """A model, or models of a pattern."""

    pattern: Pattern


class RemovedAlias(Struct):
    """What was taken away."""

    name: str
    removed: bool = True


class Hidden(Struct):
    """A pattern, and whether models are hidden by it now."""

    pattern: str
    hidden: bool = True


async def list_aliases(office: Office, body: Nothing) -> list[Alias]:
    """All aliases, by name."""
    return office.store.aliases.all()


async def set_alias(office: Office, body: NewAlias) -> Alias:
    """Make an alias, or lead it elsewhere, from the next request on."""
    alias = Alias(body.name, body.targets)
    await office.store.aliases.set(alias, office.actor)
    return alias


async def remove_alias(office: Office, body: ChosenAlias) -> RemovedAlias:
    """Take an alias away, from the next request on."""
    await office.store.aliases.remove(body.name, office.actor)
    return RemovedAlias(body.name)


async def list_hidden_models(office: Office, body: Nothing) -> list[Hidden]:
    """The models, and patterns of models, that are hidden."""
    return [Hidden(pattern) for pattern in office.store.aliases.hidden]


async def hide_model(office: Office, body: ModelPattern) -> Hidden:
    """Keep models out of the list that callers see; who knows their names may go on using them."""
    await office.store.aliases.hide(body.pattern, office.actor)
    return Hidden(body.pattern)


async def show_model(office: Office, body: ModelPattern) -> Hidden:
    """Show models again that were hidden by just this name or pattern."""
    await office.store.aliases.show(body.pattern, office.actor)
    return Hidden(body.pattern, hidden=False)


OPERATIONS = [
    Operation("GET", "/admin/api/aliases", list_aliases),
    Operation("POST", "/admin/api/aliases", set_alias),
    Operation("POST", "/admin/api/aliases/remove", remove_alias),
    Operation("GET", "/admin/api/hidden-models", list_hidden_models),
    Operation("POST", "/admin/api/hidden-models", hide_model),
    Operation("POST", "/admin/api/hidden-models/remove", show_model),
]
