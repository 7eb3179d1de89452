"""GET /v1/organization/usage/completions and /v1/organization/costs, as OpenAI's administration API has them.

The shapes are those of the official library's `client.admin.organization.usage`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from aiohttp import web
from msgspec import Meta, Struct

from ..errors import InsufficientScope, InvalidRequest
from ..rules.openai import convert
from ..store.ledger import DAY_S, HOUR_S, Group, Slice, Sum
from .middleware import authenticate, json_response
from .state import HUB

Unix = Annotated[int, Meta(ge=0, le=253_402_300_799)]
"""Until the end of the year 9999."""
LISTS = ("group_by", "models", "line_items", "user_ids", "api_key_ids", "project_ids")
PAGE = "bucket-"
"""A cursor is this and the moment with which the next page begins."""


class Asked(Struct, kw_only=True):
    """What both ask for."""

    start_time: Unix
    end_time: Unix | None = None
    bucket_width: Literal["1m", "1h", "1d"] = "1d"
    limit: int | None = None
    page: str | None = None
    user_ids: list[str] | None = None
    api_key_ids: list[str] | None = None
    project_ids: list[str] | None = None


class AskedUsage(Asked, kw_only=True):
    group_by: list[Literal["project_id", "user_id", "api_key_id", "model", "batch"]] = []
    models: list[str] | None = None
    batch: bool | None = None


class AskedCosts(Asked, kw_only=True):
    group_by: list[Literal["project_id", "user_id", "api_key_id", "line_item"]] = []
    line_items: list[str] | None = None


class Pages(NamedTuple):
    """The buckets' length in seconds, and how many a page holds: usually, and at most."""

    table: Literal["usage_hourly", "usage_daily"]
    bucket_s: int
    usual: int
    most: int


USAGE_PAGES = {
    "1h": Pages("usage_hourly", HOUR_S, 24, 168),
    "1d": Pages("usage_daily", DAY_S, 7, 31),
}
COSTS_PAGES = {"1d": Pages("usage_daily", DAY_S, 7, 180)}
COLUMNS: dict[str, Group] = {
    "user_id": "user_id",
    "api_key_id": "key_id",
    "model": "model",
    "line_item": "model",
}
"""What the ledger has of what may be grouped by; there are no projects and no batches."""


async def completions_usage(request: web.Request) -> web.Response:
    """Requests and tokens, a bucket at a time."""
    asked = convert(await _given(request), AskedUsage, strict=False)
    pages = _pages(USAGE_PAGES, asked)
    # There are no batches, so what is only theirs is nothing.
    models = [] if asked.batch else asked.models

    def result(each: Sum) -> dict[str, Any]:
        return {
            "object": "organization.usage.completions.result",
            "input_tokens": each.prompt_tokens,
            "input_cached_tokens": each.cached_tokens,
            "output_tokens": each.completion_tokens,
            "input_audio_tokens": 0,
            "output_audio_tokens": 0,
            "num_model_requests": each.requests,
            "project_id": None,
            "user_id": each.user_id or None,
            "api_key_id": each.key_id,
            "model": each.model,
            "batch": False if "batch" in asked.group_by else None,
        }

    return await _page(request, asked, pages, models, asked.group_by, result)


async def costs(request: web.Request) -> web.Response:
    """Money, a day at a time; a line item is a model."""
    asked = convert(await _given(request), AskedCosts, strict=False)
    pages = _pages(COSTS_PAGES, asked)

    def result(each: Sum) -> dict[str, Any]:
        return {
            "object": "organization.costs.result",
            "amount": {"value": each.cost / 1_000_000, "currency": "usd"},
            "line_item": each.model,
            "project_id": None,
            "user_id": each.user_id or None,
            "api_key_id": each.key_id,
            "quantity": None,
        }

    return await _page(request, asked, pages, asked.line_items, asked.group_by, result)


async def _given(request: web.Request) -> dict[str, Any]:
    """The query's parameters, for a caller that may administer. Raises InsufficientScope and the like."""
    caller = await authenticate(request, "usage")
    if not caller.is_admin:
        raise InsufficientScope("The organization's usage is for keys with the admin scope.")
    given: dict[str, Any] = {name: value for name, value in request.query.items() if value}
    for name in LISTS:
        if values := request.query.getall(name, []) + request.query.getall(f"{name}[]", []):
            given[name] = values
    return given


def _pages(known: dict[str, Pages], asked: Asked) -> Pages:
    pages = known.get(asked.bucket_width)
    if pages is None:
        kept = " or ".join(known)
        message = f"bucket_width: the sums are not kept by {asked.bucket_width}, only by {kept}."
        raise InvalidRequest(message, param="bucket_width")
    if asked.limit is not None and not 1 <= asked.limit <= pages.most:
        raise InvalidRequest(f"limit: from 1 to {pages.most}.", param="limit")
    return pages


async def _page(
    request: web.Request,
    asked: Asked,
    pages: Pages,
    models: list[str] | None,
    group_by: Sequence[str],
    result: Callable[[Sum], dict[str, Any]],
) -> web.Response:
    start, end = _span(asked, pages)
    bucket_s = pages.bucket_s
    stop = min(end, start + (asked.limit or pages.usual) * bucket_s)
    users = [] if asked.project_ids else asked.user_ids
    of = Slice(pages.table, start, stop, users=users, keys=asked.api_key_ids, models=models)
    by: tuple[Group, ...] = ("start", *(COLUMNS[name] for name in group_by if name in COLUMNS))
    [sums] = await request.app[HUB].store.ledger.sums(of, by)
    results: dict[int, list[dict[str, Any]]] = {}
    for each in sums:
        results.setdefault(each.start or 0, []).append(result(each))
    data = [
        {
            "object": "bucket",
            "start_time": at,
            "end_time": at + bucket_s,
            "results": results.get(at, []),
        }
        for at in range(start, stop, bucket_s)
    ]
    next_page = f"{PAGE}{stop}" if stop < end else None
    return json_response(
        {"object": "page", "data": data, "has_more": stop < end, "next_page": next_page}
    )


def _span(asked: Asked, pages: Pages) -> tuple[int, int]:
    """The moments between which buckets are asked for; the first begins a bucket. Raises InvalidRequest."""
    end = int(time.time()) + 1 if asked.end_time is None else asked.end_time
    if asked.end_time is not None and end <= asked.start_time:
        raise InvalidRequest("end_time: after start_time.", param="end_time")
    start = asked.start_time // pages.bucket_s * pages.bucket_s
    if asked.page is None:
        return start, max(start, end)
    number = asked.page.removeprefix(PAGE)
    if not (number.isascii() and number.isdecimal() and len(number) <= 12):
        raise InvalidRequest("page: give the next_page of the page before.", param="page")
    page = int(number)
    if not start <= page < end or page % pages.bucket_s:
        message = "page: it belongs to other parameters; give the next_page of the page before."
        raise InvalidRequest(message, param="page")
    return page, end
