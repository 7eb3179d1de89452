"""Signing in: slowed down by account and by address, the same for whoever is refused, and written down.

A password takes some 100 ms of a processor to compare. That happens on threads of its own, a few at a time, so
that a flood of sign-ins slows down sign-ins alone.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from ..errors import SignInRefused, TooManySignIns
from ..rules.addresses import neighbourhood
from ..rules.passwords import check_password, hash_password, verify_password
from ..rules.window import Limit
from ..settings import Settings
from ..store import Store
from ..store.audit import Actor
from ..store.sessions import Visitor
from ..store.users import User, normal
from .throttle import Throttle

T = TypeVar("T")
AT_ONCE = min(2, max(1, (os.cpu_count() or 1) // 2))
"""Passwords compared at the same time; each takes a processor, and 64 MiB of memory."""
MOST_WAITING = 32
BUSY_S = 5.0
LONGEST_EMAIL = 320
VISITOR = "visitor"
WRITTEN = Limit(60.0, 100)
"""Lines of each kind that the audit log takes from sign-ins: a flood must not fill the disk."""
KEPT = 10_000
PRUNE_EVERY = 500


class _Try(NamedTuple):
    account: str
    neighbourhood: str
    at: float


class SignIn:
    """Who may come in with a password."""

    def __init__(self, settings: Settings, store: Store) -> None:
        chosen = settings.sign_in
        self._store = store
        self._by_account = Throttle(Limit(chosen.window_s, chosen.per_account))
        self._by_address = Throttle(Limit(chosen.window_s, chosen.per_address))
        self._written = Throttle(WRITTEN)
        self._unwritten = 0
        self._lines = 0
        self._pool = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._waiting = 0
        self.compared = 0
        """How often a password was compared: once for each sign-in that was not throttled."""

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def sign_in(self, email: str, password: str, visitor: Visitor) -> str:
        """The secret of a new session. Raises SignInRefused, TooManySignIns."""
        account = normal(email)[:LONGEST_EMAIL]
        attempt = self._try(account, visitor)
        user, stored = await self._store.users.password_of(account) or (None, None)
        right = await self._compare(stored, password)
        secret = None
        if right and user is not None and not user.disabled and stored is not None:
            secret = await self._store.sessions.create(user.id, stored, visitor)
        if secret is None:
            self._write_down("sign_in.refused", account, visitor, _why(user, stored, right))
            raise SignInRefused
        self._forgive(attempt)
        self._count_line()
        return secret

    async def change_password(self, user: User, old: str, new: str, visitor: Visitor) -> str:
        """Every session of theirs ends; a new one's secret. Raises SignInRefused, TooManySignIns, InvalidRequest."""
        check_password(new)
        attempt = self._try(user.email, visitor)
        _, stored = await self._store.users.password_of(user.email) or (None, None)
        if stored is None or not await self._compare(stored, old):
            self._write_down("sign_in.refused", user.email, visitor, "changing the password")
            raise SignInRefused("The present password is not that.")
        self._forgive(attempt)
        hashed = await self.hash(new)
        actor = Actor(user.email, visitor.address)
        await self._store.users.set_password(user.id, hashed, actor, replacing=stored)
        return await self._begin(user, hashed, visitor)

    async def accept(self, invitation: str, password: str, visitor: Visitor) -> str:
        """Make the account that an invitation promises; a session's secret.

        Raises InvitationNotFound, InvalidRequest for the password, AlreadyExists, TooManySignIns.
        """
        check_password(password)
        await self._store.invitations.find(invitation)
        hashed = await self.hash(password)
        user = await self._store.invitations.accept(invitation, hashed, visitor.address)
        return await self._begin(user, hashed, visitor)

    async def hash(self, password: str) -> str:
        """Raises InvalidRequest, TooManySignIns."""
        return await self._off_the_loop(hash_password, password)

    async def _begin(self, user: User, hashed: str, visitor: Visitor) -> str:
        secret = await self._store.sessions.create(user.id, hashed, visitor)
        if secret is None:  # disabled, or changed again, in this very moment
            raise SignInRefused
        return secret

    async def _compare(self, stored: str | None, password: str) -> bool:
        right = await self._off_the_loop(verify_password, stored, password)
        self.compared += 1
        return right

    async def _off_the_loop(self, work: Callable[..., T], *values: Any) -> T:
        if self._waiting >= MOST_WAITING:
            raise TooManySignIns(retry_after=BUSY_S)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *values)
        finally:
            self._waiting -= 1

    def _try(self, account: str, visitor: Visitor) -> _Try:
        """Counted before anything is known of it, so that many at once are no more than one after the other."""
        attempt = _Try(account, neighbourhood(visitor.address), monotonic())
        by_account = self._by_account.wait(attempt.account, attempt.at)
        by_address = self._by_address.wait(attempt.neighbourhood, attempt.at)
        if by_account or by_address:
            what = "account" if by_account >= by_address else "address"
            self._write_down("sign_in.throttled", account, visitor, f"by {what}")
            raise TooManySignIns(retry_after=max(by_account, by_address))
        self._by_account.count(attempt.account, attempt.at)
        self._by_address.count(attempt.neighbourhood, attempt.at)
        return attempt

    def _forgive(self, attempt: _Try) -> None:
        """Only refused sign-ins count in the end: many people may share an address."""
        self._by_account.forgive(attempt.account, attempt.at)
        self._by_address.forgive(attempt.neighbourhood, attempt.at)

    def _write_down(self, action: str, account: str, visitor: Visitor, detail: str) -> None:
        now = monotonic()
        if self._written.wait(action, now):
            self._unwritten += 1
            return
        self._written.count(action, now)
        if self._unwritten:
            detail += f"; {self._unwritten} more since the last line"
            self._unwritten = 0
        # What has no @ may be a password in the wrong field.
        subject = "".join(filter(str.isprintable, account)) if "@" in account else ""
        self._store.audit_log.write(Actor(VISITOR, visitor.address), action, subject, detail)
        self._count_line()

    def _count_line(self) -> None:
        if self._lines % PRUNE_EVERY == 0:
            self._store.audit_log.prune("sign_in.", KEPT)
        self._lines += 1


def _why(user: User | None, stored: str | None, right: bool) -> str:
    """For the audit log alone: whoever is refused learns nothing of it."""
    if user is None:
        return "unknown account"
    if user.disabled:
        return "disabled account"
    if stored is None:
        return "account without a password"
    return "the account changed meanwhile" if right else "wrong password"
