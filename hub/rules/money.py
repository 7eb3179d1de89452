"""Money: integer micro-dollars inside, dollars for people, and nothing rounded in between."""

from decimal import Decimal, InvalidOperation
from typing import Annotated

from msgspec import Meta

MICRO = 1_000_000
MOST = 2**53
"""Beyond it JSON readers that know only floats would round."""

MicroDollars = Annotated[int, Meta(ge=0, le=MOST, extra={"unit": "dollars"})]


def dollars(micro: int) -> str:
    """Micro-dollars for people.

    >>> dollars(1_234_560)
    '$1.23456'
    >>> dollars(2_000_000)
    '$2.00'
    """
    whole, _, part = in_dollars(micro).partition(".")
    return f"${whole}.{part.rstrip('0'):0<2}"


def in_dollars(micro: int) -> str:
    """Micro-dollars as an exact decimal number of dollars.

    >>> in_dollars(1_234_560)
    '1.234560'
    """
    whole, part = divmod(micro, MICRO)
    return f"{whole}.{part:06d}"


def micro_dollars(text: str) -> int:
    """Dollars as people write them, exactly. Raises ValueError for what does not fit.

    >>> micro_dollars("$2.50")
    2500000
    >>> micro_dollars("0.0000001")
    Traceback (most recent call last):
    ValueError: '0.0000001' is finer than a millionth of a dollar
    """
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        raise ValueError(f"{text!r} is no amount of dollars; write 2.50") from None
    if not amount.is_finite() or not 0 <= amount <= MOST // MICRO:
        raise ValueError(f"{text!r} is not between 0 and {MOST // MICRO} dollars")
    micro = amount.scaleb(6)
    if micro != int(micro):
        raise ValueError(f"{text!r} is finer than a millionth of a dollar")
    return int(micro)
