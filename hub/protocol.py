"""The worker protocol, version 1: packets, frames and the numbering that lets a session outlive its links.

Nothing here touches a socket, a clock or a file. A hub and a worker each keep one `Channel` a session; what
a channel wants said is a packet, and what a peer said goes through `Channel.accept`. WebSocket and polling
carry the same packets, so a session may change from one to the other in the middle of an answer.
"""

import json
import re
from collections import deque
from enum import IntEnum
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import orjson
from msgspec import UNSET, Meta, Struct, UnsetType

T = TypeVar("T")

VERSION = 1
SUBPROTOCOL = "lmarena-bridge.1"

MAX_UNACKED_FRAMES = 10_000
MAX_UNACKED_BYTES = 8 * 1024 * 1024
ACK_EVERY_FRAMES = 1_000
ACK_EVERY_S = 1.0
MAX_MODELS = 5_000
PROTOCOL_ERROR_PAUSE_S = 60.0
"""How long a worker stays away after 4004, so that a bug neither hammers the hub nor retires the worker."""
NEXT_S_BUSY = 0.1
"""A polling worker with a job in hand comes back after this many seconds even without frames to send."""


class Close(IntEnum):
    """Why a link ends. The range says what to do: 4500-4999 stay away, everything else come back."""

    GOING_AWAY = 1001
    TOO_BIG = 1009
    RESTART = 1012
    HEARTBEAT_LOST = 4001
    TOO_SLOW = 4002
    HELLO_TIMEOUT = 4003
    PROTOCOL_ERROR = 4004
    SESSION_GONE = 4005
    BAD_HELLO = 4500
    UNAUTHORIZED = 4501
    UNSUPPORTED_PROTOCOL = 4502
    REPLACED = 4503
    REMOVED = 4505


HTTP_STATUS: dict[Close, int] = {
    Close.TOO_BIG: 413,
    Close.RESTART: 503,
    Close.TOO_SLOW: 410,
    Close.PROTOCOL_ERROR: 400,
    Close.SESSION_GONE: 410,
    Close.BAD_HELLO: 400,
    Close.UNAUTHORIZED: 401,
    Close.UNSUPPORTED_PROTOCOL: 400,
    Close.REPLACED: 409,
    Close.REMOVED: 403,
}
"""What polling answers where a socket would be closed; the body names the code as `close`."""


def is_final(code: int) -> bool:
    """Whether a worker closed with this code must not come back by itself."""
    return 4500 <= code <= 4999


