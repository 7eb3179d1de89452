"""Cut an answer where its caller wants it to end, for workers that cannot do so themselves.

Pieces go in as they come, and what may leave comes out at once: held back is only what may yet turn out to be a
stop sequence, or to lie beyond the last token. How the text was split into pieces makes no difference.
"""

from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

from ..protocol import Piece
from .deltas import clean_delta
from .tokens import INLINE_CHARACTERS, beginning, safe_end

Reason = Literal["stop", "length"]


class Bounds(NamedTuple):
    """Where the caller wants its answer to end, at the latest."""

    stops: tuple[str, ...]
    tokens: int | None

    def left_by(self, features: Collection[str]) -> "Cutting | None":
        """What is left to do for a worker with these features; None if it does all of it."""
        stops = () if "stop" in features else self.stops
        tokens = None if "sampling" in features else self.tokens
        return Cutting(stops, tokens) if stops or tokens is not None else None


class StopFinder:
    """Passes text on up to the stop sequence that is complete first (of those, the longest)."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._beginnings = {stop[:end] for stop in stops for end in range(1, len(stop))}
        self._longest = max(map(len, stops), default=1)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What may leave now, of this and of what was held back."""
        text = self._held + text
        found = [
            (start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0
        ]
        self.found = bool(found)
        end = min(found)[1] if found else len(text) - self._hold(text)
        self._held = "" if found else text[end:]
        return text[:end]

    def _hold(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop sequence."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-length:] in self._beginnings:
                return length
        return 0

    def rest(self) -> str:
        """Nothing follows: what was held back is no stop sequence."""
        rest, self._held = self._held, ""
        return rest


class TokenBudget:
    """Passes text on up to a number of tokens.

    A token has at least one byte. So as many bytes as tokens are left may always leave, whatever follows, and
    nothing is counted until there are more; then only up to where a token surely ends, and never again.
    """

    def __init__(self, tokens: int) -> None:
        self._left = tokens
        self._open = ""
        """The text since a token surely ended."""
        self._gone = 0
        """How many of its characters have left."""
        self.spent = False
        """There was more than fits."""

    def push(self, text: str) -> str:
        """What may leave now, of this and of what was held back."""
        self._open += text
        if self._fitting() < len(self._open) or len(self._open) > INLINE_CHARACTERS:
            return self._settle()
        return self._release(len(self._open))

    def rest(self) -> str:
        """No more text follows in this run: all of it can be counted."""
        return self._settle() + self._count(len(self._open))

    def spend(self, text: str) -> bool:
        """Count what must leave whole; False if it does not fit."""
        tokens, _ = beginning(text, self._left)
        self.spent = tokens > self._left
        self._left -= tokens
        return not self.spent

    def _fitting(self) -> int:
        """How many characters of the open text have no more bytes than tokens are left."""
        if self._open.isascii() or 4 * len(self._open) <= self._left:
            return min(len(self._open), self._left)
        return len(self._open.encode()[: self._left].decode(errors="ignore"))

    def _settle(self) -> str:
        """Count what has surely ended, a few thousand characters at a time."""
        out = ""
        while not self.spent and (end := self._surely_ended()):
            out += self._count(end)
        self.spent = self.spent or (self._left == 0 and self._open != "")
        return out if self.spent else out + self._release(self._fitting())

    def _surely_ended(self) -> int:
        end = safe_end(self._open[: INLINE_CHARACTERS + 1])
        # So long a word is cut where it stands: that costs one token at most.
        return end or (INLINE_CHARACTERS if len(self._open) > INLINE_CHARACTERS else 0)

    def _count(self, end: int) -> str:
        """Spend the tokens of the open text's beginning, which leaves as far as they reach."""
        tokens, fitting = beginning(self._open[:end], self._left)
        if tokens > self._left:
            self.spent = True
            return self._release(fitting)
        out = self._release(end)
        self._left -= tokens
        self._open = self._open[end:]
        self._gone -= end
        return out

    def _release(self, end: int) -> str:
        start, self._gone = self._gone, max(end, self._gone)
        return self._open[start:end]


class Cutting:
    """One answer on its way: what its worker says goes in, what its caller gets comes out."""

    def __init__(self, stops: tuple[str, ...], tokens: int | None) -> None:
        self.reason: Reason | None = None
        """Why the answer ends here; nothing more comes out then."""
        self._stops = StopFinder(stops)
        self._budget = None if tokens is None else TokenBudget(tokens)
        self._run = "content"
        """The member of a delta that is being counted."""

    def push(self, piece: Piece) -> list[Piece]:
        """What may leave now."""
        deltas = [*self._texts([("content", piece.text)])] if piece.text else []
        if piece.delta:
            deltas += self._delta(clean_delta(piece.delta))
        return _pieces(piece.job, deltas)

    def end(self, job: str) -> list[Piece]:
        """The worker has said all; what was held back, as far as it fits."""
        return _pieces(job, [*self._held_back()] if self.reason is None else [])

    def _delta(self, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        names = ("reasoning_content", "content", "refusal")
        yield from self._texts([(name, delta.pop(name)) for name in names if name in delta])
        if "images" in delta and self.reason is None:
            # They stand in the content themselves, so what was held back goes before them.
            yield from self._held_back()
        calls = delta.get("tool_calls", ())
        if calls and self._budget is not None and self.reason is None:
            yield from self._end_of_run()
            if self.reason is None and not self._budget.spend("".join(map(_words, calls))):
                self.reason = "length"
        if delta and self.reason is None:
            yield delta

    def _texts(self, parts: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
        for name, text in parts:
            if self.reason is None:
                yield from self._content(text) if name == "content" else self._counted(name, text)

    def _content(self, text: str) -> Iterator[dict[str, Any]]:
        yield from self._counted("content", self._stops.push(text))
        if self._stops.found and self.reason is None:
            yield from self._end_of_run()
            self.reason = self.reason or "stop"

    def _held_back(self) -> Iterator[dict[str, Any]]:
        yield from self._counted("content", self._stops.rest())
        yield from self._end_of_run()

    def _counted(self, name: str, text: str) -> Iterator[dict[str, Any]]:
        if self._budget is None:
            yield {name: text}
            return
        if text and name != self._run:
            yield from self._end_of_run()
            self._run = name
        if text and self.reason is None:
            yield from self._heed({name: self._budget.push(text)})

    def _end_of_run(self) -> Iterator[dict[str, Any]]:
        if self._budget is not None and self.reason is None:
            yield from self._heed({self._run: self._budget.rest()})

    def _heed(self, delta: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self._budget is not None and self._budget.spent:
            self.reason = "length"
        yield delta


def _words(call: dict[str, Any]) -> str:
    function = call["function"]
    return str(function.get("name", "") + function["arguments"])


def _pieces(job: str, deltas: list[dict[str, Any]]) -> list[Piece]:
    """Deltas as pieces; plain text as such, and nothing for what says nothing."""
    pieces = []
    for delta in deltas:
        if text := delta.get("content"):
            pieces.append(Piece(job, text))
        elif any(delta.values()):
            pieces.append(Piece(job, delta=delta))
    return pieces
