"""How often a tab sends: the same rules as the userscript's, with its clock as a value."""

from datetime import datetime

import pytest

from agent.pace import Day, Limits, Pace

LIMITS = Limits(between_s=10, longest_s=60, daily=5)
NOON = datetime(2026, 10, 25, 12).timestamp()
"""Of a day that has 25 hours in some places."""


@pytest.fixture
def day(tmp_path):
    return Day(tmp_path / "day.json")


def test_a_gap_lies_between_two_sends(day):
    pace = Pace(LIMITS, day)
    assert pace.wait_s(NOON) == 0
    pace.sent(NOON)
    assert pace.wait_s(NOON + 4) == 6
    assert pace.wait_s(NOON + 10) == 0


def test_the_gap_grows_when_the_site_complains_and_shrinks_again(day):
    pace = Pace(Limits(10, 60, 300), day)
    for expected in (20, 40, 60, 60):
        pace.limited(NOON)
        pace.sent(NOON)
        assert pace.wait_s(NOON) == expected
    for _ in range(5):
        pace.sent(NOON)
    assert pace.wait_s(NOON) == 30
    for _ in range(20):
        pace.sent(NOON)
    assert pace.wait_s(NOON) == 10


def test_the_site_may_ask_for_a_pause(day):
    pace = Pace(LIMITS, day)
    pace.limited(NOON, 1200)
    pace.limited(NOON, 5)
    assert pace.wait_s(NOON) == 1200
    assert pace.wait_s(NOON + 1200) == 0


def test_a_day_has_a_ceiling_until_midnight(day):
    pace, other = Pace(LIMITS, day), Pace(LIMITS, day)
    for _ in range(3):
        pace.sent(NOON)
    for _ in range(2):
        other.sent(NOON)
    midnight = datetime(2026, 10, 26).timestamp()
    assert pace.wait_s(NOON + 60) == other.wait_s(NOON + 60) == midnight - NOON - 60
    assert pace.wait_s(midnight) == 0


def test_what_was_sent_today_lasts(tmp_path):
    Day(tmp_path / "day.json").sent(NOON)
    again = Day(tmp_path / "day.json")
    assert (again.sends(NOON), again.sends(NOON + 86_400)) == (1, 0)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"day":7}'])
def test_a_broken_file_counts_as_none(tmp_path, text):
    (tmp_path / "day.json").write_text(text)
    assert Day(tmp_path / "day.json").sends(NOON) == 0


def test_a_file_that_cannot_be_written_is_no_reason_to_stop(tmp_path):
    day = Day(tmp_path / "no" / "such" / "folder.json")
    day.sent(NOON)
    assert day.sends(NOON) == 1


def test_a_clock_that_was_set_back_makes_no_gap_longer(day):
    pace = Pace(LIMITS, day)
    pace.sent(NOON)
    assert pace.wait_s(NOON - 5_000) == 10


def test_new_limits_hold_at_once_but_for_a_gap_that_has_grown(day):
    pace, grown = Pace(LIMITS, day), Pace(LIMITS, day)
    grown.limited(NOON)
    for each in (pace, grown):
        each.sent(NOON)
        each.adjust(Limits(2, 60, 300))
    assert (pace.wait_s(NOON), grown.wait_s(NOON)) == (2, 20)
    grown.adjust(Limits(2, 15, 300))
    assert grown.wait_s(NOON) == 15
    pace.adjust(Limits(30, 60, 300))
    assert pace.wait_s(NOON) == 30
