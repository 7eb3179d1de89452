"""/v1/usage and the organization's usage and costs, after real requests through an echo worker."""

import asyncio
import csv
import io
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from hub.rules.tiers import Limits, Price, Tier
from hub.store.audit import Actor
from hub.store.credentials import Created
from hub.store.keys import Scopes
from tests.doors import Reply, echo_agent, eventually, send

TEST = Actor("test")
PRICE = Price("*", input=1_000_000, output=10_000_000)
"""A micro-dollar a token of the prompt, ten a token of the answer."""
AMOUNTS = {
    "requests",
    "completed",
    "failed",
    "cancelled",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "total_tokens",
    "images",
    "cost",
    "cost_micro_dollars",
}


class House:
    """A hub with an echo worker, two users with two keys each, a key without a user, and an admin's."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.keys: dict[str, Created] = {}

    async def furnish(self) -> None:
        store = self.hub.hub.store
        await store.prices.add([PRICE], TEST)
        await store.tiers.set("tight", Tier(requests_per_hour=50, budget_per_day=10**9), TEST)
        for user in ("ann", "bob"):
            await store.users.create(f"{user}@example.org", TEST, tier="tight")
            for number in (1, 2):
                name = f"{user}-{number}"
                await self.make(name, user=f"{user}@example.org")
        await self.make("nobody's")
        await self.make("admin", scopes=Scopes(admin=True))

    async def make(self, name: str, **more: Any) -> Created:
        self.keys[name] = await self.hub.hub.store.keys.create(name, TEST, **more)
        return self.keys[name]

    async def ask(self, key: str, model: str = "echo", text: str = "one two three") -> Reply:
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return await send(self.hub, body, headers=self.headers(key))

    async def usage(self, key: str, query: str = "", **headers: str) -> Reply:
        path = f"/v1/usage?{query}"
        return await send(self.hub, method="GET", path=path, headers=self.headers(key) | headers)

    async def organization(self, what: str, query: str, key: str = "admin") -> Reply:
        path = f"/v1/organization/{what}?{query}"
        return await send(self.hub, method="GET", path=path, headers=self.headers(key))

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[key].secret}"}

    def admin(self) -> openai.AsyncOpenAI:
        secret = self.keys["admin"].secret
        return openai.AsyncOpenAI(
            base_url=f"{self.hub.url}/v1", api_key=secret, admin_api_key=secret, max_retries=0
        )


@pytest.fixture
async def house(hub) -> AsyncIterator[House]:
    house = House(hub)
    await house.furnish()
    async with echo_agent(hub.url, hub.worker_token):
        await eventually(lambda: len(hub.hub.roster))
        yield house


@pytest.fixture
async def used(house) -> House:
    """After three requests of Ann's, of which one fails, one of Bob's and one of nobody's key."""
    replies = [
        await house.ask("ann-1"),
        await house.ask("ann-2", "echo-fail", "fails"),
        await house.ask("ann-2", "echo", "four"),
        await house.ask("bob-1", text="something else entirely"),
        await house.ask("nobody's"),
    ]
    assert [reply.status for reply in replies] == [200, 502, 200, 200, 200]
    return house


async def journal(house: House, *keys: str) -> dict[str, int]:
    """The sums over the journal itself."""
    ids = [house.keys[key].id for key in keys]
    rows = [row for row in await house.hub.rows() if row["key_id"] in ids]
    names = ("prompt_tokens", "cached_tokens", "completion_tokens", "images")
    return {
        "requests": len(rows),
        "completed": sum(row["state"] == "completed" for row in rows),
        "cancelled": sum(row["state"] == "cancelled" for row in rows),
        "cost_micro_dollars": sum(row["cost"] for row in rows),
        **{name: sum(row[name] for row in rows) for name in names},
    }


def agree(totals: dict[str, Any], journal: dict[str, int]) -> None:
    assert set(totals) == AMOUNTS
    assert {name: totals[name] for name in journal} == journal
    assert totals["failed"] == totals["requests"] - totals["completed"] - totals["cancelled"]
    assert totals["total_tokens"] == totals["prompt_tokens"] + totals["completion_tokens"]
    micro = totals["cost_micro_dollars"]
    assert totals["cost"] == f"{micro // 10**6}.{micro % 10**6:06d}"


