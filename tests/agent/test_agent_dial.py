"""Staying connected: nothing lost, nothing doubled, and knowing when to stay away."""

import asyncio
import time

import pytest
from double import (
    QUICK_DIAL,
    TOKEN,
    HubDouble,
    ScriptEngine,
    eventually,
    free_port,
    hub_double,
    running_agent,
)

from agent.dial import DialPace
from agent.engines import Finish, Text
from agent.engines.echo import EchoEngine
from hub.protocol import Close, End, Started

PATIENT = DialPace(first_s=0.02, longest_s=0.1, socket_again_s=60)
WORDS = [f"word{n} " for n in range(3_000)]


def numbered(frames):
    return [type(frame).__name__ for frame in frames if not hasattr(frame, "text")]


@pytest.mark.parametrize("transport", ["socket", "poll"])
async def test_an_answer_survives_cut_links(transport):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, transport):
        session = await hub.worker()
        job = hub.offer(session)
        for at in range(0, 3_000, 300):
            engine.say(job, *map(Text, WORDS[at : at + 150]))
            await hub.until(lambda at=at: job.pieces > at)
            hub.cut(session)
            engine.say(job, *map(Text, WORDS[at + 150 : at + 300]))
        engine.say(job, Finish())
        await hub.over(job)
        assert job.text == "".join(WORDS)
        assert numbered(job.frames) == ["Started", "End"]
        assert len(hub.sessions) == 1
        if transport == "socket":
            assert len(hub.welcomes) > 5
            assert all(welcome.resumed for welcome in hub.welcomes[1:])


async def test_pauses_stay_short_while_an_answer_is_in_hand():
    """A hub waits half a minute for the rest of an answer; a longer pause would lose it."""
    engine = ScriptEngine()
    patient = DialPace(first_s=0.01, longest_s=3_600, held_s=0.05, steady_s=3_600)
    async with hub_double() as hub, running_agent(hub.url, engine, "socket", pace=patient):
        session = await hub.worker()
        job = hub.offer(session)
        for at in range(25):
            engine.say(job, Text(f"{at} "))
            await hub.until(lambda at=at: job.pieces > at)
            hub.cut(session)
        engine.say(job, Finish())
        await hub.over(job)
        assert job.text == "".join(f"{at} " for at in range(25))


@pytest.mark.parametrize("lost", ["lose_requests", "lose_answers"])
async def test_swallowed_exchanges_lose_and_double_nothing(lost):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, "poll"):
        job = hub.offer(await hub.worker())
        for at in range(0, 1_000, 100):
            setattr(hub, lost, 2)
            engine.say(job, *map(Text, WORDS[at : at + 100]))
            await hub.until(lambda at=at: job.pieces >= at + 100)
        engine.say(job, Finish())
        await hub.over(job)
        assert job.text == "".join(WORDS[:1_000])
        assert numbered(job.frames) == ["Started", "End"]
        assert len(hub.welcomes) == 1


async def test_an_answer_moves_from_socket_to_polling_and_back():
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine) as agent:
        session = await hub.worker()
        job = hub.offer(session)
        engine.say(job, *map(Text, WORDS[:1_000]))
        await hub.until(lambda: job.pieces >= 500)
        hub.socket_door = "404"
        hub.cut(session)
        engine.say(job, *map(Text, WORDS[1_000:2_000]))
        await hub.until(lambda: session.transport == "poll" and job.pieces >= 1_500)
        assert agent.dial.transport == "poll"
        hub.socket_door = "open"
        engine.say(job, *map(Text, WORDS[2_000:2_500]))
        await hub.until(lambda: session.transport == "socket")
        engine.say(job, *map(Text, WORDS[2_500:]), Finish())
        await hub.over(job)
        assert job.text == "".join(WORDS)
        assert numbered(job.frames) == ["Started", "End"]
        assert [welcome.resumed for welcome in hub.welcomes] == [False, True, True]


async def test_handshakes_that_break_twice_lead_to_polling():
    pace = PATIENT
    async with (
        hub_double(socket_door="reset") as hub,
        running_agent(hub.url, EchoEngine(), pace=pace),
    ):
        session = await hub.worker()
        assert (session.transport, hub.upgrades) == ("poll", 2)
        job = hub.offer(session, "by post")
        await hub.over(job)
        assert job.text == "by post"


async def test_a_handshake_answered_with_a_page_leads_to_polling_at_once():
    async with (
        hub_double(socket_door="404") as hub,
        running_agent(hub.url, EchoEngine(), pace=PATIENT),
    ):
        session = await hub.worker()
        assert (session.transport, hub.upgrades) == ("poll", 1)


async def test_a_hub_that_is_down_is_no_reason_to_poll():
    hub = HubDouble()
    hub.port = free_port()
    async with running_agent(f"http://127.0.0.1:{hub.port}", EchoEngine()) as agent:
        await eventually(lambda: agent.dial._failures > 4)
        assert agent.dial.last.cause == "unreachable"
        await hub.open()
        try:
            session = await hub.worker()
            assert session.transport == "socket"
            assert not hub.authorizations
        finally:
            await hub.close()


async def test_a_hub_without_sockets_that_goes_down_is_found_again():
    hub = HubDouble()
    hub.socket_door = "404"
    await hub.open()
    async with running_agent(hub.url, EchoEngine(), pace=PATIENT) as agent:
        session = await hub.worker()
        job = hub.offer(session, "before")
        await hub.over(job)
        await hub.close()
        await eventually(lambda: not agent.session.connected or agent.dial.last)
        await hub.open()
        again = hub.offer(session, "after")
        await hub.over(again)
        assert again.text == "after"
        await hub.close()


