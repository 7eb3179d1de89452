"""/v1/usage with few journal rows behind it and with very many.

Two hubs on real files, one with 10,000 requests in its journal and one with ten million, both spread over the last
month; a tenth of them are one caller's, the rest those of 10,000 other keys. The caller asks both hubs in turn for
its month with all details. The large file takes about 250 bytes a row, in a temporary folder that is removed.
"""

import asyncio
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import aiohttp
import click

from hub.app import running
from hub.live.hub import Hub
from hub.settings import load
from hub.store import open_store
from hub.store.credentials import digest
from hub.store.ledger import DAY_S, Slice

DAYS = 30
MODELS = 5
OTHER_KEYS = 10_000
TARGET = 1.3
"""How many times as long the large one may take: what two equal hubs differ by on a busy machine."""
CALLERS = {"user": "sk-lmb-user", "operator": "sk-lmb-operator", "admin": "sk-lmb-admin"}
QUESTIONS = {
    "a user's month": ("user", "range=month&details=true"),
    "a user's key and model": ("user", "range=month&details=true&key=k-user&model=m-1"),
    "a user's day": ("user", "range=day&details=true"),
    "all of a user's time": ("user", "range=all"),
    "a month of a key without a user": ("operator", "range=month&details=true"),
    "everybody's month (admin)": ("admin", "range=month&all=true"),
}
BOUND = (
    "a user's month",
    "a user's key and model",
    "a user's day",
    "a month of a key without a user",
)
"""Those that are held to the target: everybody's sums grow with the number of keys, and all time with time."""


class Asking(NamedTuple):
    """A hub that can be asked."""

    hub: Hub
    url: str


