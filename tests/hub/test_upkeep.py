"""Upkeep: rows go when their tier says so, and take nothing along that still counts."""

import time
from pathlib import Path

from hub.live.gate import Gate
from hub.live.upkeep import Swept, sweep
from hub.rules.tiers import Tier
from hub.settings import load
from hub.store import open_store
from hub.store.sessions import Visitor
from tests.conftest import TEST
from tests.hub.test_gate import write_past

DAY_S = 86_400


async def test_each_tiers_rows_are_kept_for_its_days(tmp_path: Path):
    settings = load(
        {"data_dir": str(tmp_path), "retention": {"operator_days": 20}},
        environ={},
        directory=tmp_path,
    )
    now = time.time()
    async with open_store(settings) as store:
        keys = {}
        for name, days in (("brief", 5), ("long", 30), ("none", 0)):
            await store.tiers.set(name, Tier(retention_days=days, requests_per_day=9), TEST)
            user = await store.users.create(f"{name}@example.org", TEST, tier=name)
            key = await store.keys.create(name, TEST, user=user.email)
            keys[name] = (user.id, key.id, key.secret)
        operators = await store.keys.create("operator", TEST)
        keys["operator"] = ("", operators.id, operators.secret)
        for user_id, key_id, _ in keys.values():
            for age in (0.5, 1.5, 4, 6, 19, 21, 29, 31):
                await write_past(store, user_id, key_id, now - age * DAY_S, cost=7)
        assert await sweep(store) == Swept(journal=5 + 1 + 6 + 3, answers=0, sessions=0)
        assert await sweep(store) == Swept(0, 0, 0)
        counts = await store.database.read(
            lambda c: dict(c.execute("SELECT key_id, COUNT(*) FROM requests GROUP BY 1").fetchall())
        )
        kept = {name: counts[key_id] for name, (_, key_id, _) in keys.items()}
        assert kept == {"brief": 3, "long": 7, "none": 2, "operator": 5}
        # What the windows and budgets count is still there.
        caller = await store.keys.find(keys["none"][2])
        assert caller is not None
        [requests] = await Gate(store).standings(caller)
        assert requests.remaining == 9 - 1
        spent = await store.database.read(
            lambda c: c.execute("SELECT SUM(cost) FROM usage_daily").fetchone()[0]
        )
        assert spent == 4 * 8 * 7


async def test_more_rows_than_one_transaction_takes(tmp_path: Path):
    settings = load({"data_dir": str(tmp_path)}, environ={}, directory=tmp_path)
    async with open_store(settings) as store:
        key = await store.keys.create("k", TEST)
        old = int((time.time() - 400 * DAY_S) * 1e6)

        def fill(connection):
            connection.executemany(
                "INSERT INTO requests (id, key_id, endpoint, model, stream, accepted_at, settled_at)"
                " VALUES (?, ?, '/', 'm', 0, ?, ?)",
                [(f"{old + n:013x}", key.id, old + n, old + n) for n in range(2_500)],
            )

        await store.database.write(fill)
        assert (await sweep(store)).journal == 2_500


async def test_expired_sign_ins_go_and_others_stay(tmp_path: Path):
    settings = load({"data_dir": str(tmp_path)}, environ={}, directory=tmp_path)
    async with open_store(settings) as store:
        user = await store.users.create("ann@example.org", TEST, password="a hash")
        secrets = [
            await store.sessions.create(user.id, "a hash", Visitor("127.0.0.1", "a browser"))
            for _ in range(2)
        ]
        await store.database.write(
            lambda c: c.execute("UPDATE sessions SET expires_at = 1 WHERE rowid = 1").rowcount
        )
        assert (await sweep(store)).sessions == 1
        found = [await store.sessions.find(secret or "") for secret in secrets]
        assert found == [None, user]
