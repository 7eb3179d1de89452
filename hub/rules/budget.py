"""What was spent and is held back in a calendar period, a day or a month. Money is integer micro-dollars."""


class Charge:
    """An amount in one period: held back first, known later."""

    __slots__ = ("amount", "period")

    def __init__(self, period: int, amount: int) -> None:
        self.period = period
        self.amount = amount


class Spending:
    """What the present period has cost so far. Periods are numbers that grow."""

    __slots__ = ("_period", "_used")

    def __init__(self, period: int, used: int = 0) -> None:
        self._period = period
        self._used = used

    def used(self, period: int) -> int:
        """What is spent or held back; a new period begins with nothing."""
        if period > self._period:
            self._period, self._used = period, 0
        return self._used

    def add(self, period: int, amount: int) -> Charge:
        """Hold an amount back; one of an earlier period counts no more."""
        self.used(period)
        if period == self._period:
            self._used += amount
        return Charge(period, amount)

    def correct(self, charge: Charge, amount: int) -> None:
        """What the amount turned out to be; that of an earlier period counts no more."""
        if charge.period == self._period:
            self._used += amount - charge.amount
        charge.amount = amount
