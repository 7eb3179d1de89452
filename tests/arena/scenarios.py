"""What the site answers, as data: streams with their pacing, and refusals.

A prompt says which one it wants, with options: `[[slow pieces=200 pause_ms=2 text="la la "]]`. The last
such mark counts; a prompt without one is answered as `[[normal]]`.
"""

import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

CODES = {
    "text": "0",
    "reasoning": "g",
    "data": "2",
    "error": "3",
    "citation": "c",
    "step": "f",
    "step_end": "e",
    "end": "d",
}
"""The codes of a stream's lines."""

OTHER_CODES = {
    "text": "t",
    "reasoning": "r",
    "data": "m",
    "error": "x",
    "citation": "k",
    "step": "s",
    "step_end": "q",
    "end": "z",
}
"""The same for the design "codes"."""

IMAGE_PATH = "/images/parrot.png"
PARROT = "\N{PARROT}"
FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"


class NoSuchScenario(Exception):
    """The prompt asks for a scenario, or for an option of one, that does not exist."""


# --- what an answer is made of -------------------------------------------------------------------------


@dataclass(frozen=True)
class Pause:
    """Nothing for so long. Pauses keep to a schedule, so that many short ones do not add up to more."""

    seconds: float


class Hold:
    """Nothing until the arena's `release`, or until the page goes away."""


class Cut:
    """The connection breaks."""


Step = bytes | Pause | Hold | Cut
"""Bytes are written as they stand, each in a write of its own."""


@dataclass(frozen=True)
class Refusal:
    """An answer that is no stream."""

    status: int
    body: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    wants: str = ""
    """What the site asks of its human from now on: "verify" or "sign_in"."""

    def with_options(self, after: str = "", status: str = "") -> "Refusal":
        """`after` is the retry-after header in seconds."""
        headers = {**self.headers, "retry-after": after} if after else self.headers
        return replace(self, status=int(status or self.status), headers=headers)


@dataclass(frozen=True)
class Ask:
    """What a scenario may know of the request."""

    prompt: str
    origin: str = "http://arena"
    """Where the site's own images are."""
    codes: Mapping[str, str] = field(default_factory=lambda: CODES)

    def line(self, name: str, value: Any, position: str = "a", *, escaped: bool = False) -> bytes:
        """One line of the stream; `escaped` writes everything but ASCII as \\uXXXX."""
        text = json.dumps(value, ensure_ascii=escaped, separators=(",", ":"))
        return f"{position}{self.codes[name]}:{text}\n".encode()

    def texts(self, text: str, position: str = "a") -> Iterator[bytes]:
        for piece in pieces_of(text):
            yield self.line("text", piece, position)

    def end(
        self, reason: str = "stop", usage: dict[str, int] | None = None, position: str = "a"
    ) -> bytes:
        counted = {"promptTokens": len(self.prompt), "completionTokens": 7}
        usage = counted if usage is None else usage
        return self.line("end", {"finishReason": reason, "usage": usage}, position)


def echo(prompt: str) -> str:
    """What the arena answers by default."""
    return f"{PARROT} You said: {prompt} \N{EM DASH} Gr\u00fc\u00dfe, \u4e16\u754c {FAMILY}!"


def pieces_of(text: str, most: int = 200) -> list[str]:
    """The text in pieces of at least three characters."""
    size = max(3, math.ceil(len(text) / most))
    return [text[start : start + size] for start in range(0, len(text), size)]


# --- streams -------------------------------------------------------------------------------------------

Stream = Callable[..., Iterator[Step]]
STREAMS: dict[str, Stream] = {}


def stream(function: Stream) -> Stream:
    """Register a scenario by its name; its keyword arguments are its options."""
    STREAMS[function.__name__.rstrip("_")] = function
    return function


@stream
def normal(ask: Ask, text: str = "", pause_ms: float = 0) -> Iterator[Step]:
    """The prompt comes back in many pieces."""
    yield ask.line("step", {"messageId": "message-1"})
    for line in ask.texts(text or echo(ask.prompt)):
        yield line
        yield Pause(pause_ms / 1000)
    yield ask.line("step_end", {"finishReason": "stop", "isContinued": False})
    yield ask.end()


