"""Lengths of time, and days, as text."""

import calendar
import math
import re

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def go_duration(seconds: float) -> str:
    """As Go writes it, in whole seconds, rounded up: what OpenAI's headers say.

    >>> [go_duration(s) for s in (0, 0.2, 60, 360, 90_061)]
    ['0s', '1s', '1m0s', '6m0s', '25h1m1s']
    """
    whole = max(0, math.ceil(seconds))
    hours, minutes = whole // 3_600, whole // 60 % 60
    text = f"{whole % 60}s"
    if whole >= 60:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def parse_duration(text: str) -> int:
    """Seconds of a length such as `90s`, `15m`, `24h`, `30d`, `2w`. Raises ValueError.

    >>> parse_duration("24h")
    86400
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhdw])", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no length of time; write 90s, 15m, 24h, 30d or 2w")
    return int(found[1]) * SECONDS[found[2]]


def parse_day(text: str) -> int:
    """The Unix seconds at which a day such as `2026-01-31` begins, UTC. Raises ValueError.

    >>> parse_day("1970-01-02")
    86400
    """
    found = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", text.strip())
    if found is not None:
        year, month, day = map(int, found.groups())
        in_calendar = year >= 1970 and 1 <= month <= 12
        if in_calendar and 1 <= day <= calendar.monthrange(year, month)[1]:
            return calendar.timegm((year, month, day, 0, 0, 0))
    raise ValueError(f"{text!r} is no day; write 2026-01-31")
