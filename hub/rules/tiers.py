"""What a tier allows, and what an answer costs. Money is integer micro-dollars."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from .money import MicroDollars
from .window import Limit

MINUTE_S = 60.0
HOUR_S = 3_600.0
DAY_S = 86_400.0
PER = 1_000_000
"""Prices are for so many tokens."""

Count = Annotated[int, Meta(ge=0, le=2**53)]
Moment = Annotated[int, Meta(ge=0, le=253_402_300_799, extra={"unit": "moment"})]
"""Unix seconds, until the end of the year 9999."""

RequestsPerMinute = Annotated[Count, Meta(description="Requests in any 60 seconds.")]
RequestsPerHour = Annotated[Count, Meta(description="Requests in any 60 minutes.")]
RequestsPerDay = Annotated[Count, Meta(description="Requests in any 24 hours.")]
TokensPerMinute = Annotated[Count, Meta(description="Tokens in any 60 seconds.")]
TokensPerDay = Annotated[Count, Meta(description="Tokens in any 24 hours.")]
Concurrent = Annotated[Count, Meta(description="Requests at once.")]
BudgetPerDay = Annotated[MicroDollars, Meta(description="Money spent in a calendar day, UTC.")]
BudgetPerMonth = Annotated[MicroDollars, Meta(description="Money spent in a calendar month, UTC.")]
Priority = Annotated[
    int, Meta(ge=0, le=9, description="The place in the line: higher has more turns.")
]
RetentionDays = Annotated[
    int, Meta(ge=0, le=3_650, description="Days for which the journal keeps a request's row.")
]


class Limits(Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """What a user, or a single key, may use; what is null or absent is not limited."""

    requests_per_minute: RequestsPerMinute | None = None
    requests_per_hour: RequestsPerHour | None = None
    requests_per_day: RequestsPerDay | None = None
    tokens_per_minute: TokensPerMinute | None = None
    tokens_per_day: TokensPerDay | None = None
    concurrent: Concurrent | None = None
    budget_per_day: BudgetPerDay | None = None
    budget_per_month: BudgetPerMonth | None = None

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

    priority: Priority = 0
    retention_days: RetentionDays = 90


class LimitChanges(Struct, forbid_unknown_fields=True, frozen=True):
    """Some limits to change: what is absent stays as it is, null takes a limit away."""

    requests_per_minute: RequestsPerMinute | UnsetType | None = UNSET
    requests_per_hour: RequestsPerHour | UnsetType | None = UNSET
    requests_per_day: RequestsPerDay | UnsetType | None = UNSET
    tokens_per_minute: TokensPerMinute | UnsetType | None = UNSET
    tokens_per_day: TokensPerDay | UnsetType | None = UNSET
    concurrent: Concurrent | UnsetType | None = UNSET
    budget_per_day: BudgetPerDay | UnsetType | None = UNSET
    budget_per_month: BudgetPerMonth | UnsetType | None = UNSET


class TierChanges(LimitChanges, frozen=True):
    """Some of a tier to change; what is absent stays as it is."""

    priority: Priority | UnsetType = UNSET
    retention_days: RetentionDays | UnsetType = UNSET


L = TypeVar("L", bound=Limits)


def changed(limits: L, changes: LimitChanges) -> L:
    """The limits with some of them changed."""
    said = {name: getattr(changes, name) for name in changes.__struct_fields__}
    return replace(limits, **{name: to for name, to in said.items() if to is not UNSET})


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

    pattern: Annotated[
        str,
        Meta(min_length=1, max_length=200, description="A model's name, or a pattern: `gpt-4*`."),
    ]
    input: Annotated[MicroDollars, Meta(description="A million tokens of input.")] = 0
    output: Annotated[MicroDollars, Meta(description="A million tokens of output.")] = 0
    cached: Annotated[
        MicroDollars | None,
        Meta(
            description="A million tokens of input that the upstream had cached; if not said, as other input."
        ),
    ] = None
    image: Annotated[MicroDollars, Meta(description="An image.")] = 0
    valid_from: Annotated[Moment, Meta(description="When it begins to hold; 0 is always.")] = 0
    own_workers: Annotated[
        bool, Meta(description="For answers of the caller's own private workers, free otherwise.")
    ] = False

    def cost(self, prompt: int, completion: int, *, cached: int = 0, images: int = 0) -> int:
        """Micro-dollars of an answer; `cached` tokens are among those of the prompt. Rounded once, half up."""
        cached = min(cached, prompt)
        for_cached = self.input if self.cached is None else self.cached
        millionths = (prompt - cached) * self.input + cached * for_cached + completion * self.output
        return (millionths + PER // 2) // PER + images * self.image


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
