"""Spending by calendar periods, against adding up by hand."""

from hypothesis import given
from hypothesis import strategies as st

from hub.rules.budget import Spending

ACTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 50), st.one_of(st.none(), st.integers(0, 50))),
    max_size=50,
)


@given(ACTS, st.integers(0, 30))
def test_spending_against_adding_up_by_hand(acts, already):
    spending, period, model = Spending(10, already), 10, {10: already}
    for step, amount, actual in acts:
        period += step
        charge = spending.add(period, amount)
        if actual is not None:
            spending.correct(charge, actual)
        model[period] = model.get(period, 0) + (amount if actual is None else actual)
        assert spending.used(period) == model[period]


def test_a_correction_after_the_period_has_passed_changes_nothing():
    spending = Spending(1)
    charge = spending.add(1, 5)
    assert spending.used(2) == 0
    spending.correct(charge, 50)
    assert spending.used(2) == 0


def test_an_amount_of_an_earlier_period_counts_no_more():
    spending = Spending(5)
    charge = spending.add(4, 7)
    assert spending.used(5) == 0
    spending.correct(charge, 3)
    assert spending.used(5) == 0