# --- a caller's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("span", ["hour", "day", "week", "month", "all"])
async def test_a_user_sees_all_of_its_keys_and_nobody_elses(used, span):
    for key in ("ann-1", "ann-2"):
        found = (await used.usage(key, f"range={span}")).json
        agree(found["totals"], await journal(used, "ann-1", "ann-2"))
        assert (found["totals"]["requests"], found["totals"]["failed"]) == (3, 1)
        assert (found["object"], found["range"]) == ("usage", span)
    agree((await used.usage("bob-2", f"range={span}")).json["totals"], await journal(used, "bob-1"))


async def test_a_key_without_a_user_sees_itself_and_those_it_followed(used):
    mine = await journal(used, "nobody's")
    assert mine["requests"] == 1
    agree((await used.usage("nobody's")).json["totals"], mine)
    followed = await used.hub.hub.store.keys.rotate(used.keys["nobody's"].id, 60, TEST)
    used.keys["the next"] = followed
    agree((await used.usage("the next")).json["totals"], mine)
    nothing = (await used.usage("admin")).json
    assert (nothing["totals"]["requests"], nothing["totals"]["cost"]) == (0, "0.000000")


async def test_details_are_by_bucket_model_and_key_and_each_adds_up_to_the_totals(used):
    found = (await used.usage("ann-1", "details=true")).json
    for part in ("by_bucket", "by_model", "by_key"):
        for amount in AMOUNTS - {"cost"}:
            assert sum(each[amount] for each in found[part]) == found["totals"][amount]
    by_key = {each["name"]: each for each in found["by_key"]}
    assert {name: each["key"] for name, each in by_key.items()} == {
        name: used.keys[name].id for name in ("ann-1", "ann-2")
    }
    assert all(used.keys[name].secret.startswith(by_key[name]["prefix"]) for name in by_key)
    agree({k: v for k, v in by_key["ann-2"].items() if k in AMOUNTS}, await journal(used, "ann-2"))
    assert [each["model"] for each in found["by_model"]] == ["echo", "echo-fail"]
    assert "by_model" not in (await used.usage("ann-1")).json


@pytest.mark.parametrize(("span", "bucket_s"), [("hour", 3600), ("day", 3600), ("month", 86400)])
async def test_buckets_are_whole_hours_or_days(used, span, bucket_s):
    found = (await used.usage("ann-1", f"range={span}&details=true")).json
    starts = [each["start"] for each in found["by_bucket"]]
    assert starts == sorted(starts)
    assert all(start % bucket_s == 0 for start in [found["start"], *starts])
    length_s = {"hour": 3600, "day": 86400, "month": 30 * 86400}[span]
    assert length_s <= time.time() - found["start"] < length_s + bucket_s + 60


async def test_what_is_older_than_the_range_is_left_out(used):
    def age(connection: Any) -> None:
        for table, days in (("usage_hourly", 2), ("usage_daily", 10)):
            connection.execute(f"UPDATE {table} SET start = start - {days * 86400}")

    await used.hub.hub.store.database.write(age)
    counts = {
        span: (await used.usage("ann-1", f"range={span}")).json["totals"]["requests"]
        for span in ("hour", "day", "week", "month", "all")
    }
    assert counts == {"hour": 0, "day": 0, "week": 0, "month": 3, "all": 3}


async def test_by_model_and_by_key_alone(used):
    one = used.keys["ann-2"].id
    counts = [
        (await used.usage("ann-1", query)).json["totals"]["requests"]
        for query in (
            "model=echo",
            "model=echo-fail",
            "model=nonesuch",
            f"key={one}",
            f"key={one}&model=echo",
            "model=&key=&range=&details=",
        )
    ]
    assert counts == [2, 1, 0, 2, 1, 3]


async def test_a_revoked_keys_usage_stays_its_users(used):
    gone = used.keys["ann-2"]
    await used.hub.hub.store.keys.revoke(gone.id, TEST)
    found = (await used.usage("ann-1", f"details=true&key={gone.id}")).json
    agree(found["totals"], await journal(used, "ann-2"))
    assert [each["name"] for each in found["by_key"]] == ["ann-2"]


