"""The protocol on paper: the golden frames that node reads too, and two channels on a hostile carrier."""

import contextlib
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub import errors, protocol
from hub.protocol import Channel, Close, ProtocolError

FRAMES = Path(__file__).parent.parent / "frames"


def golden(name: str) -> list[dict[str, Any]]:
    lines = (FRAMES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def cases(name: str) -> pytest.MarkDecorator:
    """One test for each line of a golden file, named by its `why`."""
    rows = golden(name)
    names = [f"{row.get('as', '')} {row['why']}".strip() for row in rows]
    return pytest.mark.parametrize("row", rows, ids=names)


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def plain(value: Any) -> Any:
    """A decoded message as it would be said again."""
    return json.loads(protocol.encode(value))


def worker_frame(text: str) -> Any:
    (frame,) = protocol.decode_worker_packet(f'{{"n":1,"ack":0,"frames":[{text}]}}').frames
    return frame


def hub_frame(text: str) -> Any:
    (frame,) = protocol.decode_hub_packet(f'{{"n":1,"ack":0,"frames":[{text}]}}').frames
    return frame


DECODERS: dict[str, Callable[[bytes | str], Any]] = {
    "worker_packet": protocol.decode_worker_packet,
    "hub_packet": protocol.decode_hub_packet,
    "hello": protocol.decode_hello,
    "welcome": protocol.decode_welcome,
    "farewell": protocol.decode_farewell,
}


# --- golden frames ------------------------------------------------------------------------------------


@cases("worker_frames")
def test_worker_frame(row: dict[str, Any]) -> None:
    frame = worker_frame(row["text"])
    assert frame == worker_frame(as_text(row["value"]))
    assert {**row["value"], **plain(frame)} == plain(frame) | _spelled_out(row["value"])


def _spelled_out(value: dict[str, Any]) -> dict[str, Any]:
    """Members whose default the encoder may leave out."""
    defaults = ("finish_reason", "truncated", "text", "message")
    return {name: value[name] for name in defaults if name in value}


@cases("hub_frames")
def test_hub_frame(row: dict[str, Any]) -> None:
    assert plain(hub_frame(row["text"])) == row["value"]


@cases("packets")
def test_packet(row: dict[str, Any]) -> None:
    decode = DECODERS[row["as"]]
    packet = decode(row["text"])
    assert packet == decode(as_text(row["value"]))
    for member, value in row["value"].items():
        if member != "frames":
            assert getattr(packet, member) == value
    assert [plain(frame)["t"] for frame in packet.frames] == [
        frame["t"] for frame in row["value"]["frames"]
    ]


@cases("hellos")
def test_hello_and_welcome(row: dict[str, Any]) -> None:
    decode = DECODERS[row["as"]]
    message = decode(row["text"])
    assert message == decode(as_text(row["value"]))
    (value,) = row["value"].values()
    assert {**plain(message), **value} == plain(message)


@cases("bad")
def test_bad_message(row: dict[str, Any]) -> None:
    for data in (row["text"], row["text"].encode()):
        with pytest.raises(ProtocolError) as refused:
            DECODERS[row["as"]](data)
        assert refused.value.code == row["close"]
        assert str(refused.value)


@pytest.mark.parametrize("data", [b"\xff", b'"\xc3"', b"\x00", b'{"n":\xf5}'])
@pytest.mark.parametrize("kind", DECODERS)
def test_bytes_that_are_no_text(kind: str, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        DECODERS[kind](data)


def test_the_hello_of_a_farewell() -> None:
    farewell = protocol.decode_farewell('{"session":"s","connection":"c","reason":"closed","x":1}')
    assert (farewell.session, farewell.connection, farewell.reason) == ("s", "c", "closed")


@pytest.mark.parametrize("text", ["{}", '{"session":"s"}', '{"session":1,"connection":"c"}', "x"])
def test_bad_farewell(text: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        protocol.decode_farewell(text)
    assert refused.value.code == Close.PROTOCOL_ERROR


def test_failures() -> None:
    classes = {error.code: error for error in _descendants(errors.HubError)}
    rows = [
        {
            "code": code,
            "worker": failure.worker,
            "proves_not_run": failure.proves_not_run,
            "error": failure.error,
            "status": classes[failure.error].status,
        }
        for code, failure in protocol.FAILURES.items()
    ]
    assert rows == golden("failures")


def _descendants(cls: type[errors.HubError]) -> list[type[errors.HubError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _descendants(sub))]


def test_closes() -> None:
    rows = golden("closes")
    assert {row["name"]: row["code"] for row in rows if "name" in row} == dict(
        Close.__members__.items()
    )
    assert {row["code"]: row["http"] for row in rows if "http" in row} == protocol.HTTP_STATUS
    for row in rows:
        assert protocol.is_final(row["code"]) is row["final"], row


# --- numbering ----------------------------------------------------------------------------------------


class Numbering:
    """Does the steps of `numbering.jsonl` on one channel."""

    def __init__(self) -> None:
        self.channel = Channel()

    def do(self, step: dict[str, Any]) -> None:
        kind = next(name for name in step if hasattr(self, name))
        expected = contextlib.nullcontext()
        if "error" not in step:
            with expected:
                getattr(self, kind)(step)
            return
        with pytest.raises(ProtocolError) as refused:
            getattr(self, kind)(step)
        assert refused.value.code == step["error"]

    def push(self, step: dict[str, Any]) -> None:
        what = step["push"]
        frame = what.encode() if isinstance(what, str) else b'"%b"' % (b"x" * (what - 2))
        for _ in range(step.get("times", 1)):
            self.channel.push(frame, exempt=step.get("exempt", False))

    def packet(self, step: dict[str, Any]) -> None:
        text = self.channel.packet(step["packet"], step.get("extra", "").encode())
        packet = json.loads(text)
        assert packet == step.get("is", packet)
        assert len(packet["frames"]) == step.get("count", len(packet["frames"]))
        assert packet == {**packet, **step.get("with", {})}
        assert len(text) <= step.get("bytes_at_most", len(text))

    def rewind(self, step: dict[str, Any]) -> None:
        self.channel.rewind()

    def ack(self, step: dict[str, Any]) -> None:
        self.channel.acknowledge(step["ack"])

    def can_resume(self, step: dict[str, Any]) -> None:
        assert self.channel.can_resume(step["can_resume"]) is step["is"]

    def accept(self, step: dict[str, Any]) -> None:
        assert self.channel.accept(**step["accept"]) == step["is"]

    def state(self, step: dict[str, Any]) -> None:
        state = {name: getattr(self.channel, name) for name in step["state"]}
        assert state == step["state"]


@cases("numbering")
def test_numbering(row: dict[str, Any]) -> None:
    numbering = Numbering()
    for step in row["steps"]:
        numbering.do(step)


def test_jobs_do_not_count_among_the_frames() -> None:
    channel = Channel()
    for _ in range(protocol.MAX_UNACKED_FRAMES):
        channel.push(b"{}", exempt=True)
    channel.push(b'{"t":"ping"}')


# --- two channels and a carrier that does its worst ---------------------------------------------------


@dataclass
class End:
    """One end of a session, with what it said and heard."""

    channel: Channel = field(default_factory=Channel)
    said: list[str] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    wire: deque[bytes] = field(default_factory=deque)
    """What is on its way from here over the present connection."""

    def say(self, text: str, *, exempt: bool) -> None:
        frame = json.dumps(text).encode()
        self.channel.push(frame, exempt=exempt)
        self.said.append(text)
        self.weights.append(0 if exempt else len(frame))

    def hear(self, packet: bytes) -> None:
        self.heard += self.channel.accept(**json.loads(packet))

    def go_on_from(self, received: int) -> None:
        """What either end does when a session is resumed."""
        assert self.channel.can_resume(received)
        self.channel.rewind()
        self.channel.acknowledge(received)


ENDS = st.sampled_from(["worker", "hub"])
BOUNDS = st.one_of(st.integers(0, 400), st.just(10_000))


class HostileCarrier(RuleBasedStateMachine):
    """Sockets that are cut and polls that are lost or doubled, changing in the middle of an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = {"worker": End(), "hub": End()}
        self.polling = False
        self.welcome: int | None = None
        """On its way to the worker, which says nothing before it has come."""

    @initialize(polling=st.booleans())
    def first_connection(self, polling: bool) -> None:
        self.take_over(polling)

    @rule(polling=st.booleans())
    def take_over(self, polling: bool) -> None:
        """A hello with resume; whatever the older connection carried is lost, the welcome included."""
        worker, hub = self.ends["worker"], self.ends["hub"]
        self.polling = polling
        worker.wire.clear()
        hub.wire.clear()
        hub.go_on_from(worker.channel.received)
        self.welcome = hub.channel.received

    @precondition(lambda self: self.welcome is not None)
    @rule()
    def deliver_welcome(self) -> None:
        assert self.welcome is not None
        self.ends["worker"].go_on_from(self.welcome)
        self.welcome = None

    @rule(end=ENDS, text=st.text(max_size=60), exempt=st.booleans())
    def say(self, end: str, text: str, exempt: bool) -> None:
        self.ends[end].say(text, exempt=exempt)

    @rule(end=ENDS, max_bytes=BOUNDS)
    def send(self, end: str, max_bytes: int) -> None:
        if end == "worker" and self.welcome is not None:
            return
        channel = self.ends[end].channel
        if self.polling:
            channel.rewind()
        packet = channel.packet(max_bytes)
        assert len(packet) <= max_bytes or len(json.loads(packet)["frames"]) <= 1
        self.ends[end].wire.append(packet)

    @precondition(lambda self: self.welcome is None)
    @rule(end=ENDS)
    def deliver(self, end: str) -> None:
        if wire := self.ends[end].wire:
            self._other(end).hear(wire.popleft())

    @precondition(lambda self: self.welcome is None and self.polling)
    @rule(end=ENDS, which=st.integers(0, 50), times=st.integers(0, 2))
    def deliver_out_of_turn(self, end: str, which: int, times: int) -> None:
        """A poll is lost (0 times), overtaken by a later one, or comes twice."""
        wire = self.ends[end].wire
        if wire:
            packet = wire[which % len(wire)]
            wire.remove(packet)
            for _ in range(times):
                self._other(end).hear(packet)

    def _other(self, end: str) -> End:
        return self.ends["hub" if end == "worker" else "worker"]

    @invariant()
    def once_and_in_order(self) -> None:
        for name, end in self.ends.items():
            heard = self._other(name).heard
            assert heard == end.said[: len(heard)]

    @invariant()
    def the_books_are_right(self) -> None:
        for name, end in self.ends.items():
            channel = end.channel
            assert channel.unacked == len(end.said) - channel.acked
            assert channel.weight == sum(end.weights[channel.acked :]) >= 0
            assert channel.acked <= self._other(name).channel.received <= channel.sent
            assert 0 <= channel.ack_owed <= channel.received == len(end.heard)

    def teardown(self) -> None:
        """Once the carrier behaves, everything arrives and nothing is left over."""
        self.take_over(self.polling)
        self.deliver_welcome()
        for _ in range(1 + sum(len(end.said) for end in self.ends.values())):
            for name, end in self.ends.items():
                self.send(name, 200)
                while end.wire:
                    self.deliver(name)
        for name, end in self.ends.items():
            assert self._other(name).heard == end.said
            assert (end.channel.unacked, end.channel.weight) == (0, 0)


TestHostileCarrier = HostileCarrier.TestCase
TestHostileCarrier.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


# --- nothing but ProtocolError ------------------------------------------------------------------------


def decodes_or_refuses(data: bytes | str) -> None:
    for decode in DECODERS.values():
        with contextlib.suppress(ProtocolError):
            protocol.encode(decode(data))


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    decodes_or_refuses(data)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**53 - 1, 2**70)
    | st.floats()
    | st.text(st.characters(codec=None))
)
NAMES = st.sampled_from(
    ["n", "ack", "frames", "t", "job", "text", "delta", "code", "models", "id", "hello", "protocol"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_any_json(value: Any) -> None:
    """NaN, Infinity, huge integers and lone surrogates included: json.dumps writes them all."""
    decodes_or_refuses(json.dumps(value))


MESSAGES: list[Any] = [
    *({"n": 1, "ack": 0, "frames": [row["value"]]} for row in golden("worker_frames")),
    *({"n": 1, "ack": 0, "frames": [row["value"]]} for row in golden("hub_frames")),
    *(row["value"] for row in golden("packets")),
    *(row["value"] for row in golden("hellos")),
]


def with_one_member_replaced(draw: st.DrawFn, value: Any) -> Any:
    """Goes down a random path, and puts something else at its end."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 4)) == 0:
        return draw(VALUES)
    if isinstance(value, list):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], with_one_member_replaced(draw, value[at]), *value[at + 1 :]]
    name = draw(st.sampled_from(sorted(value)))
    return {**value, name: with_one_member_replaced(draw, value[name])}


@st.composite
def nearly_right(draw: st.DrawFn) -> str:
    return json.dumps(with_one_member_replaced(draw, draw(st.sampled_from(MESSAGES))))


@settings(max_examples=500)
@given(nearly_right())
def test_messages_with_one_thing_wrong(text: str) -> None:
    decodes_or_refuses(text)


@given(st.sampled_from(MESSAGES), st.data())
def test_messages_cut_or_scratched(message: Any, data: st.DataObject) -> None:
    raw = bytearray(json.dumps(message).encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    decodes_or_refuses(bytes(raw))
    decodes_or_refuses(bytes(raw[:at]))


def test_nan_is_no_json() -> None:
    with pytest.raises(ProtocolError):
        worker_frame('{"t":"status","state":"ready","until":NaN}')


def test_the_body_of_a_job_is_whole() -> None:
    frame = hub_frame(
        '{"t":"job","job":"j","kind":"chat","model":"m","body":{"a":"\\ud83d"},"deadline_s":1}'
    )
    assert msgspec.json.decode(frame.body) == {"a": "\ufffd"}
