"""What the operator lets models be called, and which models are not shown. All of it is held in memory."""

import sqlite3
from collections.abc import Mapping

import orjson

from ..errors import NotFound
from ..rules.routing import Alias, matches
from .audit import Actor, record
from .credentials import now_us
from .database import Database


class Aliases:
    """The `model_aliases` and `hidden_models` tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.targets: Mapping[str, list[str]] = {}
        """Of each alias, by its name."""
        self.since: Mapping[str, int] = {}
        """When each was made or changed, in Unix seconds."""
        self.hidden: list[str] = []
        """Models, or patterns of models."""

    async def load(self) -> None:
        """Read all."""

        def select(connection: sqlite3.Connection) -> tuple[list[sqlite3.Row], list[str]]:
            aliases = connection.execute("SELECT * FROM model_aliases ORDER BY name").fetchall()
            hidden = connection.execute("SELECT pattern FROM hidden_models ORDER BY pattern")
            return aliases, [row["pattern"] for row in hidden]

        aliases, self.hidden = await self._database.read(select)
        self.targets = {row["name"]: orjson.loads(row["targets"]) for row in aliases}
        self.since = {row["name"]: row["updated_at"] // 1_000_000 for row in aliases}

    def all(self) -> list[Alias]:
        """By name."""
        return [Alias(name, targets) for name, targets in self.targets.items()]

    def hides(self, model: str) -> bool:
        return any(matches(pattern, model) for pattern in self.hidden)

    async def set(self, alias: Alias, actor: Actor) -> None:
        """Make an alias, or lead it elsewhere."""
        targets = orjson.dumps(alias.targets).decode()

        def upsert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO model_aliases (name, targets, updated_at) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET targets = excluded.targets, updated_at = excluded.updated_at",
                (alias.name, targets, now_us()),
            )
            record(connection, actor, "aliases.set", alias.name, targets)

        await self._database.write(upsert)
        await self.load()

    async def remove(self, name: str, actor: Actor) -> None:
        """Raises NotFound."""

        def delete(connection: sqlite3.Connection) -> None:
            gone = connection.execute("DELETE FROM model_aliases WHERE name = ?", (name,)).rowcount
            if not gone:
                raise NotFound(f"There is no alias {name!r}.")
            record(connection, actor, "aliases.remove", name)

        await self._database.write(delete)
        await self.load()

    async def hide(self, pattern: str, actor: Actor) -> None:
        """Do not show models of this pattern; nothing happens if they are hidden by it already."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR IGNORE INTO hidden_models (pattern, created_at) VALUES (?, ?)",
                (pattern, now_us()),
            )
            record(connection, actor, "models.hide", pattern)

        await self._database.write(insert)
        await self.load()

    async def show(self, pattern: str, actor: Actor) -> None:
        """Raises NotFound if nothing is hidden by just this pattern."""

        def delete(connection: sqlite3.Connection) -> None:
            gone = connection.execute(
                "DELETE FROM hidden_models WHERE pattern = ?", (pattern,)
            ).rowcount
            if not gone:
                raise NotFound(
                    f"No model is hidden by {pattern!r}. `lmarena-hub model hidden` lists what hides some."
                )
            record(connection, actor, "models.show", pattern)

        await self._database.write(delete)
        await self.load()
