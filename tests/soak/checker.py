"""The proof: what callers, workers, database and hub say must fit together. Every function yields what does not."""

from collections import defaultdict
from collections.abc import Callable, Iterator

from hub.protocol import FAILURES
from hub.rules.tokens import count_text
from tests.records import Row
from tests.soak.evidence import BROKEN, LEFT, Attempt, Evidence, Transcript

FINISHED = ("stop", "length", "tool_calls", "content_filter")
FINAL = ("completed", "failed", "cancelled", "expired", "interrupted")
REFUSED_UNWRITTEN = ("queue_full", "model_not_found", "shutting_down", "storage_failed")
"""Errors that a request may get before it is accepted; then there is no row."""
OFFER_SLACK_S = 0.05
"""The worker's deadline is rounded, and the journal's times come from two clocks."""
KILL_SLACK_S = 2.0
"""What a hub had said this long before it was killed may not have reached its journal."""
CLOCK_SLACK_S = 0.5
READ_SLACK_S = 5.0
"""A busy hub may read a request so long after its caller has left."""
SIGNS = ("Traceback", "unexpected error", "never retrieved", "was destroyed", "never awaited")
"""Words in the log that tell of a defect."""
SUMS = ("prompt_tokens", "cached_tokens", "completion_tokens", "images", "cost")


def check(evidence: Evidence) -> list[str]:
    """Everything that is wrong; an empty list is the proof."""
    checks: list[Callable[[Evidence], Iterator[str]]] = [
        one_end_each,
        callers_and_journal_agree,
        no_row_is_a_strangers,
        answers_are_their_workers,
        nothing_ran_again,
        ledger_is_journal,
        nothing_billed_beyond,
        nothing_left_over,
        nothing_unexpected,
    ]
    return [f"{each.__name__}: {problem}" for each in checks for problem in each(evidence)]


def one_end_each(evidence: Evidence) -> Iterator[str]:
    """Every accepted request has exactly one end, in the journal and for its caller."""
    for row in evidence.records.rows:
        if row["settled_at"] is None or row["state"] not in FINAL:
            yield f"{row['id']} has no end: {row['state']}"
    for transcript in evidence.transcripts:
        if len(transcript.endings) != 1:
            yield f"{_name(transcript)} ended as {transcript.endings}"
        elif transcript.stream and transcript.ending in FINISHED and transcript.dones != 1:
            yield f"{_name(transcript)} said [DONE] {transcript.dones} times"


def callers_and_journal_agree(evidence: Evidence) -> Iterator[str]:
    """What a caller was told is what is written."""
    rows = {row["id"]: row for row in evidence.records.rows}
    for transcript in evidence.transcripts:
        if transcript.request_id:
            yield from _disagreements(evidence, transcript, rows.get(transcript.request_id))
        elif transcript.ending not in (LEFT, BROKEN):
            yield f"{_name(transcript)} ended {transcript.ending!r} without a request id"
        if transcript.ending == BROKEN and not _killed_during(evidence, transcript):
            yield f"{_name(transcript)} was broken off by a hub that lived"


def _disagreements(evidence: Evidence, transcript: Transcript, row: Row | None) -> Iterator[str]:
    name, ending = _name(transcript), transcript.ending
    if row is None:
        if ending not in REFUSED_UNWRITTEN:
            yield f"{name} ended {ending!r} and is not in the journal"
    elif row["state"] == "interrupted":
        if not _killed_during(evidence, transcript):
            yield f"{name} is interrupted, and the hub lived"
    else:
        if ending in FINISHED and (row["state"], row["finish_reason"]) != ("completed", ending):
            yield f"{name} ended {ending!r} and is {row['state']}, {row['finish_reason']}"
        if transcript.stayed and ending not in FINISHED and row["error_code"] != ending:
            yield f"{name} ended {ending!r} and is {row['error_code']!r} in the journal"
        if row["delivered_chars"] < len(transcript.text):
            yield f"{name} has {len(transcript.text)} characters, {row['delivered_chars']} are written"


