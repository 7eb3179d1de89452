"""Operations on the people who have an account."""

import asyncio
from typing import Annotated

from msgspec import Meta, Struct

from ...rules.passwords import LONGEST, SHORTEST, hash_password
from ...store.credentials import Created
from ...store.keys import Scopes
from ...store.users import Role, User
from .operation import Nothing, Office, Operation, Who

Email = Annotated[
    str,
    Meta(
        max_length=254,
        pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$",
        description="An e-mail address; it is kept in lower case.",
    ),
]
Password = Annotated[
    str,
    Meta(
        min_length=SHORTEST,
        max_length=LONGEST,
        description=f"{SHORTEST} to {LONGEST} characters; only its argon2 hash is kept.",
    ),
]
TierName = Annotated[
    str, Meta(min_length=1, max_length=50, description="The tier, whose limits hold.")
]
RoleName = Annotated[Role, Meta(description="What they may do: `admin` administers the hub.")]


class FirstAdministrator(Struct, forbid_unknown_fields=True):
    """Who administers a new hub."""

    email: Email
    password: Password


class NewUser(Struct, forbid_unknown_fields=True):
    """A person who gets an account; without a password they cannot sign in yet."""

    email: Email
    tier: TierName = "free"
    role: RoleName = "user"
    name: Annotated[
        str, Meta(max_length=200, description="What to call them; else what is before the @.")
    ] = ""
    password: Password | None = None


class ChosenUser(Struct, forbid_unknown_fields=True):
    """One of the users."""

    user: Who


class OtherTier(Struct, forbid_unknown_fields=True):
    """A user, and the tier that they shall have."""

    user: Who
    tier: TierName


class OtherRole(Struct, forbid_unknown_fields=True):
    """A user, and the role that they shall have."""

    user: Who
    role: RoleName


class NewPassword(Struct, forbid_unknown_fields=True):
    """A user, and the password that they shall have."""

    user: Who
    password: Password


async def init(office: Office, body: FirstAdministrator) -> Created:
    """Make the first administrator, and an API key that may administer; its secret is shown this once."""
    hashed = await _hashed(body.password)
    admin = await office.store.users.create_first_admin(body.email, hashed, office.actor)
    return await office.store.keys.create(
        "administration", office.actor, user=admin.id, scopes=Scopes(admin=True)
    )


async def create_user(office: Office, body: NewUser) -> User:
    """Make an account."""
    return await office.store.users.create(
        body.email,
        office.actor,
        tier=body.tier,
        role=body.role,
        name=body.name,
        password=await _hashed(body.password) if body.password is not None else None,
    )


async def list_users(office: Office, body: Nothing) -> list[User]:
    """Everybody who has an account, in the order of their coming."""
    return await office.store.users.all()


async def set_tier(office: Office, body: OtherTier) -> User:
    """Give a user another tier; its limits hold from the next request on."""
    user = await office.store.users.set_tier(body.user, body.tier, office.actor)
    return await _told(office, user)


async def set_role(office: Office, body: OtherRole) -> User:
    """Make a user an administrator, or one no more; their keys with admin scope follow at once."""
    user = await office.store.users.set_role(body.user, body.role, office.actor)
    return await _told(office, user)


async def disable_user(office: Office, body: ChosenUser) -> User:
    """Let nothing of a user's work: keys, sign-ins, and workers, which are sent away at once."""
    user = await office.store.users.set_disabled(body.user, True, office.actor)
    return await _told(office, user)


async def enable_user(office: Office, body: ChosenUser) -> User:
    """Let a disabled user's keys and worker tokens work again."""
    user = await office.store.users.set_disabled(body.user, False, office.actor)
    return await _told(office, user)


async def reset_password(office: Office, body: NewPassword) -> User:
    """Give a user another password; every sign-in of theirs ends."""
    hashed = await _hashed(body.password)
    user = await office.store.users.set_password(body.user, hashed, office.actor)
    return await _told(office, user)


async def _hashed(password: str) -> str:
    return await asyncio.to_thread(hash_password, password)


async def _told(office: Office, user: User) -> User:
    await office.accounts_changed()
    return user


OPERATIONS = [
    Operation("POST", "/admin/api/init", init),
    Operation("GET", "/admin/api/users", list_users),
    Operation("POST", "/admin/api/users", create_user),
    Operation("POST", "/admin/api/users/set-tier", set_tier),
    Operation("POST", "/admin/api/users/set-role", set_role),
    Operation("POST", "/admin/api/users/disable", disable_user),
    Operation("POST", "/admin/api/users/enable", enable_user),
    Operation("POST", "/admin/api/users/reset-password", reset_password),
]
