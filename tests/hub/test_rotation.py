"""Smooth weighted round-robin."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.rules.rotation import Rotation

WEIGHTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2), st.integers(1, 20), min_size=1
)


def turns(rotation: Rotation[str], weights: dict[str, int], number: int) -> list[str | None]:
    return [rotation.pick(weights.items()) for _ in range(number)]


def test_turns_are_spread_and_not_in_bursts():
    assert turns(Rotation(), {"a": 5, "b": 1, "c": 1}, 14) == [*"aabacaa", *"aabacaa"]


def test_equal_weights_take_turns():
    assert turns(Rotation(), {"a": 1, "b": 1, "c": 1}, 6) == [*"abcabc"]


def test_nobody_is_picked_from_nobody():
    assert Rotation[str]().pick([]) is None


def test_a_member_that_left_starts_afresh():
    rotation = Rotation[str]()
    turns(rotation, {"a": 1, "b": 9}, 5)
    for member in "ab":
        rotation.forget(member)
    assert turns(rotation, {"a": 5, "b": 1, "c": 1}, 7) == [*"aabacaa"]


def test_forgetting_a_stranger_is_nothing():
    Rotation[str]().forget("nobody")


@given(weights=WEIGHTS)
def test_after_a_whole_round_everybody_had_exactly_their_share(weights):
    assert Counter(turns(Rotation(), weights, sum(weights.values()))) == weights


@given(weights=WEIGHTS, number=st.integers(1, 200))
def test_at_every_moment_turns_are_proportional(weights, number):
    counts = Counter(turns(Rotation(), weights, number))
    total = sum(weights.values())
    for member, weight in weights.items():
        assert abs(counts[member] - number * weight / total) <= len(weights)


@given(weights=WEIGHTS, picks=st.lists(st.sets(st.sampled_from("abcdefgh")), max_size=50))
def test_only_candidates_are_picked_whoever_is_there(weights, picks):
    rotation = Rotation[str]()
    for present in picks:
        candidates = [(name, weight) for name, weight in weights.items() if name in present]
        picked = rotation.pick(candidates)
        assert picked in {name for name, _ in candidates} if candidates else picked is None
