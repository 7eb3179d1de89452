"""What the hub remembers of workers, and so which models are known although nobody offers them now."""

import asyncio
import sqlite3
import time
from typing import NamedTuple

import orjson

from .database import Database

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


class Seen(NamedTuple):
    """A worker as it introduced itself."""

    worker_id: str
    name: str
    kind: str
    version: str
    region: str | None


class WorkerBook:
    """The `workers` table; `known` maps each model ever offered to when it was first seen (Unix seconds)."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.known: dict[str, int] = {}

    async def load(self) -> None:
        """Read which models are known."""

        def select(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            return connection.execute("SELECT models, first_seen FROM workers").fetchall()

        for row in await self._database.read(select):
            self._learn(orjson.loads(row["models"]), row["first_seen"] // 1_000_000)

    def saw(self, token_id: str, seen: Seen, models: list[str]) -> "asyncio.Future[None]":
        """A worker said hello, or changed its catalogue."""
        now = time.time_ns() // 1000
        self._learn(models, now // 1_000_000)
        row = (token_id, *seen, orjson.dumps(models).decode(), now, now)

        def upsert(connection: sqlite3.Connection) -> None:
            connection.execute(_SEEN, row)
            connection.execute(_FORGET, (token_id, LARGEST_FLEET))

        return self._database.write(upsert)

    def _learn(self, models: list[str], first_seen: int) -> None:
        for model in models:
            self.known[model] = min(self.known.get(model, first_seen), first_seen)
