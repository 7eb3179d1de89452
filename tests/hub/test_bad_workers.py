"""Workers that break the protocol are sent away with the right code; another worker's caller notices nothing."""

import asyncio
import json
from typing import Any

import pytest

from hub.protocol import Cancel, Close, End, JobFrame, Piece, Pong, Started
from tests.doors import (
    Worker,
    ask,
    close_code,
    dial,
    eventually,
    poll_worker,
    send,
    socket_worker,
    undisturbed,
)

MIB = 1024 * 1024
BAD = {"worker": "bad", "models": [{"id": "bad"}]}


def packet(*frames: Any, n: int = 1, ack: int = 0) -> str:
    return json.dumps({"n": n, "ack": ack, "frames": list(frames)})


def hello(hub: Any, **card: Any) -> str:
    return json.dumps(Worker(hub, **BAD | card).hello())


def without(member: str, hub: Any) -> str:
    whole = json.loads(hello(hub))
    del whole["hello"][member]
    return json.dumps(whole)


# --- no hello ------------------------------------------------------------------------------------------


RUBBISH = ["", "{", "null", "[]", "hello", "{}", '{"hello": 1}', packet(), "[" * 100_000, "\x00"]


@pytest.mark.parametrize("said", RUBBISH)
async def test_anything_but_a_hello_first_is_a_bad_hello(hub, said):
    async with undisturbed(hub), dial(hub) as socket:
        await socket.send(said)
        assert await close_code(socket) == Close.BAD_HELLO


async def test_a_binary_hello_is_a_bad_hello(hub):
    async with undisturbed(hub), dial(hub) as socket:
        await socket.send(hello(hub).encode())
        assert await close_code(socket) == Close.BAD_HELLO


BAD_CARDS = [
    {"worker": ""},
    {"worker": "x" * 200},
    {"kind": "toaster"},
    {"slots": -1},
    {"slots": "four"},
    {"slots": 10**9},
    {"models": "m"},
    {"models": [{"id": ""}]},
    {"models": [{"id": "x" * 201}]},
    {"models": [{"id": "line\nbreak"}]},
    {"models": [{"id": f"m{number}"} for number in range(5001)]},
    {"models": [{}]},
    {"state": "asleep"},
    {"token": 5},
    {"resume": {"session": "x"}},
    {"resume": {"session": "x", "received": -1}},
]


@pytest.mark.parametrize("card", BAD_CARDS, ids=lambda card: str(card)[:40])
async def test_a_hello_with_a_wrong_member_is_a_bad_hello(hub, card):
    whole = json.loads(hello(hub))
    whole["hello"].update(card)
    async with undisturbed(hub), dial(hub) as socket:
        await socket.send(json.dumps(whole))
        assert await close_code(socket) == Close.BAD_HELLO


@pytest.mark.parametrize("member", ["worker", "name", "kind", "version", "slots", "models"])
async def test_a_hello_with_a_missing_member_is_a_bad_hello(hub, member):
    async with undisturbed(hub), dial(hub) as socket:
        await socket.send(without(member, hub))
        assert await close_code(socket) == Close.BAD_HELLO


async def test_five_thousand_models_are_allowed(hub):
    models = [{"id": f"m{number}"} for number in range(5000)]
    async with socket_worker(hub, **BAD | {"models": models}):
        listed = await send(hub, method="GET", path="/v1/models")
        assert len(listed.json["data"]) == 5000


@pytest.mark.parametrize("token", ["", "wrong", "wt-lmb-" + "0" * 48])
async def test_a_wrong_token_is_unauthorized(hub, token):
    whole = json.loads(hello(hub))
    whole["hello"]["token"] = token
    async with undisturbed(hub), dial(hub) as socket:
        await socket.send(json.dumps(whole))
        assert await close_code(socket) == Close.UNAUTHORIZED


@pytest.mark.parametrize("protocol", [2, 99])
async def test_another_protocol_is_unsupported(hub, protocol):
    async with undisturbed(hub), dial(hub) as socket:
        await socket.send(json.dumps({"hello": {"protocol": protocol, "of": "the future"}}))
        assert await close_code(socket) == Close.UNSUPPORTED_PROTOCOL


async def test_silence_before_the_hello_is_cut_short(start_hub):
    hub = await start_hub(workers={"hello_s": 0.1})
    async with undisturbed(hub), dial(hub) as socket:
        assert await close_code(socket) == Close.HELLO_TIMEOUT