def fill(path: Path, rows: int) -> None:
    """Keys, a journal of the last month, and the sums of it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("BEGIN")
        write_keys(connection)
        # Made at the end, sorted: that is faster than growing it, and the same in the end.
        made = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'requests_by_key'")
        [index] = made.fetchone()
        connection.execute("DROP INDEX requests_by_key")
        write_journal(connection, rows)
        connection.execute(index)
        for table, length_s in (("usage_hourly", 3_600), ("usage_daily", 86_400)):
            write_sums(connection, table, length_s)
        connection.execute("COMMIT")


def write_keys(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO users (id, email, name, role, tier, created_at)"
        " VALUES ('u-user', 'user@example.org', 'a user', 'user', 'enterprise', 0)"
    )
    secrets = [
        *(
            (f"k-{who}", secret, "u-user" if who == "user" else None, who)
            for who, secret in CALLERS.items()
        ),
        *((f"k-{number}", f"sk-lmb-{number}", None, "") for number in range(OTHER_KEYS)),
    ]
    connection.executemany(
        "INSERT INTO api_keys (id, hash, prefix, name, created_at, user_id, family, scopes)"
        " VALUES (?1, ?2, '', ?1, 0, ?3, ?1, ?4)",
        (
            (key, digest(secret), user, '{"admin":true}' if who == "admin" else "{}")
            for key, secret, user, who in secrets
        ),
    )


def write_journal(connection: sqlite3.Connection, rows: int) -> None:
    """Evenly over the month; every tenth is the user's, every tenth the operator's key's."""
    began = time.time_ns() // 1000 - int(DAYS * DAY_S * 1e6)
    connection.execute(
        """
        WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?1)
        INSERT INTO requests (id, key_id, user_id, endpoint, model, stream, state, accepted_at, offered_at,
            started_at, first_piece_at, settled_at, worker, deliveries, delivered_chars, prompt_tokens,
            completion_tokens, cost, finish_reason)
        SELECT printf('%013x%016x', ?2 + n * ?3, n),
            CASE n % 10 WHEN 0 THEN 'k-user' WHEN 1 THEN 'k-operator' ELSE 'k-' || (n * 7919 % ?4) END,
            CASE n % 10 WHEN 0 THEN 'u-user' ELSE '' END,
            '/v1/chat/completions', 'm-' || (n / 10 % ?5), 1, 'completed', ?2 + n * ?3, ?2 + n * ?3,
            ?2 + n * ?3, ?2 + n * ?3, ?2 + n * ?3, 'a worker', 1, 400, 100, 100, 50, 'stop'
        FROM n
        """,
        (rows, began, int(DAYS * DAY_S * 1e6) // rows, OTHER_KEYS, MODELS),
    )


def write_sums(connection: sqlite3.Connection, table: str, length_s: int) -> None:
    connection.execute(
        f"""
        INSERT INTO {table} SELECT user_id, accepted_at / 1000000 / {length_s} * {length_s}, key_id, model,
            COUNT(*), COUNT(*), 0, SUM(prompt_tokens), 0, SUM(completion_tokens), 0, SUM(cost), 0, 0, 0
        FROM requests GROUP BY 1, 2, 3, 4
        """
    )


async def start(directory: Path, rows: int, stack: contextlib.AsyncExitStack) -> Asking:
    settings = load({"data_dir": str(directory), "port": 0}, environ={}, directory=directory)
    async with open_store(settings):
        pass
    began = time.monotonic()
    await asyncio.to_thread(fill, directory / "hub.db", rows)
    size = (directory / "hub.db").stat().st_size
    took = time.monotonic() - began
    print(f"  {rows} rows written in {took:.0f} s, {size / 2**20:.0f} MiB", file=sys.stderr)
    hub, url = await stack.enter_async_context(running(settings))
    return Asking(hub, url)


async def ask(http: aiohttp.ClientSession, asking: Asking, question: str) -> float:
    """Milliseconds of one answer."""
    who, query = QUESTIONS[question]
    headers = {"Authorization": f"Bearer {CALLERS[who]}"}
    began = time.perf_counter()
    async with http.get(f"{asking.url}/v1/usage?{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert (await response.json())["totals"]["requests"] > 0
    return (time.perf_counter() - began) * 1000


async def query_alone(asking: Asking) -> float:
    """Milliseconds of the ledger's part of a user's month."""
    of = Slice("usage_daily", int(time.time() - DAYS * DAY_S), users=["u-user"])
    began = time.perf_counter()
    await asking.hub.store.ledger.sums(of, ("start",), ("model",), ("key_id",))
    return (time.perf_counter() - began) * 1000


async def measure(small: Asking, large: Asking, times: int) -> bool:
    print(
        "| question | small, p50 | large, p50 | ratio | target |\n| --- | --- | --- | --- | --- |"
    )
    all_met = True
    async with aiohttp.ClientSession() as http:
        for question in QUESTIONS:
            bound = question in BOUND
            found: tuple[list[float], list[float]] = ([], [])
            for _ in range(times if bound else min(times, 20)):
                for hub, measured in zip((small, large), found, strict=True):
                    measured.append(await ask(http, hub, question))
            all_met &= show(question, *found, bound=bound)
    found = ([], [])
    for _ in range(times):
        for hub, measured in zip((small, large), found, strict=True):
            measured.append(await query_alone(hub))
    return show("a user's month, the ledger alone", *found, bound=True) and all_met


def show(question: str, small: list[float], large: list[float], *, bound: bool) -> bool:
    one, other = statistics.median(small), statistics.median(large)
    ratio = other / one
    met = ratio <= TARGET
    target = f"<= {TARGET}, {'met' if met else 'missed'}" if bound else "-"
    print(f"| {question} | {one:.2f} ms | {other:.2f} ms | x {ratio:.2f} | {target} |")
    return met or not bound


async def run(few: int, many: int, times: int) -> bool:
    async with contextlib.AsyncExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        small = await start(folders[0], few, stack)
        large = await start(folders[1], many, stack)
        return await measure(small, large, times)


@click.command(help=__doc__)
@click.option("--few", default=10_000, show_default=True, help="Journal rows of the small hub.")
@click.option(
    "--many", default=10_000_000, show_default=True, help="Journal rows of the large one."
)
@click.option("--times", default=200, show_default=True, help="How often each question is asked.")
def main(few: int, many: int, times: int) -> None:
    sys.exit(not asyncio.run(run(few, many, times)))


if __name__ == "__main__":
    main()
