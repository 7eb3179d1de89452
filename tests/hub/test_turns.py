"""Turns: fair between flows, by weight, and nobody starves."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.rules.turns import Turns


class Line:
    """The plainest line over `Turns`."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.waiting: list[tuple[float, int, str]] = []
        self._number = 0

    def join(self, flow: str, weight: int = 1) -> int:
        self._number += 1
        self.waiting.append((self.turns.join(flow, weight), self._number, flow))
        return self._number

    def serve(self) -> str:
        first = min(self.waiting)
        self.waiting.remove(first)
        self.turns.leave(first[2], first[0], served=True)
        return first[2]


def test_a_thousand_requests_do_not_delay_anothers_first():
    line = Line()
    for _ in range(1_000):
        line.join("many")
    assert [line.serve() for _ in range(10)] == ["many"] * 10
    line.join("one")
    assert "one" in [line.serve() for _ in range(2)]


def test_turns_alternate():
    line = Line()
    for flow in "aaabbb":
        line.join(flow)
    assert [line.serve() for _ in range(6)] == list("ababab")


def test_who_waits_alone_is_served_in_order_of_arrival():
    line = Line()
    joined = [line.join("a") for _ in range(5)]
    numbers = []
    while line.waiting:
        numbers.append(min(line.waiting)[1])
        line.serve()
    assert numbers == joined


@given(st.lists(st.sampled_from([1, 2, 4, 8]), min_size=2, max_size=6))
def test_who_always_waits_is_served_by_weight(weights):
    line, served = Line(), Counter()
    for flow, weight in enumerate(weights):
        line.join(str(flow), weight)
        line.join(str(flow), weight)
    for _ in range(sum(weights) * 10):
        flow = line.serve()
        served[flow] += 1
        line.join(flow, weights[int(flow)])
    for flow, weight in enumerate(weights):
        assert abs(served[str(flow)] - weight * 10) <= weight + 1


@given(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=5), st.integers(0, 20))
def test_nobody_is_overtaken_more_often_than_the_weights_say(weights, before):
    line = Line()
    for flow, weight in enumerate(weights):
        for _ in range(2):
            line.join(str(flow), weight)
    for _ in range(before):
        flow = line.serve()
        line.join(flow, weights[int(flow)])
    line.join("patient", 1)
    overtaken = Counter()
    while (flow := line.serve()) != "patient":
        overtaken[flow] += 1
        line.join(flow, weights[int(flow)])
    for flow, weight in enumerate(weights):
        assert overtaken[str(flow)] <= weight + 1


def test_a_flow_is_remembered_only_while_it_waits():
    turns = Turns()
    tag = turns.join("a", 1)
    assert turns.waiting("a") == 1
    turns.leave("a", tag, served=False)
    assert turns.waiting("a") == 0
    assert not turns._flows


def test_who_comes_back_has_the_old_place():
    line = Line()
    line.join("a")
    line.join("b")
    first = min(line.waiting)
    line.serve()
    line.turns.rejoin(first[2], first[0])
    line.waiting.append(first)
    assert line.serve() == "a"


def test_who_slept_gains_nothing_by_it():
    line = Line()
    for _ in range(100):
        line.join("busy")
        line.serve()
    for _ in range(3):
        line.join("late")
        line.join("busy")
    assert Counter(line.serve() for _ in range(4)) == {"late": 2, "busy": 2}
