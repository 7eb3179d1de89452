"""Operations on tiers and prices."""

import time
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ...rules.tiers import Moment, Price, Tier, TierChanges
from ...store.tiers import Priced
from .operation import Nothing, Office, Operation


class NamedTier(Struct):
    """A tier; what its limits do not name is not limited."""

    name: str
    limits: Tier


class SomeTier(Struct, forbid_unknown_fields=True):
    """Which tier to change, or make, and how."""

    name: Annotated[
        str,
        Meta(
            max_length=50,
            pattern="^[a-z0-9][a-z0-9_-]*$",
            description="Its name; a new one makes a new tier.",
        ),
    ]
    limits: TierChanges


def now() -> int:
    """Unix seconds."""
    return int(time.time())


class NewPrice(Price, frozen=True):
    """What models of a pattern cost, from a moment on."""

    valid_from: Annotated[
        Moment, Meta(description="When it begins to hold: now, if nothing is said; 0 is always.")
    ] = msgspec.field(default_factory=now)


class PriceList(Struct, forbid_unknown_fields=True):
    """Prices to add, all or none."""

    prices: Annotated[list[NewPrice], Meta(min_length=1, max_length=5_000)]


class ChosenPrice(Struct, forbid_unknown_fields=True):
    """One of the prices."""

    id: Annotated[int, Meta(ge=0, le=2**53, description="The number that the list shows.")]


class Removed(Struct):
    """What was taken away."""

    id: int
    removed: bool = True


async def list_tiers(office: Office, body: Nothing) -> list[NamedTier]:
    """All tiers, those of the least priority first."""
    return [NamedTier(name, tier) for name, tier in office.store.tiers.all().items()]


async def change_tier(office: Office, body: SomeTier) -> NamedTier:
    """Change some of a tier, or make one; it holds from the next request on."""
    tier = await office.store.tiers.change(body.name, body.limits, office.actor)
    return NamedTier(body.name, tier)


async def list_prices(office: Office, body: Nothing) -> list[Priced]:
    """All prices, also those that are over or to come, by pattern and moment."""
    return office.store.prices.all()


async def set_price(office: Office, body: NewPrice) -> Priced:
    """Set what models of a pattern cost from a moment on; what was billed before stays as it is."""
    [priced] = await office.store.prices.add([body], office.actor)
    return priced


async def import_prices(office: Office, body: PriceList) -> list[Priced]:
    """Set many prices, all or none."""
    return await office.store.prices.add([*body.prices], office.actor)


async def remove_price(office: Office, body: ChosenPrice) -> Removed:
    """Take a price away; what was billed by it stays as it is."""
    await office.store.prices.remove(body.id, office.actor)
    return Removed(body.id)


OPERATIONS = [
    Operation("GET", "/admin/api/tiers", list_tiers),
    Operation("POST", "/admin/api/tiers", change_tier),
    Operation("GET", "/admin/api/prices", list_prices),
    Operation("POST", "/admin/api/prices", set_price),
    Operation("POST", "/admin/api/prices/import", import_prices),
    Operation("POST", "/admin/api/prices/remove", remove_price),
]
