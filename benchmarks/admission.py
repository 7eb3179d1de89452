"""What admission costs a request: CPU of the event loop's thread, in process, with a real store behind it.

The way is that of every request: `Keys.find`, `Gate.admit`, `Gate.settle`, and `Gate.standings` with the headers
made of it. The hub knows 10,000 keys, and a million journal rows lie behind them. Three kinds of callers take
turns: without any limit, with all limits of a user, and with all limits of a user and of its key.
"""

import asyncio
import gc
import itertools
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from hub.live.gate import Gate
from hub.rules.tiers import NO_LIMITS, Limits, Tier
from hub.settings import load
from hub.store import Store, open_store
from hub.store.audit import Actor
from hub.store.credentials import digest
from hub.store.ledger import DAY_S
from hub.web.middleware import limit_headers, new_request_id

TARGET_US = 150
KEYS_OF_A_USER = 10
ALL_LIMITS = Limits(
    requests_per_minute=1_000_000,
    requests_per_hour=1_000_000,
    requests_per_day=1_000_000,
    tokens_per_minute=2**40,
    tokens_per_day=2**40,
    concurrent=1_000,
    budget_per_day=2**50,
    budget_per_month=2**50,
)
KINDS = ("no limits", "user's limits", "user's and key's limits")
PARTS = ("Keys.find", "Gate.admit", "Gate.settle", "standings and headers")
TOKENS, COST = 1_200, 900
"""What a request holds back."""

Step = Callable[[], Awaitable[None]]


class Times(NamedTuple):
    """Microseconds of CPU, one a request."""

    whole: list[float]
    parts: dict[str, list[float]]


def secret(kind: int, number: int) -> str:
    return f"sk-lmb-{kind}-{number:06d}"


