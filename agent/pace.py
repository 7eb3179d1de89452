"""How often a tab sends: a gap that grows when the site says "too many", and a ceiling a day for all tabs.

The twin of the userscript's `pace.js`. Times are seconds since 1970, so that a pause also ends while the
machine sleeps.
"""

from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

_QUIET_SENDS = 5
"""So many sends without a complaint halve the gap again."""


class Limits(Struct, frozen=True):
    """Seconds between two sends of a tab, the longest that these may grow to, and sends a day."""

    between_s: Annotated[float, Meta(ge=0)] = 10.0
    longest_s: Annotated[float, Meta(ge=0)] = 600.0
    daily: Annotated[int, Meta(ge=1)] = 300


class _Count(Struct):
    day: str = ""
    sends: int = 0


class Day:
    """How many prompts left today, by local time; kept in `file` for the next start."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = _read(file)

    def sent(self, now: float) -> None:
        """A prompt left. A file that cannot be written is no reason to stop."""
        self._count = _Count(_day(now).isoformat(), self.sends(now) + 1)
        try:
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self._count))
            fresh.replace(self._file)
        except OSError:
            pass

    def sends(self, now: float) -> int:
        """So many today."""
        return self._count.sends if self._count.day == _day(now).isoformat() else 0

    def left_s(self, now: float) -> float:
        """Seconds until tomorrow."""
        tomorrow = datetime.combine(_day(now) + timedelta(days=1), time())
        return tomorrow.timestamp() - now


class Pace:
    """When one tab may send again."""

    def __init__(self, limits: Limits, day: Day) -> None:
        self._limits = limits
        self._day = day
        self._gap_s = limits.between_s
        self._sent_at = 0.0
        self._not_before = 0.0
        self._quiet = 0

    def adjust(self, limits: Limits) -> None:
        """New limits; what was counted stays, and so does a gap that has grown."""
        has_grown = self._gap_s > self._limits.between_s
        self._limits = limits
        self._gap_s = self._within(self._gap_s) if has_grown else limits.between_s

    def wait_s(self, now: float) -> float:
        """Seconds until the next send may happen; 0 is now."""
        # A clock that was set back must not make the gap longer than it is.
        gap_s = min(self._sent_at + self._gap_s - now, self._gap_s)
        is_full = self._day.sends(now) >= self._limits.daily
        return max(0.0, gap_s, self._not_before - now, self._day.left_s(now) if is_full else 0.0)

    def sent(self, now: float) -> None:
        """A prompt left."""
        self._day.sent(now)
        self._sent_at = now
        self._quiet += 1
        if self._quiet > _QUIET_SENDS:
            self._set_gap(self._gap_s / 2)

    def limited(self, now: float, retry_after_s: float = 0.0) -> None:
        """The site said that this was too often."""
        self._set_gap(self._gap_s * 2)
        self._not_before = max(self._not_before, now + retry_after_s)

    def _set_gap(self, seconds: float) -> None:
        self._gap_s = self._within(seconds)
        self._quiet = 0

    def _within(self, seconds: float) -> float:
        limits = self._limits
        return min(max(seconds, limits.between_s), max(limits.between_s, limits.longest_s))


def _read(file: Path) -> _Count:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Count)
    except (OSError, msgspec.DecodeError):
        return _Count()


def _day(now: float) -> date:
    return datetime.fromtimestamp(now).date()
