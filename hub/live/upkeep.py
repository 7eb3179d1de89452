"""What has to be done again and again: purge what was kept long enough, sweep out what has expired, tidy."""

import asyncio

import structlog
from msgspec import Struct, structs

from ..store import Store

EVERY_S = 3_600.0


class Swept(Struct, frozen=True):
    """What an upkeep removed: rows of the journal, answers that were kept, and expired sign-ins."""

    journal: int
    answers: int
    sessions: int


async def sweep(store: Store) -> Swept:
    """Once. The command line does the same where no hub runs all day; both may do it at once."""
    days = {name: tier.retention_days for name, tier in store.tiers.all().items()}
    # Content first: a row of the journal stays as long as its content.
    answers = await store.content.purge()
    rows = await store.journal.purge(days, store.operator_days)
    return Swept(rows, answers, await store.sessions.purge())


async def keep_up(store: Store) -> None:
    """Every hour, for ever."""
    log = structlog.get_logger()
    while True:
        try:
            swept = await sweep(store)
            if swept != Swept(0, 0, 0):
                log.info("swept", **structs.asdict(swept))
            await store.database.tidy()
        except Exception:  # the next hour tries again
            log.exception("upkeep failed")
        await asyncio.sleep(EVERY_S)