class ProtocolError(Exception):
    """The peer broke the protocol; the session is over and the link closes with `code`."""

    def __init__(self, message: str, code: Close = Close.PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


# --- what workers say --------------------------------------------------------------------------------

State = Literal["ready", "cooling", "attention", "draining"]
FailureCode = Literal[
    "challenge",
    "login_required",
    "consent_required",
    "rate_limited",
    "moderated",
    "model_not_found",
    "context_length_exceeded",
    "attachment_too_large",
    "unsupported",
    "site_changed",
    "upstream_error",
    "upstream_timeout",
    "internal",
    "cancelled",
]
Number = Annotated[int, Meta(ge=0, le=2**53)]
MAX_SLOTS = 10_000
Slots = Annotated[int, Meta(ge=0, le=MAX_SLOTS)]
Seconds = Annotated[float, Meta(ge=0, le=10 * 86_400)]
Label = Annotated[str, Meta(max_length=200)]
Identifier = Annotated[str, Meta(min_length=1, max_length=128)]
Sentence = Annotated[str, Meta(max_length=4_000)]


class Modalities(Struct):
    """What a model reads and writes, as in `{"in": ["text"], "out": ["text"]}`."""

    takes: list[Label] = msgspec.field(name="in", default_factory=lambda: ["text"])
    gives: list[Label] = msgspec.field(name="out", default_factory=lambda: ["text"])


class Model(Struct, omit_defaults=True):
    """One model that a worker offers; `id` has 1 to 200 printable characters."""

    id: Annotated[str, Meta(min_length=1, max_length=200)]
    modalities: Modalities = msgspec.field(default_factory=Modalities)
    kinds: list[Label] = msgspec.field(default_factory=lambda: ["chat"])
    features: list[Label] = []
    context: int | None = None
    organization: Label | None = None

    def __post_init__(self) -> None:
        if not self.id.isprintable():
            raise ValueError("a model id must be printable")

    def has(self, need: str) -> bool:
        """Whether it declares a feature, or takes a kind of input such as `image`."""
        return need in self.features or need in self.modalities.takes


Models = Annotated[list[Model], Meta(max_length=MAX_MODELS)]


class Resume(Struct):
    session: Identifier
    received: Number


class Hello(Struct, omit_defaults=True):
    """A worker introduces itself. By polling the token travels in the Authorization header instead."""

    protocol: int
    worker: Identifier
    name: Label
    kind: Literal["userscript", "agent", "hub"]
    version: Label
    slots: Slots
    models: Models
    token: Label = ""
    region: Label | None = None
    state: State = "ready"
    resume: Resume | None = None


class StatusFrame(Struct, tag_field="t", tag="status", omit_defaults=True):
    state: State
    reason: Sentence | None = None
    until: Seconds | None = None
    slots: Slots | None = None


class ModelsFrame(Struct, tag_field="t", tag="models"):
    models: Models


class Refuse(Struct, tag_field="t", tag="refuse"):
    job: Identifier
    reason: Sentence


class Started(Struct, tag_field="t", tag="started"):
    job: Identifier


class Waiting(Struct, tag_field="t", tag="waiting"):
    job: Identifier
    awaited: Literal["human"] = msgspec.field(name="for", default="human")


class Piece(Struct, tag_field="t", tag="piece", omit_defaults=True, gc=False):
    """A piece of an answer: `text`, or an OpenAI `delta`; neither means that the site is still alive."""

    job: Identifier
    text: str = ""
    delta: dict[str, Any] | None = None


class End(Struct, tag_field="t", tag="end", omit_defaults=True):
    job: Identifier
    finish_reason: Label = "stop"
    usage: dict[str, Any] | None = None
    truncated: bool = False


class Fail(Struct, tag_field="t", tag="fail", omit_defaults=True):
    """`ran` False proves that the upstream never saw the request."""

    job: Identifier
    code: FailureCode
    message: Sentence = ""
    retry_after_s: Seconds | None = None
    ran: bool | UnsetType = UNSET


class Notice(Struct, tag_field="t", tag="notice"):
    """Something that the operator should know of, although the answer came: what a tab saw of a changed site."""

    code: Literal["site_changed"]
    message: Sentence = ""


class Pong(Struct, tag_field="t", tag="pong"):
    pass


class Bye(Struct, tag_field="t", tag="bye", omit_defaults=True):
    reason: Sentence = ""


WorkerFrame = (
    StatusFrame
    | ModelsFrame
    | Refuse
    | Started
    | Waiting
    | Piece
    | End
    | Fail
    | Notice
    | Pong
    | Bye
)

# --- what the hub says -------------------------------------------------------------------------------


class Exchange(Struct):
    """How a polling worker should come: held up to `wait_s`, next after `next_s`."""

    wait_s: Seconds
    next_s: Seconds


class Welcome(Struct):
    session: Identifier
    connection: Identifier
    resumed: bool
    received: Number
    heartbeat_s: Seconds
    grace_s: Seconds
    max_bytes: int
    exchange: Exchange
    profile: dict[str, Any] | None = None


class JobFrame(Struct, tag_field="t", tag="job"):
    """`body` is the validated OpenAI body, still as JSON text."""

    job: Identifier
    kind: Literal["chat", "image", "embedding"]
    model: str
    body: msgspec.Raw
    deadline_s: float


class Cancel(Struct, tag_field="t", tag="cancel"):
    job: Identifier
    reason: str


class Ping(Struct, tag_field="t", tag="ping"):
    pass


class Drain(Struct, tag_field="t", tag="drain"):
    pass


class ProfileFrame(Struct, tag_field="t", tag="profile"):
    profile: dict[str, Any]


class Scale(Struct, tag_field="t", tag="scale"):
    slots: Slots


HubFrame = JobFrame | Cancel | Ping | Drain | ProfileFrame | Scale


class WorkerPacket(Struct):
    """From a worker; `session` and `connection` come along by polling alone."""

    n: Number
    ack: Number
    frames: list[WorkerFrame]
    session: str = ""
    connection: str = ""


class HubPacket(Struct):
    """From the hub; `next_s` comes along by polling alone."""

    n: Number
    ack: Number
    frames: list[HubFrame]
    next_s: float = 0.0


class Farewell(Struct):
    """The body of a polling worker's `bye`."""

    session: str
    connection: str
    reason: Sentence = ""


class HelloMessage(Struct):
    hello: Hello


class WelcomeMessage(Struct):
    welcome: Welcome


class _Version(Struct):
    protocol: int


class _VersionMessage(Struct):
    hello: _Version


# --- failures: what a code means ---------------------------------------------------------------------


class Failure(NamedTuple):
    """What a failure code does to the worker, and whether it proves that nothing ran upstream."""

    worker: Literal["attention", "cooling", "drop_model", "breaker", "unchanged"]
    proves_not_run: bool
    error: str
    """The code that the caller reads if this was the job's last chance; the hub's `errors` has the rest."""


FAILURES: dict[FailureCode, Failure] = {
    "challenge": Failure("attention", True, "no_worker_available"),
    "login_required": Failure("attention", True, "no_worker_available"),
    "consent_required": Failure("attention", True, "no_worker_available"),
    "rate_limited": Failure("cooling", True, "upstream_rate_limited"),
    "moderated": Failure("unchanged", False, "content_policy_violation"),
    "model_not_found": Failure("drop_model", True, "model_not_found"),
    "context_length_exceeded": Failure("unchanged", False, "context_length_exceeded"),
    "attachment_too_large": Failure("unchanged", False, "attachment_too_large"),
    "unsupported": Failure("unchanged", False, "unsupported"),
    "site_changed": Failure("breaker", False, "upstream_contract_changed"),
    "upstream_error": Failure("breaker", False, "upstream_error"),
    "upstream_timeout": Failure("breaker", False, "upstream_timeout"),
    "internal": Failure("breaker", False, "upstream_error"),
    "cancelled": Failure("unchanged", False, "upstream_error"),
}
RATE_LIMITED_DEFAULT_S = 60.0

# --- text <-> values ---------------------------------------------------------------------------------

_worker_packets = msgspec.json.Decoder(WorkerPacket)
_hub_packets = msgspec.json.Decoder(HubPacket)
_hellos = msgspec.json.Decoder(HelloMessage)
_welcomes = msgspec.json.Decoder(WelcomeMessage)
_farewells = msgspec.json.Decoder(Farewell)
_versions = msgspec.json.Decoder(_VersionMessage)
_encoder = msgspec.json.Encoder()
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

encode = _encoder.encode
"""A frame, hello or welcome as JSON bytes."""


def mend(data: bytes | str) -> bytes:
    """JSON with each lone surrogate escape replaced by U+FFFD.

    JavaScript cuts strings between the halves of an emoji, and strict parsers refuse what remains. Only
    worth calling after a strict parser has refused. Raises ValueError or RecursionError if that was not
    the trouble.
    """
    text = data if isinstance(data, str) else data.decode("utf-8")
    return orjson.dumps(_whole(json.loads(text, parse_constant=_no_json)))


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _decode(decoder: "msgspec.json.Decoder[T]", data: bytes | str, code: Close) -> T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise ProtocolError(str(error), code) from None
    except (ValueError, RecursionError):
        pass
    try:
        return decoder.decode(mend(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(str(error) or "nested too deeply", code) from None


def decode_worker_packet(data: bytes | str) -> WorkerPacket:
    """Raises ProtocolError (4004) for anything but a packet of worker frames."""
    return _decode(_worker_packets, data, Close.PROTOCOL_ERROR)


def decode_hub_packet(data: bytes | str) -> HubPacket:
    """Raises ProtocolError (4004) for anything but a packet of hub frames."""
    return _decode(_hub_packets, data, Close.PROTOCOL_ERROR)


def decode_hello(data: bytes | str) -> Hello:
    """Raises ProtocolError: 4502 for another version, 4500 for anything else that is no hello."""
    version = _decode(_versions, data, Close.BAD_HELLO).hello.protocol
    if version != VERSION:
        message = f"this hub speaks protocol {VERSION}, not {version}: update the worker"
        raise ProtocolError(message, Close.UNSUPPORTED_PROTOCOL)
    return _decode(_hellos, data, Close.BAD_HELLO).hello


def decode_welcome(data: bytes | str) -> Welcome:
    """Raises ProtocolError (4004) for anything but a welcome."""
    return _decode(_welcomes, data, Close.PROTOCOL_ERROR).welcome


def decode_farewell(data: bytes | str) -> Farewell:
    """Raises ProtocolError (4004) for anything but a polling worker's goodbye."""
    return _decode(_farewells, data, Close.PROTOCOL_ERROR)


# --- numbering ---------------------------------------------------------------------------------------


class _Outgoing(NamedTuple):
    frame: bytes
    weight: int
    """Bytes that count against the bound; 0 for a frame that is exempt."""


class Channel:
    """One session's numbering in both directions, seen from one end.

    Frames go in by `push` and leave as packets; a packet that arrives goes through `accept`, which gives
    back the frames not seen before. `rewind` starts a new connection: everything unacknowledged is to be
    sent again. Frames are numbered from 1 in each direction, for the session's whole life.
    """

    __slots__ = ("_ack_sent", "_counted", "_sent", "_unsent", "acked", "received", "sent", "weight")

    def __init__(self) -> None:
        self._sent: deque[_Outgoing] = deque()
        self._unsent: deque[_Outgoing] = deque()
        self._ack_sent = 0
        self._counted = 0
        self.acked = 0
        """The highest of our frames that the peer has acknowledged."""
        self.sent = 0
        """The highest of our frames that was ever handed to a link."""
        self.received = 0
        """The highest of the peer's frames that we have."""
        self.weight = 0
        """Bytes of ours that are counted and not acknowledged."""

    @property
    def unacked(self) -> int:
        """How many of our frames the peer has not acknowledged."""
        return len(self._sent) + len(self._unsent)

    @property
    def is_full(self) -> bool:
        """Whether the bound on unacknowledged frames is reached: 10,000 frames or 8 MiB."""
        return self._counted >= MAX_UNACKED_FRAMES or self.weight >= MAX_UNACKED_BYTES

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    @property
    def ack_owed(self) -> int:
        """How many received frames the peer has not been told of."""
        return self.received - self._ack_sent

    def push(self, frame: bytes, *, exempt: bool = False) -> None:
        """Queue one encoded frame. Raises ProtocolError (4002) when the peer is too far behind.

        An `exempt` frame (a job) counts for nothing: its size is bounded elsewhere.
        """
        if not exempt and self.is_full:
            raise ProtocolError("too much is unacknowledged", Close.TOO_SLOW)
        weight = 0 if exempt else len(frame)
        self._unsent.append(_Outgoing(frame, weight))
        self.weight += weight
        self._counted += not exempt

    def packet(self, max_bytes: int, extra: bytes = b"") -> bytes:
        """The next packet: unsent frames up to `max_bytes` (always at least one), and the ack.

        `extra` is JSON members to put in front, each followed by a comma.
        """
        first = self.acked + len(self._sent) + 1
        frames: list[bytes] = []
        room = max_bytes - 100 - len(extra)
        while self._unsent and (not frames or len(self._unsent[0].frame) + 1 <= room):
            outgoing = self._unsent.popleft()
            self._sent.append(outgoing)
            frames.append(outgoing.frame)
            room -= len(outgoing.frame) + 1
        self.sent = max(self.sent, self.acked + len(self._sent))
        self._ack_sent = self.received
        return b'{%b"n":%d,"ack":%d,"frames":[%b]}' % (
            extra,
            first,
            self.received,
            b",".join(frames),
        )

    def rewind(self) -> None:
        """A new connection begins: what is not acknowledged will be sent again, in order."""
        self._unsent.extendleft(reversed(self._sent))
        self._sent.clear()

    def can_resume(self, received: int) -> bool:
        """Whether a peer that has our frames up to `received` can go on with this session."""
        return self.acked <= received <= self.sent

    def acknowledge(self, ack: int) -> None:
        """The peer has our frames up to `ack`. Raises ProtocolError for a frame that was never sent."""
        if ack > self.sent:
            raise ProtocolError(f"ack {ack}, but only {self.sent} frames were sent")
        while self.acked < ack:
            outgoing = (self._sent or self._unsent).popleft()
            self.weight -= outgoing.weight
            self._counted -= outgoing.weight > 0
            self.acked += 1

    def accept(self, n: int, ack: int, frames: list[T]) -> list[T]:
        """Take a packet; the frames that are new, in order. Raises ProtocolError for a gap."""
        if ack > self.acked:
            self.acknowledge(ack)
        if not frames:
            return frames
        seen = self.received + 1 - n
        if seen < 0 or n == 0:
            raise ProtocolError(f"frame {n} after frame {self.received}")
        self.received = max(self.received, n + len(frames) - 1)
        return frames[seen:] if seen else frames
