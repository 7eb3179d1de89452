"""Operations on what was written down for the operator."""

from typing import Annotated

from msgspec import Meta, Struct

from ...store.audit import Act, Entry
from .operation import Office, Operation

Count = Annotated[int, Meta(ge=1, le=10_000, description="How many lines, the newest first.")]
Filter = Annotated[str, Meta(min_length=1, max_length=254)]


class Latest(Struct, forbid_unknown_fields=True):
    """How much of a log to show."""

    count: Count = 100


class SomeActs(Struct, forbid_unknown_fields=True):
    """Which lines of the audit log to show."""

    count: Count = 100
    actor: Annotated[
        Filter | None, Meta(description="Who did it: a user's address, or a key's name.")
    ] = None
    action: Annotated[
        Filter | None, Meta(description="What was done, or how that begins: `users.`")
    ] = None
    subject: Annotated[
        Filter | None, Meta(description="To whom or what: an address, an id, a name.")
    ] = None


async def audit_log(office: Office, body: SomeActs) -> list[Act]:
    """Who did what from where: administrative acts and refused sign-ins."""
    return await office.store.audit_log.latest(
        body.count, actor=body.actor, action=body.action, subject=body.subject
    )


async def system_log(office: Office, body: Latest) -> list[Entry]:
    """What an operator should know of: a changed site, workers that need their human."""
    return await office.store.system_log.latest(body.count)


OPERATIONS = [
    Operation("GET", "/admin/api/audit-log", audit_log),
    Operation("GET", "/admin/api/system-log", system_log),
]
