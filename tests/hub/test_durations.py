"""Lengths of time as text."""

import pytest

from hub.rules.durations import go_duration, parse_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (0.001, "1s"),
        (59.1, "1m0s"),
        (360, "6m0s"),
        (3_600, "1h0m0s"),
        (90_061, "25h1m1s"),
    ],
)
def test_as_go_writes_it(seconds, text):
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("15m", 900), (" 24h ", 86_400), ("2w", 1_209_600)],
)
def test_as_people_write_it(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1.5h", "-1h", "1h30m", "1y", "\u0661h"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="no length of time"):
        parse_duration(text)