async def test_a_worker_that_leaves_before_its_hello_disturbs_nobody(hub):
    async with undisturbed(hub), dial(hub) as socket:
        socket.transport.abort()


# --- after the hello -----------------------------------------------------------------------------------

BROKEN = [
    "rubbish",
    "{}",
    "[" * 100_000,
    packet(n=-1),
    packet({"t": "dance"}),
    packet({"no": "type"}),
    packet("pong"),
    packet({"t": "piece", "text": "whose?"}),
    packet({"t": "piece", "job": 5, "text": ""}),
    packet({"t": "piece", "job": "x", "text": 5}),
    packet({"t": "fail", "job": "x", "code": "bad_mood"}),
    packet({"t": "status", "state": "asleep"}),
    packet({"t": "status", "state": "cooling", "until": 1e300}),
    packet({"t": "models", "models": [{"id": f"m{number}"} for number in range(5001)]}),
    packet({"t": "pong"}, n=2),
    packet({"t": "pong"}, n=0),
    packet(ack=1),
    packet(ack=2**60),
    '{"n": 1, "ack": 0}',
    '{"n": 1, "ack": 0, "frames": {}}',
    '{"n": 1.5, "ack": 0, "frames": []}',
]


@pytest.mark.parametrize("said", BROKEN, ids=lambda said: said[:60])
async def test_a_broken_packet_ends_the_session_with_a_protocol_error(hub, said):
    async with undisturbed(hub), socket_worker(hub, **BAD) as worker:
        await worker.socket.send(said)
        assert await worker.closed() == Close.PROTOCOL_ERROR
        assert (await worker.open(resume=True)).resumed is False


async def test_a_binary_packet_is_a_protocol_error(hub):
    async with undisturbed(hub), socket_worker(hub, **BAD) as worker:
        await worker.socket.send(packet().encode())
        assert await worker.closed() == Close.PROTOCOL_ERROR


async def test_what_is_no_utf8_ends_the_session(hub):
    async with undisturbed(hub), socket_worker(hub, **BAD) as worker:
        await worker.socket.send(b"\xff\xfe", text=True)
        assert await worker.closed() in (1007, Close.PROTOCOL_ERROR)


async def test_a_packet_that_is_too_large_is_refused(start_hub):
    hub = await start_hub(max_body_bytes=MIB)
    async with undisturbed(hub), socket_worker(hub, **BAD) as worker:
        assert worker.welcome.max_bytes == 2 * MIB
        await worker.socket.send(packet({"t": "bye", "reason": "x" * 2 * MIB}))
        assert await worker.closed() == Close.TOO_BIG


async def test_the_job_of_a_worker_that_breaks_the_protocol_is_lost_at_once(hub):
    async with undisturbed(hub), socket_worker(hub, **BAD) as worker:
        asking = asyncio.create_task(ask(hub, model="bad"))
        job = await worker.hear(JobFrame)
        await worker.say(Started(job.job))
        await worker.socket.send("rubbish")
        assert await worker.closed() == Close.PROTOCOL_ERROR
        reply = await asking
    assert (reply.status, reply.error["code"]) == (502, "worker_lost")


async def test_frames_for_unknown_jobs_are_dropped_and_counted(hub):
    async with undisturbed(hub), socket_worker(hub, **BAD) as worker:
        await worker.say(Piece("nonesuch", "x"), Started("nonesuch"), End("nonesuch"))
        (session,) = [w for w in hub.hub.roster if w.id == "bad"]
        await eventually(lambda: session.dropped == 3)
        assert worker.socket.close_code is None


async def test_another_workers_job_cannot_be_answered(hub):
    async with socket_worker(hub, worker="good") as good, socket_worker(hub, **BAD) as bad:
        asking = asyncio.create_task(ask(hub))
        job = await good.hear(JobFrame)
        await bad.say(Piece(job.job, "forged"), End(job.job))
        (session,) = [w for w in hub.hub.roster if w.id == "bad"]
        await eventually(lambda: session.dropped == 2)
        await good.say(Piece(job.job, "true"), End(job.job))
        assert (await asking).text == "true"


async def test_a_flood_of_frames_disturbs_nobody(hub):
    async with undisturbed(hub), socket_worker(hub, **BAD) as worker:
        frames = [{"t": "pong"}, {"t": "piece", "job": "nonesuch", "text": "x"}] * 1000
        for number in range(50):
            await worker.socket.send(packet(*frames, n=2000 * number + 1))
        assert (await ask(hub, model="nonesuch")).status == 404
        (session,) = [w for w in hub.hub.roster if w.id == "bad"]
        await eventually(lambda: session.dropped == 50_000)


