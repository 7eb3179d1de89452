"""The openai engine: any upstream that speaks the OpenAI chat API, on this machine or elsewhere."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import orjson

from agent.address import may_use_proxy
from agent.engines import Delta, EngineFailure, Finish, Job, Part, Text
from agent.engines.failures import complaint_of, failure_of, read_complaint
from agent.engines.sse import Event, EventParser, TooLong
from hub.protocol import MAX_MODELS, Modalities, Model

FEATURES = ["tools", "json_schema", "sampling", "stop", "history"]
MAX_WHOLE_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class UpstreamPace:
    """Seconds that an upstream may take."""

    connect_s: float = 10.0
    idle_s: float = 120.0
    """Silence, before the answer or within it."""
    afterword_s: float = 5.0
    """Silence after the finish reason, where usage and [DONE] are still to come."""
    catalogue_s: float = 15.0
    alive_every_s: float = 5.0
    """An upstream's keep-alives are passed on no more often than this."""


class OpenAIEngine:
    """Passes chat bodies to `{upstream}/chat/completions`, always streamed.

    Must be made inside a running event loop.
    """

    kinds = frozenset({"chat"})

    def __init__(self, upstream: str, key: str = "", pace: UpstreamPace | None = None) -> None:
        self._url = upstream.rstrip("/")
        self._key = key
        self._pace = pace or UpstreamPace()
        self._client = aiohttp.ClientSession(
            # Shorter than usual servers': a kept connection that closes just then costs an answer.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._pace.connect_s),
            trust_env=may_use_proxy(upstream),
        )

    async def close(self) -> None:
        """Close every connection to the upstream."""
        await self._client.close()

    async def catalogue(self) -> list[Model]:
        """What the upstream's `/models` lists. Raises EngineFailure."""
        with_limit = aiohttp.ClientTimeout(total=self._pace.catalogue_s)
        async with self._asked("GET", "/models", timeout=with_limit) as response:
            listed = _loads(await _read(response, MAX_WHOLE_BYTES))
        entries = listed.get("data") if isinstance(listed, dict) else listed
        if not isinstance(entries, list):
            raise EngineFailure("upstream_error", "the upstream's list of models is unreadable")
        models = {m.id: m for m in map(_model, entries) if m is not None}
        return list(models.values())[:MAX_MODELS]

    async def answer(self, job: Job) -> AsyncGenerator[Part, None]:
        """The upstream's answer, as it comes. Raises EngineFailure."""
        if job.kind not in self.kinds:
            raise EngineFailure("unsupported", f"this engine does not do {job.kind}", ran=False)
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        asked = self._asked("POST", "/chat/completions", data=_streamed(job), headers=headers)
        async with asked as response:
            answer = _Answer(self._key)
            if response.content_type == "application/json":
                for part in answer.whole(_loads(await _read(response, MAX_WHOLE_BYTES))):
                    yield part
            else:
                async for event in self._events(response, answer):
                    for part in self._heard(event, answer):
                        yield part
        yield answer.finish()

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, **request: Any
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """A response of 200; its connection is closed at once when the block is left early."""
        try:
            async with asyncio.timeout(self._pace.idle_s):
                response = await self._client.request(
                    method, self._url + path, allow_redirects=False, **request
                )
            try:
                if response.status != 200:
                    raise await self._refusal(response)
                yield response
            finally:
                response.close()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            reason = "the upstream cannot be reached"
            raise EngineFailure("upstream_error", reason, ran=False) from None
        except TimeoutError:
            raise EngineFailure("upstream_timeout", "the upstream fell silent") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = f"the connection to the upstream broke ({type(error).__name__})"
            raise EngineFailure("upstream_error", reason) from None

    async def _refusal(self, response: aiohttp.ClientResponse) -> EngineFailure:
        body = await _read(response, MAX_ERROR_BYTES)
        return failure_of(read_complaint(body, response.status), response.headers, self._key)

    async def _events(
        self, response: aiohttp.ClientResponse, answer: "_Answer"
    ) -> AsyncGenerator[Event, None]:
        parser = EventParser()
        while chunk := await self._chunk(response, answer):
            try:
                for event in parser.feed(chunk):
                    if event.data == "[DONE]":
                        return
                    yield event
            except TooLong:
                reason = "an event of the upstream is too long"
                raise EngineFailure("upstream_error", reason) from None
        for event in parser.end():
            if event.data != "[DONE]":
                yield event

    async def _chunk(self, response: aiohttp.ClientResponse, answer: "_Answer") -> bytes:
        limit_s = self._pace.afterword_s if answer.is_finished else self._pace.idle_s
        try:
            async with asyncio.timeout(limit_s):
                return await response.content.readany()
        except TimeoutError:
            if answer.is_finished:
                return b""
            raise

    def _heard(self, event: Event, answer: "_Answer") -> Iterable[Part]:
        if event.data is None:
            return answer.alive(self._pace.alive_every_s)
        return answer.chunk(event)


