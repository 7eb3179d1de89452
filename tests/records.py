"""What a hub's database holds, read beside it or after its end."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]


class Records(NamedTuple):
    """The journal, and the sums that must be its sums."""

    rows: list[Row]
    hourly: list[Row]
    daily: list[Row]
    integrity: str
    """`ok`, or what SQLite's own check found."""


def read(data: Path) -> Records:
    """The records of a data directory, at one moment."""
    with closing(sqlite3.connect(data / "hub.db")) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        tables = ("requests", "usage_hourly", "usage_daily")
        rows, hourly, daily = (
            [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4")]
            for table in tables
        )
        checked = connection.execute("PRAGMA integrity_check").fetchall()
        return Records(rows, hourly, daily, "; ".join(row[0] for row in checked))
