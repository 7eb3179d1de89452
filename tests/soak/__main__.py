"""Runs a soak: `python -m tests.soak --seconds 60 --seed 7`. Exits with 1 if anything was lost or doubled."""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import msgspec

from tests.soak.checker import check
from tests.soak.evidence import Evidence
from tests.soak.run import soak

SHOWN = 25


def report(evidence: Evidence, problems: list[str]) -> None:
    """What happened, and the proof or what is wrong."""
    endings = Counter(transcript.ending for transcript in evidence.transcripts)
    states = Counter(row["state"] for row in evidence.records.rows)
    deliveries = sum(row["deliveries"] for row in evidence.records.rows)
    print(f"faults:  {dict(sorted(evidence.faults.items()))}")
    print(f"callers: {dict(endings.most_common())}")
    print(f"journal: {dict(states.most_common())}, {deliveries} deliveries")
    print(f"workers: {len(evidence.attempts)} scripted, {len(evidence.calls)} by agents' upstream")
    for problem in problems[:SHOWN]:
        print(f"LOST OR DOUBLED: {problem}")
    if not problems:
        print(
            f"proof: {len(evidence.transcripts)} requests, each with exactly one end; no text lost, doubled or"
            " mixed; nothing run twice; ledger = journal; nothing billed beyond; nothing left over"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, help="Leave logs and data in this new directory.")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:.0f} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="lmarena-soak-") as directory:
        place = options.keep or Path(directory)
        place.mkdir(exist_ok=True)
        evidence = asyncio.run(soak(options.seconds, str(seed), place))
        if options.keep:
            (place / "evidence.json").write_bytes(msgspec.json.encode(evidence))
    problems = check(evidence)
    report(evidence, problems)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
