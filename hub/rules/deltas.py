"""Deltas of answers: what workers send, cleaned of all that clients do not understand, in short events."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import orjson
from msgspec import Meta, Struct

LONGEST_TEXT = 8_000
"""Characters in one event: even if each is escaped in six bytes, the line stays under 64 KiB."""
LONGEST_NAME = 1_000
"""Characters of a tool call's id or name; OpenAI allows 64."""
_UNSAFE = re.compile(r"[\s()<>\x00-\x1f\x7f]")
"""What would end an address in Markdown."""


def clean_delta(delta: dict[str, Any]) -> dict[str, Any]:
    """The members of a worker's delta that clients understand, each of its right type."""
    clean: dict[str, Any] = {}
    for name in ("content", "reasoning_content", "refusal"):
        if isinstance(delta.get(name), str) and delta[name]:
            clean[name] = delta[name]
    calls = delta.get("tool_calls")
    if isinstance(calls, list) and (tool_calls := [*filter(None, map(_clean_call, calls))]):
        clean["tool_calls"] = tool_calls
    images = delta.get("images")
    if isinstance(images, list) and (shown := [*filter(None, map(_clean_image, images))]):
        clean["images"] = shown
    if logprobs := _clean_logprobs(delta.get("logprobs")):
        clean["logprobs"] = logprobs
    return clean


def characters(delta: dict[str, Any]) -> int:
    """How much text a worker's delta has for the caller."""
    clean = clean_delta(delta)
    functions = [call["function"] for call in clean.get("tool_calls", ())]
    texts = (text for part in (clean, *functions) for text in part.values())
    return sum(len(text) for text in texts if isinstance(text, str))


Token = Annotated[str, Meta(max_length=100)]
Bytes = Annotated[list[Annotated[int, Meta(ge=0, le=255)]], Meta(max_length=400)]


class _Logprob(Struct):
    token: Token
    logprob: float
    bytes: Bytes | None = None


class _TokenLogprob(_Logprob):
    top_logprobs: Annotated[list[_Logprob], Meta(max_length=20)] = []


class _Logprobs(Struct):
    content: list[_TokenLogprob] | None = None


def _clean_logprobs(logprobs: Any) -> list[dict[str, Any]]:
    """The tokens of some content with their probabilities; none if anything is not of its right type."""
    if logprobs is None:
        return []
    try:
        typed = msgspec.convert(logprobs, _Logprobs)
    except msgspec.ValidationError:
        return []
    return [msgspec.to_builtins(token) for token in typed.content or ()]


def _clean_image(image: Any) -> dict[str, Any] | None:
    """An image of an answer with nothing but its address; None if it has none that clients can show."""
    address = image.get("image_url") if isinstance(image, dict) else None
    url = address.get("url") if isinstance(address, dict) else None
    if not isinstance(url, str) or not re.match(r"https?://|data:image/", url, re.IGNORECASE):
        return None
    return {"type": "image_url", "image_url": {"url": url}}


def markdown(image: dict[str, Any]) -> str:
    """An image of an answer as text, on a line of its own, for clients that show nothing else."""
    url = _UNSAFE.sub(lambda found: quote(found[0]), image["image_url"]["url"])
    return f"\n![image]({url})\n"


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct):
    index: Annotated[int, Meta(ge=0, le=1_000)] = 0
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)


def _clean_call(call: Any) -> dict[str, Any] | None:
    """A tool call's delta with members of their right types, or None if it has others."""
    try:
        typed = msgspec.convert(call, _ToolCall)
    except msgspec.ValidationError:
        return None
    clean: dict[str, Any] = {"index": typed.index}
    if typed.id is not None:
        clean.update(id=typed.id[:LONGEST_NAME], type="function")
    clean["function"] = {"arguments": typed.function.arguments or ""}
    if typed.function.name is not None:
        clean["function"]["name"] = typed.function.name[:LONGEST_NAME]
    return clean


def slices(text: str) -> Iterator[str]:
    for start in range(0, len(text), LONGEST_TEXT):
        yield text[start : start + LONGEST_TEXT]


def shown_logprobs(tokens: list[dict[str, Any]]) -> dict[str, Any]:
    return {"content": tokens, "refusal": None}


def groups(tokens: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Tokens with their probabilities, no more in a group than one short line can hold."""
    group: list[dict[str, Any]] = []
    size = 0
    for token in tokens:
        length = len(orjson.dumps(token))
        if group and size + length > LONGEST_TEXT:
            yield group
            group, size = [], 0
        group.append(token)
        size += length
    if group:
        yield group


def split_delta(delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same delta in as many as it takes to keep each event short; nothing for an empty one."""
    for name in ("reasoning_content", "content", "refusal"):
        for part in slices(delta.get(name, "")):
            yield {name: part}
    for call in delta.get("tool_calls", ()):
        yield from _split_call(call)


def _split_call(call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    first, *rest = list(slices(call["function"]["arguments"])) or [""]
    yield {"tool_calls": [{**call, "function": {**call["function"], "arguments": first}}]}
    for part in rest:
        yield {"tool_calls": [{"index": call["index"], "function": {"arguments": part}}]}
