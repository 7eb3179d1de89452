"""May this caller enter now? The windows, budgets and concurrency of its user and of its key.

A user and a key's family have an account each, as far as they have limits. What was admitted is counted at
once, tokens and money are held back until it is known what they are, and a refused request counts nowhere. An
account begins with what the journal remembers, so a restart changes nothing.
"""

import asyncio
import calendar
import time
from collections.abc import Iterator
from time import monotonic
from typing import Literal, NamedTuple

from cachetools import LRUCache

from ..errors import HubError, InsufficientQuota, LargerThanLimit, RateLimited
from ..rules.budget import Charge, Spending
from ..rules.money import dollars
from ..rules.tiers import DAY_S, HOUR_S, MINUTE_S, NO_LIMITS, Limits
from ..rules.window import FOREVER, Amounts, Arrivals, Entry, Limit
from ..store import Store
from ..store.journal import History
from ..store.keys import Caller

ACCOUNTS = 20_000
"""Accounts in memory; one that is needed again is read from the journal."""
BUSY_RETRY_S = 1.0
"""When to come back if too many run at once: nobody knows, so soon."""
Per = Literal["minute", "hour", "day", "month"]
PER: dict[float, Per] = {MINUTE_S: "minute", HOUR_S: "hour", DAY_S: "day"}


class Subject(NamedTuple):
    """Whose account it is: a user's, or that of a key and those it followed."""

    whose: Literal["user_id", "family"]
    id: str


class Standing(NamedTuple):
    """One limit, and what is left of it; `reset_s` is when nothing of now counts any more."""

    of: Literal["user", "key"]
    what: Literal["requests", "tokens", "concurrent", "cost"]
    per: Per | None
    limit: int
    remaining: int
    reset_s: float


class Reservation:
    """One admitted request: what is held back for it, and later what it was."""

    __slots__ = ("at", "cost", "day", "id", "month", "over", "subjects", "tokens", "withdrawn")

    def __init__(
        self,
        request: str,
        subjects: list[Subject],
        tokens: int,
        cost: int,
        at: float,
        day: int,
        month: int,
    ) -> None:
        self.id = request
        self.subjects = subjects
        self.tokens = tokens
        self.cost = cost
        self.at = at
        self.day, self.month = day, month
        self.over = False
        self.withdrawn = False


class _Held(NamedTuple):
    """What one account counts for one reservation."""

    tokens: list[tuple[Amounts, Entry]]
    money: list[tuple[Spending, Charge]]


