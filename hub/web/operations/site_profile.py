"""Operations on the site profile."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from ...rules.profile import Profile
from ...rules.profile import parse as parse_profile
from ...store.profiles import Version
from .operation import Nothing, Office, Operation


class NewProfile(Struct, forbid_unknown_fields=True):
    """A site profile, and why it is put in force."""

    profile: Annotated[
        dict[str, Any], Meta(description="All of it, as GET /admin/api/profile shows it.")
    ]
    note: Annotated[str, Meta(max_length=200, description="Why, for the history.")] = ""


class OlderProfile(Struct, forbid_unknown_fields=True):
    """Which version to go back to."""

    version: Annotated[
        Annotated[int, Meta(ge=0, le=2**53)] | None,
        Meta(description="Its number; without, the one before the current."),
    ] = None


async def show_profile(office: Office, body: Nothing) -> Profile:
    """The site profile in force."""
    return office.store.profiles.current


async def set_profile(office: Office, body: NewProfile) -> Profile:
    """Put a site profile in force and hand it to every worker; the hub numbers it."""
    profile = parse_profile(body.profile)
    stored = await office.store.profiles.set(profile, body.note, office.actor)
    return _handed_out(office, stored)


async def profile_history(office: Office, body: Nothing) -> list[Version]:
    """Every version of the site profile, the newest first."""
    return await office.store.profiles.history()


async def roll_back_profile(office: Office, body: OlderProfile) -> Profile:
    """Put an older version in force again, as a new one."""
    return _handed_out(office, await office.store.profiles.roll_back(body.version, office.actor))


def _handed_out(office: Office, profile: Profile) -> Profile:
    if office.hub is not None:
        office.hub.hand_out_profile()
    return profile


OPERATIONS = [
    Operation("GET", "/admin/api/profile", show_profile),
    Operation("POST", "/admin/api/profile", set_profile),
    Operation("GET", "/admin/api/profile/history", profile_history),
    Operation("POST", "/admin/api/profile/rollback", roll_back_profile),
]
