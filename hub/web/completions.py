"""POST /v1/chat/completions: from a body to a job, and from its pieces to an answer."""

import asyncio
import time
from contextlib import suppress
from time import monotonic
from typing import Any

import structlog
from aiohttp import web

from ..errors import InternalError, ModelNotAllowed, RequestTooLarge
from ..live.gate import Reservation
from ..live.hub import Hub
from ..live.jobs import NOTHING_DUE, Job
from ..protocol import Piece
from ..rules import openai, tokens
from ..rules.cutting import Bounds
from ..store.content import Kept
from ..store.keys import Caller
from ..store.repeats import Repeat
from . import pictures, repeats
from .middleware import authenticate, preferred_region, read_body
from .repeats import STREAM_HEADERS, completion_id
from .state import HUB, REQUEST_ID

log = structlog.get_logger()


async def create_chat_completion(request: web.Request) -> web.StreamResponse:
    """The main road: authenticate, read, check, write down, wait for a worker, answer."""
    hub = request.app[HUB]
    caller = await authenticate(request, "chat.completions")
    body = openai.parse_json(await read_body(request, hub.settings.max_body_bytes))
    chat = openai.parse_chat(body)
    repeat = repeats.asked(request, caller, body)
    if repeat is not None:
        return await _answer_once(request, caller, chat, body, repeat)
    job = await _make(request, caller, chat, body)
    answering = _answering(request, chat, job)
    try:
        await hub.dispatch.submit(job)
        return await answering.respond()
    finally:
        # Whatever ended this handler early, the worker must not work for nobody.
        hub.dispatch.leave(job, delivered=job.stream)


async def _answer_once(
    request: web.Request,
    caller: Caller,
    chat: openai.ChatRequest,
    body: dict[str, Any],
    repeat: Repeat,
) -> web.StreamResponse:
    """The answer of the one run that this request has, however often it is sent."""
    runs = request.app[HUB].repeats
    _check_scope(caller, chat.model)
    found = await runs.join(repeat, lambda: _make(request, caller, chat, body, repeat))
    if isinstance(found, Kept):
        _check_scope(caller, found.answered_by)
        return repeats.told_again(found, chat)
    answering = _answering(request, chat, found)
    if found.id != request[REQUEST_ID]:
        answering.headers.update(repeats.REPLAYED)
    try:
        _check_scope(caller, found.model)
        return await answering.respond()
    finally:
        runs.leave(found)


def _check_scope(caller: Caller, model: str) -> None:
    """Another key of the same user may have asked first. Raises ModelNotAllowed."""
    if not caller.key.scopes.allows_model(model):
        raise ModelNotAllowed(param="model")


async def _make(
    request: web.Request,
    caller: Caller,
    chat: openai.ChatRequest,
    body: dict[str, Any],
    repeat: Repeat | None = None,
) -> Job:
    """Check a request, and let it in as a job. Raises all that can keep it from entering."""
    hub = request.app[HUB]
    needs = chat.needs()
    hub.dispatch.check_open()
    route = hub.routing.route(caller, chat.model, needs)
    model, *fallbacks = route.models
    body["model"] = model
    ignored = _ignored(hub, caller, model, body)
    metadata = openai.parse_metadata(chat.metadata) if chat.store else None
    prompt, now = await _count_prompt(chat), time.time()
    images = chat.images
    at_most = prompt.tokens + len(images) * tokens.IMAGE_AT_MOST
    reservation = await _reserve(hub, caller, request[REQUEST_ID], chat, route.models, at_most, now)
    written, shown = await _write(hub, reservation, images, body)
    return Job(
        loop=asyncio.get_running_loop(),
        id=request[REQUEST_ID],
        caller=caller,
        reservation=reservation,
        kind="chat",
        model=model,
        body=written,
        needs=frozenset(needs),
        stream=bool(chat.stream),
        accepted=monotonic(),
        accepted_at=int(now * 1e6),
        max_pending=hub.settings.max_pending_bytes,
        prompt=prompt.plus(shown),
        asked=route.alias,
        fallbacks=fallbacks,
        ignored=ignored,
        metadata=metadata,
        repeat=repeat,
        priority=hub.store.tiers.priority_of(caller),
        bounds=_bounds(chat),
        region=preferred_region(request, caller),
    )


