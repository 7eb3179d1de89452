"""Operations on API keys."""

import time
from typing import Annotated

from msgspec import Meta, Struct

from ...errors import NotFound
from ...rules.tiers import NO_LIMITS, LimitChanges, Limits, Moment
from ...store.credentials import Created
from ...store.keys import EVERYTHING, Key, Scopes
from .operation import Chosen, Id, Name, Office, Operation, Revoked, Who, in_the_future

LONGEST_OVERLAP_S = 90 * 86_400
Overlap = Annotated[
    int,
    Meta(
        ge=0,
        le=LONGEST_OVERLAP_S,
        description="How long the old key works beside the new one.",
        extra={"unit": "duration"},
    ),
]


class NewKey(Struct, forbid_unknown_fields=True):
    """What a new key is for, and how much of it."""

    name: Name
    user: Annotated[
        Who | None, Meta(description="Whose it is: address or id; without, the operator's own.")
    ] = None
    scopes: Scopes = EVERYTHING
    limits: Limits = NO_LIMITS
    expires_at: Annotated[
        Moment | None, Meta(description="When it ends; without, it never does by itself.")
    ] = None
    own_workers_only: Annotated[
        bool, Meta(description="Whether only the user's own private workers may answer.")
    ] = False


class OfWhom(Struct, forbid_unknown_fields=True):
    """Whose to list; without a user, everybody's."""

    user: Who | None = None


class Rotation(Struct, forbid_unknown_fields=True):
    """Which key to replace, and how long the old one shall go on."""

    id: Id
    overlap_s: Overlap = 86_400


class OtherLimits(Struct, forbid_unknown_fields=True):
    """A key, and which of its limits to change."""

    id: Id
    limits: LimitChanges


async def create_key(office: Office, body: NewKey) -> Created:
    """Make an API key; its secret is shown this once."""
    in_the_future(body.expires_at, "expires_at", time.time())
    return await office.store.keys.create(
        body.name,
        office.actor,
        user=body.user,
        scopes=body.scopes,
        limits=body.limits,
        own_workers_only=body.own_workers_only,
        expires_at=body.expires_at,
    )


async def list_keys(office: Office, body: OfWhom) -> list[Key]:
    """All keys that are not revoked, the oldest first."""
    await office.store.keys.write_seen()
    return await office.store.keys.all(body.user)


async def rotate_key(office: Office, body: Rotation) -> Created:
    """Make the key that follows another, with the same uses and limits; the old one goes on for a while."""
    return await office.store.keys.rotate(body.id, body.overlap_s, office.actor)


async def revoke_key(office: Office, body: Chosen) -> Revoked:
    """End an API key from the next request on."""
    if not await office.store.keys.revoke(body.id, office.actor):
        raise NotFound(f"There is no key {body.id!r}.")
    return Revoked(body.id)


async def set_key_limits(office: Office, body: OtherLimits) -> Key:
    """Change limits of a key's own; they hold from the next request on."""
    return await office.store.keys.set_limits(body.id, body.limits, office.actor)


OPERATIONS = [
    Operation("GET", "/admin/api/keys", list_keys),
    Operation("POST", "/admin/api/keys", create_key),
    Operation("POST", "/admin/api/keys/rotate", rotate_key),
    Operation("POST", "/admin/api/keys/revoke", revoke_key),
    Operation("POST", "/admin/api/keys/set-limits", set_key_limits),
]
