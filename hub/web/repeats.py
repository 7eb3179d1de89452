"""The Idempotency-Key header, and answers that are given again."""

import hashlib
from typing import Any

import orjson
from aiohttp import web

from ..errors import InvalidRequest
from ..protocol import Piece
from ..rules import openai
from ..store.content import Kept, owner_of
from ..store.credentials import now_us
from ..store.keys import Caller
from ..store.repeats import Repeat
from .state import HUB

HEADER = "Idempotency-Key"
LONGEST = 255
REPLAYED = {"x-bridge-replayed": "true"}
"""Marks an answer that nothing ran for anew."""
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


def asked(request: web.Request, caller: Caller, body: dict[str, Any]) -> Repeat | None:
    """What a request with an Idempotency-Key is; None without the header. Raises InvalidRequest.

    Two bodies are the same if they are the same JSON, however it is written.
    """
    key = request.headers.get(HEADER)
    if not key:
        return None
    if len(key) > LONGEST:
        raise InvalidRequest(f"{HEADER}: at most {LONGEST} characters.", param=HEADER)
    life_s = request.app[HUB].settings.idempotency.life_s
    return Repeat(
        owner_of(caller),
        _digest(key.encode("utf-8", "surrogateescape")),
        _digest(openai.dump(body, orjson.OPT_SORT_KEYS)),
        now_us() + int(life_s * 1e6),
    )


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def told_again(kept: Kept, chat: openai.ChatRequest) -> web.Response:
    """The answer as it was given, streamed if it was."""
    headers = REPLAYED | who_answers(
        kept.worker, kept.answered_by, aliased=kept.model != kept.answered_by
    )
    if not chat.stream:
        return web.Response(body=whole(kept), headers=headers, content_type="application/json")
    return web.Response(
        body=_events(kept, chat.include_usage), headers={**STREAM_HEADERS, **headers}
    )


def who_answers(worker: str | None, model: str, *, aliased: bool) -> dict[str, str]:
    """The worker that has the job, and its model where the caller calls that something else."""
    if worker is None:
        return {}
    headers = {"x-bridge-worker": openai.header_text(worker)}
    if aliased:
        headers["x-bridge-model"] = openai.header_text(model)
    return headers


def whole(kept: Kept) -> bytes:
    """The answer in one piece."""
    answer = openai.Answer()
    for piece in _pieces(kept):
        answer.add(piece)
    return openai.completion(
        completion_id(kept.id),
        kept.created_at // 1_000_000,
        kept.model,
        answer,
        # One that broke off was truly cut.
        kept.finish_reason or "length",
        openai.usage(kept.prompt_tokens, kept.completion_tokens),
    )


def _events(kept: Kept, include_usage: bool) -> bytes:
    chunks = openai.Chunks(
        completion_id(kept.id),
        kept.created_at // 1_000_000,
        kept.model,
        include_usage=include_usage,
    )
    events = [chunks.role(), *map(chunks.piece, _pieces(kept))]
    events.append(chunks.finish(kept.finish_reason or "stop"))
    if include_usage:
        events.append(chunks.usage(openai.usage(kept.prompt_tokens, kept.completion_tokens)))
    return b"".join((*events, openai.DONE))


def _pieces(kept: Kept) -> list[Piece]:
    return [Piece("", piece.get("text", ""), piece.get("delta")) for piece in kept.pieces]


def completion_id(request: str) -> str:
    return "chatcmpl-" + request
