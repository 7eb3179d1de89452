"""Keeps the session's catalogue true to what the engine can really answer."""

import asyncio
from dataclasses import dataclass

import structlog

from agent.engines import Engine, EngineFailure
from agent.session import Session

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CataloguePace:
    """Seconds between two readings."""

    every_s: float = 300.0
    retry_first_s: float = 2.0
    retry_longest_s: float = 60.0


class Catalogue:
    """Reads the engine's models now and then, and whenever one of them proved missing."""

    def __init__(self, session: Session, engine: Engine, pace: CataloguePace | None = None) -> None:
        self._session = session
        self._engine = engine
        self._pace = pace or CataloguePace()
        self._failures = 0
        self._was_locked_out = False

    async def keep(self) -> None:
        """Read, wait, and read again, until cancelled."""
        while True:
            await self.read()
            if not await self._was_stale_within(self._pause_s()):
                self._session.missing.clear()

    async def read(self) -> None:
        """Offer what the engine has now. A failure leaves what was on offer."""
        self._session.stale.clear()
        try:
            models = await self._engine.catalogue()
        except EngineFailure as failure:
            self._failed(failure)
            return
        self._failures = 0
        if self._was_locked_out:
            self._was_locked_out = False
            self._session.at_ease("engine")
        self._session.offer([m for m in models if m.id not in self._session.missing])

    def _failed(self, failure: EngineFailure) -> None:
        if not self._failures:
            log.warning("no catalogue", code=failure.code, message=failure.message)
        self._failures += 1
        if failure.code == "login_required":
            self._was_locked_out = True
            self._session.needs_attention("engine", failure.message)

    def _pause_s(self) -> float:
        if not self._failures:
            return self._pace.every_s
        doubled = self._pace.retry_first_s * 2.0 ** min(self._failures - 1, 10)
        return min(self._pace.retry_longest_s, doubled)

    async def _was_stale_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._session.stale.wait()
        except TimeoutError:
            return False
        return True
