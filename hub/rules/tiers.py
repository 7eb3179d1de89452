"""What a tier allows, and what an answer costs. Money is integer micro-dollars."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated

from msgspec import Meta, Struct

from .window import Limit

MINUTE_S = 60.0
HOUR_S = 3_600.0
DAY_S = 86_400.0
PER = 1_000_000
"""Prices are for so many tokens."""

Count = Annotated[int, Meta(ge=0, le=2**53)]


class Limits(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """What a user, or a single key, may use; None is no limit."""

    requests_per_minute: Count | None = None
    requests_per_hour: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    concurrent: Count | None = None
    budget_per_day: Count | None = None
    """Micro-dollars in a calendar day, UTC."""
    budget_per_month: Count | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit at all."""
        # Asked with every request; so one after the other, and no loop.
        return not (
            self.requests_per_minute is None
            and self.requests_per_hour is None
            and self.requests_per_day is None
            and self.tokens_per_minute is None
            and self.tokens_per_day is None
            and self.concurrent is None
            and self.budget_per_day is None
            and self.budget_per_month is None
        )

    def request_limits(self) -> list[Limit]:
        """The windows in which requests are counted, the shortest first."""
        return _limits(
            (MINUTE_S, self.requests_per_minute),
            (HOUR_S, self.requests_per_hour),
            (DAY_S, self.requests_per_day),
        )

    def token_limits(self) -> list[Limit]:
        """The windows in which tokens are counted, the shortest first."""
        return _limits((MINUTE_S, self.tokens_per_minute), (DAY_S, self.tokens_per_day))


NO_LIMITS = Limits()


class Tier(Limits, frozen=True):
    """The limits of its users, their place in the line, and how long the journal keeps their rows."""

    priority: Annotated[int, Meta(ge=0, le=9)] = 0
    """Higher goes first."""
    retention_days: Annotated[int, Meta(ge=0, le=3_650)] = 90


def _limits(*limits: tuple[float, int | None]) -> list[Limit]:
    return [Limit(length_s, most) for length_s, most in limits if most is not None]


DEFAULT_TIERS = {
    "free": Tier(
        requests_per_minute=10,
        requests_per_hour=100,
        requests_per_day=1_000,
        tokens_per_minute=100_000,
        tokens_per_day=2_000_000,
        concurrent=4,
        priority=0,
        retention_days=30,
    ),
    "premium": Tier(
        requests_per_minute=60,
        requests_per_hour=1_000,
        requests_per_day=10_000,
        tokens_per_minute=1_000_000,
        tokens_per_day=20_000_000,
        concurrent=16,
        priority=1,
        retention_days=90,
    ),
    "enterprise": Tier(
        requests_per_minute=300,
        requests_per_hour=5_000,
        requests_per_day=50_000,
        tokens_per_minute=5_000_000,
        tokens_per_day=200_000_000,
        concurrent=64,
        priority=2,
        retention_days=365,
    ),
}
"""The tiers of a new hub; an operator may change them and add others."""


class Price(Struct, forbid_unknown_fields=True, frozen=True):
    """What models of a pattern (`gpt-4*`) cost, in micro-dollars per million tokens and per image."""

    pattern: Annotated[str, Meta(min_length=1, max_length=200)]
    input: Count = 0
    output: Count = 0
    cached: Count | None = None
    """Input that the upstream had cached; None: as other input."""
    image: Count = 0
    valid_from: int = 0
    """Unix seconds."""
    own_workers: bool = False
    """For answers of the caller's own private workers."""

    def cost(self, prompt: int, completion: int, *, cached: int = 0, images: int = 0) -> int:
        """Micro-dollars of an answer; `cached` tokens are among those of the prompt. Rounded once, half up."""
        cached = min(cached, prompt)
        for_cached = self.input if self.cached is None else self.cached
        millionths = (prompt - cached) * self.input + cached * for_cached + completion * self.output
        return (millionths + PER // 2) // PER + images * self.image


def in_dollars(micro: int) -> str:
    """Micro-dollars as an exact decimal number of dollars.

    >>> in_dollars(1_234_560)
    '1.234560'
    """
    whole, part = divmod(micro, PER)
    return f"{whole}.{part:06d}"


FREE = Price("*")
"""What holds where no price is set."""


def price_of(prices: Iterable[Price], model: str, at: float, *, own_worker: bool = False) -> Price:
    """The price of a model at a moment (Unix seconds).

    The pattern with the most letters of its own wins, an exact name before all patterns; among equals the
    latest that is valid. Own workers are free unless a price of their own says otherwise.
    """
    valid = [
        price
        for price in prices
        if price.own_workers == own_worker and price.valid_from <= at and matches(price, model)
    ]
    return max(valid, key=lambda price: (*_precision(price, model), price.valid_from), default=FREE)


def matches(price: Price, model: str) -> bool:
    """Whether a price is for this model."""
    return price.pattern == model or fnmatchcase(model, price.pattern)


def _precision(price: Price, model: str) -> tuple[bool, int]:
    return price.pattern == model, sum(letter not in "*?[]" for letter in price.pattern)
