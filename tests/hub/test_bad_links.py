"""Networks between hub and workers, at their worst: nothing is lost, nothing doubled, nobody else notices."""

import asyncio
import contextlib
import json
import random
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hub.protocol import SUBPROTOCOL, JobFrame, Piece
from tests.doors import ask, eventually, send, socket_worker, undisturbed
from tests.faults import End, FaultProxy, Passage
from tests.processes import serving
from tests.workers import Door, ScriptedWorker

MIB = 1024 * 1024
BOTH: list[Door] = ["socket", "poll"]
QUICK = {"heartbeat_s": 0.2, "grace_s": 0.3, "poll_gone_s": 0.5, "wait_s": 0.1, "stalled_s": 0.4}


@contextlib.asynccontextmanager
async def behind_a_proxy(
    hub: Any, name: str = "far", by: Door = "socket"
) -> AsyncIterator[tuple[ScriptedWorker, FaultProxy]]:
    """A worker of the model `m` whose way to the hub is bad."""
    async with (
        FaultProxy.before(hub.url) as proxy,
        ScriptedWorker(proxy.url, hub.worker_token, name, by=by) as worker,
    ):
        await worker.hello(["m"], slots=2)
        yield worker, proxy


def asking(hub: Any, **members: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(ask(hub, stream=True, **members))


def present(hub: Any, name: str) -> bool:
    return any(worker.id == name for worker in hub.hub.roster)


def piece(text: str) -> dict[str, str]:
    return {"t": "piece", "text": text}


# --- peers that are dead and do not say so ---------------------------------------------------------------


@pytest.mark.parametrize("by", BOTH)
async def test_a_dead_worker_that_tcp_still_acknowledges_loses_its_started_job(start_hub, by):
    hub = await start_hub(workers=QUICK)
    async with undisturbed(hub), behind_a_proxy(hub, by=by) as (worker, proxy):
        answer = asking(hub)
        await worker.expect(t="job")
        await worker.send({"t": "started"}, piece("so far"))
        await worker.acked()
        proxy.black_hole = True
        reply = await answer
        assert reply.events[-1]["error"]["code"] == "worker_lost"
        assert not present(hub, "far")


@pytest.mark.parametrize("by", BOTH)
async def test_a_dead_workers_unstarted_job_goes_to_another(start_hub, by):
    hub = await start_hub(workers=QUICK, deadlines={"cut_s": 0.1})
    async with undisturbed(hub), behind_a_proxy(hub, by=by) as (worker, proxy):
        answer = asking(hub)
        await worker.expect(t="job")
        proxy.black_hole = True
        async with ScriptedWorker(hub.url, hub.worker_token, "near") as near:
            await near.hello(["m"])
            await near.expect(t="job")
            await near.send({"t": "started"}, piece("from near"), {"t": "end"})
            assert (await answer).text == "from near"


async def test_a_worker_that_is_back_before_the_hub_noticed_goes_on(hub):
    """Half-open: its own end was closed, the hub's was not."""
    async with undisturbed(hub), behind_a_proxy(hub) as (worker, proxy):
        answer = asking(hub)
        await worker.expect(t="job")
        await worker.send({"t": "started"}, piece("one "))
        await worker.acked()
        lost = proxy.passages[0]
        lost.half_open()
        await worker.closed()
        assert (await worker.resume()).resumed
        await lost.over.wait()
        await worker.send(piece("two"), {"t": "end"})
        assert (await answer).text == "one two"


async def test_a_hundred_half_open_links_leave_one_session(hub):
    async with behind_a_proxy(hub) as (worker, proxy):
        for _ in range(100):
            proxy.passages[-1].half_open()
            assert (await worker.resume()).resumed
        assert len(hub.hub.roster) == 1
        await eventually(lambda: len(proxy.passages) == 1)


# --- slow ones -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", BOTH)
async def test_a_slow_worker_is_heard_to_the_end(hub, by):
    async with undisturbed(hub), behind_a_proxy(hub, by=by) as (worker, proxy):
        answer = asking(hub)
        await worker.expect(t="job")
        proxy.up.bytes_per_s = 40_000
        proxy.up.delay_s = 0.01
        pieces = [f"{number} " * 20 for number in range(100)]
        await worker.send(*map(piece, pieces), {"t": "end"})
        assert (await answer).text == "".join(pieces)


async def test_a_worker_that_reads_slowly_gets_a_large_job_all_the_same(start_hub):
    """Slow is not stalled: while anything is read, nobody is cut off."""
    hub = await start_hub(workers={"stalled_s": 0.4})
    async with undisturbed(hub), behind_a_proxy(hub) as (worker, proxy):
        proxy.down.bytes_per_s = 8 * MIB
        answer = asking(hub, metadata={"long": "x" * 16 * MIB})
        job = await worker.expect(t="job")
        assert len(json.dumps(job["body"])) > 16 * MIB
        await worker.send({"t": "started"}, piece("read it all"), {"t": "end"})
        assert (await answer).text == "read it all"


async def test_a_worker_that_stops_reading_in_a_large_job_is_cut_off(start_hub):
    hub = await start_hub(workers={"stalled_s": 0.3, "grace_s": 0.1})
    async with undisturbed(hub), behind_a_proxy(hub) as (_, proxy):
        proxy.down.open.clear()
        answer = asking(hub, metadata={"long": "x" * 16 * MIB})
        await eventually(lambda: not present(hub, "far"))
        answer.cancel()
        proxy.clear()


async def test_a_caller_on_a_slow_line_gets_all_of_its_answer(hub):
    async with (
        undisturbed(hub),
        socket_worker(hub, worker="quick", models=[{"id": "elsewhere"}]),
        FaultProxy.before(hub.url) as proxy,
        ScriptedWorker(hub.url, hub.worker_token, "a") as worker,
    ):
        await worker.hello(["m"])
        proxy.down.bytes_per_s = 200_000
        answer = asyncio.create_task(
            send(_Elsewhere(hub, proxy.url), {**_CHAT, "stream": True})  # type: ignore[arg-type]
        )
        await worker.expect(t="job")
        pieces = [f"{number:06d}" for number in range(2_000)]
        await worker.send(*map(piece, pieces), {"t": "end"})
        assert (await answer).text == "".join(pieces)


_CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class _Elsewhere:
    """The same hub at another address."""

    def __init__(self, hub: Any, url: str) -> None:
        self.url = url
        self.key = hub.key


# --- floods ----------------------------------------------------------------------------------------------


async def test_a_worker_that_says_hello_without_end_is_one_worker(hub):
    async with undisturbed(hub), ScriptedWorker(hub.url, hub.worker_token, "again") as worker:
        for _ in range(200):
            await worker.hello(["m"])
        assert [each.id for each in hub.hub.roster].count("again") == 1


async def test_frames_without_end_for_a_job_that_is_over_are_dropped(hub):
    async with undisturbed(hub), behind_a_proxy(hub) as (worker, _):
        answer = asking(hub)
        await worker.expect(t="job")
        await worker.send({"t": "started"}, piece("all"), {"t": "end"})
        assert (await answer).text == "all"
        for _ in range(20):
            await worker.send(*[piece("more")] * 400)
        (session,) = [each for each in hub.hub.roster if each.id == "far"]
        await eventually(lambda: session.dropped == 8000)


# --- from one transport to the other and back, in mid-answer --------------------------------------------


def break_it(fault: str, proxy: FaultProxy) -> None:
    """One fault for every connection that is open now."""
    for passage in list(proxy.passages):
        if fault == "truncate":
            # The next packet breaks off in its middle.
            passage.truncate("up", 30)
        elif fault == "black_hole":
            passage.black_hole = True
        else:
            getattr(Passage, fault)(passage)


@pytest.mark.parametrize("fault", ["cut", "reset", "half_open", "truncate", "black_hole"])
@pytest.mark.parametrize("first", BOTH)
async def test_an_answer_survives_changes_of_transport_under_faults(hub, fault, first):
    other: Door = "poll" if first == "socket" else "socket"
    async with undisturbed(hub), behind_a_proxy(hub, by=first) as (worker, proxy):
        answer = asking(hub)
        await worker.expect(t="job")
        session = worker.session
        await worker.send({"t": "started"}, piece("begun, "))
        for number, by in enumerate([other, first, other, first]):
            break_it(fault, proxy)
            await worker.send(*[piece(f"{number}.{part} ") for part in range(5)])
            assert (await worker.resume(by=by)).resumed
            assert worker.session == session
            await worker.send(piece(f"by {by}, "))
        await worker.send({"t": "end"})
        text = (await answer).text
    parts = [
        "".join(f"{number}.{part} " for part in range(5)) + f"by {by}, "
        for number, by in enumerate([other, first, other, first])
    ]
    assert text == "begun, " + "".join(parts)


@pytest.mark.parametrize("seed", range(4))
async def test_any_number_of_changes_loses_nothing(hub, seed):
    chance = random.Random(seed)
    async with undisturbed(hub), behind_a_proxy(hub) as (worker, proxy):
        answer = asking(hub)
        await worker.expect(t="job")
        await worker.send({"t": "started"})
        said = []
        for number in range(60):
            words = [f"{number}.{part} " for part in range(chance.randint(0, 30))]
            said += words
            await worker.send(*map(piece, words))
            if chance.random() < 0.5:
                fault = chance.choice(["cut", "reset", "half_open", "truncate", "black_hole"])
                break_it(fault, proxy)
                assert (await worker.resume(by=chance.choice(BOTH))).resumed
        await worker.send({"t": "end"})
        assert (await answer).text == "".join(said)
    assert [row["state"] for row in await hub.rows() if row["model"] == "m"] == ["completed"]


@pytest.mark.parametrize("by", BOTH)
async def test_a_job_offered_while_the_link_is_dead_arrives_with_the_next(hub, by):
    async with undisturbed(hub), behind_a_proxy(hub, by=by) as (worker, proxy):
        await worker.acked()
        proxy.passages[0].black_hole = True
        answer = asking(hub)
        await eventually(lambda: hub.hub.dispatch.active == 2)
        assert (await worker.resume(by="poll" if by == "socket" else "socket")).resumed
        await worker.expect(t="job")
        await worker.send({"t": "started"}, piece("late"), {"t": "end"})
        assert (await answer).text == "late"


# --- callers that leave at the worst moment --------------------------------------------------------------


async def test_callers_that_leave_while_their_pieces_are_written_are_no_defect(hub, capsys):
    """The hub may see a caller's end and its next piece at once; writing then fails, as it must."""
    body = json.dumps({**_CHAT, "stream": True})
    asked = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {hub.key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    host, _, port = hub.url.removeprefix("http://").partition(":")
    async with undisturbed(hub), socket_worker(hub, slots=40) as worker:
        callers = [await asyncio.open_connection(host, int(port)) for _ in range(40)]
        for _, writer in callers:
            writer.write(asked)
        jobs = [(await worker.hear(JobFrame)).job for _ in callers]
        await worker.say(*[Piece(job, "first") for job in jobs])
        for reader, _ in callers:
            await reader.readuntil(b"first")
        for reader, writer in callers:
            End(reader, writer).close(reset=True)
        await worker.say(*[Piece(job, "second") for job in jobs])
        await eventually(lambda: hub.hub.dispatch.active == 1)
    assert "unexpected error" not in capsys.readouterr().out
    states = [row["state"] for row in await hub.rows() if row["model"] == "m"]
    assert states == ["cancelled"] * 40


HANDSHAKE = (
    "GET /worker/socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
).encode()


async def test_workers_that_vanish_within_the_handshake_are_no_defect(tmp_path):
    async with serving(tmp_path) as hub:
        host, _, port = hub.url.removeprefix("http://").partition(":")
        # Halted, so that it finds each handshake and its connection's end together.
        hub.program.process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(HANDSHAKE)
            End(reader, writer).close(reset=True)
        hub.program.process.send_signal(signal.SIGCONT)
        assert await hub.program.end() == 0
        assert "unexpected error" not in hub.program.log
