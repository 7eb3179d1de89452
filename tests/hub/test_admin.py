"""/admin/api: every operation over a real socket, who may use it, and that what it changes holds at once."""

import asyncio
import time
from typing import Any

import pytest

from hub.protocol import End, JobFrame, Piece
from hub.rules.passwords import verify_password
from hub.store.audit import Actor
from hub.store.keys import Scopes
from hub.web.operations import OPERATIONS
from tests.conftest import RunningHub
from tests.doors import Reply, Worker, ask, eventually, poll_worker, send, socket_worker
from tests.processes import bearer

TEST = Actor("test")
ADA = "ada@example.org"
BOB = "bob@example.org"
PASSWORD = "correct horse"


async def admin_key(hub: RunningHub, user: str | None = None) -> str:
    made = await hub.hub.store.keys.create("operations", TEST, user=user, scopes=Scopes(admin=True))
    return made.secret


class Admin:
    """A script with a key that may administer."""

    def __init__(self, hub: RunningHub, key: str) -> None:
        self.hub = hub
        self.key = key

    async def get(self, path: str) -> Reply:
        return await send(
            self.hub, method="GET", path=f"/admin/api/{path}", headers=bearer(self.key)
        )

    async def post(self, path: str, **members: Any) -> Reply:
        return await send(self.hub, members, path=f"/admin/api/{path}", headers=bearer(self.key))

    async def done(self, path: str, **members: Any) -> Any:
        """What a POST that succeeds answers."""
        reply = await self.post(path, **members)
        assert reply.status == 200, reply.body
        return reply.json

    async def listed(self, path: str) -> Any:
        reply = await self.get(path)
        assert reply.status == 200, reply.body
        return reply.json

    async def user(self, email: str = BOB, **members: Any) -> dict[str, Any]:
        return await self.done("users", email=email, **members)

    async def new_key(self, **members: Any) -> dict[str, Any]:
        return await self.done("keys", name="a key", **members)


@pytest.fixture
async def admin(hub: RunningHub) -> Admin:
    return Admin(hub, await admin_key(hub))


async def models_as(hub: RunningHub, key: str) -> int:
    """The status that a key gets at an endpoint for callers."""
    return (await send(hub, method="GET", path="/v1/models", headers=bearer(key))).status


async def chat_as(hub: RunningHub, key: str, **members: Any) -> Reply:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}
    return await send(hub, body, headers=bearer(key))


def refused(reply: Reply, status: int, code: str | None, words: str = "") -> None:
    assert (reply.status, reply.error["code"]) == (status, code), reply.body
    assert words in reply.error["message"]


# --- the door ------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_each_operation_wants_a_key_that_may_administer(hub, operation):
    for headers, status, code in (
        ({}, 401, "invalid_api_key"),
        (bearer("sk-lmb-nobody"), 401, "invalid_api_key"),
        (bearer(hub.key), 403, "insufficient_scope"),
    ):
        reply = await send(hub, b"{", method=operation.method, path=operation.path, headers=headers)
        refused(reply, status, code)


async def test_an_administrators_ordinary_key_does_not_administer(hub, admin):
    await admin.user(ADA, role="admin")
    key = (await admin.new_key(user=ADA))["secret"]
    refused(await Admin(hub, key).get("users"), 403, "insufficient_scope")
    assert await models_as(hub, key) == 200


async def test_only_an_administrator_or_nobody_can_have_a_key_with_admin_scope(admin):
    await admin.user()
    reply = await admin.post("keys", name="x", user=BOB, scopes={"admin": True})
    refused(reply, 400, None, "Only an administrator's key")
    assert reply.error["param"] == "scopes.admin"


async def test_a_demoted_administrators_key_stops_at_once(hub, admin):
    await admin.user(ADA, role="admin")
    ada = Admin(hub, (await admin.new_key(user=ADA, scopes={"admin": True}))["secret"])
    assert (await ada.get("users")).status == 200
    await admin.done("users/set-role", user=ADA, role="user")
    refused(await ada.get("users"), 403, "insufficient_scope")
    await admin.done("users/set-role", user=ADA, role="admin")
    assert (await ada.get("users")).status == 200
    await admin.done("users/disable", user=ADA)
    refused(await ada.get("users"), 403, "account_disabled")