@stream
def reasoning(ask: Ask) -> Iterator[Step]:
    for thought in ("First, ", "I think \N{THOUGHT BALLOON}", ".\n", "Then I answer."):
        yield ask.line("reasoning", thought)
    yield from ask.texts(echo(ask.prompt))
    yield ask.end()


@stream
def image(ask: Ask, count: int = 1) -> Iterator[Step]:
    """Images by address, after heartbeats and without a word."""
    yield ask.line("data", [{"type": "heartbeat"}])
    for number in range(count):
        address = f"{ask.origin}{IMAGE_PATH}?n={number}"
        yield ask.line("data", [{"type": "image", "image": address, "mimeType": "image/png"}])
    yield ask.end()


@stream
def heartbeat(ask: Ask, beats: int = 5, pause_ms: float = 20) -> Iterator[Step]:
    """Only heartbeats for a while, then the answer."""
    for _ in range(beats):
        yield ask.line("data", [{"type": "heartbeat"}])
        yield Pause(pause_ms / 1000)
    yield from normal(ask)


@stream
def bytes_(ask: Ask, text: str = "", pause_ms: float = 0) -> Iterator[Step]:
    """The stream split at every byte."""
    for step in normal(ask, text):
        for byte in step if isinstance(step, bytes) else b"":
            yield bytes((byte,))
            yield Pause(pause_ms / 1000)


@stream
def slow(ask: Ask, pieces: int = 20, pause_ms: float = 20, text: str = "word ") -> Iterator[Step]:
    """`text` so many times, with a pause before each."""
    for _ in range(pieces):
        yield Pause(pause_ms / 1000)
        yield ask.line("text", text)
    yield ask.end()


@stream
def many(ask: Ask, pieces: int = 1000, per_second: float = 500) -> Iterator[Step]:
    """Numbered pieces at a rate."""
    for number in range(pieces):
        yield ask.line("text", f"{number} ")
        yield Pause(1 / per_second)
    yield ask.end()


@stream
def empty(ask: Ask) -> Iterator[Step]:
    """A 200 without a byte."""
    yield from ()


@stream
def truncated(ask: Ask) -> Iterator[Step]:
    """The stream ends without its end."""
    yield from ask.texts(echo(ask.prompt))


@stream
def unended(ask: Ask) -> Iterator[Step]:
    """The last line has no newline."""
    yield from ask.texts(echo(ask.prompt))
    yield ask.end().rstrip(b"\n")


@stream
def battle(ask: Ask) -> Iterator[Step]:
    """Two answers at once; ours is `a`, and `b` is longer."""
    ours = pieces_of(echo(ask.prompt))
    theirs = [f"other {number} " for number in range(len(ours) + 5)]
    yield ask.line("step", {"messageId": "message-b"}, "b")
    for number, other in enumerate(theirs):
        yield ask.line("text", other, "b")
        if number < len(ours):
            yield ask.line("text", ours[number])
        if number == len(ours):
            yield ask.end()
    yield ask.end(position="b")


@stream
def unknown_lines(ask: Ask) -> Iterator[Step]:
    """Lines of codes and positions that nobody knows, among an answer."""
    yield b'az:{"private":"never to be repeated"}\n'
    yield ask.line("text", "before ")
    yield b'az:"again"\nah:[1,2]\nc0:"another position"\n\n'
    yield ask.line("text", "after")
    yield ask.end()


@stream
def malformed(ask: Ask) -> Iterator[Step]:
    """Lines that are not what they say, among an answer."""
    yield b"no line at all\n"
    yield ask.line("text", "before ")
    yield ask.line("text", "x").replace(b'"x"', b'{"broken')
    yield ask.line("data", {"type": "no list"})
    yield ask.line("text", "after")
    yield ask.end()


@stream
def lookalike(ask: Ask) -> Iterator[Step]:
    """A text that quotes the stream's own language and the site's errors."""
    quoted = (
        'a0:"hasArenaError"\nad:{"finishReason":"stop"}\n"hasArenaError" '
        "recaptcha validation failed <title>Just a moment...</title> Security Verification [[1],[2]]"
    )
    yield ask.line("text", quoted)
    yield from ask.texts("\na3:" + quoted)
    yield ask.end()