class Account:
    """What a user or a key has used lately. Times are `time.monotonic()`'s seconds."""

    def __init__(
        self,
        subject: Subject,
        history: History,
        living: list[Reservation],
        day: int,
        month: int,
    ) -> None:
        """It begins with what the journal says and what is still held back.

        Those in `living` may have been settled meanwhile, and be in the history too.
        """
        self.of: Literal["user", "key"] = "user" if subject.whose == "user_id" else "key"
        self.limits = NO_LIMITS
        self._request_limits: list[Limit] = []
        self._token_limits: list[Limit] = []
        self._tokens = {MINUTE_S: Amounts(MINUTE_S), DAY_S: Amounts(DAY_S)}
        self._held: dict[str, _Held] = {}
        now, ours = monotonic(), {reservation.id for reservation in living}
        past = [p for p in history.requests if p.id not in ours]
        counted_twice = sum(p.cost for p in history.requests if p.id in ours)
        self._day = Spending(day, history.spent.day - counted_twice)
        self._month = Spending(month, history.spent.month - counted_twice)
        unix_ahead = time.time() - now
        times = [min(now, p.accepted_at / 1e6 - unix_ahead) for p in past]
        self._arrivals = Arrivals(sorted([*times, *(r.at for r in living)]))
        for at, request in sorted(zip(times, past, strict=True)):
            for amounts in self._tokens.values():
                amounts.add(at, request.tokens)
        for reservation in living:
            self._hold(reservation)
            if reservation.over:
                self.settle(reservation)

    def keep_to(self, limits: Limits) -> None:
        """The limits that hold from now on."""
        if limits is not self.limits:
            self.limits = limits
            self._request_limits = limits.request_limits()
            self._token_limits = limits.token_limits()

    def refusals(
        self, now: float, day: int, month: int, tokens: int, cost: int
    ) -> Iterator[HubError]:
        """Everything that keeps this request from entering now."""
        limits = self.limits
        if wait := self._arrivals.wait(now, self._request_limits):
            yield _too_many(self.of, limits, wait)
        for limit in self._token_limits:
            if wait := self._tokens[limit.length_s].wait(now, tokens, limit.most):
                yield self._too_many_tokens(limit, tokens, wait)
        if limits.concurrent is not None and len(self._held) >= limits.concurrent:
            message = f"This {self.of} may have {limits.concurrent} requests at once, and has."
            yield RateLimited(message, retry_after=BUSY_RETRY_S)
        for budget, spending, period, per in self._budgets(day, month):
            left = budget - spending.used(period)
            if cost > 0 and cost > left:
                message = (
                    f"Of this {self.of}'s budget of {dollars(budget)} a {per} {dollars(max(0, left))} is left,"
                    f" and this request may cost {dollars(cost)}."
                )
                yield InsufficientQuota(message)

    def _too_many_tokens(self, limit: Limit, tokens: int, wait: float) -> HubError:
        per = PER[limit.length_s]
        if wait == FOREVER:
            message = (
                f"This request needs up to {tokens} tokens, more than the {limit.most} that this {self.of}"
                f" may use in a {per}. Shorten it, or lower max_tokens."
            )
            return LargerThanLimit(message, unit="tokens")
        message = f"This {self.of} may use {limit.most} tokens in any {per}, and this request needs up to {tokens}."
        return RateLimited(message, unit="tokens", retry_after=wait)

    def _budgets(
        self, day: int, month: int
    ) -> Iterator[tuple[int, Spending, int, Literal["day", "month"]]]:
        if self.limits.budget_per_day is not None:
            yield self.limits.budget_per_day, self._day, day, "day"
        if self.limits.budget_per_month is not None:
            yield self.limits.budget_per_month, self._month, month, "month"

    def admit(self, reservation: Reservation) -> None:
        """Count it from now on."""
        self._arrivals.admit(reservation.at, DAY_S)
        self._hold(reservation)

    def _hold(self, reservation: Reservation) -> None:
        self._held[reservation.id] = _Held(
            [(a, a.add(reservation.at, reservation.tokens)) for a in self._tokens.values()],
            [
                (self._day, self._day.add(reservation.day, reservation.cost)),
                (self._month, self._month.add(reservation.month, reservation.cost)),
            ],
        )

    def correct(self, reservation: Reservation) -> None:
        """What the reservation holds now."""
        held = self._held.get(reservation.id)
        if held is None:
            return
        for amounts, entry in held.tokens:
            amounts.correct(entry, reservation.tokens)
        for spending, charge in held.money:
            spending.correct(charge, reservation.cost)

    def settle(self, reservation: Reservation) -> None:
        """It is over; what it was stays counted."""
        self.correct(reservation)
        self._held.pop(reservation.id, None)

    def withdraw(self, reservation: Reservation) -> None:
        """It never entered after all: nothing of it counts."""
        if reservation.id in self._held:
            self._arrivals.withdraw(reservation.at)
            self.settle(reservation)

    def standings(self, now: float, day: int, month: int) -> Iterator[Standing]:
        """Every limit, and what is left of it."""
        for limit in self._request_limits:
            left = self._arrivals.remaining(now, limit)
            reset = self._arrivals.reset(now, limit)
            yield Standing(self.of, "requests", PER[limit.length_s], limit.most, left, reset)
        for limit in self._token_limits:
            amounts = self._tokens[limit.length_s]
            left, reset = max(0, limit.most - amounts.used(now)), amounts.reset(now)
            yield Standing(self.of, "tokens", PER[limit.length_s], limit.most, left, reset)
        if self.limits.concurrent is not None:
            left = max(0, self.limits.concurrent - len(self._held))
            yield Standing(self.of, "concurrent", None, self.limits.concurrent, left, 0.0)
        for budget, spending, period, per in self._budgets(day, month):
            left = max(0, budget - spending.used(period))
            yield Standing(self.of, "cost", per, budget, left, until_next(per))


