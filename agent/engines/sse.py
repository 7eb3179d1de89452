"""Server-sent events out of bytes, however the network cut them."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
MAX_EVENT_BYTES = 32 * 1024 * 1024


class Event(NamedTuple):
    """One event; `data` None is a comment, which only says that the server is alive."""

    name: str
    data: str | None


class TooLong(Exception):
    """An event is longer than MAX_EVENT_BYTES."""


class EventParser:
    """Feed it chunks as they come; it gives back the events that they complete.

    Lines are decoded whole, so a character cut in two by the network stays whole.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[str] = []
        self._name = ""
        self._size = 0
        self._ended_in_cr = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes. Raises TooLong."""
        if not chunk:
            return
        if self._ended_in_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._ended_in_cr = False
        if not chunk:
            return
        self._ended_in_cr = chunk.endswith(b"\r")
        self._measure(len(chunk))
        *lines, rest = _LINE_END.split(chunk)
        for line in lines:
            self._line.append(line)
            whole, self._line = b"".join(self._line), []
            yield from self._take(whole)
        if rest:
            self._line.append(rest)

    def end(self) -> Iterator[Event]:
        """The stream is over: what servers leave without its last empty line counts all the same."""
        whole, self._line = b"".join(self._line), []
        if whole:
            yield from self._take(whole)
        yield from self._take(b"")

    def _measure(self, more: int) -> None:
        self._size += more
        if self._size > MAX_EVENT_BYTES:
            raise TooLong

    def _take(self, line: bytes) -> Iterator[Event]:
        text = line.decode("utf-8", "replace").removeprefix("\ufeff")
        if not text:
            yield from self._dispatch()
            return
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "":
            self._size = sum(map(len, self._data))
            yield Event("", None)
        elif name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value

    def _dispatch(self) -> Iterator[Event]:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], "", 0
        if data:
            yield Event(name, "\n".join(data))
