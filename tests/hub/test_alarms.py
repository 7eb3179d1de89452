"""Alarms: raised once, kept, counted, and over when their reason is."""

import asyncio
from time import monotonic
from typing import Any

import pytest

from hub.live.alarms import FEWEST_RECENT, RECENT_S, REPEATED_S
from hub.live.feed import AlarmChanged, SiteChanged, StorageTrouble
from hub.protocol import End, Fail, JobFrame, Piece
from tests.doors import ask, send, socket_worker

PLENTY = 1 << 50


def look(hub: Any, *, later: float = 0, free: int = PLENTY) -> None:
    """As the hub does every few seconds, perhaps at a later time."""
    hub.hub.alarms.look(monotonic() + later, free)


def raised(hub: Any) -> list[tuple[str, str]]:
    return sorted(hub.hub.alarms.raised)


def changes(hub: Any) -> list[AlarmChanged]:
    heard: list[AlarmChanged] = []
    hub.hub.feed.listen(lambda e: heard.append(e) if isinstance(e, AlarmChanged) else None)
    return heard


async def lines(hub: Any, kind: str) -> list[tuple[str, str]]:
    rows = await hub.rows(f"SELECT subject, message FROM system_log WHERE kind = '{kind}'")
    return [(row["subject"], row["message"]) for row in rows]


async def counted(hub: Any, kind: str) -> bool:
    page = (await send(hub, method="GET", path="/metrics")).body.decode()
    return f'lmarena_alarms{{kind="{kind}"}} 1.0' in page


async def ends(hub: Any, number: int, ending: Any) -> None:
    async with socket_worker(hub, slots=100) as worker:
        for _ in range(number):
            asking = asyncio.create_task(ask(hub))
            job = await worker.hear(JobFrame)
            await worker.say(*ending(job.job))
            await asking


def completed(job: str) -> list[Any]:
    return [Piece(job, "x"), End(job)]


async def test_a_model_that_nobody_offers_any_more(start_hub):
    hub = await start_hub(deadlines={"absent_s": 0.01})
    await ends(hub, 1, completed)
    heard = changes(hub)
    for worker in hub.hub.roster:
        worker.drain()
    for _ in range(3):
        assert (await ask(hub)).status == 503
    assert raised(hub) == [("no_worker", "m")]
    assert [(change.subject, change.is_raised) for change in heard] == [("m", True)]
    assert await counted(hub, "no_worker")
    look(hub, later=REPEATED_S - 5)
    assert raised(hub)
    look(hub, later=REPEATED_S + 5)
    assert not raised(hub)
    assert [subject for subject, _ in await lines(hub, "no_worker")] == ["m", "m"]


async def test_a_high_error_rate(start_hub):
    hub = await start_hub(breaker={"failure_threshold": 1000})
    await ends(hub, FEWEST_RECENT - 1, lambda job: [Fail(job, "internal")])
    look(hub)
    assert not raised(hub)
    await ends(hub, 1, lambda job: [Fail(job, "internal")])
    look(hub)
    look(hub)
    assert raised(hub) == [("error_rate", "")]
    assert await counted(hub, "error_rate")
    look(hub, later=RECENT_S + 1)
    assert not raised(hub)
    assert [message for _, message in await lines(hub, "error_rate")] == [
        f"{FEWEST_RECENT} of the last {FEWEST_RECENT} requests failed",
        "it is over",
    ]


@pytest.mark.parametrize("code", ["moderated", "context_length_exceeded"])
async def test_callers_mistakes_are_no_errors_of_the_hubs(hub, code):
    await ends(hub, FEWEST_RECENT, lambda job: [Fail(job, code)])
    look(hub)
    assert not raised(hub)


async def test_long_waits(start_hub):
    hub = await start_hub(alarms={"queue_wait_s": 0.05})
    async with socket_worker(hub, slots=1) as worker:
        asking = [asyncio.create_task(ask(hub)) for _ in range(FEWEST_RECENT)]
        for _ in asking:
            job = await worker.hear(JobFrame)
            await asyncio.sleep(0.01)
            await worker.say(*completed(job.job))
        await asyncio.gather(*asking)
    look(hub)
    assert raised(hub) == [("queue_wait", "")]
    look(hub, later=RECENT_S + 1)
    assert not raised(hub)


async def test_a_filling_disk(start_hub):
    hub = await start_hub(alarms={"disk_free_mib": 100})
    look(hub, free=100 << 20)
    assert not raised(hub)
    look(hub, free=99 << 20)
    assert raised(hub) == [("disk", "")]
    look(hub, free=101 << 20)
    assert not raised(hub)
    assert await lines(hub, "disk") == [
        ("", "99 MiB are free, fewer than 100"),
        ("", "it is over"),
    ]


async def test_a_changed_site_is_an_alarm_too(hub):
    hub.hub.feed.announce(SiteChanged("tab", "no composer"))
    hub.hub.feed.announce(SiteChanged("tab", "no send button"))
    assert raised(hub) == [("site_changed", "tab")]
    assert await lines(hub, "site_changed") == [
        ("tab", "no composer"),
        ("tab", "no send button"),
    ]


async def test_a_database_that_cannot_be_written_does_not_alarm_itself(hub):
    heard = changes(hub)
    for _ in range(3):
        hub.hub.feed.announce(StorageTrouble("disk full"))
    assert raised(hub) == [("storage", "")]
    assert len(heard) == 1
    assert await lines(hub, "storage") == []


async def test_alarms_are_bounded(hub):
    for number in range(3_000):
        hub.hub.feed.announce(SiteChanged(f"tab {number}", "no composer"))
    assert len(hub.hub.alarms.raised) == 1_000
