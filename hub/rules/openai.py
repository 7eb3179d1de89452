"""The OpenAI dialect: parse bodies, shape answers, chunks and errors.

Shapes follow OpenAI's public API description; bodies as clients send them in the wild are tolerated where
their meaning is clear.
"""

import re
from collections.abc import Collection
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import orjson
from msgspec import Meta, Struct

from ..errors import HubError, InvalidRequest, UnsupportedParameter
from ..protocol import Piece, mend
from .catalogue import Offer
from .deltas import LONGEST_TEXT, clean_delta, groups, markdown, shown_logprobs, slices, split_delta
from .tools import Choice, Tool, check_choice

S = TypeVar("S", bound=Struct)

LONGEST_USAGE = 4_000
"""Characters of a worker's own figures."""
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n"
"""One newline: the double-newline form of a comment breaks some Go clients."""

FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter", "function_call"}
SAMPLING = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "logit_bias",
    "top_k",
    "min_p",
    "repetition_penalty",
)
_SAMPLING = frozenset(SAMPLING)

# --- requests ----------------------------------------------------------------------------------------


class ImageUrl(Struct):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class Part(Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    """Some clients send the address alone."""

    @property
    def image(self) -> ImageUrl | None:
        if self.type != "image_url":
            return None
        return ImageUrl(self.image_url) if isinstance(self.image_url, str) else self.image_url


class Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """All of the message's text, its parts joined by line breaks."""
        if isinstance(self.content, str):
            return self.content
        parts = [part for part in self.content or () if part.type != "image_url"]
        return "\n".join(part.text or part.refusal or "" for part in parts)

    @property
    def images(self) -> list[tuple[int, ImageUrl]]:
        """The message's images, each with the number of its part."""
        if isinstance(self.content, str) or self.content is None:
            return []
        numbered = ((number, part.image) for number, part in enumerate(self.content))
        return [(number, image) for number, image in numbered if image is not None]


class StreamOptions(Struct):
    include_usage: bool | None = None


class JsonSchema(Struct):
    name: str
    schema: dict[str, Any] | None = None


class ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class PlacedImage(NamedTuple):
    """An image, and in which part of which message it stands."""

    message: int
    part: int
    image: ImageUrl

    @property
    def param(self) -> str:
        return f"messages[{self.message}].content[{self.part}]"

    def replace(self, body: dict[str, Any], url: str) -> None:
        """Put another address into the body that it came from."""
        detail = {"detail": self.image.detail} if self.image.detail else {}
        part = body["messages"][self.message]["content"][self.part]
        part["image_url"] = {"url": url, **detail}


Penalty = Annotated[float, Meta(ge=-2, le=2)]
Stop = Annotated[str, Meta(max_length=256)]


class ChatRequest(Struct, dict=True):
    """The parts of a chat completion's body that the hub reads; workers get the whole body."""

    model: Annotated[str, Meta(min_length=1, max_length=300)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    logit_bias: dict[str, float] | None = None
    tools: list[Tool] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    modalities: list[str] | None = None
    response_format: ResponseFormat | None = None
    store: bool | None = None
    metadata: Any = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def answer_at_most(self) -> int | None:
        """The tokens that the caller allows the answer; None if it names none."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """The sequences before which the answer is to end."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or ()
        return tuple(filter(None, stops))

    @cached_property
    def images(self) -> list[PlacedImage]:
        """All images, in their order."""
        return [
            PlacedImage(place, number, image)
            for place, message in enumerate(self.messages)
            if isinstance(message.content, list)
            for number, image in message.images
        ]

    def needs(self) -> dict[str, str]:
        """Features that a worker must declare, each with the parameter that asks for it."""
        needs = {}
        if self.images:
            needs["image"] = self.images[0].param
        if self.tools:
            needs["tools"] = "tools"
        if self.response_format and self.response_format.type != "text":
            needs["json_schema"] = "response_format"
        if self.logprobs:
            needs["logprobs"] = "logprobs"
        return needs


class _Labels(Struct):
    metadata: Annotated[
        dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
        Meta(max_length=16),
    ]


def parse_metadata(metadata: Any) -> dict[str, str]:
    """Labels of a stored completion: at most 16 texts. Raises InvalidRequest."""
    return convert({"metadata": metadata or {}}, _Labels).metadata


def parse_json(raw: bytes) -> dict[str, Any]:
    """A request body as an object. Raises InvalidRequest."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        body = _mended(raw, error)
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def _mended(raw: bytes, error: orjson.JSONDecodeError) -> Any:
    try:
        return orjson.loads(mend(raw))
    except (ValueError, TypeError, RecursionError):
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None


def parse_chat(body: dict[str, Any]) -> ChatRequest:
    """Validate a chat completion's body. Raises InvalidRequest naming the parameter."""
    chat = convert(body, ChatRequest)
    for number, message in enumerate(chat.messages):
        _check_content(message, f"messages[{number}].content")
    check_choice(chat.tools or [], chat.tool_choice)
    _check_format(chat)
    _check_possible(chat)
    return chat


def _check_format(chat: ChatRequest) -> None:
    wanted = chat.response_format
    if wanted and wanted.type == "json_schema" and wanted.json_schema is None:
        param = "response_format.json_schema"
        raise InvalidRequest(f"{param}: this field is required.", param=param)
    if chat.top_logprobs and not chat.logprobs:
        problem = "top_logprobs: it needs `logprobs` to be true."
        raise InvalidRequest(problem, param="top_logprobs")


def _check_possible(chat: ChatRequest) -> None:
    """What no worker can do, whatever it declares. Raises UnsupportedParameter."""
    if (chat.n or 1) > 1:
        raise UnsupportedParameter("n: this hub gives one choice. Ask several times.", param="n")
    if chat.functions:
        raise UnsupportedParameter("functions: offer them as `tools`.", param="functions")
    if set(chat.modalities or ()) - {"text", "image"}:
        problem = "modalities: this hub answers with text and images."
        raise UnsupportedParameter(problem, param="modalities")


def convert(body: dict[str, Any], struct: type[S], *, strict: bool = True) -> S:
    """A body as the given struct; a query string's values need not be strict. Raises InvalidRequest naming
    the parameter.
    """
    try:
        return msgspec.convert(body, struct, strict=strict)
    except msgspec.ValidationError as error:
        message, param = _explain(str(error))
        raise InvalidRequest(message, param=param) from None


def _explain(error: str) -> tuple[str, str | None]:
    """msgspec's message as a sentence, and the parameter that it speaks of.

    >>> _explain("Expected `str`, got `int` - at `$.messages[0].role`")
    ('messages[0].role: expected `str`, got `int`.', 'messages[0].role')
    """
    problem, _, path = error.partition(" - at ")
    param = path.strip("`").removeprefix("$").removeprefix(".")
    missing = re.search("missing required field `(.+)`", problem)
    if missing:
        param = f"{param}.{missing[1]}".removeprefix(".")
        problem = "this field is required"
    problem = problem[:1].lower() + problem[1:]
    return (f"{param}: {problem}." if param else f"{problem}."), param or None


def _check_content(message: Message, param: str) -> None:
    if message.content is None and message.role not in ("assistant", "tool", "function"):
        raise InvalidRequest(f"{param}: a {message.role} message needs content.", param=param)
    if isinstance(message.content, str) or not message.content:
        return
    for number, part in enumerate(message.content):
        where = f"{param}[{number}]"
        if part.type == "image_url":
            _check_image(message, part, where)
            continue
        if part.type not in ("text", "refusal"):
            kind = part.type[:40]
            problem = (
                f"{where}: content of type {kind!r} is not supported, only text and image_url."
            )
            raise InvalidRequest(problem, param=where)
        if (part.text if part.type == "text" else part.refusal) is None:
            raise InvalidRequest(f"{where}.{part.type}: this field is required.", param=where)


def _check_image(message: Message, part: Part, where: str) -> None:
    if part.image is None:
        raise InvalidRequest(f"{where}.image_url: this field is required.", param=where)
    if message.role != "user":
        problem = (
            f"{where}: only messages of the user may hold images, not those of {message.role}."
        )
        raise InvalidRequest(problem, param=where)


def dump(body: dict[str, Any], option: int | None = None) -> bytes:
    """The body as workers get it. Raises InvalidRequest for what no worker could read."""
    try:
        return orjson.dumps(body, option=option)
    except TypeError:
        raise InvalidRequest("The body is nested too deeply.") from None


def with_model(body: bytes, model: str) -> bytes:
    """A body that was dumped, for another model."""
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    members["model"] = msgspec.Raw(orjson.dumps(model))
    return msgspec.json.encode(members)


def dump_usage(usage: dict[str, Any] | None) -> str | None:
    """A worker's own figures as JSON, or None if they are not worth keeping."""
    try:
        text = orjson.dumps(usage).decode() if usage else ""
    except TypeError:
        return None
    return text if 0 < len(text) <= LONGEST_USAGE else None


class _Details(Struct):
    cached_tokens: Annotated[int, Meta(ge=0, le=2**53)] = 0


class _Figures(Struct):
    prompt_tokens: Annotated[int, Meta(ge=0, le=2**53)]
    completion_tokens: Annotated[int, Meta(ge=0, le=2**53)]
    prompt_tokens_details: _Details | None = None


def trusted_figures(usage: dict[str, Any] | None) -> tuple[int, int, int] | None:
    """Prompt, cached and completion tokens as a worker gives them; None if they make no sense."""
    try:
        figures = msgspec.convert(usage, _Figures)
    except msgspec.ValidationError:
        return None
    details = figures.prompt_tokens_details
    cached = min(details.cached_tokens, figures.prompt_tokens) if details else 0
    return figures.prompt_tokens, cached, figures.completion_tokens


def unsupported(param: str, model: str, need: str = "") -> UnsupportedParameter:
    """The refusal of a parameter that no worker of the model honours."""
    what = f"takes images, as in {param}," if need == "image" else f"honours {param!r}"
    message = f"No live worker {what} for {model!r}. Leave it out or choose another model."
    return UnsupportedParameter(message, param=param)


def header_text(text: str) -> str:
    """A name as it may stand in a header: printable ASCII, at most 200 characters."""
    return "".join(char if " " <= char <= "~" else "?" for char in text[:200])


def ignored(body: dict[str, Any], features: Collection[str]) -> list[str]:
    """The parameters in the body that a worker with these features takes no notice of."""
    if "sampling" in features or _SAMPLING.isdisjoint(body):
        return []
    return [name for name in SAMPLING if body.get(name) is not None]


# --- answers -----------------------------------------------------------------------------------------


def finish_reason(reason: str, *, truncated: bool = False) -> str:
    """A worker's reason as one that clients know."""
    if truncated:
        return "length"
    reason = reason.replace("-", "_")
    return reason if reason in FINISH_REASONS else "stop"


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


NAMES = "names"
"""Of an answer's texts, the names of the functions called: a worker may say them again with every piece."""


class Answer:
    """What a worker said, gathered for an answer in one piece and for counting."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._billed: list[str] = []
        """The content without its images."""
        self._images: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._tool_calls: dict[int, dict[str, Any]] = {}

    def add(self, piece: Piece) -> None:
        if piece.text:
            self._say(piece.text)
        if piece.delta:
            self._add_delta(clean_delta(piece.delta))

    def _add_delta(self, delta: dict[str, Any]) -> None:
        self._say(delta.get("content", ""))
        self._reasoning.append(delta.get("reasoning_content", ""))
        self._refusal.append(delta.get("refusal", ""))
        for call in delta.get("tool_calls", ()):
            self._add_tool_call(call)
        for image in delta.get("images", ()):
            self._images.append(image)
            self._content.append(markdown(image))
        self._logprobs += delta.get("logprobs", ())

    def _say(self, text: str) -> None:
        self._content.append(text)
        self._billed.append(text)

    def _add_tool_call(self, call: dict[str, Any]) -> None:
        whole = self._tool_calls.setdefault(
            call["index"],
            {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
        )
        function = call["function"]
        whole["id"] = call.get("id") or whole["id"]
        whole["function"]["name"] = function.get("name") or whole["function"]["name"]
        whole["function"]["arguments"] += function["arguments"]

    def texts(self) -> dict[str, str]:
        """Everything that is billed as output, by what it is; each is counted by itself."""
        calls = {index: call["function"] for index, call in self._tool_calls.items()}
        texts = {
            "reasoning": "".join(self._reasoning),
            "content": "".join(self._billed),
            "refusal": "".join(self._refusal),
            NAMES: " ".join(function["name"] for function in calls.values()),
            **{f"call {index}": function["arguments"] for index, function in calls.items()},
        }
        return {what: text for what, text in texts.items() if text}

    @property
    def image_count(self) -> int:
        """How many images there are, each at its price."""
        return len(self._images)

    @property
    def logprobs(self) -> dict[str, Any] | None:
        return shown_logprobs(self._logprobs) if self._logprobs else None

    def message(self) -> dict[str, Any]:
        content = "".join(self._content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content if content or not self._tool_calls else None,
            "refusal": "".join(self._refusal) or None,
        }
        if any(self._reasoning):
            message["reasoning_content"] = "".join(self._reasoning)
        if self._tool_calls:
            message["tool_calls"] = [self._tool_calls[index] for index in sorted(self._tool_calls)]
        if self._images:
            message["images"] = self._images
        return message


def completion(
    completion_id: str, created: int, model: str, answer: Answer, reason: str, used: dict[str, int]
) -> bytes:
    """A whole chat completion; `created` in Unix seconds."""
    choice = {
        "index": 0,
        "message": answer.message(),
        "logprobs": answer.logprobs,
        "finish_reason": reason,
    }
    return orjson.dumps(
        {
            "id": completion_id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [choice],
            "usage": used,
        }
    )


def stored_completion(
    completion: dict[str, Any], metadata: dict[str, str], broken_off: str | None
) -> dict[str, Any]:
    """A completion that is told again; `broken_off` is the error's code if it ended with one."""
    told = {**completion, "metadata": metadata}
    if broken_off is not None:
        told["incomplete_details"] = {"reason": broken_off}
    return told


class Chunks:
    """The events of one streamed completion, each as whole `data:` lines.

    All of an event but its delta is the same throughout a stream, so it is built once.
    """

    def __init__(self, completion_id: str, created: int, model: str, *, include_usage: bool):
        head = {
            "id": completion_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1]
        self._open = self._head + b',"choices":[{"index":0,"delta":'
        usage_member = b',"usage":null' if include_usage else b""
        self._tail = usage_member + b"}\n\n"
        self._close = b',"logprobs":null,"finish_reason":null}]' + self._tail
        self._text_open = self._open + b'{"content":'
        self._text_close = b"}" + self._close
        self._images = 0

    def role(self) -> bytes:
        return self._open + b'{"role":"assistant","content":""}' + self._close

    def piece(self, piece: Piece) -> bytes:
        """The events of one piece: one, unless it is very long or has nothing to say."""
        if piece.delta is None:
            return self.text(piece.text)
        delta = clean_delta(piece.delta)
        events = b"".join(map(self.delta, split_delta(delta)))
        events += b"".join(map(self._image, delta.get("images", ())))
        events += b"".join(map(self._probable, groups(delta.get("logprobs", ()))))
        return (self.text(piece.text) if piece.text else b"") + events

    def _image(self, image: dict[str, Any]) -> bytes:
        """An image as content and as itself; a long address goes on in the next event, by its index."""
        index, (first, *rest) = self._images, slices(image["image_url"]["url"])
        self._images += 1
        parts = [{"index": index, "type": "image_url", "image_url": {"url": first}}]
        parts += [{"index": index, "image_url": {"url": part}} for part in rest]
        events = b"".join(self.delta({"images": [part]}) for part in parts)
        return self.text(markdown(image)) + events

    def _probable(self, group: list[dict[str, Any]]) -> bytes:
        shown = orjson.dumps(shown_logprobs(group))
        return self._open + b'{},"logprobs":%b,"finish_reason":null}]' % shown + self._tail

    def text(self, text: str) -> bytes:
        if len(text) <= LONGEST_TEXT:
            return self._text_open + orjson.dumps(text) + self._text_close
        return b"".join(self.text(part) for part in slices(text))

    def delta(self, delta: dict[str, Any]) -> bytes:
        return self._open + orjson.dumps(delta) + self._close

    def finish(self, reason: str) -> bytes:
        return (
            self._open + b'{},"logprobs":null,"finish_reason":%b}]' % orjson.dumps(reason)
        ) + self._tail

    def usage(self, used: dict[str, int]) -> bytes:
        return self._head + b',"choices":[],"usage":' + orjson.dumps(used) + b"}\n\n"


def error_event(error: HubError) -> bytes:
    """An error after the first byte: clients take a stream that merely ends for a complete answer."""
    return b"data: " + orjson.dumps(error.body()) + b"\n\n"


def model_object(offer: Offer, created: int) -> dict[str, Any]:
    """A model as the list shows it: OpenAI's four members, then ours. `created` in Unix seconds."""
    model, workers = offer
    return {
        "id": model.id,
        "object": "model",
        "created": created,
        "owned_by": owner(offer),
        "modalities": {"input": model.modalities.takes, "output": model.modalities.gives},
        "features": model.features,
        "context_length": model.context,
        "workers": workers,
    }


def owner(offer: Offer) -> str:
    """Whose model it is."""
    return offer.model.organization or "arena"
