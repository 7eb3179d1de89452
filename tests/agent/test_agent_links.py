"""Both links against a hub: the same life by socket and by polling."""

import json
import ssl

import pytest
import trustme
from double import TOKEN, ScriptEngine, eventually, hub_double, plain, running_agent

from agent.engines import Delta, EngineFailure, Finish, Text
from agent.engines.echo import EchoEngine
from hub.protocol import (
    Bye,
    Drain,
    End,
    Fail,
    Model,
    ModelsFrame,
    Ping,
    Pong,
    Refuse,
    Started,
    StatusFrame,
)

BOTH = pytest.mark.parametrize("transport", ["socket", "poll"])


@BOTH
async def test_hello_introduces_the_agent(transport):
    async with hub_double() as hub, running_agent(hub.url, EchoEngine(), transport) as agent:
        session = await hub.worker()
        hello = session.hello
        assert session.transport == transport
        assert (hello.worker, hello.name, hello.kind, hello.slots, hello.region) == (
            "worker-1",
            "test agent",
            "agent",
            4,
            "lab",
        )
        assert [model.id for model in hello.models] == [
            "echo",
            "echo-slow",
            "echo-fail",
            "echo-tools",
        ]
        assert hello.state == "ready"
        assert hello.resume is None
        await eventually(lambda: agent.session.connected)


async def test_by_polling_the_token_travels_in_the_header_alone():
    async with hub_double() as hub, running_agent(hub.url, EchoEngine(), "poll"):
        await hub.over(hub.offer(await hub.worker(), "x"))
        assert set(hub.authorizations) == {f"Bearer {TOKEN}"}
        assert TOKEN.encode() not in hub.raw_hellos[0]


@BOTH
async def test_a_job_is_answered(transport):
    async with hub_double() as hub, running_agent(hub.url, EchoEngine(), transport) as agent:
        job = hub.offer(await hub.worker(), "one two three")
        await hub.over(job)
        assert job.text == "one two three"
        assert isinstance(job.frames[0], Started)
        assert job.last.finish_reason == "stop"
        assert job.last.usage == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        assert agent.session.tally.done == 1
        assert agent.session.busy == 0


async def test_the_frames_are_the_same_by_socket_and_by_polling():
    said = {}
    for transport in ("socket", "poll"):
        engine = ScriptEngine()
        async with hub_double() as hub, running_agent(hub.url, engine, transport):
            job = hub.offer(await hub.worker())
            engine.say(job, Text("a\ud83d"), Text("\ude00 "), Delta({"reasoning_content": "h"}))
            engine.say(
                job, Text(""), Text("\ud800"), Text("z" * 40_000), Finish("length", {"n": 1})
            )
            await hub.over(job)
            said[transport] = plain(job.frames)
    assert said["socket"] == said["poll"]
    texts = "".join(frame.get("text", "") for frame in said["poll"])
    assert texts == "a\U0001f600 \ufffd" + "z" * 40_000
    assert said["poll"][-1] == {
        "t": "end",
        "finish_reason": "length",
        "usage": {"n": 1},
    }


@BOTH
async def test_many_jobs_at_once(transport):
    async with hub_double() as hub, running_agent(hub.url, EchoEngine(), transport, slots=20):
        session = await hub.worker()
        words = [" ".join(f"w{i}-{n}" for n in range(50)) for i in range(20)]
        jobs = [hub.offer(session, text) for text in words]
        await hub.over(*jobs)
        assert [job.text for job in jobs] == words


@BOTH
async def test_cancel_stops_the_engine_and_frees_the_slot(transport):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, transport, slots=1):
        session = await hub.worker()
        job = hub.offer(session)
        engine.say(job, Text("half"))
        await hub.until(lambda: job.pieces == 1)
        hub.cancel(job)
        following = hub.offer(session)
        engine.say(following, Text("next"), Finish())
        await engine.until_stopped(job)
        await hub.over(following)
        assert following.text == "next"
        assert [type(frame).__name__ for frame in job.frames] == ["Started", "Piece"]


@BOTH
async def test_without_a_free_slot_it_refuses(transport):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, transport, slots=1):
        session = await hub.worker()
        hub.offer(session)
        second = hub.offer(session)
        await hub.over(second)
        assert [type(frame) for frame in second.frames] == [Refuse]
        assert second.last.reason == "no free slot"


@BOTH
async def test_what_the_engine_does_not_do_is_refused(transport):
    async with hub_double() as hub, running_agent(hub.url, EchoEngine(), transport):
        job = hub.offer(await hub.worker(), kind="image")
        await hub.over(job)
        assert [type(frame) for frame in job.frames] == [Refuse]


@BOTH
async def test_ping_is_answered_at_once(transport):
    async with hub_double() as hub, running_agent(hub.url, EchoEngine(), transport):
        session = await hub.worker()
        hub.say(session, Ping())
        await hub.until(lambda: session.said(Pong))


@BOTH
async def test_drain_finishes_what_is_in_hand_and_takes_no_more(transport):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, transport):
        session = await hub.worker()
        job = hub.offer(session)
        hub.say(session, Drain())
        await hub.until(lambda: session.said(StatusFrame))
        assert session.said(StatusFrame)[0].state == "draining"
        late = hub.offer(session)
        await hub.over(late)
        assert isinstance(late.last, Refuse)
        engine.say(job, Text("done"), Finish())
        await hub.over(job)
        assert job.text == "done"


