"""The two doors for workers, a socket and polling."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from hub.protocol import (
    SUBPROTOCOL,
    Close,
    Drain,
    End,
    JobFrame,
    Piece,
    Ping,
    Started,
    decode_welcome,
    encode,
)
from hub.store.audit import Actor
from tests.doors import (
    PATIENCE_S,
    SITE,
    Worker,
    ask,
    close_code,
    dial,
    eventually,
    health,
    poll_worker,
    send,
    socket_worker,
)

# --- who may come in -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://arena.ai.evil.example",
        "https://evilarena.ai",
        "http://arena.ai",
        "https://arena.ai:8443",
        "null",
        "https://[",
        "http://127.0.0.1:8000",
        "http://localhost",
    ],
)
async def test_a_foreign_page_cannot_open_a_worker_socket(hub, origin):
    with pytest.raises(InvalidStatus) as refused:
        await dial(hub, origin)
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["error"]["type"] == "permission_error"


@pytest.mark.parametrize("origin", [SITE, "https://beta.arena.ai", "https://lmarena.ai", None])
async def test_the_sites_pages_and_programs_may_open_a_worker_socket(hub, origin):
    async with Worker(hub) as worker, dial(hub, origin) as socket:
        await socket.send(json.dumps(worker.hello()))
        assert decode_welcome(await socket.recv()).resumed is False
        assert socket.subprotocol == SUBPROTOCOL


async def test_a_site_on_this_machine_may_have_any_port_once_the_profile_names_it(hub):
    profile = msgspec.structs.replace(hub.hub.store.profiles.current, hosts=["127.0.0.1"])
    await hub.hub.store.profiles.set(profile, "", Actor("test"))
    async with Worker(hub) as worker, dial(hub, "http://127.0.0.1:8000") as socket:
        await socket.send(json.dumps(worker.hello()))
        assert decode_welcome(await socket.recv())
    with pytest.raises(InvalidStatus):
        await dial(hub, SITE)


async def test_the_hubs_own_pages_may_open_a_worker_socket(start_hub):
    hub = await start_hub(public_url="https://hub.example.org")
    async with Worker(hub) as worker, dial(hub, "https://hub.example.org") as socket:
        await socket.send(json.dumps(worker.hello()))
        assert decode_welcome(await socket.recv())


async def test_polling_asks_for_no_origin(hub):
    async with Worker(hub) as worker:
        headers = {"Authorization": f"Bearer {hub.worker_token}", "Origin": "https://evil.example"}
        body = worker.hello(token="")
        reply = await send(hub, body, path="/worker/hello", headers=headers)
        assert reply.status == 200


async def test_a_token_in_the_url_counts_for_nothing_at_the_socket(hub):
    path = f"/worker/socket?token={hub.worker_token}"
    async with Worker(hub) as worker, dial(hub, path=path) as socket:
        await socket.send(json.dumps(worker.hello(token="")))
        assert await close_code(socket) == Close.UNAUTHORIZED


async def test_a_token_in_the_url_or_the_body_counts_for_nothing_by_polling(hub):
    async with Worker(hub) as worker:
        body = worker.hello()
        path = f"/worker/hello?token={hub.worker_token}"
        assert (await send(hub, body, path=path, headers={})).status == 401


async def test_the_key_of_a_caller_is_no_worker_token(hub):
    async with Worker(hub) as worker, dial(hub) as socket:
        await socket.send(json.dumps(worker.hello(token=hub.key)))
        assert await close_code(socket) == Close.UNAUTHORIZED


# --- signs of life -------------------------------------------------------------------------------------


async def test_a_silent_worker_is_pinged_and_stays_while_it_answers(start_hub):
    hub = await start_hub(workers={"heartbeat_s": 0.1})
    async with socket_worker(hub) as worker:
        for _ in range(4):
            await worker.hear(Ping)
        assert worker.socket.close_code is None
        assert (await health(hub))["workers"] == 1


async def test_a_worker_that_answers_no_ping_is_closed_and_may_resume(start_hub):
    hub = await start_hub(workers={"heartbeat_s": 0.1})
    async with Worker(hub) as worker:
        worker.mute = True
        first = await worker.open()
        assert await worker.closed() == Close.HEARTBEAT_LOST
        worker.mute = False
        again = await worker.open(resume=True)
        assert (again.resumed, again.session) == (True, first.session)


async def test_a_session_ends_after_its_grace(start_hub):
    hub = await start_hub(workers={"grace_s": 0.05})
    async with socket_worker(hub) as worker:
        await worker.cut()
        await eventually(lambda: not len(hub.hub.roster))
        assert (await worker.open(resume=True)).resumed is False


async def test_a_polling_worker_that_stays_away_is_gone(start_hub):
    hub = await start_hub(workers={"poll_gone_s": 0.1, "wait_s": 0})
    async with poll_worker(hub) as worker:
        await eventually(lambda: not len(hub.hub.roster))
        assert (await worker.exchange()).status == 410


async def test_a_held_exchange_counts_as_a_sign_of_life(start_hub):
    hub = await start_hub(workers={"poll_gone_s": 0.1, "wait_s": 0.5})
    async with poll_worker(hub) as worker:
        assert (await worker.exchange()).status == 200
        assert (await worker.exchange()).status == 200


# --- how polling goes ----------------------------------------------------------------------------------


async def test_an_idle_exchange_is_held_until_there_is_a_job(hub):
    async with poll_worker(hub) as worker:
        held = asyncio.create_task(worker.exchange())
        await eventually(lambda: any(w.holding for w in hub.hub.roster))
        asking = asyncio.create_task(ask(hub))
        assert (await held).status == 200
        job = await worker.hear(JobFrame)
        await worker.exchange(Started(job.job), Piece(job.job, "hello"), End(job.job))
        assert (await asking).text == "hello"


async def test_an_exchange_is_held_no_longer_than_the_hub_says(start_hub):
    hub = await start_hub(workers={"wait_s": 0.1})
    async with poll_worker(hub) as worker:
        assert worker.welcome.exchange.wait_s == 0.1
        async with asyncio.timeout(PATIENCE_S):
            assert (await worker.exchange()).status == 200
        assert worker.next_s == 0


async def test_a_second_exchange_releases_the_first(hub):
    async with poll_worker(hub) as worker:
        first = asyncio.create_task(worker.exchange())
        await eventually(lambda: any(w.holding for w in hub.hub.roster))
        second = asyncio.create_task(worker.exchange())
        assert (await first).status == 200
        assert not second.done()
        second.cancel()


async def test_where_exchanges_are_not_held_a_quiet_hub_wants_fewer_of_them(start_hub):
    hub = await start_hub(workers={"wait_s": 0})
    async with poll_worker(hub) as worker:
        paces = [worker.welcome.exchange.next_s]
        for _ in range(4):
            await worker.exchange()
            paces.append(worker.next_s)
        assert paces == [1, 2, 5, 10, 10]


async def test_a_job_in_hand_makes_exchanges_frequent(start_hub):
    hub = await start_hub(workers={"wait_s": 0})
    async with poll_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        await eventually(lambda: hub.hub.dispatch.active)
        await worker.exchange()
        job = await worker.hear(JobFrame)
        assert worker.next_s == 0.1
        await worker.exchange(Started(job.job))
        assert worker.next_s == 0.1
        await worker.exchange(End(job.job))
        assert worker.next_s == 1
        assert (await asking).status == 200


async def test_a_job_in_hand_keeps_an_exchange_from_being_held(hub):
    async with poll_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        await worker.exchange()
        job = await worker.hear(JobFrame)
        async with asyncio.timeout(PATIENCE_S):
            await worker.exchange(Started(job.job))
            await worker.exchange()
            await worker.exchange(End(job.job))
        assert (await asking).status == 200


async def test_a_late_poller_gets_no_new_jobs(start_hub):
    hub = await start_hub(workers={"wait_s": 0.05, "poll_late_s": 0.05}, deadlines={"queue_s": 0.2})
    async with poll_worker(hub) as worker:
        await worker.exchange()
        poller = next(iter(hub.hub.roster))
        loop = asyncio.get_running_loop()
        await eventually(lambda: not poller.is_connected(loop.time()))
        assert (await ask(hub)).error["code"] == "queue_timeout"


async def test_a_late_poller_that_comes_back_gets_what_waited_for_it(start_hub):
    hub = await start_hub(workers={"wait_s": 0.05, "poll_late_s": 0.05})
    async with poll_worker(hub) as worker:
        await worker.exchange()
        poller = next(iter(hub.hub.roster))
        loop = asyncio.get_running_loop()
        await eventually(lambda: not poller.is_connected(loop.time()))
        asking = asyncio.create_task(ask(hub))
        await eventually(lambda: hub.hub.dispatch.waiting)
        await worker.exchange()
        await eventually(lambda: hub.hub.dispatch.active)
        asking.cancel()


async def test_a_repeated_exchange_does_nothing_twice(start_hub):
    hub = await start_hub(workers={"wait_s": 0})
    async with poll_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        await eventually(lambda: hub.hub.dispatch.active)
        await worker.exchange()
        job = await worker.hear(JobFrame)
        said = worker.packet(Started(job.job), Piece(job.job, "once"))
        for _ in range(3):
            assert (await worker.post("exchange", said)).status == 200
        await worker.exchange(End(job.job))
        assert (await asking).text == "once"


async def test_an_answer_that_was_lost_comes_again(start_hub):
    hub = await start_hub(workers={"wait_s": 0})
    async with poll_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        await eventually(lambda: hub.hub.dispatch.active)
        lost = await worker.post("exchange", worker.packet())
        assert b'"job"' in lost.body
        await worker.exchange()
        job = await worker.hear(JobFrame)
        await worker.exchange(Piece(job.job, "here"), End(job.job))
        assert (await asking).text == "here"


async def test_a_polling_worker_may_say_goodbye(hub):
    async with poll_worker(hub) as worker:
        mine = {"session": worker.welcome.session, "connection": worker.welcome.connection}
        assert (await worker.post("bye", {**mine, "reason": "enough"})).status == 200
        assert (await worker.exchange()).status == 410
        assert (await health(hub))["workers"] == 0


async def test_a_draining_hub_tells_polling_workers_too(hub):
    async with poll_worker(hub) as worker:
        held = asyncio.create_task(worker.exchange())
        await eventually(lambda: any(w.holding for w in hub.hub.roster))
        hub.hub.dispatch.draining = True
        next(iter(hub.hub.roster)).drain()
        assert (await held).status == 200
        assert await worker.hear(Drain)


# --- one session, several links ------------------------------------------------------------------------


async def test_a_session_moves_from_socket_to_polling_and_back_in_mid_answer(hub):
    async with socket_worker(hub) as worker:
        session = worker.welcome.session
        asking = asyncio.create_task(ask(hub, stream=True))
        job = await worker.hear(JobFrame)
        await worker.say(Started(job.job), Piece(job.job, "by socket, "))
        await worker.cut()
        worker.channel.push(encode(Piece(job.job, "in between, ")))
        assert (await worker.poll(resume=True)).session == session
        await worker.exchange(Piece(job.job, "by polling, "))
        assert (await worker.open(resume=True)).session == session
        await worker.say(Piece(job.job, "by socket again"), End(job.job))
        reply = await asking
        assert reply.text == "by socket, in between, by polling, by socket again"


async def test_a_newer_link_takes_over_and_the_older_is_told(hub):
    async with socket_worker(hub) as worker:
        older = worker.socket
        await worker.open(resume=True)
        assert await worker.closed(older) == Close.REPLACED
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "still here"), End(job.job))
        assert (await asking).text == "still here"


async def test_an_older_polling_connection_is_replaced(hub):
    async with poll_worker(hub) as worker:
        older = worker.packet()
        await worker.poll(resume=True)
        refusal = await worker.post("exchange", older)
        assert (refusal.status, refusal.json["error"]["close"]) == (409, Close.REPLACED)


async def test_a_held_exchange_is_released_when_a_socket_takes_over(hub):
    async with poll_worker(hub) as worker:
        held = asyncio.create_task(worker.exchange())
        await eventually(lambda: any(w.holding for w in hub.hub.roster))
        await worker.open(resume=True)
        assert (await held).status == 409


async def test_a_fresh_hello_ends_the_workers_older_session(hub):
    async with socket_worker(hub) as before, Worker(hub) as after:
        await after.open()
        assert await before.closed() == Close.REPLACED
        assert (await health(hub))["workers"] == 1


# --- tokens --------------------------------------------------------------------------------------------


async def revoke(hub: Any, name: str = "worker") -> None:
    tokens = await hub.hub.store.worker_tokens.all()
    (token,) = [token for token in tokens if token.name == name]
    assert await hub.hub.store.worker_tokens.revoke(token.id, Actor("test"))
    await hub.hub.accounts_changed()


async def test_a_revoked_token_ends_its_sockets_at_once_and_opens_no_more(hub):
    async with undisturbed_by_another_token(hub), socket_worker(hub) as worker:
        await revoke(hub)
        assert await worker.closed() == Close.UNAUTHORIZED
        async with dial(hub) as socket:
            await socket.send(json.dumps(worker.hello(resume=True)))
            assert await close_code(socket) == Close.UNAUTHORIZED


async def test_a_revoked_token_ends_polling_at_once(hub):
    async with poll_worker(hub) as worker:
        held = asyncio.create_task(worker.exchange())
        await eventually(lambda: any(w.holding for w in hub.hub.roster))
        await revoke(hub)
        assert (await held).status == 401
        assert (await worker.exchange()).status == 401
        assert (await worker.post("hello", worker.hello(token=""))).status == 401


@contextlib.asynccontextmanager
async def undisturbed_by_another_token(hub: Any) -> AsyncIterator[None]:
    token = await hub.new_worker_token("bystander")
    async with socket_worker(hub, token=token, worker="bystander") as bystander:
        yield
        assert bystander.socket.close_code is None
        assert (await health(hub))["workers"] == 1


async def test_a_session_cannot_be_resumed_under_another_token(hub):
    thief_token = await hub.new_worker_token("thief")
    async with socket_worker(hub) as victim, Worker(hub, token=thief_token) as thief:
        thief.welcome = victim.welcome
        stolen = await thief.open(resume=True)
        assert stolen.resumed is False
        assert stolen.session != victim.welcome.session
        assert victim.socket.close_code is None
        assert (await health(hub))["workers"] == 2


async def test_a_session_cannot_be_polled_under_another_token(hub):
    thief_token = await hub.new_worker_token("thief")
    async with poll_worker(hub) as victim:
        said = victim.packet()
        assert (await victim.post("exchange", said, token=thief_token)).status == 410
        mine = {"session": victim.welcome.session, "connection": victim.welcome.connection}
        assert (await victim.post("bye", {**mine, "reason": ""}, token=thief_token)).status == 410
        assert (await health(hub))["workers"] == 1


async def test_two_tokens_may_use_the_same_worker_id(hub):
    other = await hub.new_worker_token("other")
    async with socket_worker(hub) as one, socket_worker(hub, token=other) as two:
        assert one.welcome.session != two.welcome.session
        assert (await health(hub))["workers"] == 2