def _answering(request: web.Request, chat: openai.ChatRequest, job: Job) -> "_Plain | _Streamed":
    hub = request.app[HUB]
    answering = _Streamed(request, hub, job, chat) if job.stream else _Plain(hub, job)
    if job.ignored:
        answering.headers["x-bridge-ignored"] = ",".join(job.ignored)
    return answering


async def _reserve(
    hub: Hub,
    caller: Caller,
    request: str,
    chat: openai.ChatRequest,
    models: list[str],
    prompt: int,
    now: float,
) -> Reservation:
    """Hold back what this request may use. Raises RateLimited, LargerThanLimit, InsufficientQuota."""
    answer = chat.answer_at_most
    completion = hub.settings.limits.answer_tokens if answer is None else answer
    at_most = hub.store.prices.at_most
    cost = max(at_most(model, now, prompt, completion) for model in models)
    return await hub.gate.admit(caller, request, prompt + completion, cost)


def _ignored(hub: Hub, caller: Caller, model: str, body: dict[str, object]) -> list[str]:
    """Parameters that will have no effect. Raises UnsupportedParameter if the operator wants that."""
    ignored = openai.ignored(body, hub.roster.features(caller, model))
    if ignored and hub.settings.unsupported == "reject":
        raise openai.unsupported(ignored[0], model)
    return ignored


async def _write(
    hub: Hub, reservation: Reservation, images: list[openai.PlacedImage], body: dict[str, Any]
) -> tuple[bytes, tokens.Count]:
    """The body as workers get it, with its images in it, and their tokens.

    Raises InvalidImage, InvalidRequest, RequestTooLarge; such a request has been counted, for what it cost.
    """
    most, shown = hub.settings.max_body_bytes, 0
    try:
        if images:
            shown = await pictures.embed(hub.outbound, images, body, most)
        written = openai.dump(body)
        if images and len(written) > most:
            raise RequestTooLarge(f"With its images the request has more than {most} bytes.")
    except BaseException:
        hub.gate.settle(reservation, 0, 0)
        raise
    return written, tokens.Count(shown)


def _bounds(chat: openai.ChatRequest) -> Bounds | None:
    bounds = Bounds(chat.stops, chat.answer_at_most)
    return bounds if any(bounds) else None


async def _count_prompt(chat: openai.ChatRequest) -> tokens.Count:
    texts = [(message.name, message.text) for message in chat.messages]
    if sum(len(text) for _, text in texts) <= tokens.INLINE_CHARACTERS:
        return tokens.count_prompt(texts)
    return await asyncio.to_thread(tokens.count_prompt, texts)


def _usage(job: Job) -> dict[str, int]:
    bill = job.outcome.bill if job.outcome else NOTHING_DUE
    return openai.usage(bill.prompt, bill.completion)


def _who_answers(job: Job) -> dict[str, str]:
    return repeats.who_answers(job.worker, job.model, aliased=bool(job.asked))


class _Plain:
    """An answer in one piece."""

    def __init__(self, hub: Hub, job: Job) -> None:
        self._job = job
        self.headers: dict[str, str] = {}

    async def respond(self) -> web.Response:
        job = self._job
        while not job.is_over:
            await job.take()
        outcome = job.outcome
        if outcome is None or (outcome.error is None and outcome.finish_reason is None):
            raise InternalError
        if outcome.error is not None:
            raise outcome.error
        self.headers.update(_who_answers(job))
        body = openai.completion(
            completion_id(job.id),
            job.created,
            job.name,
            job.answer(),
            outcome.finish_reason or "stop",
            _usage(job),
        )
        return web.Response(body=body, headers=self.headers, content_type="application/json")


