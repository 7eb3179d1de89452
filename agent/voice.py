"""Parts of an answer as frames: whole text, in pieces that fit, in words the hub's decoder accepts."""

import json
from collections.abc import Iterator
from typing import Any

import orjson
from msgspec import UNSET

from agent.engines import AwaitsHuman, Delta, EngineFailure, Finish, Part, Starts, Text
from hub.protocol import End, Fail, Piece, Started, Waiting, encode, mend

MAX_PIECE_CHARS = 16_384
MAX_LABEL = 200
MAX_SENTENCE = 4_000
MAX_PAUSE_S = 10 * 86_400.0


class Voice:
    """One job's answer on its way into frames; it holds back half a surrogate pair."""

    def __init__(self, job: str, max_bytes: int) -> None:
        self._job = job
        self._max_bytes = max_bytes
        self._half = ""

    def frames(self, part: Part) -> Iterator[bytes]:
        """The encoded frames that say `part`. Raises EngineFailure for a delta that fits no packet."""
        match part:
            case Starts():
                yield encode(Started(self._job))
            case AwaitsHuman():
                yield encode(Waiting(self._job))
            case Text(text=""):
                yield encode(Piece(self._job))
            case Text(text=text):
                yield from self._text(text)
            case Delta(delta=delta):
                yield from self.rest()
                yield self._delta(delta)
            case Finish():
                yield from self.rest()
                yield encode(self._end(part))

    def rest(self) -> Iterator[bytes]:
        """What was held back; half a pair whose other half never came is U+FFFD."""
        half, self._half = self._half, ""
        if half:
            yield encode(Piece(self._job, whole(half)))

    def failure(self, failure: EngineFailure) -> bytes:
        """The frame for a failure."""
        pause = failure.retry_after_s
        return encode(
            Fail(
                self._job,
                failure.code,
                whole(failure.message)[:MAX_SENTENCE],
                None if pause is None else min(max(pause, 0.0), MAX_PAUSE_S),
                UNSET if failure.ran is None else failure.ran,
            )
        )

    def _text(self, text: str) -> Iterator[bytes]:
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        text = whole(text[:-1] if self._half else text)
        # A character is at most six bytes of JSON: a piece stays far below the packet's bound.
        size = max(1, min(MAX_PIECE_CHARS, self._max_bytes // 16))
        for at in range(0, len(text), size):
            yield encode(Piece(self._job, text[at : at + size]))

    def _delta(self, delta: dict[str, Any]) -> bytes:
        frame = encode(Piece(self._job, delta=mended(delta)))
        if len(frame) > self._max_bytes - 200:
            raise EngineFailure("upstream_error", "one delta of the answer is too large to carry")
        return frame

    def _end(self, finish: Finish) -> End:
        usage = None if finish.usage is None else mended(finish.usage)
        reason = whole(finish.finish_reason)[:MAX_LABEL]
        return End(self._job, reason, usage, finish.truncated)


def whole(text: str) -> str:
    """`text` with surrogate pairs joined and lone halves replaced by U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mended(value: dict[str, Any]) -> dict[str, Any]:
    """`value` as it is, or with its lone surrogates replaced if it has any."""
    try:
        encode(value)
    except UnicodeEncodeError:
        mended: dict[str, Any] = orjson.loads(mend(json.dumps(value)))
        return mended
    return value
