"""Operations on worker tokens."""

from typing import Annotated

from msgspec import Meta, Struct

from ...errors import NotFound
from ...store.credentials import Created
from ...store.keys import Pattern
from ...store.worker_tokens import WorkerToken
from .keys import OfWhom
from .operation import Chosen, Name, Office, Operation, Revoked, Who


class NewWorkerToken(Struct, forbid_unknown_fields=True):
    """Whose workers come with it, whom they serve, and with what."""

    name: Name
    user: Annotated[
        Who | None, Meta(description="Whose it is: address or id; without, the operator's own.")
    ] = None
    shared: Annotated[
        bool | None,
        Meta(
            description="Whether its workers serve everybody. A user's token is private if nothing is said, "
            "the operator's is shared."
        ),
    ] = None
    models: Annotated[
        list[Pattern],
        Meta(max_length=100, description="Patterns of the models they may offer; none is all."),
    ] = []
    slots: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        Meta(description="The most jobs at once of one worker."),
    ] = None
    trusted: Annotated[
        bool,
        Meta(description="Whether its workers' own figures are billed, and tool calls passed on."),
    ] = False


async def create_worker_token(office: Office, body: NewWorkerToken) -> Created:
    """Make a worker token; its secret is shown this once."""
    return await office.store.worker_tokens.create(
        body.name,
        office.actor,
        user=body.user,
        shared=body.shared,
        models=body.models,
        slots=body.slots,
        trusted=body.trusted,
    )


async def list_worker_tokens(office: Office, body: OfWhom) -> list[WorkerToken]:
    """All worker tokens that work, the oldest first."""
    await office.store.worker_tokens.write_seen()
    return await office.store.worker_tokens.all(body.user)


async def revoke_worker_token(office: Office, body: Chosen) -> Revoked:
    """End a worker token; sessions under it are closed at once."""
    revoked = await office.store.worker_tokens.revoke(body.id, office.actor)
    await office.accounts_changed()
    if not revoked:
        raise NotFound(f"There is no worker token {body.id!r}.")
    return Revoked(body.id)


OPERATIONS = [
    Operation("GET", "/admin/api/worker-tokens", list_worker_tokens),
    Operation("POST", "/admin/api/worker-tokens", create_worker_token),
    Operation("POST", "/admin/api/worker-tokens/revoke", revoke_worker_token),
]
