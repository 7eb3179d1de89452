"""Who did what."""

import sqlite3
import time


def record(connection: sqlite3.Connection, actor: str, action: str, subject: str) -> None:
    """Write an administrative act down, within the transaction that carries it out."""
    connection.execute(
        "INSERT INTO audit_log (at, actor, action, subject) VALUES (?, ?, ?, ?)",
        (time.time_ns() // 1000, actor, action, subject),
    )
