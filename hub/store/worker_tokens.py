"""Worker tokens: whose a tab or an agent is, whom it serves, and what it may offer."""

import sqlite3
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Struct

from ..errors import InvalidRequest
from .audit import Actor, record
from .credentials import (
    SHOWN_CHARACTERS,
    Created,
    Credentials,
    digest,
    insert,
    new_id,
    new_secret,
    now_us,
)
from .keys import Pattern
from .users import get_user

PREFIX = "wt-lmb-"


class WorkerToken(Struct, frozen=True):
    """A worker token, without its secret. Times are Unix seconds."""

    id: str
    name: str
    prefix: str
    user_id: str | None
    user: str | None
    """The address of its owner; None for one of the operator's."""
    shared: bool
    """Whether its workers serve everybody, or their owner alone."""
    models: list[Pattern]
    """Patterns of the models that its workers may offer; none is all."""
    slots: int | None
    """The most jobs at once of one worker; None leaves it to the worker."""
    trusted: bool
    """Whether its workers' own figures are billed, and their tool calls passed on."""
    created_at: int
    last_seen_at: int | None

    def allows_model(self, model: str) -> bool:
        return not self.models or any(
            model == pattern or fnmatchcase(model, pattern) for pattern in self.models
        )


_SELECT = """
    SELECT t.*, u.email AS user FROM worker_tokens t LEFT JOIN users u ON u.id = t.user_id
    WHERE t.revoked_at IS NULL AND u.disabled_at IS NULL
"""


class WorkerTokens(Credentials[WorkerToken]):
    """The `worker_tokens` table."""

    table = "worker_tokens"
    prefix = PREFIX
    seen_column = "last_seen_at"

    def _select(self, connection: sqlite3.Connection, hashed: bytes) -> WorkerToken | None:
        row = connection.execute(_SELECT + " AND t.hash = ?", (hashed,)).fetchone()
        return _token_of(row) if row else None

    async def create(
        self,
        name: str,
        actor: Actor,
        *,
        user: str | None = None,
        shared: bool | None = None,
        models: list[str] | None = None,
        slots: int | None = None,
        trusted: bool = False,
    ) -> Created:
        """A new token; its secret is in what comes back, and nowhere else.

        Without `shared`, a user's token is private and one of the operator's is shared. Whether the actor may
        share is the caller's business. Raises NotFound for the user, InvalidRequest for a private token of nobody.
        """
        if user is None and shared is False:
            message = "A private worker token needs a user, whom its workers serve."
            raise InvalidRequest(message, param="shared")
        secret = new_secret(PREFIX)
        made = Created(new_id(), name, secret)

        def add(connection: sqlite3.Connection) -> None:
            owner = get_user(connection, user) if user is not None else None
            row = {
                "id": made.id,
                "hash": digest(secret),
                "prefix": secret[:SHOWN_CHARACTERS],
                "name": name,
                "user_id": owner.id if owner else None,
                "shared": owner is None or bool(shared),
                "models": msgspec.json.encode(models or []).decode(),
                "slots": slots,
                "trusted": trusted,
                "created_at": now_us(),
            }
            insert(connection, "worker_tokens", row)
            detail = [owner.email, "shared" if shared else "private"] if owner else []
            detail += ["trusted"] if trusted else []
            record(connection, actor, "worker_tokens.create", made.id, ", ".join(detail))

        await self._database.write(add)
        return made

    async def find(self, secret: str) -> WorkerToken | None:
        """Whose secret this is; None for an unknown or revoked one, or a disabled owner's."""
        token = await self._look_up(secret)
        if token is not None:
            self.seen(token.id)
        return token

    async def all(self, user: str | None = None) -> list[WorkerToken]:
        """Those that work, oldest first; those of one user alone if given. Raises NotFound."""

        def select(connection: sqlite3.Connection) -> list[Any]:
            owner = get_user(connection, user).id if user is not None else None
            return connection.execute(
                _SELECT + " AND (?1 IS NULL OR t.user_id = ?1) ORDER BY t.created_at", (owner,)
            ).fetchall()

        return [_token_of(row) for row in await self._database.read(select)]


def _token_of(row: Any) -> WorkerToken:
    return WorkerToken(
        id=row["id"],
        name=row["name"],
        prefix=row["prefix"],
        user_id=row["user_id"],
        user=row["user"],
        shared=bool(row["shared"]),
        models=msgspec.json.decode(row["models"], type=list[str]),
        slots=row["slots"],
        trusted=bool(row["trusted"]),
        created_at=row["created_at"] // 1_000_000,
        last_seen_at=row["last_seen_at"] // 1_000_000 if row["last_seen_at"] else None,
    )