@pytest.mark.parametrize("other", ["bob-1", "nobody's", "admin", None])
@pytest.mark.parametrize("key", ["ann-1", "nobody's"])
async def test_anothers_key_is_not_found_just_as_one_that_never_was(used, key, other):
    if key == other:
        other = "ann-1"
    wanted = used.keys[other].id if other else "0123456789abcdef"
    for accept in ("application/json", "text/csv"):
        refused = await used.usage(key, f"key={wanted}", Accept=accept)
        assert (refused.status, refused.error["code"]) == (404, "not_found")
        assert refused.error["param"] == "key"
        assert wanted in refused.error["message"]


async def test_everybodys_is_for_keys_with_the_admin_scope(used):
    everybody = ("ann-1", "ann-2", "bob-1", "nobody's")
    found = (await used.usage("admin", "all=true&details=true")).json
    agree(found["totals"], await journal(used, *everybody))
    assert {each["name"] for each in found["by_key"]} == set(everybody)
    of_one = (await used.usage("admin", f"all=true&key={used.keys['bob-1'].id}")).json
    agree(of_one["totals"], await journal(used, "bob-1"))
    for key in ("ann-1", "nobody's"):
        refused = await used.usage(key, "all=true")
        assert (refused.status, refused.error["code"]) == (403, "insufficient_scope")


async def test_an_administrator_without_the_scope_is_no_admin_here(used):
    store = used.hub.hub.store
    await store.users.create("boss@example.org", TEST, role="admin")
    await used.make("boss", user="boss@example.org")
    assert (await used.usage("boss", "all=true")).status == 403
    assert (await used.organization("costs", "start_time=0", "boss")).status == 403
    await used.make("boss too", user="boss@example.org", scopes=Scopes(admin=True))
    assert (await used.usage("boss too", "all=true")).status == 200
    await store.users.set_role("boss@example.org", "user", TEST)
    assert (await used.usage("boss too", "all=true")).status == 403


async def test_limits_and_what_remains(used):
    reply = await used.usage("ann-1")
    limits = {(each["of"], each["what"], each["per"]): each for each in reply.json["limits"]}
    assert set(limits) == {("user", "requests", "hour"), ("user", "cost", "day")}
    requests = limits["user", "requests", "hour"]
    assert (requests["limit"], requests["remaining"]) == (50, 47)
    assert 0 < requests["reset_s"] <= 3600
    spent = (await journal(used, "ann-1", "ann-2"))["cost_micro_dollars"]
    assert limits["user", "cost", "day"]["remaining"] == 10**9 - spent
    assert reply.headers["x-ratelimit-limit-requests"] == "50"
    assert reply.headers["x-ratelimit-remaining-requests"] == "47"
    assert (await used.usage("nobody's")).json["limits"] == []


async def test_asking_for_usage_costs_nothing_of_it(used):
    first = (await used.usage("ann-1")).json["totals"]
    for _ in range(3):
        assert (await used.usage("ann-1")).json["totals"] == first


async def test_a_key_of_other_endpoints_is_refused(used):
    await used.make("chat only", scopes=Scopes(endpoints=["chat.completions"]))
    refused = await used.usage("chat only")
    assert (refused.status, refused.error["code"]) == (403, "insufficient_scope")
    await used.make("usage only", scopes=Scopes(endpoints=["usage"]))
    assert (await used.usage("usage only")).status == 200


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("range=year", "range"),
        ("details=perhaps", "details"),
        ("all=2", "all"),
        ("model=" + "m" * 201, "model"),
        ("key=" + "k" * 201, "key"),
    ],
)
async def test_a_bad_parameter_is_named(house, query, param):
    refused = await house.usage("ann-1", query)
    assert (refused.status, refused.error["param"]) == (400, param)
    assert refused.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "query",
    [
        "model=%00",
        "model=%ff",
        "key=%ff",
        "model=%ED%A0%80",
        "api-version=1",
        "range=day&range=all",
    ],
)
async def test_odd_queries_get_a_clean_answer(house, query):
    reply = await house.usage("ann-1", query)
    assert reply.status == (404 if query.startswith("key") else 200)


async def test_running_requests_are_not_in_the_sums_yet(house):
    asking = asyncio.create_task(house.ask("ann-1", "echo-slow"))
    await eventually(lambda: house.hub.hub.dispatch.active)
    assert (await house.usage("ann-1")).json["totals"]["requests"] == 0
    await asking
    # And at once when it is over.
    assert (await house.usage("ann-1")).json["totals"]["requests"] == 1


# --- as a table ----------------------------------------------------------------------------------


