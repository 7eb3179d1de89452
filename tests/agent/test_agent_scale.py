"""Slots that come and go: what the hub asks for, and what an engine says of itself."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from double import ScriptEngine, eventually, hub_double, plain, running_agent

from agent.engines import (
    AwaitsHuman,
    Condition,
    EngineBusy,
    EngineFailure,
    Finish,
    Host,
    SiteEngine,
    Starts,
    Text,
)
from agent.engines.echo import EchoEngine
from agent.session import Card, Session
from agent.status import status_line
from hub.protocol import (
    Exchange,
    Notice,
    Ping,
    Pong,
    ProfileFrame,
    Scale,
    StatusFrame,
    Welcome,
    decode_worker_packet,
)

BOTH = pytest.mark.parametrize("transport", ["socket", "poll"])


class ScriptSite(ScriptEngine):
    """A site's engine whose condition a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.host: Host
        self.profiles: list[dict[str, Any]] = []
        self.scales: list[int] = []

    async def open(self, host: Host) -> None:
        self.host = host

    def profile(self, profile: dict[str, Any]) -> None:
        self.profiles.append(profile)

    def scale(self, slots: int) -> None:
        self.scales.append(slots)
        self.host.fares(Condition(slots))


@asynccontextmanager
async def site_agent(hub, transport="socket", slots=1, most=None):
    """A running agent with a site's engine that is open, and the session that the hub has of it."""
    engine = ScriptSite()
    async with running_agent(hub.url, engine, transport, slots=slots, most_slots=most) as agent:
        await engine.open(agent.session)
        engine.host.fares(Condition(slots))
        session = await hub.worker()
        await eventually(lambda: agent.session.connected)
        yield engine, session, agent


async def settled(hub, session):
    """Everything that was said so far has arrived."""
    before = len(session.said(Pong))
    hub.say(session, Ping())
    await hub.until(lambda: len(session.said(Pong)) > before)


def statuses(session):
    return plain(session.said(StatusFrame))


# --- scale -------------------------------------------------------------------------------------------


@BOTH
async def test_an_engine_without_tabs_simply_takes_more_or_fewer_at_once(transport):
    async with (
        hub_double() as hub,
        running_agent(hub.url, EchoEngine(), transport, slots=2, most_slots=5) as agent,
    ):
        session = await hub.worker()
        for asked, slots in ((4, 4), (99, 5), (0, 2)):
            hub.say(session, Scale(asked))
            await hub.until(
                lambda slots=slots: (
                    session.said(StatusFrame)[-1:] == [StatusFrame("ready", slots=slots)]
                )
            )
        assert agent.session.slots == 2
        assert "slots 0/2" in status_line(agent.session, agent.dial).plain


async def test_without_a_range_the_number_stays():
    async with (
        hub_double() as hub,
        running_agent(hub.url, EchoEngine(), "socket", slots=3) as agent,
    ):
        session = await hub.worker()
        hub.say(session, Scale(7))
        await settled(hub, session)
        assert (agent.session.slots, statuses(session)) == (3, [])


@BOTH
async def test_a_sites_engine_is_asked_within_its_range(transport):
    async with hub_double() as hub, site_agent(hub, transport, 1, 3) as (engine, session, _):
        for asked in (2, 8, 0):
            hub.say(session, Scale(asked))
        await hub.until(lambda: len(engine.scales) == 3)
        assert engine.scales == [2, 3, 1]
        await hub.until(
            lambda: statuses(session)[-1:] == [{"t": "status", "state": "ready", "slots": 1}]
        )


# --- what a site's engine says -----------------------------------------------------------------------


async def test_a_hello_says_how_many_slots_there_are_now():
    engine = ScriptSite()
    async with hub_double() as hub, running_agent(hub.url, engine, "socket", slots=2):
        assert (await hub.worker()).hello.slots == 0, "nobody said that it is open"
    session = Session(Card("w", "n", 2), engine)
    session.fares(Condition(2))
    assert b'"slots":2' in session.hello()


@BOTH
async def test_it_says_itself_when_it_waits_and_when_it_starts(transport):
    async with hub_double() as hub, site_agent(hub, transport) as (engine, session, agent):
        job = hub.offer(session)
        engine.say(job, AwaitsHuman())
        await hub.until(lambda: job.frames)
        assert plain(job.frames) == [{"t": "waiting", "for": "human"}]
        assert "1 waiting for you" in status_line(agent.session, agent.dial).plain
        engine.say(job, Starts(), Text("hi"))
        await hub.until(lambda: job.pieces)
        assert not agent.session.waiting
        engine.say(job, Finish())
        await hub.over(job)
        assert [frame["t"] for frame in plain(job.frames)] == ["waiting", "started", "piece", "end"]


async def test_one_that_is_cancelled_waits_no_more():
    async with hub_double() as hub, site_agent(hub) as (engine, session, agent):
        job = hub.offer(session)
        engine.say(job, AwaitsHuman())
        await hub.until(lambda: job.frames)
        hub.cancel(job)
        await engine.until_stopped(job)
        assert not agent.session.waiting


