"""Tiers and prices: few, so all of them are in memory, and a change holds at once."""

import sqlite3

import msgspec
from msgspec import Struct

from ..errors import AlreadyExists, NotFound
from ..rules.tiers import (
    DEFAULT_TIERS,
    FREE,
    Price,
    Tier,
    TierChanges,
    changed,
    matches,
    price_of,
)
from .audit import Actor, record
from .credentials import insert, now_us
from .database import Database, Operation
from .keys import Caller

REMEMBERED_MODELS = 10_000


class Tiers:
    """The `tiers` table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tiers: dict[str, Tier] = {}

    async def load(self) -> None:
        """Read all; a new hub gets the default ones."""

        def select(connection: sqlite3.Connection) -> dict[str, Tier]:
            rows = connection.execute("SELECT name, limits FROM tiers ORDER BY name").fetchall()
            return {row["name"]: msgspec.json.decode(row["limits"], type=Tier) for row in rows}

        self._tiers = await self._database.read(select)
        if not self._tiers:
            rows = [(name, _encode(tier), now_us()) for name, tier in DEFAULT_TIERS.items()]
            await self._database.write(
                lambda connection: (
                    connection.executemany(
                        "INSERT INTO tiers (name, limits, updated_at) VALUES (?, ?, ?)", rows
                    ).rowcount
                )
            )
            self._tiers = dict(DEFAULT_TIERS)

    def all(self) -> dict[str, Tier]:
        """By name, the least priority first."""
        return dict(sorted(self._tiers.items(), key=lambda item: (item[1].priority, item[0])))

    def get(self, name: str) -> Tier:
        """Raises NotFound."""
        try:
            return self._tiers[name]
        except KeyError:
            raise NotFound(f"There is no tier {name[:200]!r}.") from None

    def priority_of(self, caller: Caller) -> int:
        """The caller's place in the line; 0 for keys of no user."""
        return self.get(caller.user.tier).priority if caller.user is not None else 0

    async def set(self, name: str, tier: Tier, actor: Actor) -> Tier:
        """Replace a tier, or make one; it holds from the next request on."""
        return await self._put(name, lambda connection: tier, actor)

    async def change(self, name: str, changes: TierChanges, actor: Actor) -> Tier:
        """Change some of a tier, or make one that has no other limits; it holds from the next request on."""
        return await self._put(
            name, lambda connection: changed(_stored(connection, name) or Tier(), changes), actor
        )

    async def _put(self, name: str, make: Operation[Tier], actor: Actor) -> Tier:
        def upsert(connection: sqlite3.Connection) -> Tier:
            tier = make(connection)
            connection.execute(
                "INSERT INTO tiers (name, limits, updated_at) VALUES (?, ?, ?) ON CONFLICT (name)"
                " DO UPDATE SET limits = excluded.limits, updated_at = excluded.updated_at",
                (name, _encode(tier), now_us()),
            )
            record(connection, actor, "tiers.set", name, _encode(tier))
            return tier

        tier = self._tiers[name] = await self._database.write(upsert)
        return tier


class Priced(Struct, frozen=True):
    """A price with its number."""

    id: int
    price: Price


class Prices:
    """The `prices` table."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._priced: list[Priced] = []
        self._matching: dict[str, list[Price]] = {}

    async def load(self) -> None:
        """Read all."""

        def select(connection: sqlite3.Connection) -> list[Priced]:
            rows = connection.execute(
                "SELECT * FROM prices ORDER BY pattern, valid_from"
            ).fetchall()
            return [_priced(row) for row in rows]

        self._priced = await self._database.read(select)
        self._matching = {}

    def all(self) -> list[Priced]:
        return list(self._priced)

    def of(self, model: str, at: float, *, own_worker: bool = False) -> Price:
        """What a model costs at a moment (Unix seconds)."""
        if not self._priced:
            return FREE
        matching = self._matching.get(model)
        if matching is None:
            matching = [each.price for each in self._priced if matches(each.price, model)]
            if len(self._matching) >= REMEMBERED_MODELS:
                self._matching.clear()
            self._matching[model] = matching
        return price_of(matching, model, at, own_worker=own_worker)

    def at_most(self, model: str, at: float, prompt: int, completion: int) -> int:
        """The most that an answer of so many tokens may cost, whoever gives it."""
        if not self._priced:
            return 0
        prices = (self.of(model, at, own_worker=own) for own in (False, True))
        return max(price.cost(prompt, completion) for price in prices)

    async def add(self, prices: list[Price], actor: Actor) -> list[Priced]:
        """Add prices, all or none. Raises AlreadyExists for a pattern and moment that has one."""

        def add(connection: sqlite3.Connection) -> list[Priced]:
            return [_add(connection, price, actor) for price in prices]

        added = await self._database.write(add)
        await self.load()
        return added

    async def remove(self, price_id: int, actor: Actor) -> None:
        """Take a price back; what was billed by it stays billed. Raises NotFound."""

        def delete(connection: sqlite3.Connection) -> None:
            row = connection.execute(
                "DELETE FROM prices WHERE id = ? RETURNING *", (price_id,)
            ).fetchone()
            if row is None:
                raise NotFound(f"There is no price {price_id}.")
            record(connection, actor, "prices.remove", row["pattern"], _encode(_priced(row).price))

        await self._database.write(delete)
        await self.load()


def _add(connection: sqlite3.Connection, price: Price, actor: Actor) -> Priced:
    row = {**msgspec.structs.asdict(price), "created_at": now_us()}
    try:
        insert(connection, "prices", row)
    except sqlite3.IntegrityError:
        message = f"There is a price for {price.pattern!r} from that moment on already."
        raise AlreadyExists(message) from None
    record(connection, actor, "prices.add", price.pattern, _encode(price))
    added = connection.execute(
        "SELECT * FROM prices WHERE pattern = ? AND own_workers = ? AND valid_from = ?",
        (price.pattern, price.own_workers, price.valid_from),
    ).fetchone()
    return _priced(added)


def _stored(connection: sqlite3.Connection, name: str) -> Tier | None:
    row = connection.execute("SELECT limits FROM tiers WHERE name = ?", (name,)).fetchone()
    return msgspec.json.decode(row["limits"], type=Tier) if row else None


def _encode(value: Struct) -> str:
    return msgspec.json.encode(value).decode()


def _priced(row: sqlite3.Row) -> Priced:
    columns = ("pattern", "input", "output", "cached", "image", "valid_from")
    price = Price(**{name: row[name] for name in columns}, own_workers=bool(row["own_workers"]))
    return Priced(row["id"], price)
