"""API keys: who is calling, and what this key is good for."""

import sqlite3
import time
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from ..errors import AlreadyExists, InvalidRequest, NotFound
from ..rules.tiers import NO_LIMITS, LimitChanges, Limits, changed
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
from .users import User, get_user, user_of

PREFIX = "sk-lmb-"

Endpoint = Literal["chat.completions", "models", "usage"]
Pattern = Annotated[str, Meta(min_length=1, max_length=200)]


class Scopes(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a key is good for. No endpoints or models named means all of them; `admin` must be said."""

    endpoints: Annotated[
        list[Endpoint], Meta(max_length=100, description="Where it may be used; none is all.")
    ] = []
    models: Annotated[
        list[Pattern],
        Meta(
            max_length=100, description="Models, or patterns (`gpt-4*`), it may use; none is all."
        ),
    ] = []
    admin: Annotated[bool, Meta(description="Whether it may administer.")] = False

    def allows_model(self, model: str) -> bool:
        return not self.models or any(
            model == pattern or fnmatchcase(model, pattern) for pattern in self.models
        )

    def allows_endpoint(self, endpoint: Endpoint) -> bool:
        return not self.endpoints or endpoint in self.endpoints


EVERYTHING = Scopes()


class Key(Struct, frozen=True):
    """An API key, without its secret. Times are Unix seconds."""

    id: str
    name: str
    prefix: str
    user: str | None
    """The address of the user whose key it is; None for one of the operator's."""
    scopes: Scopes
    limits: Limits
    own_workers_only: bool
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    family: str
    """The id of the first of the keys that followed each other by rotation; they share their limits."""


class Caller(Struct, frozen=True):
    """Who is calling: a key, and the user that it belongs to; None for one of the operator's."""

    key: Key
    user: User | None

    @property
    def user_id(self) -> str:
        """ "" for a key of the operator's."""
        return self.user.id if self.user else ""

    @property
    def is_admin(self) -> bool:
        """Whether this key may administer: by its scope, and never by its user's role alone."""
        return self.key.scopes.admin and (self.user is None or self.user.is_admin)


_SELECT = """
    SELECT k.*, u.email AS user_email, u.email, u.name AS user_name, u.role, u.tier, u.language,
        u.disabled_at, u.created_at AS user_created_at
    FROM api_keys k LEFT JOIN users u ON u.id = k.user_id
"""


class Keys(Credentials[Caller]):
    """The `api_keys` table."""

    table = "api_keys"
    prefix = PREFIX
    seen_column = "last_used_at"

    def _select(self, connection: sqlite3.Connection, hashed: bytes) -> Caller | None:
        row = connection.execute(
            _SELECT + " WHERE k.hash = ? AND k.revoked_at IS NULL", (hashed,)
        ).fetchone()
        if row is None:
            return None
        return Caller(_key_of(row), _owner(row) if row["user_id"] else None)

    async def create(
        self,
        name: str,
        actor: Actor,
        *,
        user: str | None = None,
        scopes: Scopes = EVERYTHING,
        limits: Limits = NO_LIMITS,
        own_workers_only: bool = False,
        expires_at: int | None = None,
    ) -> Created:
        """A new key; its secret is in what comes back, and nowhere else.

        `user` is an id or an address. Raises NotFound for the user, InvalidRequest for what does not go together.
        """
        secret = new_secret(PREFIX)
        made = Created(new_id(), name, secret)

        def add(connection: sqlite3.Connection) -> None:
            owner = get_user(connection, user) if user is not None else None
            _check(owner, scopes, own_workers_only)
            row = {
                "id": made.id,
                "hash": digest(secret),
                "prefix": secret[:SHOWN_CHARACTERS],
                "name": name,
                "user_id": owner.id if owner else None,
                "family": made.id,
                "scopes": msgspec.json.encode(scopes).decode(),
                "limits": msgspec.json.encode(limits).decode(),
                "own_workers_only": own_workers_only,
                "expires_at": expires_at,
                "created_at": now_us(),
            }
            insert(connection, "api_keys", row)
            detail = [owner.email] if owner else []
            detail += ["admin"] if scopes.admin else []
            record(connection, actor, "api_keys.create", made.id, ", ".join(detail))

        await self._database.write(add)
        return made

    async def find(self, secret: str) -> Caller | None:
        """Who calls with this secret; None for an unknown, revoked or expired one."""
        caller = await self._look_up(secret)
        if caller is None:
            return None
        expires_at = caller.key.expires_at
        return None if expires_at is not None and expires_at <= time.time() else caller

    async def all(self, user: str | None = None) -> list[Key]:
        """Those that are not revoked, oldest first; those of one user alone if given. Raises NotFound."""

        def select(connection: sqlite3.Connection) -> list[Any]:
            owner = get_user(connection, user).id if user is not None else None
            return connection.execute(
                _SELECT + " WHERE k.revoked_at IS NULL AND (?1 IS NULL OR k.user_id = ?1)"
                " ORDER BY k.created_at",
                (owner,),
            ).fetchall()

        return [_key_of(row) for row in await self._database.read(select)]

    async def get(self, key_id: str) -> Key:
        """Raises NotFound for an unknown or revoked one."""
        return await self._database.read(lambda connection: _get(connection, key_id)[0])

    async def holds(self, caller: Caller, key_id: str) -> bool:
        """Whether this was ever a key of the caller's user, or, without a user, one that its own followed."""
        mine = ("family", caller.key.family) if caller.user is None else ("user_id", caller.user_id)
        sql = f"SELECT 1 FROM api_keys WHERE id = ? AND {mine[0]} = ?"  # noqa: S608 - our own names

        def select(connection: sqlite3.Connection) -> bool:
            return connection.execute(sql, (key_id, mine[1])).fetchone() is not None

        return await self._database.read(select)

    async def names(self, ids: list[str]) -> dict[str, tuple[str, str]]:
        """Name and prefix of keys by their ids, also of those that are revoked."""

        def select(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
            rows = connection.execute(
                "SELECT id, name, prefix FROM api_keys"
                " WHERE id IN (SELECT value FROM json_each(?))",
                (msgspec.json.encode(ids).decode(),),
            )
            return {row["id"]: (row["name"], row["prefix"]) for row in rows}

        return await self._database.read(select)

    async def rotate(self, key_id: str, overlap_s: int, actor: Actor) -> Created:
        """A new secret for the same uses and the same limits; the old one works for `overlap_s` seconds more.

        Raises NotFound, and AlreadyExists for a key that was rotated before or has expired.
        """
        secret = new_secret(PREFIX)

        def replace(connection: sqlite3.Connection) -> Created:
            key, row = _get(connection, key_id)
            _check_rotation(connection, key)
            made = Created(new_id(), row["name"], secret)
            kept = ("name", "user_id", "family", "scopes", "limits", "own_workers_only")
            successor = {
                "id": made.id,
                "hash": digest(secret),
                "prefix": secret[:SHOWN_CHARACTERS],
                "created_at": now_us(),
                "expires_at": row["expires_at"],
                **{column: row[column] for column in kept},
            }
            insert(connection, "api_keys", successor)
            ends = int(time.time()) + overlap_s
            if row["expires_at"] is not None:
                ends = min(ends, row["expires_at"])
            connection.execute("UPDATE api_keys SET expires_at = ? WHERE id = ?", (ends, key_id))
            record(connection, actor, "api_keys.rotate", key_id, f"followed by {made.id}")
            return made

        return await self._change(replace)

    async def set_limits(self, key_id: str, changes: LimitChanges, actor: Actor) -> Key:
        """Change limits of its own, and of the keys that it shares them with. Raises NotFound."""

        def update(connection: sqlite3.Connection) -> Key:
            key, _ = _get(connection, key_id)
            encoded = msgspec.json.encode(changed(key.limits, changes)).decode()
            connection.execute(
                "UPDATE api_keys SET limits = ? WHERE family = ?", (encoded, key.family)
            )
            record(connection, actor, "api_keys.set_limits", key_id, encoded)
            return _get(connection, key_id)[0]

        return await self._change(update)


def _check(owner: User | None, scopes: Scopes, own_workers_only: bool) -> None:
    if own_workers_only and owner is None:
        message = "A key for own workers only needs a user, whose workers they are."
        raise InvalidRequest(message, param="own_workers_only")
    if scopes.admin and owner is not None and owner.role != "admin":
        message = "Only an administrator's key, or one of no user, can have the admin scope."
        raise InvalidRequest(message, param="scopes.admin")


def _check_rotation(connection: sqlite3.Connection, key: Key) -> None:
    """A key has one successor: of two who rotate it at once, the second must not get another secret."""
    if key.expires_at is not None and key.expires_at <= time.time():
        raise AlreadyExists("This key has expired: make a new one instead.")
    successor = connection.execute(
        "SELECT id FROM api_keys WHERE family = ? AND revoked_at IS NULL AND created_at >"
        " (SELECT created_at FROM api_keys WHERE id = ?)",
        (key.family, key.id),
    ).fetchone()
    if successor is not None:
        raise AlreadyExists(f"This key is followed by {successor['id']} already: rotate that one.")


def _get(connection: sqlite3.Connection, key_id: str) -> tuple[Key, Any]:
    row = connection.execute(
        _SELECT + " WHERE k.id = ? AND k.revoked_at IS NULL", (key_id,)
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no key {key_id[:200]!r}.")
    return _key_of(row), row


def _owner(row: Any) -> User:
    return user_of(
        {
            **row,
            "id": row["user_id"],
            "name": row["user_name"],
            "created_at": row["user_created_at"],
        }
    )


def _key_of(row: Any) -> Key:
    return Key(
        id=row["id"],
        name=row["name"],
        prefix=row["prefix"],
        user=row["user_email"],
        scopes=msgspec.json.decode(row["scopes"], type=Scopes),
        limits=msgspec.json.decode(row["limits"], type=Limits),
        own_workers_only=bool(row["own_workers_only"]),
        created_at=row["created_at"] // 1_000_000,
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"] // 1_000_000 if row["last_used_at"] else None,
        family=row["family"],
    )