@BOTH
async def test_a_job_that_it_cannot_begin_is_refused(transport):
    async with hub_double() as hub, site_agent(hub, transport) as (engine, session, agent):
        job = hub.offer(session)
        engine.say(job, EngineBusy("no free tab"))
        await hub.over(job)
        assert plain(job.frames) == [{"t": "refuse", "reason": "no free tab"}]
        assert (agent.session.tally.refused, agent.session.busy) == (1, 0)


async def test_a_slot_that_is_gone_is_left_to_the_engine():
    async with hub_double() as hub, site_agent(hub) as (engine, session, _):
        engine.host.fares(Condition(0, "cooling", "a pause"))
        job = hub.offer(session)
        engine.say(job, Starts(), Text("after the pause"), Finish())
        await hub.over(job)
        assert job.text == "after the pause"


@BOTH
async def test_a_pause_is_told_with_its_end_once(transport):
    async with hub_double() as hub, site_agent(hub, transport) as (engine, session, _):
        clock = asyncio.get_running_loop().time
        for late in (0.0, 0.3, 0.6):
            engine.host.fares(Condition(0, "cooling", "a pause", clock() + 7 + late))
        engine.host.fares(Condition(1))
        await hub.until(lambda: len(session.said(StatusFrame)) >= 2)
        await settled(hub, session)
        cooling, ready = statuses(session)
        assert cooling == {"t": "status", "state": "cooling", "reason": "a pause", "slots": 0} | {
            "until": pytest.approx(7, abs=0.5)
        }
        assert ready == {"t": "status", "state": "ready", "slots": 1}


@BOTH
async def test_a_pause_is_told_again_after_a_hello(transport):
    """A hello says `cooling` but not for how long; the hub would wait for ever."""
    async with hub_double() as hub, site_agent(hub, transport) as (engine, session, _):
        soon = asyncio.get_running_loop().time() + 60
        engine.host.fares(Condition(0, "cooling", "a pause", soon))
        await hub.until(lambda: session.said(StatusFrame))
        hub.refuse_resume = True
        session.ended = True
        hub.cut(session)
        await hub.until(lambda: len(hub.sessions) == 2 and hub.sessions[1].said(StatusFrame))
        assert hub.sessions[1].hello.state == "cooling"
        assert statuses(hub.sessions[1])[0]["until"] == pytest.approx(60, abs=5)


async def test_one_tabs_trouble_is_not_the_whole_workers():
    """The hub takes a `challenge` for the worker's; it must hear that other slots are fine."""
    async with hub_double() as hub, site_agent(hub, slots=2) as (engine, session, agent):
        job = hub.offer(session)
        engine.host.fares(Condition(1))
        engine.say(job, Starts(), EngineFailure("challenge", "a check", 1200.0))
        await hub.over(job)
        await settled(hub, session)
        order = [type(frame).__name__ for frame in session.frames if not isinstance(frame, Pong)]
        assert order[-2:] == ["Fail", "StatusFrame"]
        assert statuses(session)[-1] == {"t": "status", "state": "ready"}
        assert agent.session.state == "ready"


async def test_when_every_tab_needs_its_human_so_does_the_worker():
    async with hub_double() as hub, site_agent(hub) as (engine, session, _):
        engine.host.fares(Condition(0, "attention", "a sign-in"))
        await hub.until(lambda: session.said(StatusFrame))
        engine.host.fares(Condition(1))
        await hub.until(lambda: len(session.said(StatusFrame)) == 2)
        attention, ready = statuses(session)
        assert (attention["state"], attention["reason"], attention["slots"]) == (
            "attention",
            "a sign-in",
            0,
        )
        assert ready == {"t": "status", "state": "ready", "slots": 1}


async def test_profiles_reach_it_and_notices_leave():
    async with hub_double() as hub, site_agent(hub) as (engine, session, _):
        hub.say(session, ProfileFrame({"version": 7}))
        await hub.until(lambda: engine.profiles)
        engine.host.notice("unknown lines: q, w")
        await hub.until(lambda: session.said(Notice))
        assert engine.profiles == [{"version": 7}]
        assert plain(session.said(Notice)) == [
            {"t": "notice", "code": "site_changed", "message": "unknown lines: q, w"}
        ]


async def test_a_changed_catalogue_is_asked_for():
    engine = ScriptSite()
    session = Session(Card("w", "n", 1), engine)
    assert not session.stale.is_set()
    session.catalogue_changed()
    assert session.stale.is_set()


def test_only_an_engine_with_a_site_is_one():
    assert isinstance(ScriptSite(), SiteEngine)
    assert not isinstance(ScriptEngine(), SiteEngine)
    assert not isinstance(EchoEngine(), SiteEngine)


async def test_a_change_between_hello_and_welcome_is_told_to_a_new_session():
    """When the resume is refused, what was said in between went to the session that is gone."""
    session = Session(Card("w", "n", 1), EchoEngine())
    session.welcomed(welcome("s1", resumed=False))
    session.parted()
    session.hello()
    session.needs_attention("test", "look here")
    session.welcomed(welcome("s2", resumed=False))
    [frame] = decode_worker_packet(session.packet()).frames
    assert frame == StatusFrame("attention", "look here")


def welcome(session: str, *, resumed: bool) -> Welcome:
    return Welcome(session, "c", resumed, 0, 20, 30, 1024 * 1024, Exchange(0, 0))