async def test_the_key_is_checked_before_the_body_is_read(hub):
    reply = await send(hub, b"[" * 2**21, path="/admin/api/users", headers={})
    refused(reply, 401, "invalid_api_key")


async def test_a_body_over_a_mebibyte_is_refused(admin):
    refused(await admin.post("users", email="x" * 2**21), 413, "request_too_large")


@pytest.mark.parametrize(
    ("path", "members", "param"),
    [
        ("users", {"email": "no address"}, "email"),
        ("users", {"email": "a\0@b"}, "email"),
        ("users", {"email": BOB, "password": "short"}, "password"),
        ("users", {"email": BOB, "role": "king"}, "role"),
        ("users", {"email": BOB, "salary": 3}, None),
        ("keys", {"name": ""}, "name"),
        ("keys", {"name": "x", "expires_at": 1}, "expires_at"),
        ("keys", {"name": "x", "expires_at": 2**60}, "expires_at"),
        ("keys", {"name": "x", "own_workers_only": True}, "own_workers_only"),
        ("keys", {"name": "x", "scopes": {"endpoints": ["kitchen"]}}, "scopes.endpoints[0]"),
        ("keys", {"name": "x", "limits": {"concurrent": -1}}, "limits.concurrent"),
        ("keys", {"name": "x", "limits": {"budget_per_day": 2.5}}, "limits.budget_per_day"),
        ("keys/rotate", {"id": "x", "overlap_s": -1}, "overlap_s"),
        ("worker-tokens", {"name": "x", "shared": False}, "shared"),
        ("worker-tokens", {"name": "x", "slots": 0}, "slots"),
        ("tiers", {"name": "No Name", "limits": {}}, "name"),
        ("tiers", {"name": "free", "limits": {"priority": 10}}, "limits.priority"),
        ("prices", {"pattern": "x", "input": 2**60}, "input"),
        ("prices", {"pattern": "x", "valid_from": 2**63}, "valid_from"),
        ("prices/import", {"prices": []}, "prices"),
        ("prices/remove", {"id": "one"}, "id"),
        ("init", {"email": ADA}, "password"),
        ("invitations", {"email": "nobody"}, "email"),
        ("invitations", {"email": BOB, "expires_at": 1}, "expires_at"),
    ],
)
async def test_a_bad_member_is_named(admin, path, members, param):
    reply = await admin.post(path, **members)
    refused(reply, 400, None)
    assert reply.error["param"] == param


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("users/set-tier", {"user": BOB, "tier": "free"}),
        ("users/set-role", {"user": BOB, "role": "user"}),
        ("users/disable", {"user": BOB}),
        ("users/enable", {"user": BOB}),
        ("users/reset-password", {"user": BOB, "password": PASSWORD}),
        ("users", {"email": BOB, "tier": "golden"}),
        ("invitations", {"email": BOB, "tier": "golden"}),
        ("invitations/revoke", {"id": "x"}),
        ("keys", {"name": "x", "user": BOB}),
        ("keys/rotate", {"id": "x"}),
        ("keys/revoke", {"id": "x"}),
        ("keys/set-limits", {"id": "x", "limits": {}}),
        ("worker-tokens", {"name": "x", "user": BOB}),
        ("worker-tokens/revoke", {"id": "x"}),
        ("prices/remove", {"id": 9}),
    ],
)
async def test_what_is_not_there_is_404(admin, path, members):
    refused(await admin.post(path, **members), 404, "not_found")


@pytest.mark.parametrize(
    "query", ["count=0", "count=many", "count=", "colour=red", "count=1&colour=red"]
)
async def test_a_bad_query_is_refused(admin, query):
    refused(await admin.get(f"audit-log?{query}"), 400, None)


async def test_other_methods_are_405(admin):
    reply = await send(
        admin.hub, method="DELETE", path="/admin/api/users", headers=bearer(admin.key)
    )
    refused(reply, 405, "method_not_allowed")
    assert {"GET", "POST"} <= set(reply.headers["Allow"].split(", "))


# --- users ---------------------------------------------------------------------------------------