class _Answer:
    """Turns an upstream's chunks into parts, and remembers how they end."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._said_something = False
        self._alive_at = float("-inf")

    @property
    def is_finished(self) -> bool:
        return self._finish_reason is not None

    def alive(self, every_s: float) -> Iterator[Part]:
        """A keep-alive came."""
        now = asyncio.get_running_loop().time()
        if now - self._alive_at >= every_s:
            self._alive_at = now
            yield Text("")

    def chunk(self, event: Event) -> Iterator[Part]:
        """Raises EngineFailure for an error event, and for what is no JSON object."""
        value = _loads(event.data or "")
        if event.name == "error" or (isinstance(value, dict) and value.get("error")):
            error = value.get("error", value) if isinstance(value, dict) else value
            raise failure_of(complaint_of(error), {}, self._secret)
        yield from self._choice(value, "delta")

    def whole(self, value: Any) -> Iterator[Part]:
        """The answer of an upstream that does not stream. Raises EngineFailure."""
        if isinstance(value, dict) and value.get("error"):
            raise failure_of(complaint_of(value["error"]), {}, self._secret)
        yield from self._choice(value, "message")

    def finish(self) -> Finish:
        """How it ended. Raises EngineFailure if there was nothing at all."""
        if self._finish_reason is not None:
            return Finish(self._finish_reason, self._usage)
        if not self._said_something:
            raise EngineFailure("upstream_error", "the upstream's answer is empty")
        return Finish("length", self._usage, truncated=True)

    def _choice(self, value: Any, key: str) -> Iterator[Part]:
        if not isinstance(value, dict):
            return
        if isinstance(value.get("usage"), dict):
            self._usage = value["usage"]
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if not isinstance(choice, dict) or choice.get("index") not in (0, None):
                continue
            if isinstance(choice.get(key), dict):
                yield from self._delta(choice[key])
            if isinstance(choice.get("finish_reason"), str):
                self._finish_reason = choice["finish_reason"]

    def _delta(self, delta: dict[str, Any]) -> Iterator[Part]:
        rest = {name: value for name, value in delta.items() if value not in (None, "", [])}
        rest.pop("role", None)
        content = _text(rest.pop("content", ""))
        _name_reasoning(rest)
        _number_tool_calls(rest)
        self._said_something = self._said_something or bool(rest or content)
        if rest:
            yield Delta(rest)
        if content:
            yield Text(content)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _name_reasoning(delta: dict[str, Any]) -> None:
    """Some upstreams call it `reasoning`; callers know `reasoning_content`."""
    reasoning = delta.get("reasoning")
    if isinstance(reasoning, str):
        del delta["reasoning"]
        delta.setdefault("reasoning_content", reasoning)


def _number_tool_calls(delta: dict[str, Any]) -> None:
    """A whole message's tool calls lack the index that a delta's must have."""
    calls = delta.get("tool_calls")
    for index, call in enumerate(calls if isinstance(calls, list) else []):
        if isinstance(call, dict):
            call.setdefault("index", index)


def _streamed(job: Job) -> bytes:
    """The body as it is, but streamed, with usage, for the model by its own name."""
    try:
        body = msgspec.json.decode(job.body, type=dict[str, msgspec.Raw])
        options = _options(body.get("stream_options"))
    except msgspec.DecodeError:
        raise EngineFailure("unsupported", "the body is no JSON object", ran=False) from None
    body["model"] = _raw(job.model)
    body["stream"] = _raw(True)
    body["stream_options"] = _raw({**options, "include_usage": True})
    return msgspec.json.encode(body)


def _options(raw: msgspec.Raw | None) -> dict[str, Any]:
    value = None if raw is None else msgspec.json.decode(raw)
    return value if isinstance(value, dict) else {}


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise EngineFailure("upstream_error", "the upstream's answer is too long")
    return bytes(body)


def _loads(data: bytes | str) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        pass
    try:
        # Half a surrogate pair is no JSON for orjson; its other half may come with the next chunk.
        return json.loads(data)
    except (ValueError, RecursionError):
        raise EngineFailure("upstream_error", "the upstream's answer is unreadable") from None


def _model(entry: Any) -> Model | None:
    name = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable():
        return None
    owner = entry.get("owned_by")
    return Model(
        id=name,
        modalities=_modalities(entry.get("architecture")),
        features=FEATURES,
        context=_context(entry),
        organization=owner[:200] if isinstance(owner, str) and owner else None,
    )


def _modalities(said: Any) -> Modalities:
    """What the upstream declares; where it declares nothing, images are left to it to refuse."""
    said = said if isinstance(said, dict) else {}
    takes = _words(said.get("input_modalities")) or ["text", "image"]
    return Modalities(takes, _words(said.get("output_modalities")) or ["text"])


def _words(value: Any) -> list[str]:
    values = value if isinstance(value, list) else []
    return [word for word in values if isinstance(word, str) and len(word) <= 200]


def _context(entry: dict[str, Any]) -> int | None:
    for key in ("context_length", "context_window", "max_model_len", "max_context_length"):
        value = entry.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None
