"""What the hub remembers of workers, and so which models are known although nobody offers them now."""

import asyncio
import sqlite3
import time
from typing import NamedTuple

import orjson

from .audit import Actor, record
from .database import Database
from .worker_tokens import WorkerToken

EVERYBODY = "*"
"""Whose models those of shared workers are."""
LARGEST_FLEET = 1_000
"""Workers remembered of one token, the latest: worker ids are the worker's own invention."""

_SEEN = """
    INSERT INTO workers (token_id, worker_id, name, kind, version, region, models, first_seen, last_seen)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (token_id, worker_id) DO UPDATE SET
        name = excluded.name, kind = excluded.kind, version = excluded.version,
        region = excluded.region, models = excluded.models, last_seen = excluded.last_seen
"""
_FORGET = """
    DELETE FROM workers WHERE token_id = ?1 AND worker_id NOT IN
        (SELECT worker_id FROM workers WHERE token_id = ?1 ORDER BY last_seen DESC LIMIT ?2)
"""
MOST_FARED = 10_000
_FARED = """
    SELECT w.token_id, w.worker_id, w.weight, w.health
    FROM workers w JOIN worker_tokens t ON t.id = w.token_id
    WHERE t.revoked_at IS NULL AND (w.weight != 1 OR w.health != '{}')
    ORDER BY w.last_seen DESC LIMIT ?
"""
_OFFERED = """
    SELECT CASE WHEN t.shared THEN '*' ELSE t.user_id END AS whose, w.models, w.first_seen
    FROM workers w JOIN worker_tokens t ON t.id = w.token_id
"""


class Seen(NamedTuple):
    """A worker as it introduced itself."""

    worker_id: str
    name: str
    kind: str
    version: str
    region: str | None


class Fared(NamedTuple):
    """How a worker has fared; `health` is JSON of `rules/health.py`."""

    token_id: str
    worker_id: str
    weight: int
    health: str


class WorkerBook:
    """The `workers` table, and which models were ever offered to whom."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, dict[str, int]] = {EVERYBODY: {}}

    async def fared(self) -> list[Fared]:
        """How the workers seen last have fared."""

        def select(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            return connection.execute(_FARED, (MOST_FARED,)).fetchall()

        return [Fared(*row) for row in await self._database.read(select)]

    def keep(self, rows: list[Fared]) -> "asyncio.Future[None]":
        """Write down how workers fare; those that are not in the table are passed over."""
        values = [(row.health, row.token_id, row.worker_id) for row in rows]

        def update(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE workers SET health = ? WHERE token_id = ? AND worker_id = ?", values
            )

        return self._database.write(update)

    async def set_weight(self, token_id: str, worker_id: str, weight: int, actor: Actor) -> bool:
        """How much of the work a worker is to get; False if there is no such worker."""

        def update(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                "UPDATE workers SET weight = ? WHERE token_id = ? AND worker_id = ?",
                (weight, token_id, worker_id),
            ).rowcount
            if changed:
                record(connection, actor, "workers.weight", worker_id, str(weight))
            return bool(changed)

        return await self._database.write(update)

    async def load(self) -> None:
        """Read which models are known."""

        def select(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            return connection.execute(_OFFERED).fetchall()

        for row in await self._database.read(select):
            self._learn(row["whose"], orjson.loads(row["models"]), row["first_seen"] // 1_000_000)

    def first_seen(self, model: str, user_id: str) -> int | None:
        """When a model was first offered to this user or to everybody, in Unix seconds; None if it never was."""
        return self._known[EVERYBODY].get(model) or self._known.get(user_id, {}).get(model)

    @property
    def known(self) -> dict[str, int]:
        """The models that were ever offered to everybody, and when first."""
        return self._known[EVERYBODY]

    def known_to(self, user_id: str) -> set[str]:
        """The models that were ever offered to this user or to everybody."""
        return self._known[EVERYBODY].keys() | self._known.get(user_id, {}).keys()

    def saw(self, token: WorkerToken, seen: Seen, models: list[str]) -> "asyncio.Future[None]":
        """A worker said hello, or changed its catalogue."""
        now = time.time_ns() // 1000
        self._learn(EVERYBODY if token.shared else token.user_id or "", models, now // 1_000_000)
        row = (token.id, *seen, orjson.dumps(models).decode(), now, now)

        def upsert(connection: sqlite3.Connection) -> None:
            connection.execute(_SEEN, row)
            connection.execute(_FORGET, (token.id, LARGEST_FLEET))

        return self._database.write(upsert)

    def _learn(self, whose: str, models: list[str], first_seen: int) -> None:
        known = self._known.setdefault(whose, {})
        for model in models:
            known[model] = min(known.get(model, first_seen), first_seen)