async def test_a_worker_that_reads_nothing_is_cut_off(start_hub):
    hub = await start_hub(workers={"stalled_s": 0.3, "grace_s": 0.1})
    async with undisturbed(hub), dial(hub, max_queue=1) as socket:
        await socket.send(hello(hub))
        await socket.recv()
        socket.transport.pause_reading()
        asking = asyncio.create_task(ask(hub, model="bad", metadata="x" * 18 * MIB))
        await eventually(lambda: len(hub.hub.roster) == 1)
        asking.cancel()
        socket.transport.abort()


async def test_a_worker_may_be_any_number_of_times_wrong_and_the_hub_lives(hub):
    async with undisturbed(hub):
        for said in RUBBISH * 5:
            async with dial(hub) as socket:
                await socket.send(said)
                assert await close_code(socket) == Close.BAD_HELLO


# --- frames that are valid by type and still poisonous -----------------------------------------------


async def poisoned(hub: Any, frames: list[str], **members: Any) -> tuple[int, bytes]:
    """What a caller gets from a worker that says these frames about its job, and then ends it."""
    card = {**BAD, "models": [{"id": "bad", "features": ["tools"]}]}
    card["token"] = await hub.new_worker_token("believed", trusted=True)
    async with undisturbed(hub), socket_worker(hub, **card) as worker:
        asking = asyncio.create_task(ask(hub, model="bad", **members))
        job = await worker.hear(JobFrame)
        said = ",".join([*frames, '{"t":"end","job":"JOB"}']).replace("JOB", job.job)
        try:
            await worker.socket.send(f'{{"n":1,"ack":0,"frames":[{said}]}}')
            async with asyncio.timeout(5):
                reply = await asking
        finally:
            asking.cancel()
    (state,) = [row["state"] for row in await hub.rows() if row["model"] == "bad"]
    assert state in ("completed", "failed")
    assert not hub.hub.dispatch.active
    return reply.status, reply.body


