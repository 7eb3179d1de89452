"""Stored completions: what was asked with `store: true`, told again to whom it belongs."""

import re
from typing import Annotated, Any, Literal

import orjson
from aiohttp import web
from msgspec import Meta, Struct

from ..errors import NotFound
from ..rules import openai
from ..store.content import Kept
from .middleware import authenticate, json_response, read_body
from .repeats import whole
from .state import HUB

PREFIX = "chatcmpl-"
LARGEST_BODY = 64 * 1024
LABEL = re.compile(r"metadata\[([^\]]*)\]")


class Page(Struct):
    """The query of a list."""

    after: Annotated[str, Meta(max_length=100)] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "asc"
    model: Annotated[str, Meta(max_length=300)] | None = None


async def list_completions(request: web.Request) -> web.Response:
    """A page of the caller's stored completions, the oldest first unless `order=desc`."""
    caller = await authenticate(request, "chat.completions")
    page = openai.convert(dict(request.query), Page, strict=False)
    labels = {
        found[1]: value for name, value in request.query.items() if (found := LABEL.fullmatch(name))
    }
    after = None if page.after is None else _request_id(page.after)
    kept, more = await request.app[HUB].store.content.list(
        caller,
        after=after,
        limit=page.limit,
        order=page.order,
        model=page.model,
        metadata=labels,
    )
    return _listed([_completion(each) for each in kept], more)


async def retrieve_completion(request: web.Request) -> web.Response:
    """One stored completion, rebuilt from its pieces."""
    return json_response(_completion(await _kept(request)))


async def update_completion(request: web.Request) -> web.Response:
    """Other metadata for a stored completion."""
    caller = await authenticate(request, "chat.completions")
    body = openai.parse_json(await read_body(request, LARGEST_BODY))
    metadata = openai.parse_metadata(body.get("metadata"))
    content = request.app[HUB].store.content
    kept = await content.set_metadata(caller, _asked_for(request), metadata)
    return json_response(_completion(kept))


async def delete_completion(request: web.Request) -> web.Response:
    """Delete it now, before its time."""
    caller = await authenticate(request, "chat.completions")
    asked = _asked_for(request)
    await request.app[HUB].store.content.delete(caller, asked)
    return json_response(
        {"object": "chat.completion.deleted", "id": PREFIX + asked, "deleted": True}
    )


async def list_messages(request: web.Request) -> web.Response:
    """The messages that were sent with it."""
    kept = await _kept(request)
    page = openai.convert(dict(request.query), Page, strict=False)
    messages = [
        {**_message(message), "id": f"{PREFIX}{kept.id}-{number}"}
        for number, message in enumerate(kept.body["messages"])
    ]
    if page.order == "desc":
        messages.reverse()
    ids = [message["id"] for message in messages]
    start = ids.index(page.after) + 1 if page.after in ids else 0
    shown = messages[start : start + page.limit]
    return _listed(shown, start + page.limit < len(messages))


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """A message in the list's shape: content as one text, its parts beside it."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    texts = [part.get("text") or "" for part in parts or ()]
    text = "\n".join(texts) if parts is not None else content
    return {**message, "content": text, "content_parts": parts}


async def _kept(request: web.Request) -> Kept:
    caller = await authenticate(request, "chat.completions")
    return await request.app[HUB].store.content.get(caller, _asked_for(request))


def _asked_for(request: web.Request) -> str:
    return _request_id(request.match_info["completion"])


def _request_id(completion: str) -> str:
    """Raises NotFound."""
    if not completion.startswith(PREFIX):
        raise NotFound(f"You have no stored completion {completion[:100]!r}.")
    return completion.removeprefix(PREFIX)


def _completion(kept: Kept) -> dict[str, Any]:
    return openai.stored_completion(orjson.loads(whole(kept)), kept.metadata, kept.broken_off)


def _listed(data: list[dict[str, Any]], more: bool) -> web.Response:
    return json_response(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": more,
        }
    )