async def test_a_session_not_resumed_drops_what_belonged_to_the_old_one():
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine) as agent:
        session = await hub.worker()
        job = hub.offer(session)
        engine.say(job, Text("half"))
        await hub.until(lambda: job.pieces)
        hub.refuse_resume = True
        hub.cut(session)
        await engine.until_stopped(job)
        await hub.until(lambda: len(hub.sessions) == 2)
        fresh = await hub.worker()
        assert fresh.hello.resume is not None
        following = hub.offer(fresh)
        engine.say(following, Text("new"), Finish())
        await hub.over(following)
        assert following.text == "new"
        assert [type(f) for f in fresh.frames if not hasattr(f, "text")] == [Started, End]
        assert not any(isinstance(frame, End) for frame in job.frames)
        assert agent.session.busy == 0


@pytest.mark.parametrize("transport", ["socket", "poll"])
async def test_a_wrong_token_ends_the_agent(transport):
    async with (
        hub_double() as hub,
        running_agent(hub.url, EchoEngine(), transport, token="wrong") as agent,
    ):
        closed = await agent.end()
        assert closed.code == Close.UNAUTHORIZED
        assert TOKEN not in closed.reason


@pytest.mark.parametrize("code", [Close.REPLACED, Close.REMOVED, Close.UNSUPPORTED_PROTOCOL])
async def test_final_codes_end_the_agent_and_its_jobs(code):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine) as agent:
        session = await hub.worker()
        job = hub.offer(session)
        await hub.until(lambda: job.frames)
        await hub.dismiss(session, code, "that is all")
        closed = await agent.end()
        assert (closed.code, closed.reason) == (code, "that is all")
        await engine.until_stopped(job)


async def test_a_poller_that_was_replaced_stays_away():
    async with (
        hub_double(wait_s=0, next_s=0) as hub,
        running_agent(hub.url, EchoEngine(), "poll") as agent,
    ):
        (await hub.worker()).connection = "somebody else's"
        assert (await agent.end()).code == Close.REPLACED


@pytest.mark.parametrize("code", [Close.RESTART, Close.HEARTBEAT_LOST, Close.GOING_AWAY])
async def test_passing_codes_bring_it_back(code):
    async with hub_double() as hub, running_agent(hub.url, EchoEngine()):
        await hub.dismiss(await hub.worker(), code)
        await hub.until(lambda: len(hub.welcomes) == 2)
        assert hub.welcomes[1].resumed


async def test_after_a_protocol_error_it_pauses_and_begins_anew():
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine):
        session = await hub.worker()
        job = hub.offer(session)
        await hub.until(lambda: job.frames)
        began = time.monotonic()
        await hub.dismiss(session, Close.PROTOCOL_ERROR)
        await hub.until(lambda: len(hub.welcomes) == 2)
        assert time.monotonic() - began >= QUICK_DIAL.protocol_error_s
        assert hub.sessions[1].hello.resume is None
        assert engine.stopped == [job.id]


async def test_a_gap_from_the_hub_is_a_protocol_error():
    async with hub_double() as hub, running_agent(hub.url, EchoEngine()) as agent:
        session = await hub.worker()
        await session.socket.send_str('{"n":7,"ack":0,"frames":[{"t":"ping"}]}')
        await eventually(lambda: agent.dial.last)
        assert agent.dial.last.code == Close.PROTOCOL_ERROR
        await hub.until(lambda: len(hub.sessions) == 2)


async def test_a_poller_whose_session_is_gone_says_a_fresh_hello():
    async with hub_double(wait_s=0) as hub, running_agent(hub.url, EchoEngine(), "poll"):
        (await hub.worker()).ended = True
        await hub.until(lambda: len(hub.sessions) == 2)
        assert hub.sessions[1].hello.resume is None


async def test_too_much_said_offline_ends_the_session():
    engine = ScriptEngine()
    hub = HubDouble()
    await hub.open()
    async with running_agent(hub.url, engine) as agent:
        session = await hub.worker()
        job = hub.offer(session)
        await hub.until(lambda: job.frames)
        await hub.close()
        await eventually(lambda: not agent.session.connected)
        engine.say(job, *[Text("word ")] * 10_500)
        await engine.until_stopped(job)
        assert agent.session.busy == 0
        await hub.open()
        await hub.until(lambda: len(hub.sessions) == 2)
        assert hub.sessions[1].hello.resume is None
        await hub.close()


async def test_leaving_while_the_hub_is_away_takes_no_time():
    async with running_agent(f"http://127.0.0.1:{free_port()}", EchoEngine()) as agent:
        await eventually(lambda: agent.dial.last)
        agent.session.leave("enough")
        async with asyncio.timeout(1):
            await agent.end()


async def test_what_changed_offline_is_told_by_the_next_hello():
    hub = HubDouble()
    await hub.open()
    engine = EchoEngine()
    async with running_agent(hub.url, engine) as agent:
        session = await hub.worker()
        await hub.close()
        await eventually(lambda: not agent.session.connected)
        agent.session.needs_attention("engine", "the upstream refused the key")
        await hub.open()
        await hub.until(lambda: len(hub.welcomes) == 2)
        assert session.hello.state == "attention"
        await hub.close()


async def test_a_poller_waits_out_a_hub_that_is_not_there_yet():
    async with hub_double(poll_door="503") as hub, running_agent(hub.url, EchoEngine(), "poll"):
        await eventually(lambda: len(hub.authorizations) > 2)
        hub.poll_door = "open"
        session = await hub.worker()
        hub.poll_door = "502"
        job = hub.offer(session, "through a proxy's hiccup")
        seen = len(hub.authorizations)
        await eventually(lambda: len(hub.authorizations) > seen + 2)
        hub.poll_door = "open"
        await hub.over(job)
        assert job.text == "through a proxy's hiccup"
        assert len(hub.sessions) == 1
