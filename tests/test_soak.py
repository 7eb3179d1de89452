"""A short soak ends with its proof; and its checker notices every single thing that could be wrong."""

import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy

import pytest

from hub.rules.tokens import count_text
from tests.records import Records
from tests.soak.checker import check
from tests.soak.evidence import BROKEN, LEFT, Attempt, Call, Evidence, Look, Transcript

SECOND = 1_000_000
NOON = 1_795_521_600
"""Unix seconds."""
DAY = NOON // 86_400 * 86_400


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_short_soak_ends_with_its_proof():
    command = [sys.executable, "-m", "tests.soak", "--seconds", "10", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "proof: " in done.stdout


# --- evidence of a small soak in which all is well --------------------------------------------------------


def row(number: int, **members: object) -> dict[str, object]:
    return {
        "id": f"r{number}",
        "user_id": "",
        "key_id": "k",
        "model": "m",
        "state": "completed",
        "finish_reason": "stop",
        "error_code": None,
        "accepted_at": (NOON + number) * SECOND,
        "started_at": (NOON + number) * SECOND + SECOND // 2,
        "settled_at": (NOON + number + 1) * SECOND,
        "deliveries": 1,
        "delivered_chars": 0,
        "prompt_tokens": 5,
        "cached_tokens": 0,
        "completion_tokens": 0,
        "images": 0,
        "cost": 5,
        **members,
    }


def answered(number: int, text: str, **members: object) -> dict[str, object]:
    tokens = count_text(text).tokens
    return row(
        number,
        **{
            "delivered_chars": len(text),
            "completion_tokens": tokens,
            "cost": 5 + tokens,
            **members,
        },
    )


def transcript(number: int, text: str, ending: str, **members: object) -> Transcript:
    seen = Transcript(f"t{number}", "m", f"t{number} words", stream=True)
    seen.began, seen.ended = NOON + number, NOON + number + 1
    seen.request_id, seen.text, seen.endings, seen.dones = f"r{number}", text, [ending], 1
    for name, value in members.items():
        setattr(seen, name, value)
    return seen


def attempt(number: int, *sent: str, **members: object) -> Attempt:
    logged = Attempt(f"r{number}", f"t{number}", "w", "s1", 0.1, list(sent), started=True)
    logged.heard = True
    for name, value in members.items():
        setattr(logged, name, value)
    return logged


def fine() -> Evidence:
    """One of each: complete, failed midway, left, moved on, answered by an agent, and cut off by a kill."""
    rows = [
        answered(1, "t1.1 t1.2 "),
        answered(2, "t2.1 ", state="failed", finish_reason=None, error_code="worker_lost"),
        answered(3, "t3.1 t3.2 ", state="cancelled", finish_reason=None),
        answered(4, "t4.2 ", deliveries=2, started_at=(NOON + 4) * SECOND + SECOND // 10),
        answered(5, "t5.1 "),
        answered(6, "", state="interrupted", finish_reason=None, cost=0, prompt_tokens=0),
    ]
    look = Look({"jobs": 0, "reservations": 0, "sessions": 0}, {"serve": 1})
    evidence = Evidence(
        transcripts=[
            transcript(1, "t1.1 t1.2 ", "stop"),
            transcript(2, "t2.1 ", "worker_lost"),
            transcript(3, "t3.1 ", LEFT, dones=0),
            transcript(4, "t4.2 ", "stop"),
            transcript(5, "t5.1 ", "stop"),
            transcript(6, "", BROKEN, dones=0, request_id=""),
        ],
        attempts=[
            attempt(1, "t1.1 ", "t1.2 ", end="stop"),
            attempt(2, "t2.1 ", "t2.2 "),
            attempt(3, "t3.1 ", "t3.2 ", "t3.3 "),
            attempt(4, failed="rate_limited"),
            attempt(4, "t4.2 ", end="stop", worker="x", session="s2", offered_s=0.4),
        ],
        calls=[Call("t5", ["t5.1 "], "stop")],
        records=Records(rows, [], [], "ok"),
        kills=[NOON + 6.5],
        calm=deepcopy(look),
        first=deepcopy(look),
        last=deepcopy(look),
        log='{"event": "hub is ready"}\n',
    )
    evidence.calm.counts["sessions"] = 4
    sums = ("prompt_tokens", "cached_tokens", "completion_tokens", "images", "cost")
    total = {name: sum(each[name] for each in rows) for name in sums}  # type: ignore[misc]
    total |= {"requests": 6, "completed": 3, "cancelled": 1}
    bucket = {"user_id": "", "key_id": "k", "model": "m"}
    evidence.records.hourly.append({**bucket, "start": NOON, **total})
    evidence.records.daily.append({**bucket, "start": DAY, **total})
    return evidence


def test_the_checker_is_content_when_all_is_well():
    assert check(fine()) == []


# --- and everything that might be wrong with it -----------------------------------------------------------

Spoil = Callable[[Evidence], None]
WRONG: dict[str, tuple[str, Spoil]] = {}


def wrong(check_name: str) -> Callable[[Spoil], Spoil]:
    def remember(spoil: Spoil) -> Spoil:
        WRONG[spoil.__name__] = (check_name, spoil)
        return spoil

    return remember


@wrong("one_end_each")
def a_row_without_an_end(e: Evidence) -> None:
    e.records.rows[0]["settled_at"] = None


@wrong("one_end_each")
def a_row_in_mid_state(e: Evidence) -> None:
    e.records.rows[0]["state"] = "started"


@wrong("one_end_each")
def a_caller_without_an_end(e: Evidence) -> None:
    e.transcripts[0].endings.clear()


@wrong("one_end_each")
def two_ends(e: Evidence) -> None:
    e.transcripts[0].endings.append("worker_lost")


@wrong("one_end_each")
def done_twice(e: Evidence) -> None:
    e.transcripts[0].dones = 2


@wrong("one_end_each")
def never_done(e: Evidence) -> None:
    e.transcripts[0].dones = 0


@wrong("callers_and_journal_agree")
def an_answer_that_is_not_written(e: Evidence) -> None:
    del e.records.rows[0]


@wrong("callers_and_journal_agree")
def an_answer_that_is_written_as_failed(e: Evidence) -> None:
    e.records.rows[0]["state"] = "failed"


@wrong("callers_and_journal_agree")
def another_error_than_was_told(e: Evidence) -> None:
    e.records.rows[1]["error_code"] = "upstream_error"


@wrong("callers_and_journal_agree")
def another_finish_reason(e: Evidence) -> None:
    e.records.rows[0]["finish_reason"] = "length"


@wrong("callers_and_journal_agree")
def less_written_than_delivered(e: Evidence) -> None:
    e.records.rows[0]["delivered_chars"] = 3


@wrong("callers_and_journal_agree")
def interrupted_by_a_hub_that_lived(e: Evidence) -> None:
    e.records.rows[0]["state"] = "interrupted"


@wrong("callers_and_journal_agree")
def broken_off_by_a_hub_that_lived(e: Evidence) -> None:
    e.kills.clear()


@wrong("no_row_is_a_strangers")
def a_row_that_nobody_asked_for(e: Evidence) -> None:
    e.records.rows.append(row(60))


@wrong("no_row_is_a_strangers")
def two_rows_for_one_that_was_cut_off(e: Evidence) -> None:
    e.records.rows.append({**e.records.rows[5], "id": "r6-again"})


@wrong("answers_are_their_workers")
def a_lost_piece(e: Evidence) -> None:
    e.transcripts[0].text = "t1.2 "


@wrong("answers_are_their_workers")
def a_doubled_piece(e: Evidence) -> None:
    e.transcripts[1].text = "t2.1 t2.1 "


@wrong("answers_are_their_workers")
def pieces_out_of_order(e: Evidence) -> None:
    e.transcripts[0].text = "t1.2 t1.1 "


@wrong("answers_are_their_workers")
def another_requests_piece(e: Evidence) -> None:
    e.transcripts[0].text = "t2.1 "


@wrong("answers_are_their_workers")
def complete_and_not_all_there(e: Evidence) -> None:
    e.transcripts[0].text = "t1.1 "


@wrong("answers_are_their_workers")
def complete_without_the_workers_end(e: Evidence) -> None:
    e.attempts[0].end = None


@wrong("answers_are_their_workers")
def truncated_and_told_as_complete(e: Evidence) -> None:
    e.attempts[0].end = "length"


@wrong("answers_are_their_workers")
def an_agents_answer_cut_short(e: Evidence) -> None:
    e.calls[0].sent.append("t5.2 ")


@wrong("nothing_ran_again")
def offered_again_after_it_ran(e: Evidence) -> None:
    e.attempts[3].failed = None


@wrong("nothing_ran_again")
def offered_again_after_a_failure_that_proves_nothing(e: Evidence) -> None:
    e.attempts[3].failed = "upstream_error"


@wrong("nothing_ran_again")
def offered_again_after_a_piece(e: Evidence) -> None:
    e.attempts[3].sent.append("t4.1 ")


@wrong("nothing_ran_again")
def taken_back_after_it_was_heard_to_start(e: Evidence) -> None:
    e.attempts[3].failed, e.attempts[3].cancelled = None, "given to another worker"


@wrong("nothing_ran_again")
def offered_twice_to_one_session(e: Evidence) -> None:
    e.attempts[4].session = "s1"


@wrong("ledger_is_journal")
def a_request_missing_in_the_ledger(e: Evidence) -> None:
    e.records.hourly[0]["requests"] = 5


@wrong("ledger_is_journal")
def a_request_posted_twice(e: Evidence) -> None:
    e.records.daily[0]["cost"] += 5


@wrong("ledger_is_journal")
def a_bucket_of_nothing(e: Evidence) -> None:
    e.records.hourly.append({**e.records.hourly[0], "model": "other"})


@wrong("nothing_billed_beyond")
def more_tokens_than_were_delivered(e: Evidence) -> None:
    e.records.rows[1]["completion_tokens"] = 99


@wrong("nothing_billed_beyond")
def a_wrong_cost(e: Evidence) -> None:
    e.records.rows[0]["cost"] += 1


@wrong("nothing_billed_beyond")
def a_prompt_billed_for_nothing(e: Evidence) -> None:
    e.transcripts[1].text = ""
    e.records.rows[1].update(completion_tokens=0, cost=5)


@wrong("nothing_left_over")
def a_slot_left(e: Evidence) -> None:
    e.calm.counts["jobs"] = 1


@wrong("nothing_left_over")
def a_reservation_left(e: Evidence) -> None:
    e.last.counts["reservations"] = 1


@wrong("nothing_left_over")
def a_session_left(e: Evidence) -> None:
    e.last.counts["sessions"] = 1


@wrong("nothing_left_over")
def a_task_left(e: Evidence) -> None:
    e.last.tasks["SocketLink.write"] = 1


@wrong("nothing_unexpected")
def a_traceback(e: Evidence) -> None:
    e.log += "Traceback (most recent call last):\n"


@wrong("nothing_unexpected")
def a_corrupt_file(e: Evidence) -> None:
    e.records = e.records._replace(integrity="row 3 missing from index")


@wrong("nothing_unexpected")
def a_worker_that_complains(e: Evidence) -> None:
    e.complaints.append("frame 4 after frame 2")


@pytest.mark.parametrize("spoilt", WRONG)
def test_the_checker_notices(spoilt):
    check_name, spoil = WRONG[spoilt]
    evidence = fine()
    spoil(evidence)
    assert any(problem.startswith(check_name) for problem in check(evidence))


def test_a_job_that_was_cancelled_before_its_start_was_heard_may_go_on():
    evidence = fine()
    evidence.attempts[3].failed = None
    evidence.attempts[3].cancelled = "not started in time"
    evidence.records.rows[3]["started_at"] = (NOON + 5) * SECOND
    assert check(evidence) == []


def test_a_job_may_go_on_after_a_sign_of_life_that_was_no_piece():
    evidence = fine()
    evidence.attempts[3].sent.append("")
    assert check(evidence) == []