def fill(connection: sqlite3.Connection, keys: int, rows: int) -> None:
    """Users and keys of each kind, and the journal of the last day."""
    for kind, _ in enumerate(KINDS):
        tier = "unlimited" if kind == 0 else "limited"
        of_key = msgspec.json.encode(ALL_LIMITS if kind == 2 else NO_LIMITS).decode()
        users = [
            (f"u{kind}-{n}", f"u{kind}-{n}@example.org", "a user", "user", tier, 0)
            for n in range(keys // KEYS_OF_A_USER)
        ]
        connection.executemany(
            "INSERT INTO users (id, email, name, role, tier, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            users,
        )
        connection.executemany(
            "INSERT INTO api_keys (id, hash, prefix, name, created_at, user_id, family, limits)"
            " VALUES (?1, ?2, '', 'a key', 0, ?3, ?1, ?4)",
            (
                (f"k{kind}-{n}", digest(secret(kind, n)), f"u{kind}-{n // KEYS_OF_A_USER}", of_key)
                for n in range(keys)
            ),
        )
    write_journal(connection, keys, rows)


def write_journal(connection: sqlite3.Connection, keys: int, rows: int) -> None:
    """Settled requests, evenly over the last day and over all keys, and the sums of them."""
    now = time.time_ns() // 1000
    step = int(DAY_S * 1e6) // rows
    connection.execute(
        """
        WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?1)
        INSERT INTO requests (id, key_id, user_id, endpoint, model, stream, state, accepted_at,
            settled_at, prompt_tokens, completion_tokens, cost)
        SELECT printf('%013x%016x', ?2 + n * ?3, n),
            printf('k%d-%d', n % 3, n / 3 * 7919 % ?4), printf('u%d-%d', n % 3, n / 3 * 7919 % ?4 / ?5),
            '/v1/chat/completions', 'm', 0, 'completed', ?2 + n * ?3, ?2 + n * ?3, 100, 100, 50 FROM n
        """,
        (rows, now - int(DAY_S * 1e6), step, keys, KEYS_OF_A_USER),
    )
    connection.execute(
        """
        INSERT INTO usage_daily SELECT user_id, accepted_at / 1000000 / 86400 * 86400, key_id, model,
            COUNT(*), COUNT(*), 0, SUM(prompt_tokens), 0, SUM(completion_tokens), 0, SUM(cost), 0, 0, 0
        FROM requests GROUP BY 1, 2, 3, 4
        """
    )


class Admission:
    """One request's way through the hub's admission."""

    def __init__(self, store: Store, kind: int, keys: int) -> None:
        self._store = store
        self._gate = Gate(store)
        self._kind = kind
        self._keys = keys

    async def warm_up(self) -> float:
        """Every key is known, and every account is in memory; milliseconds that a first look took."""
        took = []
        for number in range(self._keys):
            began = time.perf_counter()
            caller = await self._store.keys.find(secret(self._kind, number))
            assert caller is not None
            await self._gate.standings(caller)
            if number % KEYS_OF_A_USER == 0:
                took.append((time.perf_counter() - began) * 1000)
        return statistics.median(took)

    async def whole(self, number: int) -> float:
        request, key = new_request_id(), secret(self._kind, number)
        began = time.thread_time_ns()
        caller = await self._store.keys.find(key)
        assert caller is not None
        reservation = await self._gate.admit(caller, request, TOKENS, COST)
        self._gate.settle(reservation, TOKENS // 2, COST // 2)
        limit_headers(await self._gate.standings(caller))
        return (time.thread_time_ns() - began) / 1000

    async def parts(self, number: int) -> list[float]:
        """As `whole`, with the clock read between its parts."""
        request, key = new_request_id(), secret(self._kind, number)
        clock = time.thread_time_ns
        times = [clock()]
        caller = await self._store.keys.find(key)
        times.append(clock())
        assert caller is not None
        reservation = await self._gate.admit(caller, request, TOKENS, COST)
        times.append(clock())
        self._gate.settle(reservation, TOKENS // 2, COST // 2)
        times.append(clock())
        limit_headers(await self._gate.standings(caller))
        times.append(clock())
        return [(b - a) / 1000 for a, b in itertools.pairwise(times)]


async def measure(store: Store, keys: int, requests: int, rounds: int) -> list[Times]:
    found = [Times([], {part: [] for part in PARTS}) for _ in KINDS]
    admissions = [Admission(store, kind, keys) for kind, _ in enumerate(KINDS)]
    dice = random.Random(1)
    for kind, admission in enumerate(admissions):
        first = await admission.warm_up()
        print(f"  {keys} keys with {KINDS[kind]}: {first:.2f} ms the first time", file=sys.stderr)
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for admission, times in zip(admissions, found, strict=True):
            for _ in range(requests):
                times.whole.append(await admission.whole(dice.randrange(keys)))
                measured = await admission.parts(dice.randrange(keys))
                for part, microseconds in zip(PARTS, measured, strict=True):
                    times.parts[part].append(microseconds)
    return found


async def run(directory: Path, keys: int, rows: int, requests: int, rounds: int) -> list[Times]:
    settings = load({"data_dir": str(directory)}, environ={}, directory=directory)
    async with open_store(settings) as store:
        await store.tiers.set("unlimited", Tier(), Actor("benchmark"))
        limited = Tier(**msgspec.structs.asdict(ALL_LIMITS))
        await store.tiers.set("limited", limited, Actor("benchmark"))
        print(f"  writing {rows} journal rows", file=sys.stderr)
        await store.database.write(lambda connection: fill(connection, keys, rows))
        return await measure(store, keys, requests, rounds)


def report(found: list[Times]) -> bool:
    base = statistics.median(found[0].whole)
    print("| callers | p50 | p95 | compared", *PARTS, "", sep=" | ")
    print("| --- " * (4 + len(PARTS)) + "|")
    for kind, times in zip(KINDS, found, strict=True):
        median, p95 = statistics.median(times.whole), statistics.quantiles(times.whole, n=20)[-1]
        parts = [f"{statistics.median(times.parts[part]):.1f}" for part in PARTS]
        cells = [kind, f"{median:.1f} us", f"{p95:.1f} us", f"+{median - base:.1f} us", *parts]
        print("|", " | ".join(cells), "|")
    added = statistics.median(found[1].whole) - base
    met = added <= TARGET_US
    print(
        f"\nadmission with all limits adds {added:.1f} us at the median; target <= {TARGET_US} us:",
        end=" ",
    )
    print("met" if met else "missed")
    return met


@click.command(help=__doc__)
@click.option("--keys", default=10_000, show_default=True, help="Keys of each kind.")
@click.option("--rows", default=1_000_000, show_default=True, help="Journal rows of the last day.")
@click.option("--requests", default=5_000, show_default=True, help="Requests a round and kind.")
@click.option("--rounds", default=4, show_default=True)
def main(keys: int, rows: int, requests: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(run(Path(directory), keys, rows, requests, rounds))
    sys.exit(not report(found))


if __name__ == "__main__":
    main()
