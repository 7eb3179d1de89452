"""Smooth weighted round-robin."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.rules.rotation import Rotation

WEIGHTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2), st.integers(1, 20), min_size=1
)


def rotation_of(weights: dict[str, int]) -> Rotation[str]:
    rotation = Rotation[str]()
    for name, weight in weights.items():
        rotation.put(name, weight)
    return rotation


def turns(rotation: Rotation[str], number: int) -> list[str | None]:
    return [rotation.pick() for _ in range(number)]


class Nginx:
    """The method as nginx has it: everybody gains at every turn."""

    def __init__(self) -> None:
        self.credit: dict[str, int] = {}

    def pick(self, weights: dict[str, int]) -> str:
        for name, weight in weights.items():
            self.credit[name] = self.credit.get(name, 0) + weight
        best = max(weights, key=lambda name: self.credit[name])
        self.credit[best] -= sum(weights.values())
        return best


def test_turns_are_spread_and_not_in_bursts():
    assert turns(rotation_of({"a": 5, "b": 1, "c": 1}), 14) == [*"aabacaa", *"aabacaa"]


def test_equal_weights_take_turns():
    assert turns(rotation_of({"a": 1, "b": 1, "c": 1}), 6) == [*"abcabc"]


def test_nobody_is_picked_from_nobody():
    assert Rotation[str]().pick() is None
    assert not Rotation[str]().has(lambda member: True)


def test_a_member_that_left_starts_afresh():
    rotation = rotation_of({"a": 1, "b": 9})
    turns(rotation, 5)
    for member in "ab":
        rotation.forget(member)
    for member, weight in {"a": 5, "b": 1, "c": 1}.items():
        rotation.put(member, weight)
    assert turns(rotation, 7) == [*"aabacaa"]


def test_forgetting_a_stranger_is_nothing():
    Rotation[str]().forget("nobody")


def test_who_steps_aside_is_not_picked_and_not_owed_for_it():
    rotation = rotation_of({"a": 1, "b": 1})
    rotation.step_aside("a")
    assert turns(rotation, 10) == [*"bbbbbbbbbb"]
    rotation.step_back("a")
    assert turns(rotation, 4) == [*"abab"]


def test_who_is_found_unable_steps_aside_before_anybody_gains():
    rotation = rotation_of({"a": 1, "b": 1})
    unable = {"a": None}
    assert [rotation.pick(lambda m: unable.get(m, True)) for _ in range(3)] == [*"bbb"]
    assert turns(rotation, 2) == [*"bb"]
    rotation.step_back("a")
    assert turns(rotation, 4) == [*"abab"]


def test_a_new_weight_holds_from_the_next_turn_and_debts_stay():
    rotation = rotation_of({"a": 1, "b": 1})
    assert rotation.pick() == "a"
    rotation.put("b", 3)
    assert Counter(turns(rotation, 400)) == {"a": 100, "b": 300}


def test_weights_may_change_while_a_member_is_aside():
    rotation = rotation_of({"a": 1, "b": 1})
    rotation.step_aside("b")
    rotation.weigh("b", 3)
    assert turns(rotation, 2) == [*"aa"]
    rotation.step_back("b")
    assert Counter(turns(rotation, 400)) == {"a": 100, "b": 300}


def test_kinds_that_are_not_accepted_gain_nothing():
    rotation = Rotation[str]()
    rotation.put("a", 1, "plain")
    rotation.put("b", 1, "fancy")
    assert [rotation.pick(accepts=lambda kind: kind == "fancy") for _ in range(10)] == [*"b" * 10]
    assert turns(rotation, 4) == [*"abab"]


def test_a_group_is_swept_of_outdated_entries():
    rotation = rotation_of({"a": 1, "b": 1})
    for _ in range(1000):
        rotation.pick()
        rotation.step_aside("a")
        rotation.step_back("a")
    (group,) = rotation._groups.values()
    assert len(group.entries) < 50


@given(weights=WEIGHTS, number=st.integers(1, 200))
def test_turns_are_exactly_nginxs(weights, number):
    nginx = Nginx()
    expected = [nginx.pick(weights) for _ in range(number)]
    assert turns(rotation_of(weights), number) == expected


@given(weights=WEIGHTS, presence=st.lists(st.sets(st.sampled_from("abcdefgh")), max_size=50))
def test_and_so_they_are_when_members_come_and_go(weights, presence):
    nginx, rotation = Nginx(), rotation_of(weights)
    for here in presence:
        for name in weights:
            (rotation.step_back if name in here else rotation.step_aside)(name)
        present = {name: weight for name, weight in weights.items() if name in here}
        assert rotation.pick() == (nginx.pick(present) if present else None)


@given(weights=WEIGHTS)
def test_after_a_whole_round_everybody_had_exactly_their_share(weights):
    assert Counter(turns(rotation_of(weights), sum(weights.values()))) == weights


@given(weights=WEIGHTS, number=st.integers(1, 200))
def test_at_every_moment_turns_are_proportional(weights, number):
    counts = Counter(turns(rotation_of(weights), number))
    total = sum(weights.values())
    for member, weight in weights.items():
        assert abs(counts[member] - number * weight / total) <= len(weights)


@given(weights=WEIGHTS, picks=st.lists(st.sets(st.sampled_from("abcdefgh")), max_size=50))
def test_only_those_who_suit_are_picked(weights, picks):
    rotation = rotation_of(weights)
    for suited in picks:
        picked = rotation.pick(suits=suited.__contains__)
        assert rotation.has(suited.__contains__) == bool(suited & set(weights))
        assert picked in suited if suited & set(weights) else picked is None
