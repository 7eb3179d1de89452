"""A price list as people keep it: a CSV or JSON file, in dollars and with days.

pattern,input,output,cached,image,from,own_workers
gpt-4*,2.50,10.00,1.25,,2026-01-01,
"""

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from .durations import parse_day
from .money import micro_dollars

MONEY = ("input", "output", "cached", "image")
NAMES = ("pattern", *MONEY, "from", "own_workers")
YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def read(text: str, *, as_csv: bool) -> list[dict[str, Any]]:
    """The prices of a file, in micro-dollars and Unix seconds. Raises ValueError naming the row."""
    rows = _csv_rows(text) if as_csv else _json_rows(text)
    return [_price(number, row) for number, row in enumerate(rows, 1)]


def _csv_rows(text: str) -> Iterator[dict[str, Any]]:
    for row in csv.DictReader(io.StringIO(text), strict=True, restkey="too many columns"):
        yield {name.strip(): value for name, value in row.items() if value not in ("", None)}


def _json_rows(text: str) -> list[Any]:
    # Read as decimals: 0.1 is not a tenth as a float.
    rows = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    if not isinstance(rows, list):
        raise ValueError("a list of prices is expected")
    return rows


def _price(number: int, row: Any) -> dict[str, Any]:
    try:
        if not isinstance(row, dict):
            raise ValueError("an object is expected")
        return dict(_member(name, value) for name, value in row.items() if value is not None)
    except ValueError as error:
        raise ValueError(f"price {number}: {error}") from None


def _member(name: str, value: Any) -> tuple[str, Any]:
    if name not in NAMES:
        raise ValueError(f"there is no {name!r}; there are {', '.join(NAMES)}")
    if name in MONEY:
        return name, micro_dollars(str(value))
    if name == "from":
        return "valid_from", parse_day(str(value))
    if name == "own_workers" and str(value).lower() in YES:
        return name, YES[str(value).lower()]
    return name, value