async def test_the_first_administrator_is_made_once(admin):
    made = await admin.done("init", email="Ada@Example.org", password=PASSWORD)
    [ada] = await admin.listed("users")
    assert (ada["email"], ada["role"], ada["name"]) == (ADA, "admin", "Ada")
    assert (await Admin(admin.hub, made["secret"]).get("users")).status == 200
    refused(await admin.post("init", email=BOB, password=PASSWORD), 409, "already_exists")


async def test_of_many_first_administrators_at_once_one_is_made(admin):
    replies = await asyncio.gather(
        *(admin.post("init", email=f"{n}@example.org", password=PASSWORD) for n in range(5))
    )
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409, 409]
    assert len(await admin.listed("users")) == 1


async def test_a_user_is_made_listed_and_not_made_twice(admin):
    made = await admin.user("Bob@Example.org", tier="premium", name="Bob B.", password=PASSWORD)
    assert await admin.listed("users") == [made]
    assert (made["email"], made["tier"], made["name"]) == (BOB, "premium", "Bob B.")
    assert (made["role"], made["disabled"]) == ("user", False)
    refused(await admin.post("users", email=BOB), 409, "already_exists")


async def test_another_tier_holds_from_the_next_request_on(hub, admin):
    await admin.user(tier="free")
    key = (await admin.new_key(user=BOB))["secret"]
    headers = (await send(hub, method="GET", path="/v1/models", headers=bearer(key))).headers
    assert headers["x-ratelimit-limit-requests"] == "10"
    changed = await admin.done("users/set-tier", user=BOB, tier="premium")
    assert changed["tier"] == "premium"
    headers = (await send(hub, method="GET", path="/v1/models", headers=bearer(key))).headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    await admin.done("tiers", name="premium", limits={"requests_per_minute": 7})
    headers = (await send(hub, method="GET", path="/v1/models", headers=bearer(key))).headers
    assert headers["x-ratelimit-limit-requests"] == "7"


async def test_a_disabled_users_keys_are_403_until_they_are_enabled(hub, admin):
    await admin.user()
    key = (await admin.new_key(user=BOB))["secret"]
    assert await models_as(hub, key) == 200
    assert (await admin.done("users/disable", user=BOB))["disabled"] is True
    refused(await chat_as(hub, key), 403, "account_disabled")
    assert (await admin.done("users/enable", user=BOB))["disabled"] is False
    assert await models_as(hub, key) == 200


@pytest.mark.parametrize("door", [socket_worker, poll_worker])
async def test_a_disabled_users_workers_are_sent_away_at_once_and_come_no_more(hub, admin, door):
    bob = await admin.user()
    token = (await admin.done("worker-tokens", name="tab", user=BOB))["secret"]
    async with door(hub, token=token) as worker, socket_worker(hub, worker="other") as other:
        await admin.done("users/disable", user=bob["id"])
        if door is socket_worker:
            assert await worker.closed() == 4501
        else:
            refused(await worker.exchange(), 401, "invalid_api_key")
        await eventually(lambda: len([*hub.hub.roster]) == 1)
        assert other.socket.close_code is None
    async with Worker(hub, token=token) as again:
        assert (await again.post("hello", again.hello(token=""))).status == 401


async def test_a_new_password_is_kept_as_a_hash_and_ends_sign_ins(hub, admin):
    bob = await admin.user(password=PASSWORD)
    before = await hub.hub.store.users.password_of(BOB)
    sign_in = ("s", b"h", bob["id"], "", "", 0, 0, 2**40)
    await hub.hub.store.database.write(
        lambda c: c.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", sign_in)
    )
    await admin.done("users/reset-password", user=BOB, password="another horse")
    after = await hub.hub.store.users.password_of(BOB)
    assert before is not None
    assert after is not None
    assert verify_password(before[1], PASSWORD)
    assert verify_password(after[1], "another horse")
    assert not verify_password(after[1], PASSWORD)
    assert await hub.rows("SELECT * FROM sessions") == []


# --- keys ----------------------------------------------------------------------------------------


