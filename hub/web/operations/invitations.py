"""Operations on invitations: links with which people make their accounts."""

import time
from typing import Annotated

from msgspec import Meta, Struct

from ...errors import NotFound
from ...rules.tiers import Moment
from ...store.invitations import Invitation
from .operation import Chosen, Nothing, Office, Operation, Revoked, in_the_future
from .users import Email, RoleName, TierName

GOOD_FOR_S = 7 * 86_400


class Guest(Struct, forbid_unknown_fields=True):
    """A person who shall make an account, and what it shall be."""

    email: Email
    tier: TierName = "free"
    role: RoleName = "user"
    expires_at: Annotated[
        Moment | None, Meta(description="Until when the link is good; without, for seven days.")
    ] = None


class Link(Struct):
    """An invitation at the only moment when its link is known; `url` is null where public_url is not set."""

    id: str
    email: str
    expires_at: int
    path: str
    url: str | None


async def create_invitation(office: Office, body: Guest) -> Link:
    """Make a link with which a person makes their account, once; it is shown this once."""
    now = time.time()
    in_the_future(body.expires_at, "expires_at", now)
    expires_at = int(now) + GOOD_FOR_S if body.expires_at is None else body.expires_at
    made = await office.store.invitations.create(
        body.email, office.actor, tier=body.tier, role=body.role, expires_at=expires_at
    )
    path = f"/invitation/{made.secret}"
    base = office.public_url.rstrip("/")
    return Link(made.id, made.name, expires_at, path, base + path if base else None)


async def list_invitations(office: Office, body: Nothing) -> list[Invitation]:
    """The invitations that are still good, the oldest first."""
    return await office.store.invitations.all()


async def revoke_invitation(office: Office, body: Chosen) -> Revoked:
    """End an invitation; an account that was made with it stays."""
    if not await office.store.invitations.revoke(body.id, office.actor):
        raise NotFound(f"There is no invitation {body.id!r} that is still good.")
    return Revoked(body.id)


OPERATIONS = [
    Operation("GET", "/admin/api/invitations", list_invitations),
    Operation("POST", "/admin/api/invitations", create_invitation),
    Operation("POST", "/admin/api/invitations/revoke", revoke_invitation),
]