@stream
def split_emoji(ask: Ask) -> Iterator[Step]:
    """A surrogate pair in two pieces, its halves escaped."""
    yield ask.line("text", "split \ud83e", escaped=True)
    yield ask.line("text", "\udd9c together", escaped=True)
    yield ask.end()


@stream
def citations(ask: Ask, split: int = 0) -> Iterator[Step]:
    """Sources of a search: one alone, then several; with `split=1` their JSON comes in deltas."""
    first = {"title": "Parrots", "url": "https://example.com/parrots"}
    more = [
        {"title": "Gr\u00fc\u00dfe", "url": "https://example.com/a?b=1"},
        {"url": "https://example.com/c"},
    ]
    for number, source in enumerate((first, more)):
        arguments = json.dumps({"source": source})
        for delta in pieces_of(arguments, 5) if split else [arguments]:
            yield ask.line("citation", {"toolCallId": f"call-{number}", "argsTextDelta": delta})
    yield from normal(ask)


@stream
def provider_error(
    ask: Ask, text: str = "The provider is overloaded", pieces: int = 0
) -> Iterator[Step]:
    """An error in plain words, after so many pieces of an answer."""
    for _ in range(pieces):
        yield ask.line("text", "word ")
    yield ask.line("error", text)
    yield ask.end("error")


@stream
def nested_error(
    ask: Ask, code: str = "moderation_blocked", text: str = "Not possible", quoted: int = 0
) -> Iterator[Step]:
    """An error as an object; with `quoted=1` as JSON within a string."""
    error = {"error": {"message": text, "code": code}}
    yield ask.line("error", json.dumps(error) if quoted else error)
    yield ask.end("error")


@stream
def moderation_blocked(ask: Ask) -> Iterator[Step]:
    yield from nested_error(ask)


@stream
def step_error(ask: Ask, text: str = "Something went wrong with this response") -> Iterator[Step]:
    """An arena error instead of a step's end."""
    yield ask.line("step_end", {"message": text})


@stream
def has_arena_error(ask: Ask) -> Iterator[Step]:
    """The arena refused, and says so in place of a text."""
    yield ask.line("text", "hasArenaError")
    yield ask.end("error")


@stream
def finish(ask: Ask, reason: str = "length") -> Iterator[Step]:
    """An answer that ends for `reason`: length, content-filter, error, ..."""
    yield from ask.texts(echo(ask.prompt))
    yield ask.end(reason)


USAGE_KEYS = {
    "sdk": ("promptTokens", "completionTokens"),
    "openai": ("input_tokens", "output_tokens"),
    "google": ("promptTokenCount", "candidatesTokenCount"),
}


@stream
def usage(
    ask: Ask, spelling: str = "sdk", prompt: int = 11, completion: int = 22
) -> Iterator[Step]:
    """Figures in one of three spellings: sdk, openai, google."""
    asked, answered = USAGE_KEYS[spelling]
    yield from ask.texts(echo(ask.prompt))
    yield ask.end(usage={asked: prompt, answered: completion})


@stream
def cut(ask: Ask, pieces: int = 3, held: int = 0) -> Iterator[Step]:
    """The connection breaks after so many pieces; with `held=1` only when released.

    A reader may lose what it has not read yet when that happens.
    """
    for _ in range(pieces):
        yield ask.line("text", "word ")
    if held:
        yield Hold()
    yield Cut()


@stream
def dropped(ask: Ask) -> Iterator[Step]:
    """The connection breaks within the headers. (Without a byte, Chromium would send it again.)"""
    yield Cut()


@stream
def hang(ask: Ask) -> Iterator[Step]:
    """No answer, not even its headers, until released."""
    yield Hold()
    yield from normal(ask)


@stream
def stall(ask: Ask, pieces: int = 1, text: str = "word ") -> Iterator[Step]:
    """Some pieces, then nothing until released."""
    for _ in range(pieces):
        yield ask.line("text", text)
    yield Hold()
    yield ask.line("text", "released")
    yield ask.end()


# --- refusals ------------------------------------------------------------------------------------------

HTML = "text/html; charset=utf-8"


def error(status: int, text: str, **more: Any) -> Refusal:
    return Refusal(status, json.dumps({"error": text}), **more)