class _Streamed:
    """An answer as events, with its status held back until there is something to say."""

    def __init__(self, request: web.Request, hub: Hub, job: Job, chat: openai.ChatRequest) -> None:
        self._request = request
        self._hub = hub
        self._job = job
        self._deadlines = hub.settings.deadlines
        self._include_usage = chat.include_usage
        self._chunks = openai.Chunks(
            completion_id(job.id), job.created, job.name, include_usage=chat.include_usage
        )
        self._loop = job.loop
        self._nudge: asyncio.TimerHandle | None = None
        self._wrote = 0.0
        self.headers: dict[str, str] = dict(STREAM_HEADERS)

    async def respond(self) -> web.StreamResponse:
        job = self._job
        job.on_overflow = self._break_if_stuck
        self._nudge = self._loop.call_later(self._deadlines.headers_s, job.nudge)
        try:
            pieces = await job.take()
            if not pieces and job.outcome is not None and job.outcome.error is not None:
                raise job.outcome.error
            return await self._stream(pieces)
        finally:
            self._nudge.cancel()

    async def _stream(self, pieces: list[Piece]) -> web.StreamResponse:
        job = self._job
        self.headers.update(_who_answers(job))
        response = web.StreamResponse(headers=self.headers)
        # Where the connection breaks in the very moment of a write, nobody is left to be told.
        with suppress(ConnectionError):
            await response.prepare(self._request)
            await response.write(await self._all_events(response, pieces))
            await response.write_eof()
        return response

    async def _all_events(self, response: web.StreamResponse, pieces: list[Piece]) -> bytes:
        """Write all events but the last ones, and give those back. Raises ConnectionError."""
        try:
            await self._write_events(response, pieces)
            return self._ending()
        except ConnectionError:
            raise
        except Exception:
            log.exception("unexpected error in a stream", request_id=self._job.id)
            return openai.error_event(InternalError()) + openai.DONE

    async def _write_events(self, response: web.StreamResponse, pieces: list[Piece]) -> None:
        job, event_of = self._job, self._chunks.piece
        data = self._chunks.role() + b"".join(map(event_of, pieces))
        self._plan_keep_alive()
        while True:
            if data:
                self._wrote = monotonic()
                await response.write(data)
                if self._has_left():
                    job.delivered()
            if job.is_over and not job.has_pieces:
                break
            pieces = await job.take()
            if pieces:
                data = b"".join(map(event_of, pieces))
            elif not job.is_over:
                data = self._keep_alive()
            else:
                data = b""

    def _has_left(self) -> bool:
        """Whether all that was written is with the system, and would outlive this process."""
        transport = self._request.transport
        return transport is not None and not transport.get_write_buffer_size()

    def _ending(self) -> bytes:
        outcome = self._job.outcome
        if outcome is None or outcome.error is not None:
            error = outcome.error if outcome else None
            return openai.error_event(error or InternalError()) + openai.DONE
        ending = self._chunks.finish(outcome.finish_reason or "stop")
        if self._include_usage:
            ending += self._chunks.usage(_usage(self._job))
        return ending + openai.DONE

    def _plan_keep_alive(self) -> None:
        if self._nudge is not None:
            self._nudge.cancel()
        self._wrote = monotonic()
        self._nudge = self._loop.call_later(self._deadlines.keep_alive_s, self._wake_if_quiet)

    def _wake_if_quiet(self) -> None:
        """Writing moves the time of the next keep-alive; so the timer looks before it wakes anybody."""
        due = self._wrote + self._deadlines.keep_alive_s
        if due <= monotonic():
            self._job.nudge()
            due = monotonic() + self._deadlines.keep_alive_s
        self._nudge = self._loop.call_at(due, self._wake_if_quiet)

    def _keep_alive(self) -> bytes:
        if self._wrote + self._deadlines.keep_alive_s > monotonic():
            return b""
        outlook = self._hub.dispatch.outlook(self._job)
        if outlook is None:
            return openai.KEEP_ALIVE
        position, wait = outlook
        return b": keep-alive position=%d%b\n" % (
            position,
            b"" if wait is None else b" wait=%d" % wait,
        )

    def _break_if_stuck(self) -> None:
        """The error event may never be read; then the connection is not worth keeping."""
        transport = self._request.transport
        if transport is not None:
            self._loop.call_later(self._deadlines.slow_caller_s, _abort, transport, self._job)


def _abort(transport: asyncio.Transport, job: Job) -> None:
    if job.has_pieces:
        transport.abort()
