"""One job in one worker's hands: what is due when, and what may follow."""

import pytest

from hub.protocol import FAILURES, Fail
from hub.rules.attempt import Attempt, Phase
from hub.settings import Deadlines

DEADLINES = Deadlines(offer_s=10, human_s=100, first_piece_s=50, between_pieces_s=20)


def attempt(*steps: str) -> Attempt:
    """An attempt offered at 0 after steps at 1, 2, 3 …"""
    made = Attempt(DEADLINES, 0.0)
    for now, step in enumerate(steps, start=1):
        getattr(made, step)(float(now))
    return made


@pytest.mark.parametrize(
    ("steps", "phase", "due"),
    [
        ([], Phase.OFFERED, 10),
        (["waiting"], Phase.WAITING, 101),
        (["waiting", "waiting"], Phase.WAITING, 101),
        (["started"], Phase.STARTED, 51),
        (["started", "started"], Phase.STARTED, 51),
        (["waiting", "started"], Phase.STARTED, 52),
        (["started", "waiting"], Phase.STARTED, 51),
        (["piece"], Phase.ANSWERING, 21),
        (["started", "piece", "piece"], Phase.ANSWERING, 23),
        (["piece", "started"], Phase.ANSWERING, 21),
        (["piece", "waiting"], Phase.ANSWERING, 21),
        (["heartbeat"], Phase.STARTED, 51),
        (["started", "heartbeat"], Phase.STARTED, 52),
        (["waiting", "heartbeat"], Phase.STARTED, 52),
        (["piece", "heartbeat"], Phase.ANSWERING, 22),
    ],
)
def test_what_is_due_follows_from_what_was_heard(steps, phase, due):
    made = attempt(*steps)
    assert (made.phase, made.due) == (phase, due)
    assert made.has_started is (phase in (Phase.STARTED, Phase.ANSWERING))
    assert made.leaves_early is (phase is Phase.OFFERED)


def test_a_failure_that_proves_nothing_ran_may_go_elsewhere():
    for code, failure in FAILURES.items():
        for steps in ([], ["waiting"], ["started"]):
            made = attempt(*steps)
            assert made.may_go_elsewhere(Fail("j", code)) is failure.proves_not_run
            assert made.may_go_elsewhere(Fail("j", code, ran=False)) is True
            assert made.may_go_elsewhere(Fail("j", code, ran=True)) is False


@pytest.mark.parametrize("code", FAILURES)
def test_an_answer_that_has_begun_never_goes_elsewhere(code):
    assert not attempt("piece").may_go_elsewhere(Fail("j", code))
    assert not attempt("piece").may_go_elsewhere(Fail("j", code, ran=False))
