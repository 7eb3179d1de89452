"""Whether a hub's books are in order: its ledger against its journal."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

# The same sums over the journal, as the ledger's tables have them.
OVER_THE_JOURNAL = """
    SELECT user_id, accepted_at / 1000000 / {length_s} * {length_s}, key_id, model, COUNT(*),
        SUM(state = 'completed'), SUM(state = 'cancelled'), SUM(prompt_tokens), SUM(cached_tokens),
        SUM(completion_tokens), SUM(images), SUM(cost),
        SUM(CASE WHEN state = 'completed' THEN MAX(0, settled_at - accepted_at) / 1000 ELSE 0 END),
        SUM(first_piece_at IS NOT NULL),
        SUM(COALESCE(MAX(0, first_piece_at - accepted_at) / 1000, 0))
    FROM requests WHERE settled_at IS NOT NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
TABLES = {"usage_hourly": 3_600, "usage_daily": 86_400}


def check_ledger(path: Path) -> None:
    """Both tables are the sums over the journal, exactly, and nothing is below zero."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        for table, length_s in TABLES.items():
            kept = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4").fetchall()
            summed = connection.execute(OVER_THE_JOURNAL.format(length_s=length_s)).fetchall()
            assert kept == summed
            assert all(amount >= 0 for row in kept for amount in row[4:])


def journal_of(path: Path) -> list[dict[str, Any]]:
    """Every request, read without touching the database."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM requests ORDER BY id")]
