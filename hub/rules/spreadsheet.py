"""Comma-separated values that a spreadsheet reads as what they are."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What makes a spreadsheet take a text for a formula, also behind spaces and in full width
(https://owasp.org/www-community/attacks/CSV_Injection)."""


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    """A table as RFC 4180 has it. A text that could be a formula gets an apostrophe before it.

    >>> csv_text(["model", "requests"], [["=1+1", 5], ["a,b", 6]]).splitlines()
    ['model,requests', "'=1+1,5", '"a,b",6']
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue()


def _harmless(cell: str | int) -> str | int:
    if isinstance(cell, str) and (cell.startswith(FORMULA) or cell.strip().startswith(FORMULA)):
        return "'" + cell
    return cell
