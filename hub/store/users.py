"""The people who have an account."""

import sqlite3
from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct

from ..errors import AlreadyExists, NotFound, SignInRefused
from .audit import Actor, record
from .credentials import insert, new_id, now_us
from .database import Database

Role = Literal["user", "admin"]


class User(Struct, frozen=True):
    """Somebody with an account; `created_at` in Unix seconds."""

    id: str
    email: str
    name: str
    role: Role
    tier: str
    language: str | None
    disabled: bool
    created_at: int

    @property
    def is_admin(self) -> bool:
        return self.role == "admin" and not self.disabled


class Users:
    """The `users` table. `changed` is called after every change, so that no cache outlives it."""

    def __init__(self, database: Database, changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def create(
        self,
        email: str,
        actor: Actor,
        *,
        tier: str = "free",
        role: Role = "user",
        name: str = "",
        password: str | None = None,
    ) -> User:
        """A new account; `password` is a hash. Raises AlreadyExists, NotFound for the tier."""
        row = _row(email, name=name, password=password, tier=tier, role=role)

        def add(connection: sqlite3.Connection) -> User:
            return add_user(connection, row, actor)

        return await self._change(add)

    async def create_first_admin(self, email: str, password: str, actor: Actor) -> User:
        """The first administrator; `password` is a hash. Raises AlreadyExists if there is one already."""
        row = _row(email, password=password, tier="enterprise", role="admin")

        def add(connection: sqlite3.Connection) -> User:
            if _has_admin(connection):
                raise AlreadyExists("This hub has an administrator already.")
            return add_user(connection, row, actor)

        return await self._change(add)

    async def find(self, who: str) -> User:
        """By id or address. Raises NotFound."""
        return await self._database.read(lambda connection: get_user(connection, who))

    async def all(self) -> list[User]:
        """Everybody, in the order of their coming."""
        rows = await self._database.read(
            lambda connection: connection.execute(
                "SELECT * FROM users ORDER BY created_at, id"
            ).fetchall()
        )
        return [user_of(row) for row in rows]

    async def password_of(self, email: str) -> tuple[User, str | None] | None:
        """An account with its password's hash, for signing in; None for an unknown address."""
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT * FROM users WHERE email = ?", (normal(email),)
            ).fetchone()
        )
        return (user_of(row), row["password"]) if row else None

    async def has_admin(self) -> bool:
        """Whether somebody administers this hub already."""
        return await self._database.read(_has_admin)

    async def set_tier(self, who: str, tier: str, actor: Actor) -> User:
        """Raises NotFound for the user or the tier."""

        def update(connection: sqlite3.Connection) -> User:
            check_tier(connection, tier)
            return self._update(connection, who, "tier", tier, actor)

        return await self._change(update)

    async def set_role(self, who: str, role: Role, actor: Actor) -> User:
        """Raises NotFound."""
        return await self._set(who, "role", role, actor)

    async def set_password(
        self, who: str, password: str, actor: Actor, *, replacing: str | None = None
    ) -> User:
        """`password` is a hash; every sign-in of theirs ends. Raises NotFound.

        SignInRefused if `replacing` is given and is not the hash that is kept: somebody was faster.
        """

        def update(connection: sqlite3.Connection) -> User:
            if replacing not in (None, _password(connection, who)):
                raise SignInRefused
            user = self._update(connection, who, "password", password, actor, shown="")
            connection.execute("DELETE FROM sessions WHERE user_id = ?", (user.id,))
            return user

        return await self._change(update)

    async def set_disabled(self, who: str, disabled: bool, actor: Actor) -> User:
        """Nothing of a disabled user's works: keys, tokens, sign-ins. Raises NotFound."""

        def update(connection: sqlite3.Connection) -> User:
            at = now_us() if disabled else None
            user = self._update(
                connection,
                who,
                "disabled_at",
                at,
                actor,
                shown="disabled" if disabled else "enabled",
            )
            if disabled:
                connection.execute("DELETE FROM sessions WHERE user_id = ?", (user.id,))
            return user

        return await self._change(update)

    async def _set(self, who: str, column: str, value: Any, actor: Actor) -> User:
        return await self._change(
            lambda connection: self._update(connection, who, column, value, actor)
        )

    def _update(
        self,
        connection: sqlite3.Connection,
        who: str,
        column: str,
        value: Any,
        actor: Actor,
        *,
        shown: str | None = None,
    ) -> User:
        user = get_user(connection, who)
        connection.execute(
            f"UPDATE users SET {column} = ? WHERE id = ?",  # noqa: S608
            (value, user.id),
        )
        detail = f"{column}: {value}" if shown is None else shown or column
        record(connection, actor, "users.change", user.email, detail)
        return get_user(connection, user.id)

    async def _change(self, operation: Callable[[sqlite3.Connection], User]) -> User:
        try:
            return await self._database.write(operation)
        finally:
            self._changed()


def _row(
    email: str, *, password: str | None, tier: str, role: Role, name: str = ""
) -> dict[str, Any]:
    return {
        "id": new_id(),
        "email": normal(email),
        "name": name or email.partition("@")[0],
        "password": password,
        "role": role,
        "tier": tier,
        "created_at": now_us(),
    }


def _has_admin(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM users WHERE role = 'admin' LIMIT 1").fetchone()
    return found is not None


def _password(connection: sqlite3.Connection, who: str) -> str | None:
    user = get_user(connection, who)
    row = connection.execute("SELECT password FROM users WHERE id = ?", (user.id,)).fetchone()
    stored: str | None = row["password"]
    return stored


def normal(email: str) -> str:
    """An address as it is kept and compared."""
    return email.strip().lower()


def add_user(connection: sqlite3.Connection, row: dict[str, Any], actor: Actor) -> User:
    """Within a transaction. Raises AlreadyExists, NotFound for the tier."""
    check_tier(connection, row["tier"])
    if connection.execute("SELECT 1 FROM users WHERE email = ?", (row["email"],)).fetchone():
        raise AlreadyExists(f"There is a user {row['email'][:200]!r} already.")
    insert(connection, "users", row)
    record(connection, actor, "users.create", row["email"], f"{row['role']}, {row['tier']}")
    return get_user(connection, row["id"])


def check_tier(connection: sqlite3.Connection, tier: str) -> None:
    """Raises NotFound."""
    if connection.execute("SELECT 1 FROM tiers WHERE name = ?", (tier,)).fetchone() is None:
        raise NotFound(f"There is no tier {tier[:200]!r}.")


def get_user(connection: sqlite3.Connection, who: str) -> User:
    """By id or address. Raises NotFound."""
    row = connection.execute(
        "SELECT * FROM users WHERE id = ? OR email = ?", (who, normal(who))
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no user {who[:200]!r}.")
    return user_of(row)


def user_of(row: Any) -> User:
    """A row of the table."""
    return User(
        row["id"],
        row["email"],
        row["name"],
        row["role"],
        row["tier"],
        row["language"],
        row["disabled_at"] is not None,
        row["created_at"] // 1_000_000,
    )