async def test_a_key_is_listed_with_all_that_it_is_for(admin):
    await admin.user()
    expires = int(time.time()) + 3600
    made = await admin.new_key(
        user=BOB,
        scopes={"endpoints": ["models"], "models": ["gpt-*"]},
        limits={"requests_per_minute": 3, "budget_per_day": 2_500_000},
        expires_at=expires,
        own_workers_only=True,
    )
    [key] = await admin.listed(f"keys?user={BOB}")
    assert key["id"] == key["family"] == made["id"]
    assert (key["user"], key["own_workers_only"], key["expires_at"]) == (BOB, True, expires)
    assert key["scopes"] == {"endpoints": ["models"], "models": ["gpt-*"]}
    assert key["limits"] == {"requests_per_minute": 3, "budget_per_day": 2_500_000}
    assert len(await admin.listed("keys")) == 3


async def test_a_key_out_of_its_scope_is_403(hub, admin):
    async with socket_worker(hub, models=[{"id": "m"}, {"id": "gpt-4"}]):
        only_models = (await admin.new_key(scopes={"endpoints": ["models"]}))["secret"]
        refused(await chat_as(hub, only_models), 403, "insufficient_scope")
        only_gpt = (await admin.new_key(scopes={"models": ["gpt-*"]}))["secret"]
        refused(await chat_as(hub, only_gpt), 403, "model_not_allowed")
        shown = await send(hub, method="GET", path="/v1/models", headers=bearer(only_gpt))
        assert [model["id"] for model in shown.json["data"]] == ["gpt-4"]


async def test_a_revoked_and_an_expired_key_are_401(hub, admin):
    revoked = await admin.new_key()
    expiring = await admin.new_key(expires_at=int(time.time()) + 1_000)
    assert await models_as(hub, revoked["secret"]) == 200
    assert await models_as(hub, expiring["secret"]) == 200
    answer = await admin.done("keys/revoke", id=revoked["id"])
    assert answer == {"id": revoked["id"], "revoked": True}
    assert await models_as(hub, revoked["secret"]) == 401
    past = int(time.time()) - 1
    await hub.hub.store.database.write(
        lambda c: c.execute("UPDATE api_keys SET expires_at = ?", (past,))
    )
    hub.hub.store.keys.forget()
    assert await models_as(hub, expiring["secret"]) == 401


async def test_both_keys_of_a_rotation_work_and_share_their_limits(hub, admin):
    old = await admin.new_key(limits={"requests_per_minute": 2}, scopes={"models": ["m"]})
    new = await admin.done("keys/rotate", id=old["id"], overlap_s=60)
    [*_, first, second] = await admin.listed("keys")
    assert first["family"] == second["family"] == old["id"]
    assert second["scopes"] == {"models": ["m"]}
    assert 50 < first["expires_at"] - time.time() <= 61
    assert second["expires_at"] is None
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(answered(worker, 2))
        assert (await chat_as(hub, old["secret"])).status == 200
        assert (await chat_as(hub, new["secret"])).status == 200
        await asking
        refused(await chat_as(hub, old["secret"]), 429, "rate_limit_exceeded")
        refused(await chat_as(hub, new["secret"]), 429, "rate_limit_exceeded")


async def answered(worker: Worker, times: int) -> None:
    """Answer so many jobs."""
    for _ in range(times):
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "fine"), End(job.job))


async def test_without_an_overlap_the_old_key_ends_at_once(hub, admin):
    old = await admin.new_key()
    assert await models_as(hub, old["secret"]) == 200
    new = await admin.done("keys/rotate", id=old["id"], overlap_s=0)
    assert await models_as(hub, old["secret"]) == 401
    assert await models_as(hub, new["secret"]) == 200