async def table(house: House, key: str, query: str = "", accept: str = "text/csv") -> list[Any]:
    reply = await house.usage(key, query, Accept=accept)
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert reply.headers["x-ratelimit-limit-requests"]
    return list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))


async def test_usage_as_comma_separated_values(used):
    [row] = await table(used, "ann-1", "range=month", "text/html;q=0.1, Text/CSV; header=present")
    totals = (await used.usage("ann-1", "range=month")).json["totals"]
    assert row == {"start": row["start"], **{name: str(totals[name]) for name in totals}}
    assert row["start"] == time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime())
    rows = await table(used, "ann-1", "details=true")
    assert [(r["name"], r["model"]) for r in rows] == sorted(
        [("ann-1", "echo"), ("ann-2", "echo"), ("ann-2", "echo-fail")],
        key=lambda pair: (used.keys[pair[0]].id, pair[1]),
    )
    assert sum(int(r["cost_micro_dollars"]) for r in rows) == totals["cost_micro_dollars"]


async def test_a_table_of_nothing_has_its_header(house):
    reply = await house.usage("bob-1", "details=true", Accept="text/csv")
    assert reply.body.startswith(b"start,key,name,model,requests,completed,")
    assert reply.body.count(b"\r\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "=cmd|' /C calc'!A0",
        "+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "\uff1d1",
        'a,"b"\n=c',
        "plain",
    ],
)
async def test_no_name_becomes_a_formula(house, name):
    await house.make(name, user="ann@example.org")
    await house.ask(name)
    [row] = await table(house, "ann-1", "details=true")
    dangerous = name not in ("plain", 'a,"b"\n=c')
    assert row["name"] == ("'" + name if dangerous else name)
    assert row["model"] == "echo"


# --- the organization's, by the official library --------------------------------------------------


def today() -> int:
    return int(time.time()) // 86400 * 86400


async def test_the_library_reads_usage(used):
    async with used.admin() as sdk:
        page = await sdk.admin.organization.usage.completions(start_time=today())
    everybody = await journal(used, "ann-1", "ann-2", "bob-1", "nobody's")
    [bucket] = page.data
    [result] = bucket.results
    assert (page.object, page.has_more, page.next_page) == ("page", False, None)
    assert (bucket.start_time, bucket.end_time) == (today(), today() + 86400)
    assert result.object == "organization.usage.completions.result"
    assert result.num_model_requests == everybody["requests"]
    assert result.input_tokens == everybody["prompt_tokens"]
    assert result.output_tokens == everybody["completion_tokens"]
    assert (result.user_id, result.api_key_id, result.model, result.project_id) == (None,) * 4


async def test_the_library_groups_and_chooses(used):
    ann = (await used.hub.hub.store.users.find("ann@example.org")).id
    async with used.admin() as sdk:
        read = sdk.admin.organization.usage.completions

        async def groups(**asked: Any) -> list[tuple[Any, ...]]:
            page = await read(start_time=today(), **asked)
            return sorted(
                (r.user_id or "", r.api_key_id or "", r.model or "", r.num_model_requests)
                for bucket in page.data
                for r in bucket.results
            )

        ids = {name: used.keys[name].id for name in used.keys}
        assert await groups(group_by=["model"]) == [("", "", "echo", 4), ("", "", "echo-fail", 1)]
        assert await groups(group_by=["user_id", "model"], user_ids=[ann]) == [
            (ann, "", "echo", 2),
            (ann, "", "echo-fail", 1),
        ]
        assert await groups(
            group_by=["api_key_id"], api_key_ids=[ids["bob-1"], ids["nobody's"]]
        ) == (sorted([("", ids["bob-1"], "", 1), ("", ids["nobody's"], "", 1)]))
        assert await groups(models=["echo-fail"]) == [("", "", "", 1)]
        assert await groups(api_key_ids=[ids["bob-1"]], user_ids=[ann]) == []
        assert await groups(project_ids=["proj_1"]) == []
        assert await groups(group_by=["project_id"]) == [("", "", "", 5)]
        assert await groups(batch=True) == []
        assert await groups(batch=False) == [("", "", "", 5)]