DEEP = '{"a":' * 400 + "1" + "}" * 400
CALL = '{"t":"piece","job":"JOB","delta":{"tool_calls":[%s]}}'
HUGE = 10**40
POISON = {
    "a tool call whose name is a number": CALL % '{"index":0,"function":{"name":5}}',
    "a tool call whose name is a list": CALL % '{"index":0,"function":{"name":["x"]}}',
    "a tool call whose id is an object": CALL % '{"index":0,"id":{"a":1},"function":{"name":"f"}}',
    "a tool call whose id is huge": CALL % f'{{"index":0,"id":{HUGE},"function":{{}}}}',
    "a tool call whose index is huge": CALL % f'{{"index":{HUGE},"function":{{}}}}',
    "tool calls that are numbers": CALL % "1,2,3",
    "a usage too large for JSON": f'{{"t":"end","job":"JOB","usage":{{"a":{HUGE}}}}}',
    "a usage nested too deeply": f'{{"t":"end","job":"JOB","usage":{DEEP}}}',
    "a delta nested too deeply": f'{{"t":"piece","job":"JOB","delta":{DEEP}}}',
    "a delta of wrong types": '{"t":"piece","job":"JOB","delta":{"content":5,"refusal":[]}}',
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("poison", POISON)
async def test_a_poisonous_frame_ends_in_a_clean_answer(hub, poison, stream):
    tools = [{"type": "function", "function": {"name": "f"}}]
    status, body = await poisoned(hub, [POISON[poison]], stream=stream, tools=tools)
    assert status in (200, 502)
    if stream and status == 200:
        assert body.endswith(b"data: [DONE]\n\n")


async def test_a_long_name_of_a_tool_call_keeps_lines_short(hub):
    call = CALL % (
        '{"index":0,"id":"1","function":{"name":"%s","arguments":"{}"}}' % ("f" * 100_000)
    )
    tools = [{"type": "function", "function": {"name": "f"}}]
    _, body = await poisoned(hub, [call], stream=True, tools=tools)
    assert max(map(len, body.split(b"\n"))) < 65_536


# --- the same by polling -------------------------------------------------------------------------------


def refusal(reply: Any, status: int, close: Close) -> None:
    assert (reply.status, reply.json["error"]["close"]) == (status, close)


@pytest.mark.parametrize("said", RUBBISH)
async def test_by_polling_anything_but_a_hello_is_a_bad_hello(hub, said):
    async with undisturbed(hub), Worker(hub, **BAD) as worker:
        refusal(await worker.post("hello", said.encode()), 400, Close.BAD_HELLO)


@pytest.mark.parametrize("card", BAD_CARDS, ids=lambda card: str(card)[:40])
async def test_by_polling_a_hello_with_a_wrong_member_is_a_bad_hello(hub, card):
    async with undisturbed(hub), Worker(hub, **BAD) as worker:
        whole = worker.hello(token="")
        whole["hello"].update(card)
        refusal(await worker.post("hello", whole), 400, Close.BAD_HELLO)


async def test_by_polling_another_protocol_is_unsupported(hub):
    async with undisturbed(hub), Worker(hub, **BAD) as worker:
        reply = await worker.post("hello", {"hello": {"protocol": 2}})
        refusal(reply, 400, Close.UNSUPPORTED_PROTOCOL)


@pytest.mark.parametrize("what", ["hello", "exchange", "bye"])
@pytest.mark.parametrize("token", ["", "wrong", "ü"])
async def test_by_polling_a_wrong_token_is_401_at_every_url(hub, what, token):
    async with undisturbed(hub), Worker(hub, **BAD) as worker:
        assert (await worker.post(what, b"rubbish", token=token)).status == 401


@pytest.mark.parametrize("said", BROKEN, ids=lambda said: said[:60])
async def test_by_polling_a_broken_packet_is_a_protocol_error(hub, said):
    async with undisturbed(hub), poll_worker(hub, **BAD) as worker:
        mine = f'"session":"{worker.welcome.session}","connection":"{worker.welcome.connection}",'
        addressed = said.replace("{", "{" + mine, 1) if said.startswith('{"n') else said
        refusal(await worker.post("exchange", addressed.encode()), 400, Close.PROTOCOL_ERROR)
        if addressed != said:
            refusal(await worker.exchange(), 400, Close.PROTOCOL_ERROR)


async def test_by_polling_an_unknown_session_is_gone(hub):
    async with undisturbed(hub), poll_worker(hub, **BAD) as worker:
        said = worker.packet().replace(worker.welcome.session.encode(), b"nonesuch")
        refusal(await worker.post("exchange", said), 410, Close.SESSION_GONE)
        farewell = {"session": "nonesuch", "connection": "", "reason": ""}
        refusal(await worker.post("bye", farewell), 410, Close.SESSION_GONE)


async def test_by_polling_another_connection_is_replaced(hub):
    async with undisturbed(hub), poll_worker(hub, **BAD) as worker:
        said = worker.packet().replace(worker.welcome.connection.encode(), b"nonesuch")
        refusal(await worker.post("exchange", said), 409, Close.REPLACED)
        farewell = {"session": worker.welcome.session, "connection": "nonesuch", "reason": ""}
        refusal(await worker.post("bye", farewell), 409, Close.REPLACED)
        assert (await worker.exchange(Pong())).status == 200


async def test_by_polling_a_packet_that_is_too_large_is_refused(start_hub):
    hub = await start_hub(max_body_bytes=MIB)
    async with undisturbed(hub), poll_worker(hub, **BAD) as worker:
        assert (await worker.post("exchange", b" " * (2 * MIB + 1))).status == 413
        assert (await worker.post("exchange", b" " * (2 * MIB))).status == 400


async def test_by_polling_frames_for_unknown_jobs_are_dropped_and_counted(hub):
    async with undisturbed(hub), poll_worker(hub, **BAD) as worker:
        await worker.exchange(Piece("nonesuch", "x"), End("nonesuch"))
        (session,) = [w for w in hub.hub.roster if w.id == "bad"]
        assert session.dropped == 2


async def test_by_polling_a_cancelled_job_is_told(hub):
    async with undisturbed(hub), poll_worker(hub, **BAD) as worker:
        asking = asyncio.create_task(ask(hub, model="bad"))
        await worker.exchange()
        job = await worker.hear(JobFrame)
        asking.cancel()
        await eventually(lambda: hub.hub.dispatch.active == 1)
        await worker.exchange()
        assert (await worker.hear(Cancel)).job == job.job


async def test_by_polling_rubbish_goodbyes_are_refused(hub):
    async with undisturbed(hub), Worker(hub, **BAD) as worker:
        for said in RUBBISH[:6]:
            assert (await worker.post("bye", said.encode())).status == 400
