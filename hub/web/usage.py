"""GET /v1/usage: what a caller has used, what that came to, and what is left of its limits."""

import time
from typing import Annotated, Any, Literal, NamedTuple

from aiohttp import web
from msgspec import Meta, Struct

from ..errors import InsufficientScope, NotFound
from ..rules.money import in_dollars
from ..rules.openai import convert
from ..rules.spreadsheet import csv_text
from ..store import Store
from ..store.keys import Caller
from ..store.ledger import DAY_S, HOUR_S, Group, Slice, Sum, total
from .middleware import authenticate, json_response
from .state import HUB

Text = Annotated[str, Meta(max_length=200)]


class Asked(Struct):
    """The query's parameters."""

    range: Literal["hour", "day", "week", "month", "all"] = "day"
    details: bool = False
    model: Text | None = None
    key: Text | None = None
    all: bool = False


class Range(NamedTuple):
    """How far a range goes back, and the buckets that it is made of, in seconds."""

    length_s: int
    bucket: Literal["hour", "day"]


RANGES = {
    "hour": Range(HOUR_S, "hour"),
    "day": Range(DAY_S, "hour"),
    "week": Range(7 * DAY_S, "day"),
    "month": Range(30 * DAY_S, "day"),
}
ALL = Range(0, "day")
BUCKETS: dict[str, tuple[Literal["usage_hourly", "usage_daily"], int]] = {
    "hour": ("usage_hourly", HOUR_S),
    "day": ("usage_daily", DAY_S),
}


async def show_usage(request: web.Request) -> web.Response:
    """The sums of the caller's user, or of its key where that has no user."""
    caller = await authenticate(request, "usage")
    given = {name: value for name, value in request.query.items() if value}
    asked = convert(given, Asked, strict=False)
    hub = request.app[HUB]
    of = await _slice(hub.store, caller, asked, int(time.time()))
    if wants_csv(request):
        return await _table(hub.store, of, asked)
    answer = await _sums(hub.store, of, asked)
    standings = await hub.gate.standings(caller)
    return json_response({**answer, "limits": [standing._asdict() for standing in standings]})


async def _slice(store: Store, caller: Caller, asked: Asked, now: int) -> Slice:
    """What this caller may see of what it asks for. Raises InsufficientScope, NotFound."""
    if asked.all and not caller.is_admin:
        raise InsufficientScope("Only a key with the admin scope may ask for everybody's usage.")
    if asked.key is not None and not asked.all and not await store.keys.holds(caller, asked.key):
        raise NotFound(f"You have no key {asked.key!r}.", param="key")
    span = RANGES.get(asked.range)
    table, bucket_s = BUCKETS[(span or ALL).bucket]
    start = 0 if span is None else (now - span.length_s) // bucket_s * bucket_s
    everything = Slice(
        table,
        start,
        keys=None if asked.key is None else [asked.key],
        models=None if asked.model is None else [asked.model],
    )
    if asked.all:
        return everything
    if caller.user is None:
        return everything._replace(family=caller.key.family)
    return everything._replace(users=[caller.user.id])


async def _sums(store: Store, of: Slice, asked: Asked) -> dict[str, Any]:
    groupings: list[tuple[Group, ...]] = [("start",)]
    if asked.details:
        groupings += [("model",), ("key_id",)]
    buckets, *details = await store.ledger.sums(of, *groupings)
    answer: dict[str, Any] = {
        "object": "usage",
        "range": asked.range,
        "bucket": RANGES.get(asked.range, ALL).bucket,
        "start": of.start or (buckets[0].start if buckets else None),
        "totals": amounts(total(buckets)),
    }
    if details:
        by_model, by_key = details
        names = await store.keys.names([str(each.key_id) for each in by_key])
        answer["by_bucket"] = [{"start": each.start, **amounts(each)} for each in buckets]
        answer["by_model"] = [{"model": each.model, **amounts(each)} for each in by_model]
        answer["by_key"] = [
            {"key": each.key_id, **_named(names, each), **amounts(each)} for each in by_key
        ]
    return answer


async def _table(store: Store, of: Slice, asked: Asked) -> web.Response:
    """A row a bucket; with details one for each key and model in it."""
    by: tuple[Group, ...] = ("start", "key_id", "model") if asked.details else ("start",)
    [sums] = await store.ledger.sums(of, by)
    names = await store.keys.names(sorted({each.key_id for each in sums if each.key_id}))
    header = ["start", *(["key", "name", "model"] if asked.details else []), *amounts(total([]))]
    rows = []
    for each in sums:
        name, _ = names.get(str(each.key_id), ("", ""))
        of_what = [str(each.key_id), name, str(each.model)] if asked.details else []
        rows.append([_iso(each.start or 0), *of_what, *amounts(each).values()])
    return web.Response(
        text=csv_text(header, rows),
        content_type="text/csv",
        charset="utf-8",
        headers={"Content-Disposition": 'attachment; filename="usage.csv"'},
    )


def amounts(of: Sum) -> dict[str, int | str]:
    """Sums as callers read them."""
    return {
        "requests": of.requests,
        "completed": of.completed,
        "failed": of.failed,
        "cancelled": of.cancelled,
        "prompt_tokens": of.prompt_tokens,
        "cached_tokens": of.cached_tokens,
        "completion_tokens": of.completion_tokens,
        "total_tokens": of.prompt_tokens + of.completion_tokens,
        "images": of.images,
        "cost": in_dollars(of.cost),
        "cost_micro_dollars": of.cost,
    }


def wants_csv(request: web.Request) -> bool:
    """Whether `Accept` names text/csv."""
    ranges = request.headers.get("Accept", "").split(",")
    return any(each.partition(";")[0].strip().lower() == "text/csv" for each in ranges)


def _named(names: dict[str, tuple[str, str]], each: Sum) -> dict[str, str]:
    name, prefix = names.get(str(each.key_id), ("", ""))
    return {"name": name, "prefix": prefix}


def _iso(unix: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix))