async def test_the_library_reads_costs(used):
    async with used.admin() as sdk:
        page = await sdk.admin.organization.usage.costs(start_time=today(), group_by=["line_item"])
        ann = await sdk.admin.organization.usage.costs(
            start_time=today(), group_by=["user_id"], api_key_ids=[used.keys["ann-1"].id]
        )
    everybody = await journal(used, "ann-1", "ann-2", "bob-1", "nobody's")
    results = page.data[0].results
    assert {r.object for r in results} == {"organization.costs.result"}
    assert [r.line_item for r in results] == ["echo", "echo-fail"]
    assert {r.amount.currency for r in results} == {"usd"}
    assert round(sum(r.amount.value for r in results) * 1e6) == everybody["cost_micro_dollars"] > 0
    [of_ann] = ann.data[0].results
    assert round(of_ann.amount.value * 1e6) == (await journal(used, "ann-1"))["cost_micro_dollars"]


@pytest.mark.parametrize(("width", "bucket_s"), [("1h", 3600), ("1d", 86400)])
async def test_pages_follow_each_other_without_gap_or_overlap(used, width, bucket_s):
    end = today() + 86400
    start = end - 10 * bucket_s + 5  # within a bucket: the whole of it is shown
    async with used.admin() as sdk:
        read = sdk.admin.organization.usage.completions
        asked: dict[str, Any] = {
            "start_time": start,
            "end_time": end,
            "bucket_width": width,
            "limit": 3,
        }
        pages = [await read(**asked)]
        while pages[-1].next_page:
            pages.append(await read(**asked, page=pages[-1].next_page))
    assert [len(page.data) for page in pages] == [3, 3, 3, 1]
    assert [page.has_more for page in pages] == [True, True, True, False]
    starts = [bucket.start_time for page in pages for bucket in page.data]
    assert starts == list(range(end - 10 * bucket_s, end, bucket_s))


async def test_costs_are_paged_too(used):
    async with used.admin() as sdk:
        read, start = sdk.admin.organization.usage.costs, today() - 3 * 86400
        first = await read(start_time=start, limit=3)
        second = await read(start_time=start, limit=3, page=first.next_page)
    assert [len(first.data), len(second.data)] == [3, 1]
    assert not any(bucket.results for bucket in first.data)
    assert second.data[0].results
    assert second.next_page is None


@pytest.mark.parametrize("what", ["usage/completions", "costs"])
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "start_time"),
        ("start_time=yesterday", "start_time"),
        ("start_time=-1", "start_time"),
        (f"start_time={10**30}", "start_time"),
        ("start_time=100&end_time=100", "end_time"),
        ("start_time=0&bucket_width=1m", "bucket_width"),
        ("start_time=0&bucket_width=1w", "bucket_width"),
        ("start_time=0&limit=0", "limit"),
        ("start_time=0&limit=181", "limit"),
        ("start_time=0&group_by[]=colour", "group_by[0]"),
        ("start_time=0&page=2", "page"),
        ("start_time=0&page=bucket-7", "page"),
        ("start_time=0&end_time=86400&page=bucket-86400", "page"),
        ("start_time=864000&page=bucket-86400", "page"),
        ("start_time=0&page=bucket-99999999999999999999", "page"),
    ],
)
async def test_bad_parameters_of_the_organization_are_named(house, what, query, param):
    refused = await house.organization(what, query)
    assert (refused.status, refused.error["param"]) == (400, param)


async def test_minutes_are_not_kept_and_it_says_so(house):
    refused = await house.organization("usage/completions", "start_time=0&bucket_width=1m")
    assert "not kept by 1m" in refused.error["message"]
    refused = await house.organization("costs", "start_time=0&bucket_width=1h")
    assert "only by 1d" in refused.error["message"]


@pytest.mark.parametrize("what", ["usage/completions", "costs"])
async def test_the_organization_is_for_keys_with_the_admin_scope(used, what):
    for key in ("ann-1", "nobody's"):
        refused = await used.organization(what, "start_time=0", key)
        assert (refused.status, refused.error["code"]) == (403, "insufficient_scope")
    assert (await used.organization(what, "", "ann-1")).status == 403


async def test_a_keys_own_limits_are_told_beside_its_users(house):
    await house.make("small", user="ann@example.org", limits=Limits(tokens_per_day=1_000))
    limits = (await house.usage("small")).json["limits"]
    assert ("key", "tokens") in [(each["of"], each["what"]) for each in limits]
    assert {each["of"] for each in limits} == {"key", "user"}
