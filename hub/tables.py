"""What operations answer, for people: tables, times, dollars."""

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .rules.money import dollars

MONEY = ("budget_per_day", "budget_per_month", "input", "output", "cached", "image")
WIDEST = 10_000
"""Columns where nobody looks: a line for each row, for `grep` and its like."""
TIMES = ("at", "valid_from")


def print_table(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Print a table of these columns."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDEST
    console.print(table_of(rows, columns))


def table_of(rows: list[dict[str, Any]], columns: list[str]) -> Table:
    """Rows as a table of these columns, without those that are empty everywhere."""
    cells = [[printable(cell(name, row.get(name))) for name in columns] for row in rows]
    shown = [number for number in range(len(columns)) if any(row[number] for row in cells)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number in shown:
        table.add_column(
            columns[number].removesuffix("_at"), no_wrap=columns[number] == "id", overflow="fold"
        )
    for row in cells:
        table.add_row(*(escape(row[number]) for number in shown))
    return table


def printable(text: str) -> str:
    """Names and messages come from others: no terminal may take them for commands."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the members of its price beside its own."""
    return {**row, **row.get("price", {})}


def cell(name: str, value: Any) -> str:
    """One value, as people read it."""
    if value is None or value is False:
        return ""
    if value is True:
        return "yes"
    if name in TIMES or name.endswith("_at"):
        return day_and_time(value)
    if name in MONEY:
        return dollars(value)
    if isinstance(value, dict):
        return ", ".join(_member(name, value) for name, value in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _member(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    return words if value is True else f"{words} {cell(name, value)}"


def day_and_time(unix: float) -> str:
    """A moment in this machine's own time."""
    if unix == 0:
        return "always"
    return datetime.fromtimestamp(unix).isoformat(" ", "seconds")
