"""Sliding windows against the plainest possible model: every window, wherever it begins, counted by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.rules.window import FOREVER, Amounts, Arrivals, Limit

# Eighths are exact in binary, so that "exactly at the edge" means what it says.
STEPS = st.lists(st.integers(-40, 200).map(lambda n: n / 8), max_size=80)
LIMITS = st.lists(
    st.builds(Limit, st.integers(1, 160).map(lambda n: n / 8), st.integers(0, 6)),
    min_size=1,
    max_size=3,
)


def times(steps: list[float]) -> list[float]:
    now, found = 1000.0, []
    for step in steps:
        now += step
        found.append(now)
    return found


def overfull(admitted: list[float], limit: Limit) -> bool:
    """Whether a window of this length, beginning at any admission, holds too many."""
    return any(
        sum(begin <= at < begin + limit.length_s for at in admitted) > limit.most
        for begin in admitted
    )


@given(STEPS, LIMITS)
def test_no_window_ever_holds_too_many_and_none_is_refused_in_vain(steps, limits):
    arrivals, admitted = Arrivals(), []
    clock = -math.inf
    for now in times(steps):
        clock = max(clock, now) if admitted else now
        seen = max([now, *admitted])
        wait = arrivals.wait(now, limits)
        would_overfill = any(overfull([*admitted, seen], limit) for limit in limits)
        assert (wait > 0) == would_overfill
        if not wait:
            arrivals.admit(now, max(limit.length_s for limit in limits))
            admitted.append(seen)
        elif wait < FOREVER:
            # The wait is true: then one more fits, and an eighth earlier it does not.
            assert not any(overfull([*admitted, seen + wait], limit) for limit in limits)
            assert any(overfull([*admitted, seen + wait - 1 / 8], limit) for limit in limits)
    for limit in limits:
        assert not overfull(admitted, limit)


@given(st.floats(1_000, 10**9), st.sampled_from([0.1, 59.999, 60.0, 3_600.0, 86_400.0]))
def test_at_the_very_edge_what_remains_and_the_wait_are_of_one_mind(at, length):
    """A sum of floats may be rounded where the difference is not."""
    arrivals, limit = Arrivals([at]), Limit(length, 1)
    for now in (at + length, math.nextafter(at + length, 0), math.nextafter(at + length, 2**40)):
        assert arrivals.remaining(now, limit) == (arrivals.wait(now, [limit]) == 0)


def replayed(steps: list[float], limits: list[Limit]) -> Arrivals:
    arrivals = Arrivals()
    for now in times(steps):
        if not arrivals.wait(now, limits):
            arrivals.admit(now, max(limit.length_s for limit in limits))
    return arrivals


@given(STEPS, LIMITS)
def test_what_remains_is_what_can_still_be_admitted(steps, limits):
    last = times([*steps, 0.0])[-1]
    for limit in limits:
        arrivals, more = replayed(steps, limits), 0
        while not arrivals.wait(last, [limit]):
            arrivals.admit(last, limit.length_s)
            more += 1
        assert replayed(steps, limits).remaining(last, limit) == more


def test_a_burst_over_a_minutes_edge_admits_exactly_the_limit():
    arrivals, limit = Arrivals(), Limit(60, 10)
    at = [59.0 + n / 100 for n in range(200)]
    admitted = 0
    for now in at:
        if not arrivals.wait(now, [limit]):
            arrivals.admit(now, 60)
            admitted += 1
    assert admitted == 10


def test_windows_go_on_where_an_earlier_life_ended():
    limit = Limit(60, 2)
    arrivals = Arrivals([10.0, 30.0])
    assert arrivals.wait(40.0, [limit]) == 30.0
    assert arrivals.wait(70.0, [limit]) == 0


def test_memory_is_bounded_by_the_limit():
    arrivals, limit = Arrivals(), Limit(10, 5)
    for now in range(100_000):
        if not arrivals.wait(float(now), [limit]):
            arrivals.admit(float(now), 10)
    assert len(arrivals) <= 5
    assert len(arrivals._times) < 200


# --- amounts -------------------------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(
        st.integers(0, 80).map(lambda n: n / 8),
        st.integers(0, 40),
        st.one_of(st.none(), st.integers(0, 60)),
    ),
    max_size=60,
)


@given(ACTS, st.integers(1, 80).map(lambda n: n / 8), st.integers(0, 60))
def test_amounts_reserved_and_trued_up_against_counting_by_hand(acts, length, most):
    amounts, model = Amounts(length), []
    now = 100.0
    for step, amount, actual in acts:
        now += step
        used = sum(entry[1] for entry in model if entry[0] + length > now)
        wait = amounts.wait(now, amount, most)
        if amount > most:
            assert wait == FOREVER
            continue
        assert (wait == 0) == (used + amount <= most)
        assert amounts.used(now) == used
        if wait:
            later = now + wait
            free = lambda at: most - sum(e[1] for e in model if e[0] + length > at)  # noqa: E731
            assert free(later) >= amount
            assert free(later - 1 / 8) < amount
            continue
        entry = amounts.add(now, amount)
        plain = [now, amount]
        model.append(plain)
        if actual is not None:
            amounts.correct(entry, actual)
            plain[1] = actual


def test_a_correction_after_the_window_has_passed_changes_nothing():
    amounts = Amounts(10)
    entry = amounts.add(0.0, 5)
    assert amounts.used(10.0) == 0
    amounts.correct(entry, 50)
    assert amounts.used(10.0) == 0
    assert amounts.wait(10.0, 5, 5) == 0


def test_a_reservation_given_back_leaves_nothing():
    amounts = Amounts(10)
    entry = amounts.add(0.0, 5)
    amounts.correct(entry, 0)
    assert amounts.used(1.0) == 0


@pytest.mark.parametrize("most", [0, -1])
def test_a_limit_of_nothing_admits_nothing(most):
    assert Arrivals().wait(0.0, [Limit(60, most)]) == FOREVER
