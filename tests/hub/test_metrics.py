"""GET /metrics: what is counted, how it is labelled, and who may see it."""

import asyncio
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from hub.live.metrics import Metrics
from hub.protocol import End, Fail, JobFrame, Piece
from hub.store.keys import Scopes
from tests.doors import Reply, ask, eventually, send, socket_worker

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference/metrics.md"
RULES = ROOT / "deploy/prometheus/alerts.yml"
BOARD = ROOT / "deploy/grafana/lmarena-hub.json"

FORWARDED = {"X-Forwarded-For": "203.0.113.9"}


async def scrape(hub: Any, **headers: str) -> Reply:
    return await send(hub, method="GET", path="/metrics", headers=headers)


async def figures(hub: Any) -> dict[str, float]:
    """Every sample, by its name and labels as Prometheus writes them."""
    reply = await scrape(hub)
    assert reply.status == 200
    families = text_string_to_metric_families(reply.body.decode())
    return {
        name_of(sample.name, sample.labels): sample.value
        for family in families
        for sample in family.samples
    }


def name_of(name: str, labels: dict[str, str]) -> str:
    inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name


async def answered(hub: Any, worker: Any, model: str = "m") -> None:
    asking = asyncio.create_task(ask(hub, model=model))
    job = await worker.hear(JobFrame)
    await worker.say(Piece(job.job, "one "), Piece(job.job, "two"), End(job.job))
    assert (await asking).status == 200


# --- what is counted -------------------------------------------------------------------------------------


async def test_requests_are_counted_by_model_and_outcome_and_timed(hub):
    async with socket_worker(hub) as worker:
        await answered(hub, worker)
        await answered(hub, worker)
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(Fail(job.job, "upstream_error"))
        assert (await asking).status == 502
        seen = await figures(hub)
    assert seen['lmarena_requests_total{model="m",outcome="completed"}'] == 2
    assert seen['lmarena_requests_total{model="m",outcome="failed"}'] == 1
    assert seen['lmarena_request_errors_total{code="upstream_error"}'] == 1
    assert seen['lmarena_request_duration_seconds_count{model="m"}'] == 2
    assert seen['lmarena_time_to_first_piece_seconds_count{model="m"}'] == 2
    assert seen['lmarena_pieces_total{model="m"}'] == 4
    assert seen['lmarena_tokens_total{direction="out",model="m"}'] > 0
    assert seen['lmarena_worker_failures_total{code="upstream_error"}'] == 1
    assert seen["lmarena_queue_wait_seconds_count"] == 3
    assert seen["lmarena_commit_seconds_count"] > 0


async def test_refusals_are_counted_by_their_code_and_only_once(hub):
    async with socket_worker(hub):
        assert (await ask(hub, model="unheard-of")).status == 404
        assert (await ask(hub.calling("sk-lmb-wrong"))).status == 401
        assert (await ask(hub, messages=[])).status == 400
        assert (await send(hub, method="GET", path="/favicon.ico")).status == 404
    seen = await figures(hub)
    refusals = {
        name: count for name, count in seen.items() if name.startswith("lmarena_refusals_t")
    }
    assert refusals == {
        'lmarena_refusals_total{code="model_not_found"}': 1,
        'lmarena_refusals_total{code="invalid_api_key"}': 1,
        'lmarena_refusals_total{code="invalid_request"}': 1,
    }
    assert not any(name.startswith("lmarena_requests_total") for name in seen)


async def test_an_accepted_request_that_fails_is_no_refusal(hub):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(Fail(job.job, "moderated"))
        assert (await asking).status == 400
    seen = await figures(hub)
    assert not any(name.startswith("lmarena_refusals_total") for name in seen)
    assert seen['lmarena_request_errors_total{code="content_policy_violation"}'] == 1


async def test_the_line_and_the_slots_are_told_as_they_are(hub):
    async with socket_worker(hub, slots=1) as worker:
        asking = [asyncio.create_task(ask(hub)) for _ in range(3)]
        job = await worker.hear(JobFrame)
        await eventually(lambda: hub.hub.dispatch.waiting == 2)
        seen = await figures(hub)
        await worker.say(Piece(job.job, "x"), End(job.job))
        for _ in range(2):
            job = await worker.hear(JobFrame)
            await worker.say(Piece(job.job, "x"), End(job.job))
        await asyncio.gather(*asking)
    assert (seen["lmarena_queue_length"], seen["lmarena_requests_active"]) == (2, 1)
    assert seen['lmarena_worker_slots{use="used"}'] == 1
    assert seen['lmarena_workers{state="busy"}'] == 1


