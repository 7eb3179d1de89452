"""Links with which a person makes an account; each is good once."""

import sqlite3
import time
from typing import Any

from msgspec import Struct

from ..errors import AlreadyExists, InvitationNotFound
from .audit import Actor, record
from .credentials import Created, digest, insert, new_id, new_secret, now_us
from .database import Database
from .users import Role, User, add_user, check_tier, normal

PREFIX = "in-lmb-"


class Invitation(Struct, frozen=True):
    """A link, without its secret. Times are Unix seconds."""

    id: str
    email: str
    role: Role
    tier: str
    created_at: int
    expires_at: int


_OPEN = "accepted_at IS NULL AND revoked_at IS NULL AND expires_at > ?"


class Invitations:
    """The `invitations` table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, email: str, actor: Actor, *, tier: str, expires_at: int, role: Role = "user"
    ) -> Created:
        """A new link's secret, in what comes back and nowhere else; `expires_at` is in Unix seconds.

        Raises NotFound for the tier, AlreadyExists if that address has an account.
        """
        secret = new_secret(PREFIX)
        made = Created(new_id(), normal(email), secret)

        def add(connection: sqlite3.Connection) -> None:
            check_tier(connection, tier)
            if connection.execute("SELECT 1 FROM users WHERE email = ?", (made.name,)).fetchone():
                raise AlreadyExists(f"There is a user {made.name[:200]!r} already.")
            row = {
                "id": made.id,
                "hash": digest(secret),
                "email": made.name,
                "role": role,
                "tier": tier,
                "created_at": now_us(),
                "expires_at": expires_at,
            }
            insert(connection, "invitations", row)
            record(connection, actor, "invitations.create", made.name, f"{role}, {tier}")

        await self._database.write(add)
        return made

    async def all(self) -> list[Invitation]:
        """Those that are still good, oldest first."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                f"SELECT * FROM invitations WHERE {_OPEN} ORDER BY created_at, id",  # noqa: S608
                (int(time.time()),),
            ).fetchall()
        )
        return [_invitation_of(row) for row in rows]

    async def find(self, secret: str) -> Invitation:
        """Raises InvitationNotFound for an unknown, used, revoked or expired one."""
        return await self._database.read(lambda connection: _get(connection, secret))

    async def accept(self, secret: str, password: str, address: str) -> User:
        """The account that the link promised, made by the person at `address`; `password` is a hash.

        Raises InvitationNotFound, AlreadyExists.
        """
        user_id = new_id()

        def accept(connection: sqlite3.Connection) -> User:
            invitation = _get(connection, secret)
            connection.execute(
                "UPDATE invitations SET accepted_at = ? WHERE id = ?", (now_us(), invitation.id)
            )
            row = {
                "id": user_id,
                "email": invitation.email,
                "name": invitation.email.partition("@")[0],
                "password": password,
                "role": invitation.role,
                "tier": invitation.tier,
                "created_at": now_us(),
            }
            actor = Actor(invitation.email, address)
            record(connection, actor, "invitations.accept", invitation.id)
            return add_user(connection, row, actor)

        return await self._database.write(accept)

    async def revoke(self, invitation_id: str, actor: Actor) -> bool:
        """End a link; False if there was no good one of that id."""

        def update(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                f"UPDATE invitations SET revoked_at = ? WHERE id = ? AND {_OPEN}",  # noqa: S608
                (now_us(), invitation_id, int(time.time())),
            ).rowcount
            if changed:
                record(connection, actor, "invitations.revoke", invitation_id)
            return bool(changed)

        return await self._database.write(update)


def _get(connection: sqlite3.Connection, secret: str) -> Invitation:
    row = connection.execute(
        f"SELECT * FROM invitations WHERE hash = ? AND {_OPEN}",  # noqa: S608
        (digest(secret), int(time.time())),
    ).fetchone()
    if row is None:
        raise InvitationNotFound
    return _invitation_of(row)


def _invitation_of(row: Any) -> Invitation:
    return Invitation(
        row["id"],
        row["email"],
        row["role"],
        row["tier"],
        row["created_at"] // 1_000_000,
        row["expires_at"],
    )