def document(title: str, text: str = "") -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><title>{title}</title></head>'
        f"<body><h1>{title}</h1>{text}</body></html>"
    )


JUST_A_MOMENT = document("Just a moment...", "<p>Checking your browser.</p>")
ATTENTION = document("Attention Required! | Cloudflare", "<p>Sorry, you have been blocked.</p>")
MITIGATED = {"cf-mitigated": "challenge"}

RECAPTCHA = error(403, "recaptcha validation failed", wants="verify")
LOGIN_GATE = error(401, "LOGIN_GATE", wants="sign_in")
MODELS_NOT_FOUND = error(404, "Models not found")
DIRECT_NOT_ALLOWED = error(400, "'direct' mode is not allowed for this request")
CHALLENGED = Refusal(403, JUST_A_MOMENT, HTML, MITIGATED)
BLOCKED = Refusal(403, ATTENTION, HTML)

REFUSALS = {
    "recaptcha": RECAPTCHA,
    "cloudflare": CHALLENGED,
    "just_a_moment": Refusal(503, JUST_A_MOMENT, HTML),
    "attention_required": BLOCKED,
    "login_gate": LOGIN_GATE,
    "user_not_found": error(401, "User not found", wants="sign_in"),
    "rate_limited": error(429, "Too Many Requests", headers={"retry-after": "1200"}),
    "too_many": error(429, "Too Many Requests"),
    "prompt_failed": error(429, "prompt failed"),
    "violates_terms": error(429, "This prompt violates our terms"),
    "direct_not_allowed": DIRECT_NOT_ALLOWED,
    "spoofed": error(400, "This request seems spoofed"),
    "moved": Refusal(301, "", headers={"location": "/"}),
    "method_not_allowed": Refusal(405, "", "text/plain", {"allow": "GET"}),
    "models_not_found": MODELS_NOT_FOUND,
    "too_large": error(413, "Request Entity Too Large"),
    "teapot": error(418, "Nobody has seen this one before"),
    "server_error": Refusal(500, "Internal Server Error", "text/plain"),
    "unavailable": error(503, "Service Unavailable"),
}
"""Options of each: `after` (a retry-after header, seconds), `status`."""


# --- which one -----------------------------------------------------------------------------------------

MARK = re.compile(r"\[\[([a-z_]+)((?:\s+\w+=(?:\"[^\"]*\"|[^\s\]\"]+))*)\s*\]\]")
OPTION = re.compile(r"(\w+)=(?:\"([^\"]*)\"|(\S+))")


def answer(ask: Ask, otherwise: str = "normal") -> Refusal | Iterator[Step]:
    """What the prompt asks for, or `otherwise`, written as a mark without brackets.

    Raises NoSuchScenario.
    """
    marks = MARK.findall(ask.prompt) or MARK.findall(f"[[{otherwise}]]")
    if not marks:
        raise NoSuchScenario(otherwise)
    name, written = marks[-1]
    options = {key: quoted or plain for key, quoted, plain in OPTION.findall(written)}
    try:
        if name in REFUSALS:
            return REFUSALS[name].with_options(**options)
        function = STREAMS[name]
        return function(ask, **typed(function, options))
    except (KeyError, TypeError, ValueError) as mistake:
        raise NoSuchScenario(f"[[{name}{written}]]") from mistake


def typed(function: Stream, options: dict[str, str]) -> dict[str, Any]:
    """The options as what their defaults are."""
    parameters = inspect.signature(function).parameters
    return {
        name: kind(value)
        for name, value in options.items()
        if (kind := parameters[name].annotation)
    }


def text_answered(prompt: str, otherwise: str = "normal") -> str:
    """The text that a faithful reader makes of the stream for this prompt; "" for a refusal."""
    steps = answer(Ask(prompt), otherwise)
    if isinstance(steps, Refusal):
        return ""
    stream_ = b"".join(step for step in steps if isinstance(step, bytes)).decode()
    text = []
    for line in stream_.split("\n"):
        if line.startswith("a0:"):
            try:
                text.append(json.loads(line[3:]))
            except ValueError:
                continue
    whole = "".join(text)
    return whole.encode("utf-16", "surrogatepass").decode("utf-16")