async def test_breakers_are_told_as_they_are_and_as_they_change(hub):
    async with socket_worker(hub) as worker:
        for _ in range(3):
            asking = asyncio.create_task(ask(hub))
            job = await worker.hear(JobFrame)
            await worker.say(Fail(job.job, "internal"))
            await asking
        seen = await figures(hub)
    assert seen['lmarena_breakers{scope="worker",state="open"}'] == 1
    assert seen['lmarena_breakers{scope="model",state="open"}'] == 1
    assert seen['lmarena_breaker_changes_total{scope="worker",state="open"}'] == 1
    assert seen['lmarena_workers{state="tripped"}'] == 1


async def test_models_beyond_the_bound_share_a_label(start_hub):
    hub = await start_hub(metrics={"models": 2})
    models = ["a", "b", "c", "d"]
    async with socket_worker(hub, models=[{"id": model} for model in models]) as worker:
        for model in [*models, *models]:
            await answered(hub, worker, model)
    seen = await figures(hub)
    counted = {name: n for name, n in seen.items() if name.startswith("lmarena_requests_total")}
    assert counted == {
        'lmarena_requests_total{model="a",outcome="completed"}': 2,
        'lmarena_requests_total{model="b",outcome="completed"}': 2,
        'lmarena_requests_total{model="other",outcome="completed"}': 4,
    }


async def test_a_private_workers_models_have_no_label(hub):
    user = await hub.new_user("ann@example.org")
    token = await hub.new_worker_token(user=user.id, shared=False)
    hers = hub.calling(await hub.new_key(user=user.id))
    async with socket_worker(hub, token=token, models=[{"id": "secret-model"}]) as worker:
        await answered(hers, worker, "secret-model")
    reply = await scrape(hub)
    assert b"secret-model" not in reply.body
    assert b'lmarena_requests_total{model="other",outcome="completed"} 1.0' in reply.body


# --- who may see it --------------------------------------------------------------------------------------


async def test_whoever_comes_through_a_proxy_needs_an_admin_key(hub):
    plain, admin = await hub.new_key(), await hub.new_key(scopes=Scopes(admin=True))
    assert (await scrape(hub, **FORWARDED)).status == 401
    refused = await scrape(hub, **FORWARDED, Authorization=f"Bearer {plain}")
    assert (refused.status, refused.error["code"]) == (403, "insufficient_scope")
    assert (await scrape(hub, **FORWARDED, Authorization=f"Bearer {admin}")).status == 200


async def test_they_may_be_public(start_hub):
    hub = await start_hub(metrics={"public": True})
    assert (await scrape(hub, **FORWARDED)).status == 200


async def test_a_scraper_may_ask_for_openmetrics(hub):
    reply = await scrape(hub, Accept="application/openmetrics-text; version=1.0.0")
    assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
    assert reply.body.endswith(b"# EOF\n")


# --- the documents ---------------------------------------------------------------------------------------


def families(hub: Any) -> dict[str, str]:
    """Our own metrics: the name as queries say it, and its kind."""
    metrics: Metrics = hub.hub.metrics
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in metrics.registry.collect()
        if family.name.startswith("lmarena_")
    }


async def test_every_metric_is_described_and_nothing_else(hub):
    described = set(re.findall(r"^\| `(lmarena_\w+)", REFERENCE.read_text(), re.MULTILINE))
    assert described == set(families(hub))


def named(expressions: list[str]) -> set[str]:
    return {name for text in expressions for name in re.findall(r"\blmarena_\w+", text)}


def expressions_of(value: Any) -> list[str]:
    """The value of every `expr` at any depth."""
    if isinstance(value, list):
        return [text for each in value for text in expressions_of(each)]
    if isinstance(value, dict):
        own = [value["expr"]] if isinstance(value.get("expr"), str) else []
        return own + [text for each in value.values() for text in expressions_of(each)]
    return []


@pytest.mark.parametrize("file", [RULES, BOARD], ids=lambda file: file.name)
async def test_alerts_and_dashboard_name_metrics_that_exist(hub, file):
    read = yaml.safe_load if file.suffix == ".yml" else orjson.loads
    there: set[str] = set()
    for name, kind in families(hub).items():
        there |= {name}
        if kind == "histogram":
            there |= {f"{name}_{part}" for part in ("bucket", "count", "sum")}
    used = named(expressions_of(read(file.read_text())))
    assert len(used) > 5
    assert used <= there
