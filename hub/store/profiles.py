"""The versions of the site profile; the newest is in force."""

import sqlite3
import time

import msgspec
import structlog
from msgspec import Struct

from ..errors import UnknownUrl
from ..rules import profile as rules
from ..rules.profile import Profile
from .audit import Actor, record
from .database import Database


class Version(Struct, frozen=True):
    """One line of the history; `created_at` is in Unix seconds, 0 for the shipped one."""

    version: int
    note: str
    actor: str
    created_at: int
    current: bool


class Profiles:
    """The `site_profiles` table. Version 0 is the profile that came with the hub, and is in no row."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.current = rules.shipped()

    async def load(self) -> None:
        """Read the newest version; one that this hub cannot read any more gives way to the shipped one."""
        row = await self._database.read(_newest)
        if row is None:
            return
        try:
            self.current = msgspec.json.decode(row["profile"], type=Profile)
        except msgspec.ValidationError as error:
            structlog.get_logger().warning(
                "the stored site profile is of another hub's making: the shipped one holds",
                version=row["version"],
                problem=str(error),
            )

    async def set(self, profile: Profile, note: str, actor: Actor) -> Profile:
        """Put a profile in force, as the next version."""

        def insert(connection: sqlite3.Connection) -> Profile:
            newest = _newest(connection)
            version = newest["version"] + 1 if newest is not None else 1
            stored = msgspec.structs.replace(profile, version=version)
            connection.execute(
                "INSERT INTO site_profiles (version, profile, note, actor, created_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    version,
                    msgspec.json.encode(stored).decode(),
                    note,
                    actor.name,
                    time.time_ns() // 1000,
                ),
            )
            record(connection, actor, "site_profile.set", str(version))
            return stored

        self.current = await self._database.write(insert)
        return self.current

    async def roll_back(self, version: int | None, actor: Actor) -> Profile:
        """Put an older version in force again, as a new one; without a number, the one before the current.

        Raises UnknownUrl if there is none.
        """
        if version is None:
            version = max(0, self.current.version - 1)
        return await self.set(await self.get(version), f"rolled back to {version}", actor)

    async def get(self, version: int) -> Profile:
        """Raises UnknownUrl for a version that never was."""
        if version == 0:
            return rules.shipped()
        row = await self._database.read(
            lambda connection: connection.execute(
                "SELECT profile FROM site_profiles WHERE version = ?", (version,)
            ).fetchone()
        )
        if row is None:
            raise UnknownUrl(f"There is no version {version} of the site profile.")
        return msgspec.json.decode(row["profile"], type=Profile)

    async def history(self) -> list[Version]:
        """Every version, the newest first, the shipped one last."""

        def select(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            return connection.execute(
                "SELECT version, note, actor, created_at FROM site_profiles ORDER BY version DESC"
            ).fetchall()

        stored = [
            Version(
                row["version"],
                row["note"],
                row["actor"],
                row["created_at"] // 1_000_000,
                row["version"] == self.current.version,
            )
            for row in await self._database.read(select)
        ]
        return [*stored, Version(0, "shipped with the hub", "", 0, self.current.version == 0)]


def _newest(connection: sqlite3.Connection) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute(
        "SELECT version, profile FROM site_profiles ORDER BY version DESC LIMIT 1"
    ).fetchone()
    return row