async def test_a_key_is_rotated_once(admin):
    old = await admin.new_key()
    replies = await asyncio.gather(*(admin.post("keys/rotate", id=old["id"]) for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [200, 409, 409, 409]
    [new] = [reply.json for reply in replies if reply.status == 200]
    refused(await admin.post("keys/rotate", id=old["id"]), 409, "already_exists", new["id"])
    await admin.done("keys/rotate", id=new["id"])


async def test_limits_change_for_both_keys_of_a_rotation_and_hold_at_once(hub, admin):
    old = await admin.new_key(limits={"requests_per_minute": 5, "concurrent": 2})
    new = await admin.done("keys/rotate", id=old["id"])
    changed = await admin.done(
        "keys/set-limits", id=new["id"], limits={"requests_per_minute": 9, "concurrent": None}
    )
    assert changed["limits"] == {"requests_per_minute": 9}
    for secret in (old["secret"], new["secret"]):
        reply = await send(hub, method="GET", path="/v1/models", headers=bearer(secret))
        assert reply.headers["x-ratelimit-limit-requests"] == "9"


async def test_own_workers_only_is_never_answered_by_others(hub, admin):
    await admin.user()
    key = (await admin.new_key(user=BOB, own_workers_only=True))["secret"]
    async with socket_worker(hub):
        reply = await send(hub, method="GET", path="/v1/models", headers=bearer(key))
        assert reply.json["data"] == []


async def test_when_a_key_was_used_is_shown(hub, admin):
    made = await admin.new_key()
    await models_as(hub, made["secret"])
    [*_, key] = await admin.listed("keys")
    assert abs(key["last_used_at"] - time.time()) < 60


# --- worker tokens -------------------------------------------------------------------------------


async def test_a_worker_token_is_listed_with_all_that_it_may(admin):
    await admin.user()
    await admin.done("worker-tokens", name="tab", user=BOB, models=["m*"], slots=3, trusted=True)
    await admin.done("worker-tokens", name="shared", user=BOB, shared=True)
    private, shared = await admin.listed(f"worker-tokens?user={BOB}")
    assert (private["user"], private["shared"], private["trusted"]) == (BOB, False, True)
    assert (private["models"], private["slots"]) == (["m*"], 3)
    assert shared["shared"] is True
    assert len(await admin.listed("worker-tokens")) == 3


async def test_revoking_a_worker_token_closes_its_sessions(hub, admin):
    made = await admin.done("worker-tokens", name="tab")
    async with socket_worker(hub, token=made["secret"]) as worker:
        await admin.done("worker-tokens/revoke", id=made["id"])
        assert await worker.closed() == 4501


# --- tiers and prices ----------------------------------------------------------------------------


async def test_a_part_of_a_tier_changes_and_the_rest_stays(admin):
    before = {tier["name"]: tier["limits"] for tier in await admin.listed("tiers")}
    assert list(before) == ["free", "premium", "enterprise"]
    answer = await admin.done(
        "tiers", name="free", limits={"requests_per_minute": 20, "concurrent": None}
    )
    expected = {**before["free"], "requests_per_minute": 20}
    del expected["concurrent"]
    assert answer == {"name": "free", "limits": expected}
    after = {tier["name"]: tier["limits"] for tier in await admin.listed("tiers")}
    assert after == {**before, "free": expected}


async def test_parts_of_a_tier_that_change_at_once_all_change(admin):
    names = ["requests_per_minute", "requests_per_hour", "tokens_per_minute", "concurrent"]
    await asyncio.gather(*(admin.done("tiers", name="free", limits={name: 77}) for name in names))
    [free, *_] = await admin.listed("tiers")
    assert [free["limits"][name] for name in names] == [77] * 4


async def test_a_new_tier_can_be_given_at_once(admin):
    await admin.done("tiers", name="family", limits={"requests_per_day": 50, "priority": 3})
    assert (await admin.user(tier="family"))["tier"] == "family"


async def test_prices_are_set_listed_and_removed(admin):
    made = await admin.done("prices", pattern="gpt-4*", input=2_500_000, output=10_000_000)
    assert abs(made["price"]["valid_from"] - time.time()) < 60
    assert await admin.listed("prices") == [made]
    assert await admin.done("prices/remove", id=made["id"]) == {"id": made["id"], "removed": True}
    assert await admin.listed("prices") == []


async def test_prices_are_imported_all_or_none(admin):
    one, two = {"pattern": "a", "valid_from": 0}, {"pattern": "b*", "input": 5, "valid_from": 9}
    added = await admin.done("prices/import", prices=[one, two])
    assert [each["price"]["pattern"] for each in added] == ["a", "b*"]
    reply = await admin.post("prices/import", prices=[{"pattern": "c"}, one])
    refused(reply, 409, "already_exists", "'a'")
    reply = await admin.post("prices/import", prices=[{"pattern": "c"}, {"pattern": ""}])
    refused(reply, 400, None, "prices[1].pattern")
    assert await admin.listed("prices") == added


async def test_a_price_holds_from_the_next_request_on(hub, admin):
    await admin.done("prices", pattern="m", output=1_000_000_000_000)
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(answered(worker, 1))
        assert (await ask(hub)).status == 200
        await asking
    await eventually(lambda: not hub.hub.dispatch.active)
    [row] = await hub.rows("SELECT cost, completion_tokens FROM requests")
    assert row["cost"] == row["completion_tokens"] * 1_000_000 > 0


# --- what is written down ------------------------------------------------------------------------


async def test_every_act_is_written_down_with_who_and_from_where(hub, admin):
    await admin.user(ADA, role="admin")
    ada = Admin(hub, (await admin.new_key(user=ADA, scopes={"admin": True}))["secret"])
    await ada.user(password=PASSWORD)
    key = await ada.new_key(user=BOB)
    acts = [
        ("users/set-tier", {"user": BOB, "tier": "premium"}, "users.change", BOB),
        ("users/set-role", {"user": BOB, "role": "user"}, "users.change", BOB),
        ("users/disable", {"user": BOB}, "users.change", BOB),
        ("users/enable", {"user": BOB}, "users.change", BOB),
        ("users/reset-password", {"user": BOB, "password": PASSWORD}, "users.change", BOB),
        ("invitations", {"email": "eve@example.org"}, "invitations.create", "eve@example.org"),
        ("keys/set-limits", {"id": key["id"], "limits": {}}, "api_keys.set_limits", key["id"]),
        ("keys/rotate", {"id": key["id"]}, "api_keys.rotate", key["id"]),
        ("keys/revoke", {"id": key["id"]}, "api_keys.revoke", key["id"]),
        ("tiers", {"name": "free", "limits": {}}, "tiers.set", "free"),
        ("prices", {"pattern": "m*"}, "prices.add", "m*"),
        ("prices/remove", {"id": 1}, "prices.remove", "m*"),
    ]
    for path, members, _, _ in acts:
        await ada.done(path, **members)
    lines = await ada.listed(f"audit-log?actor={ADA}&count={len(acts)}")
    assert [(line["action"], line["subject"]) for line in reversed(lines)] == [
        (action, subject) for _, _, action, subject in acts
    ]
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    assert all(abs(line["at"] - time.time()) < 60 for line in lines)


async def test_the_audit_log_is_searched(admin):
    await admin.user()
    await admin.user(ADA)
    await admin.done("users/disable", user=BOB)
    for query, found in (
        ("actor=operations", 3),
        ("actor=nobody", 0),
        ("action=users.", 3),
        ("action=users.create", 2),
        (f"subject={BOB}", 2),
        (f"subject={BOB}&action=users.change&actor=operations", 1),
        ("action=users.&count=2", 2),
    ):
        assert len(await admin.listed(f"audit-log?{query}")) == found, query


async def test_a_refused_act_leaves_no_line(admin):
    before = await admin.listed("audit-log")
    await admin.post("users/disable", user="nobody")
    await admin.post("keys/revoke", id="nobody")
    await admin.post("users", email=BOB, tier="golden")
    assert await admin.listed("audit-log") == before


async def test_no_list_and_no_log_holds_a_secret(hub, admin):
    await admin.user(password=PASSWORD)
    key = await admin.new_key(user=BOB)
    following = await admin.done("keys/rotate", id=key["id"])
    token = await admin.done("worker-tokens", name="tab", user=BOB)
    await admin.done("users/reset-password", user=BOB, password=PASSWORD)
    invited = (await admin.done("invitations", email="eve@example.org"))["path"]
    paths = ("users", "invitations", "keys", "worker-tokens", "audit-log?count=1000", "system-log")
    shown = str([await admin.listed(path) for path in paths])
    for secret in (key["secret"], following["secret"], token["secret"], admin.key, invited):
        assert secret not in shown
        assert secret[12:] not in shown
    assert PASSWORD not in shown
    assert "argon2" not in shown


async def test_profile_and_system_log_are_there(admin):
    profile = await admin.listed("profile")
    assert (await admin.done("profile", profile=profile, note="same"))["version"] == 1
    assert (await admin.done("profile/rollback"))["version"] == 2
    assert [row["version"] for row in await admin.listed("profile/history")] == [2, 1, 0]
    refused(await admin.post("profile/rollback", version=77), 404, "unknown_url")
    assert await admin.listed("system-log?count=5") == []
