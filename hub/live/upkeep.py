"""What has to be done again and again: purge what was kept long enough, sweep out what has expired, tidy."""

import asyncio
from contextlib import suppress

import structlog
from msgspec import Struct

from ..store import Store

EVERY_S = 3_600.0


class Swept(Struct, frozen=True):
    """What an upkeep removed, in rows."""

    journal: int
    stored_completions: int


async def sweep(store: Store) -> Swept:
    """Once. The command line does the same where no hub runs all day; both may do it at once."""
    days = {name: tier.retention_days for name, tier in store.tiers.all().items()}
    # Content first: a row of the journal stays as long as its content.
    completions = await store.content.purge()
    rows = await store.journal.purge(days, store.operator_days)
    return Swept(rows, completions)


async def keep_up(store: Store) -> None:
    """Every hour, for ever."""
    while True:
        with suppress(
            Exception
        ):  # a full disk is told by whoever writes; the next hour tries again
            swept = await sweep(store)
            if swept != Swept(0, 0):
                structlog.get_logger().info(
                    "swept", **{n: getattr(swept, n) for n in swept.__struct_fields__}
                )
            await store.database.tidy()
        await asyncio.sleep(EVERY_S)
