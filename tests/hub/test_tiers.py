"""Tiers and prices on paper: whole micro-dollars, and the most precise pattern."""

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.rules.tiers import DEFAULT_TIERS, FREE, Price, Tier, price_of

TOKENS = st.integers(0, 10_000_000)
RATES = st.integers(0, 100_000_000)


def test_the_tiers_of_a_new_hub():
    limits = {
        name: [limit.most for limit in tier.request_limits()]
        for name, tier in DEFAULT_TIERS.items()
    }
    assert limits == {
        "free": [10, 100, 1_000],
        "premium": [60, 1_000, 10_000],
        "enterprise": [300, 5_000, 50_000],
    }
    priorities = [DEFAULT_TIERS[name].priority for name in ("free", "premium", "enterprise")]
    assert priorities == sorted(priorities)


def test_what_is_not_limited_has_no_window():
    tier = Tier(requests_per_hour=5, tokens_per_day=7)
    assert tier.request_limits() == [(3_600, 5)]
    assert tier.token_limits() == [(86_400, 7)]
    assert Tier().request_limits() == []


@pytest.mark.parametrize("member", [{"requests_per_minute": -1}, {"priority": 10}, {"speed": 1}])
def test_a_bad_tier_is_refused(member):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(member, Tier)


@given(TOKENS, TOKENS, RATES, RATES)
def test_a_cost_is_the_exact_sum_rounded_once(prompt, completion, rate_in, rate_out):
    exact = Fraction(prompt * rate_in + completion * rate_out, 1_000_000)
    cost = Price("m", input=rate_in, output=rate_out).cost(prompt, completion)
    assert isinstance(cost, int)
    assert abs(cost - exact) <= Fraction(1, 2)


def test_cached_tokens_and_images_have_their_own_price():
    price = Price("m", input=2_000_000, output=0, cached=500_000, image=40)
    assert price.cost(10, 0, cached=4) == 6 * 2 + 2
    assert price.cost(10, 0, cached=40) == 5
    assert price.cost(0, 0, images=3) == 120
    assert Price("m", input=2_000_000).cost(10, 0, cached=4) == 20


def test_the_most_precise_pattern_wins():
    prices = [Price("*"), Price("gpt-*"), Price("gpt-4*"), Price("gpt-4o", input=1)]
    found = {
        name: price_of(prices, name, 0).pattern for name in ("gpt-4o", "gpt-4.1", "gpt-3", "x")
    }
    assert found == {"gpt-4o": "gpt-4o", "gpt-4.1": "gpt-4*", "gpt-3": "gpt-*", "x": "*"}
    assert price_of([Price("gpt-*")], "claude", 0) == FREE


def test_a_name_with_a_patterns_letters_is_still_a_name():
    assert price_of([Price("a[1]", input=5)], "a[1]", 0).input == 5


def test_a_later_price_holds_from_its_day_on():
    prices = [Price("m", input=1), Price("m", input=2, valid_from=100)]
    assert price_of(prices, "m", 99.9).input == 1
    assert price_of(prices, "m", 100).input == 2


def test_own_workers_cost_nothing_unless_a_price_says_so():
    prices = [Price("m", input=5)]
    assert price_of(prices, "m", 0, own_worker=True) == FREE
    prices.append(Price("m", input=1, own_workers=True))
    assert price_of(prices, "m", 0, own_worker=True).input == 1
    assert price_of(prices, "m", 0).input == 5