def _killed_during(evidence: Evidence, transcript: Transcript) -> bool:
    began, ended = transcript.began - CLOCK_SLACK_S, transcript.ended + KILL_SLACK_S
    return any(began <= kill <= ended for kill in evidence.kills)


def no_row_is_a_strangers(evidence: Evidence) -> Iterator[str]:
    """A row whose id no caller read is that of a caller that left, or was cut off, before it could."""
    read = {transcript.request_id for transcript in evidence.transcripts}
    nameless = [each for each in evidence.transcripts if not each.request_id]
    for row in evidence.records.rows:
        if row["id"] not in read:
            asked = next((each for each in nameless if _may_be(each, row)), None)
            if asked is None:
                yield f"{row['id']} was never asked"
            else:
                nameless.remove(asked)


def _may_be(transcript: Transcript, row: Row) -> bool:
    began, ended = transcript.began - CLOCK_SLACK_S, transcript.ended + READ_SLACK_S
    return transcript.model == row["model"] and began <= row["accepted_at"] / 1e6 <= ended


def answers_are_their_workers(evidence: Evidence) -> Iterator[str]:
    """Every answer is a prefix of what one worker sent, and all of it where it says that it is complete."""
    sent, whole = _sources(evidence)
    for transcript in evidence.transcripts:
        name, text = _name(transcript), transcript.text
        if text and not any(each.startswith(text) for each in sent[transcript.tag]):
            yield f"{name} reads {_short(text)}, which nobody said"
        elif (
            transcript.ending in FINISHED and (text, transcript.ending) not in whole[transcript.tag]
        ):
            yield f"{name} ended {transcript.ending!r} after {_short(text)}, which is not all"


Sent = dict[str, list[str]]
Whole = dict[str, list[tuple[str, str]]]


def _sources(evidence: Evidence) -> tuple[Sent, Whole]:
    """What was said for each tag, and what of it had which end. An echo says the prompt."""
    sent: Sent = defaultdict(list)
    whole: Whole = defaultdict(list)
    for each in (*evidence.attempts, *evidence.calls):
        sent[each.tag].append(each.text)
        if each.end is not None:
            whole[each.tag].append((each.text, each.end))
    for transcript in evidence.transcripts:
        if transcript.model.startswith("echo"):
            sent[transcript.tag].append(transcript.prompt)
            whole[transcript.tag].append((transcript.prompt, "stop"))
    return sent, whole


def nothing_ran_again(evidence: Evidence) -> Iterator[str]:
    """Once the hub has heard `started`, nobody else gets the job, unless a failure proves that nothing ran."""
    rows = {row["id"]: row for row in evidence.records.rows}
    by_job: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in evidence.attempts:
        by_job[attempt.job].append(attempt)
    for job, attempts in by_job.items():
        attempts.sort(key=lambda attempt: attempt.offered_s)
        started_s = _started_s(rows.get(job))
        for number, attempt in enumerate(attempts):
            before = attempts[:number]
            if any(each.session == attempt.session for each in before):
                yield f"{job} came to {attempt.worker} twice in one session"
            late = started_s is not None and attempt.offered_s > started_s + OFFER_SLACK_S
            # Agents log no offers: without one here that has failed, an agent's may have.
            if late and before and not any(map(_did_not_run, before)) and _all_ours(evidence, job):
                yield f"{job} was started, and {attempt.offered_s - (started_s or 0):.2f} s later offered to {attempt.worker}"
            if any(_ran_surely(each) for each in before):
                yield f"{job} had run when it was offered to {attempt.worker}"


def _all_ours(evidence: Evidence, job: str) -> bool:
    """Whether every delivery of this job is in a scripted worker's log."""
    row = evidence.row(job)
    ours = sum(attempt.job == job for attempt in evidence.attempts)
    # What a kill interrupted was not counted.
    return row is not None and 0 < row["deliveries"] <= ours


def _started_s(row: Row | None) -> float | None:
    if row is None or row["started_at"] is None:
        return None
    return (row["started_at"] - row["accepted_at"]) / 1e6