class Gate:
    """The accounts of all who called lately."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._accounts: LRUCache[Subject, Account] = LRUCache(ACCOUNTS)
        self._loading: dict[Subject, asyncio.Task[None]] = {}
        self._open: dict[str, Reservation] = {}
        self._day, self._month = periods(time.time())

    @property
    def open(self) -> int:
        """Reservations that are not settled."""
        return len(self._open)

    async def admit(self, caller: Caller, request: str, tokens: int, cost: int) -> Reservation:
        """Let a request in that may use so many tokens and micro-dollars.

        Raises RateLimited, LargerThanLimit, InsufficientQuota; then nothing is counted.
        """
        accounts = await self._accounts_of(caller)
        # From here on nothing waits: of those who ask at once, one after the other is judged.
        now, day, month = self._now()
        refusals = [
            refusal
            for account in accounts
            for refusal in account.refusals(now, day, month, tokens, cost)
        ]
        if refusals:
            raise max(refusals, key=_wait)
        reservation = Reservation(request, subjects(caller), tokens, cost, now, day, month)
        # All of them, also those that have no limits just now but may have some later.
        for account in self._of(reservation):
            account.admit(reservation)
        self._open[request] = reservation
        return reservation

    def grow(self, reservation: Reservation, tokens: int, cost: int) -> None:
        """An answer turns out longer than what was held back for it."""
        if reservation.id not in self._open:
            return  # it ended while its answer was being counted
        if tokens > reservation.tokens or cost > reservation.cost:
            reservation.tokens = max(tokens, reservation.tokens)
            reservation.cost = max(cost, reservation.cost)
            for account in self._of(reservation):
                account.correct(reservation)

    def settle(self, reservation: Reservation, tokens: int, cost: int) -> None:
        """What a request was in the end. A second time nothing happens."""
        if self._open.pop(reservation.id, None) is None:
            return
        reservation.tokens, reservation.cost, reservation.over = tokens, cost, True
        for account in self._of(reservation):
            account.settle(reservation)

    def withdraw(self, reservation: Reservation) -> None:
        """A request that was let in could not be written down: as if it had never come."""
        if self._open.pop(reservation.id, None) is None:
            return
        reservation.tokens, reservation.cost, reservation.withdrawn = 0, 0, True
        for account in self._of(reservation):
            account.withdraw(reservation)

    async def standings(self, caller: Caller) -> list[Standing]:
        """Every limit of a caller, and what is left of it."""
        accounts = await self._accounts_of(caller)
        if not accounts:
            return []
        now, day, month = self._now()
        return [each for account in accounts for each in account.standings(now, day, month)]

    def _of(self, reservation: Reservation) -> Iterator[Account]:
        for subject in reservation.subjects:
            account = self._accounts.get(subject)
            if account is not None:
                yield account

    def _now(self) -> tuple[float, int, int]:
        """Our clock, and the day and month; a wall clock that jumps back is not followed."""
        unix = time.time()
        if unix // DAY_S > self._day:
            self._day, self._month = periods(unix)
        return monotonic(), self._day, self._month

    def _limits_of(self, caller: Caller) -> list[tuple[Subject, Limits]]:
        """The caller's subjects that have limits, and which: those that hold now."""
        key, user = caller.key, caller.user
        found: list[tuple[Subject, Limits]] = []
        if key.limits != NO_LIMITS:
            found.append((Subject("family", key.family), key.limits))
        if user is not None and (tier := self._store.tiers.get(user.tier)).is_limited:
            found.append((Subject("user_id", user.id), tier))
        return found

    async def _accounts_of(self, caller: Caller) -> list[Account]:
        """The accounts with limits; all of them are in memory when this returns."""
        while True:
            limits = self._limits_of(caller)
            found = [self._accounts.get(subject) for subject, _ in limits]
            accounts = [account for account in found if account is not None]
            if len(accounts) == len(limits):
                break
            await self._load(limits[found.index(None)][0])
        for account, (_, limit) in zip(accounts, limits, strict=True):
            account.keep_to(limit)
        return accounts

    async def _load(self, subject: Subject) -> None:
        task = self._loading.get(subject)
        if task is None:
            task = self._loading[subject] = asyncio.create_task(self._read(subject))
            task.add_done_callback(lambda _: self._loading.pop(subject, None))
        # A caller that leaves meanwhile must not take the others' account along.
        await asyncio.shield(task)

    async def _read(self, subject: Subject) -> None:
        living = [each for each in self._open.values() if subject in each.subjects]
        _, day, month = self._now()
        history = await self._store.journal.history(
            subject.whose,
            subject.id,
            int(time.time() - DAY_S),
            day * int(DAY_S),
            month_start(month),
        )
        came = [each for each in self._open.values() if subject in each.subjects]
        known = {each.id: each for each in (*living, *came) if not each.withdrawn}
        self._accounts[subject] = Account(subject, history, [*known.values()], day, month)


def subjects(caller: Caller) -> list[Subject]:
    """Whose accounts a request of this caller counts in, whether they have limits now or later."""
    found = [Subject("family", caller.key.family)]
    if caller.user is not None:
        found.append(Subject("user_id", caller.user.id))
    return found


def _wait(refusal: HubError) -> float:
    return FOREVER if refusal.retry_after is None else refusal.retry_after


def periods(unix: float) -> tuple[int, int]:
    """The number of the UTC day and of the UTC month of a moment."""
    moment = time.gmtime(unix)
    return int(unix // DAY_S), moment.tm_year * 12 + moment.tm_mon - 1


def month_start(month: int) -> int:
    """The first second of a month, in Unix seconds."""
    return calendar.timegm((month // 12, month % 12 + 1, 1, 0, 0, 0))


def until_next(per: Literal["day", "month"]) -> float:
    """Seconds until the next UTC day or month begins."""
    unix = time.time()
    day, month = periods(unix)
    return ((day + 1) * DAY_S if per == "day" else month_start(month + 1)) - unix


def _too_many(of: str, limits: Limits, wait: float) -> HubError:
    allowed = ", ".join(
        f"{limit.most} in any {PER[limit.length_s]}" for limit in limits.request_limits()
    )
    message = f"This {of}'s requests are limited to {allowed}."
    if wait == FOREVER:
        return LargerThanLimit(message)
    return RateLimited(message, retry_after=wait)