@BOTH
async def test_a_changed_catalogue_is_told_once(transport):
    async with hub_double() as hub, running_agent(hub.url, EchoEngine(), transport) as agent:
        session = await hub.worker()
        await eventually(lambda: agent.session.connected)
        agent.session.offer([Model(id="new")])
        agent.session.offer([Model(id="new")])
        hub.say(session, Ping())
        await hub.until(lambda: session.said(Pong))
        assert [[m.id for m in frame.models] for frame in session.said(ModelsFrame)] == [["new"]]


@BOTH
async def test_a_failure_is_told_with_all_it_knows(transport):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, transport) as agent:
        job = hub.offer(await hub.worker())
        engine.say(job, EngineFailure("rate_limited", "slow down", 7.5, ran=False))
        await hub.over(job)
        assert plain(job.frames)[1:] == [
            {
                "t": "fail",
                "code": "rate_limited",
                "message": "slow down",
                "retry_after_s": 7.5,
                "ran": False,
            }
        ]
        assert agent.session.tally.failed == 1


@BOTH
async def test_an_engine_that_breaks_fails_the_job_alone(transport):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, transport):
        session = await hub.worker()
        job, other = hub.offer(session), hub.offer(session)
        engine.say(job, RuntimeError("a secret of the engine"))
        engine.say(other, Text("fine"), Finish())
        await hub.over(job, other)
        assert isinstance(job.last, Fail)
        assert (job.last.code, "secret" in job.last.message) == ("internal", False)
        assert isinstance(other.last, End)


@BOTH
async def test_leaving_fails_what_is_left_and_says_bye(transport):
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, transport) as agent:
        session = await hub.worker()
        job = hub.offer(session)
        await hub.until(lambda: job.frames)
        agent.session.leave("going home")
        assert (await agent.end()).welcomed
        await hub.until(lambda: session.ended)
        assert job.last.code == "cancelled"
        assert [frame.reason for frame in session.said(Bye)] == ["going home"]
        assert engine.stopped == [job.id]


@BOTH
async def test_frames_are_few_to_a_packet_bound(transport):
    engine = ScriptEngine()
    async with hub_double(max_bytes=2_000) as hub, running_agent(hub.url, engine, transport):
        job = hub.offer(await hub.worker())
        text = "\x01\U0001f600\xe9" * 3_000
        engine.say(job, Text(text), Finish())
        await hub.over(job)
        assert job.text == text


async def test_acks_come_without_anything_to_say():
    engine = ScriptEngine()
    async with hub_double() as hub, running_agent(hub.url, engine, "socket"):
        session = await hub.worker()
        job = hub.offer(session)
        await hub.until(lambda: job.frames)
        hub.cancel(job)
        await hub.until(lambda: session.channel.unacked == 0)


async def test_a_silent_hub_is_given_up():
    async with (
        hub_double(heartbeat_s=0.05) as hub,
        running_agent(hub.url, EchoEngine(), "socket"),
    ):
        await hub.until(lambda: len(hub.welcomes) >= 3)
        assert [w.resumed for w in hub.welcomes[:3]] == [False, True, True]


async def test_a_hub_that_reads_nothing_is_given_up():
    engine = ScriptEngine()
    settings = {"reading": False, "max_bytes": 64_000_000}
    async with hub_double(**settings) as hub, running_agent(hub.url, engine, "socket"):
        job = hub.offer(await hub.worker())
        engine.say(job, Delta({"reasoning_content": "x" * 30_000_000}))  # more than kernels buffer
        await hub.until(lambda: len(hub.welcomes) >= 2)


async def test_an_engine_is_slowed_while_the_hub_acknowledges_nothing():
    engine = ScriptEngine()
    async with hub_double(acking=False) as hub, running_agent(hub.url, engine, "socket") as agent:
        session = await hub.worker()
        job = hub.offer(session)
        engine.say(job, *[Text("word ")] * 12_000, Finish())
        await hub.until(lambda: job.pieces >= 4_999)
        hub.say(session, Ping())
        await hub.until(lambda: session.said(Pong))
        assert 4_000 < agent.session.unacked <= 5_002
        hub.acking = True
        session.wake.set()
        await hub.over(job)
        assert job.text == "word " * 12_000
        assert len(hub.welcomes) == 1


async def test_a_held_exchange_is_overtaken():
    async with hub_double() as hub, running_agent(hub.url, EchoEngine(), "poll") as agent:
        session = await hub.worker()
        await eventually(lambda: agent.session.connected)
        await eventually(lambda: hub.most_held)
        agent.session.offer([Model(id="late")])
        await hub.until(lambda: session.said(ModelsFrame))


async def test_a_hub_that_holds_nothing_is_asked_when_it_says():
    async with (
        hub_double(wait_s=0.0, next_s=1) as hub,
        running_agent(hub.url, EchoEngine(), "poll"),
    ):
        job = hub.offer(await hub.worker(), " ".join(["many words"] * 500))
        await hub.over(job)
        assert job.text == " ".join(["many words"] * 500)
        assert hub.exchanges < 30


@BOTH
async def test_tls_with_a_private_certificate(transport, tmp_path):
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with hub_double(tls=server) as hub:
        async with running_agent(hub.url, EchoEngine(), transport, tls=trusting):
            job = hub.offer(await hub.worker(), "sealed")
            await hub.over(job)
            assert job.text == "sealed"
        async with running_agent(hub.url, EchoEngine(), transport) as stranger:
            await eventually(lambda: stranger.dial.last)
            assert stranger.dial.last.cause == "unreachable"
            assert "CERTIFICATE" in json.dumps(stranger.dial.last.reason).upper()