def _did_not_run(attempt: Attempt) -> bool:
    """It failed in a way after which another worker may try."""
    # An empty piece is a sign of life, and no piece of an answer.
    if attempt.failed is None or attempt.text or attempt.ran is True:
        return False
    return FAILURES[attempt.failed].proves_not_run or attempt.ran is False  # type: ignore[index]


def _ran_surely(attempt: Attempt) -> bool:
    """The hub knew that it had started, and took it back all the same.

    With a `cancel` it may have been taken back before the hub heard `started`; then the journal decides.
    """
    return attempt.heard and attempt.cancelled is None and not _did_not_run(attempt)


def ledger_is_journal(evidence: Evidence) -> Iterator[str]:
    """The sums by hour and by day are those of the journal."""
    for length_s, table in ((3_600, evidence.records.hourly), (86_400, evidence.records.daily)):
        expected = _summed(evidence.records.rows, length_s)
        found = {
            (row["user_id"], row["start"], row["key_id"], row["model"]): [
                row[name] for name in ("requests", "completed", "cancelled", *SUMS)
            ]
            for row in table
        }
        for bucket in expected.keys() | found.keys():
            if expected.get(bucket) != found.get(bucket):
                yield f"{bucket} is {found.get(bucket)}, the journal has {expected.get(bucket)}"


def _summed(rows: list[Row], length_s: int) -> dict[tuple[str, int, str, str], list[int]]:
    sums: dict[tuple[str, int, str, str], list[int]] = {}
    for row in rows:
        if row["settled_at"] is None:
            continue
        start = row["accepted_at"] // 1_000_000 // length_s * length_s
        bucket = (row["user_id"], start, row["key_id"], row["model"])
        state = row["state"]
        amounts = [1, int(state == "completed"), int(state == "cancelled")]
        amounts += [row[name] or 0 for name in SUMS]
        sums[bucket] = [a + b for a, b in zip(sums.get(bucket, [0] * 8), amounts, strict=True)]
    return sums


def nothing_billed_beyond(evidence: Evidence) -> Iterator[str]:
    """Tokens are those of what was delivered, and nothing costs where nothing came. A token costs a micro-dollar."""
    sent, _ = _sources(evidence)
    rows = {row["id"]: row for row in evidence.records.rows}
    for transcript in evidence.transcripts:
        row = rows.get(transcript.request_id)
        if row is None:
            continue
        # Whoever left may have been sent more than they read.
        had = (
            transcript.text if transcript.stayed else max(sent[transcript.tag], key=len, default="")
        )
        most = count_text(had).tokens
        billed = row["completion_tokens"] or 0
        if billed > most:
            yield f"{_name(transcript)} had {most} tokens and is billed {billed}"
        if row["cost"] != (row["prompt_tokens"] or 0) + billed:
            yield f"{_name(transcript)} costs {row['cost']}"
        if row["cost"] and not had and row["state"] != "completed":
            yield f"{_name(transcript)} had nothing and costs {row['cost']}"


def nothing_left_over(evidence: Evidence) -> Iterator[str]:
    """No slot, reservation, place in line or task outlives its request."""
    for when, look in (("in the calm", evidence.calm), ("in the end", evidence.last)):
        for what, count in look.counts.items():
            if count and not (when == "in the calm" and what == "sessions"):
                yield f"{when} {count} {what} are left"
    for task, count in evidence.last.tasks.items():
        if count > evidence.first.tasks.get(task, 0):
            yield f"{count} tasks are left of {task}"


def nothing_unexpected(evidence: Evidence) -> Iterator[str]:
    """The hub logged no defect, its file is sound, and its frames were in order."""
    for line in evidence.log.splitlines():
        if any(sign in line for sign in SIGNS):
            yield f"{line[:200]} ... {line[-300:]}"
    if evidence.records.integrity != "ok":
        yield evidence.records.integrity
    yield from evidence.complaints


def _name(transcript: Transcript) -> str:
    return f"{transcript.request_id or 'a request'} ({transcript.tag}, {transcript.model})"


def _short(text: str) -> str:
    return repr(text if len(text) < 90 else f"{text[:40]}…{text[-40:]}")
