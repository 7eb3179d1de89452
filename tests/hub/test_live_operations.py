"""Operations on what is here now: workers, drain, kick, weight, requests; for scripts and in the terminal."""

import asyncio
import json
import os
import pty
import signal
import sys
from typing import Any

import aiohttp
import pytest

from hub.protocol import Drain, End, Fail, JobFrame, Piece
from hub.store.keys import Scopes
from tests.conftest import RunningHub
from tests.doors import Reply, Worker, ask, poll_worker, send, socket_worker
from tests.processes import agent, bearer, chat, environment, run, serving


class Admin:
    """A script with a key that may administer."""

    def __init__(self, hub: RunningHub, key: str) -> None:
        self.hub = hub
        self.headers = bearer(key)

    async def get(self, path: str) -> Any:
        reply = await send(self.hub, method="GET", path=f"/admin/api/{path}", headers=self.headers)
        assert reply.status == 200, reply.body
        return reply.json

    async def post(self, path: str, **members: Any) -> Reply:
        return await send(self.hub, members, path=f"/admin/api/{path}", headers=self.headers)


@pytest.fixture
async def admin(hub: RunningHub) -> Admin:
    return Admin(hub, await hub.new_key("operator", scopes=Scopes(admin=True)))


async def the_only(admin: Admin) -> dict[str, Any]:
    [worker] = await admin.get("workers")
    return worker


async def answered(hub: RunningHub, worker: Worker, *frames: Any) -> Reply:
    asking = asyncio.create_task(ask(hub))
    job = await worker.hear(JobFrame)
    for frame in frames or (Piece("", "hello"), End("")):
        frame.job = job.job
        await worker.say(frame)
    return await asking


# --- workers -------------------------------------------------------------------------------------


async def test_the_list_says_what_workers_are_up_to(hub, admin):
    assert await admin.get("workers") == []
    async with socket_worker(hub, region="eu", slots=2) as worker:
        await answered(hub, worker)
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        seen = await the_only(admin)
        await worker.say(Piece(job.job, "x"), End(job.job))
        await asking
    assert (seen["name"], seen["kind"], seen["token"]) == ("worker one", "agent", "worker")
    assert (seen["region"], seen["transport"], seen["state"]) == ("eu", "socket", "ready")
    assert (seen["slots"], seen["busy"], seen["models"]) == (2, 1, 1)
    assert (seen["weight"], seen["completed"], seen["failed"], seen["resting"]) == (1, 1, 0, [])


async def test_the_list_names_what_breakers_keep_from_a_worker(hub, admin):
    async with socket_worker(hub) as worker:
        for _ in range(3):
            await answered(hub, worker, Fail("", "internal"))
        seen = await the_only(admin)
    assert (seen["state"], seen["resting"], seen["failed"]) == ("tripped", ["*", "m"], 3)


async def test_an_id_is_the_same_in_the_next_session_and_no_secret(hub, admin):
    async with socket_worker(hub) as worker:
        first = await the_only(admin)
        assert first["id"] not in (worker.welcome.session, worker.card["worker"])
    async with socket_worker(hub):
        assert (await the_only(admin))["id"] == first["id"]


async def test_a_drained_worker_finishes_and_takes_no_more(hub, admin):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        handle = (await the_only(admin))["id"]
        reply = await admin.post("workers/drain", id=handle)
        assert reply.json == {"id": handle, "name": "worker one"}
        await worker.hear(Drain)
        assert (await the_only(admin))["state"] == "draining"
        await worker.say(Piece(job.job, "to the end"), End(job.job))
        assert (await asking).text == "to the end"


@pytest.mark.parametrize("door", ["socket", "poll"])
async def test_a_kicked_worker_is_sent_away_for_good(hub, admin, door):
    async with socket_worker(hub) if door == "socket" else poll_worker(hub) as worker:
        handle = (await the_only(admin))["id"]
        assert (await admin.post("workers/kick", id=handle)).status == 200
        if door == "socket":
            assert await worker.closed() == 4505
        else:
            assert (await worker.post("exchange", worker.packet())).status == 403
        assert await admin.get("workers") == []


async def test_what_a_kicked_worker_had_not_started_goes_to_another(hub, admin):
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        await worker.hear(JobFrame)
        async with socket_worker(hub, worker="w-2", name="another") as other:
            by_name = {each["name"]: each for each in await admin.get("workers")}
            await admin.post("workers/kick", id=by_name["worker one"]["id"])
            job = await other.hear(JobFrame)
            await other.say(Piece(job.job, "here"), End(job.job))
            assert (await asking).headers["x-bridge-worker"] == "another"


async def test_a_weight_holds_at_once_and_is_kept(hub, admin):
    async with socket_worker(hub):
        handle = (await the_only(admin))["id"]
        await admin.post("workers/set-weight", id=handle, weight=5)
        assert (await the_only(admin))["weight"] == 5
    [row] = await hub.rows("SELECT weight FROM workers")
    assert row["weight"] == 5


@pytest.mark.parametrize("path", ["drain", "kick", "set-weight"])
async def test_a_worker_that_is_not_here_is_not_found(admin, path):
    more = {"weight": 2} if path == "set-weight" else {}
    reply = await admin.post(f"workers/{path}", id="nobody", **more)
    assert (reply.status, reply.error["code"]) == (404, "not_found")


@pytest.mark.parametrize("weight", [0, 101, "heavy"])
async def test_a_weight_out_of_bounds_is_refused(hub, admin, weight):
    async with socket_worker(hub):
        handle = (await the_only(admin))["id"]
        reply = await admin.post("workers/set-weight", id=handle, weight=weight)
        assert (reply.status, reply.error["param"]) == (400, "weight")


async def test_each_act_is_in_the_audit_log(hub, admin):
    async with socket_worker(hub):
        handle = (await the_only(admin))["id"]
        await admin.post("workers/set-weight", id=handle, weight=2)
        await admin.post("workers/drain", id=handle)
        await admin.post("workers/kick", id=handle)
    acts = [line for line in await admin.get("audit-log") if line["action"].startswith("workers.")]
    assert [act["action"] for act in acts] == ["workers.kick", "workers.drain", "workers.weight"]
    assert {act["actor"] for act in acts} == {"operator"}


# --- requests ------------------------------------------------------------------------------------


async def test_requests_are_listed_as_they_end_and_only_the_new_ones(hub, admin):
    async with socket_worker(hub) as worker:
        for _ in range(3):
            await answered(hub, worker)
        await answered(hub, worker, Fail("", "moderated"))
        listed = await admin.get("requests")
        assert [row["state"] for row in listed] == ["completed"] * 3 + ["failed"]
        assert listed[-1]["error"] == "content_policy_violation"
        assert [row["number"] for row in await admin.get("requests?count=2")] == [3, 4]
        await answered(hub, worker)
        [new] = await admin.get("requests?after=4")
        assert (new["number"], new["model"], new["worker"]) == (5, "m", "worker one")
        assert len(await admin.get("requests?after=999")) == 5


# --- in the terminal -----------------------------------------------------------------------------


async def asked(hub: Any, key: str, text: str = "hi") -> None:
    async with aiohttp.request(
        "POST", f"{hub.url}/v1/chat/completions", json=chat("echo", text), headers=bearer(key)
    ) as answer:
        assert answer.status == 200


async def test_without_a_hub_there_is_nothing_to_see(tmp_path):
    for line in (("workers",), ("drain", "x"), ("kick", "x"), ("requests",), ("weight", "x", "2")):
        done = await run(tmp_path, *line)
        assert done.code == 1
        assert "No hub is running" in done.err


async def test_workers_are_shown_weighed_drained_and_kicked(tmp_path):
    async with serving(tmp_path) as hub, agent(hub) as worker:
        await asked(hub, await hub.key())
        shown = await run(tmp_path, "workers")
        assert "a real agent" in shown.out
        [row] = json.loads((await run(tmp_path, "workers", "--json")).out)
        assert (row["completed"], row["state"]) == (1, "ready")
        done = await run(tmp_path, "weight", row["id"], "3")
        assert done.out == "told a real agent\n"
        await run(tmp_path, "drain", row["id"])
        [row] = json.loads((await run(tmp_path, "workers", "--json")).out)
        assert row["state"] == "draining"
        assert (await run(tmp_path, "kick", row["id"])).code == 0
        async with asyncio.timeout(30):
            assert await worker.process.wait() != 0


async def test_requests_are_followed(tmp_path):
    async with serving(tmp_path) as hub, agent(hub):
        key = await hub.key()
        await asked(hub, key)
        one = await run(tmp_path, "requests")
        assert one.out.count("\n") == 1
        assert "completed" in one.out
        follower = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hub", "requests", "--follow", "--json"),
            cwd=tmp_path,
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        assert follower.stdout is not None
        async with asyncio.timeout(30):
            first = json.loads(await follower.stdout.readline())
            await asked(hub, key)
            second = json.loads(await follower.stdout.readline())
            assert (first["number"], second["number"]) == (1, 2)
            follower.send_signal(signal.SIGINT)
            assert await follower.wait() == 130


async def test_a_watched_table_is_looked_at_anew_until_the_end(tmp_path):
    async with serving(tmp_path) as hub:
        ours, theirs = pty.openpty()
        watching = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hub", "workers", "--watch"),
            cwd=tmp_path,
            env=environment(TERM="xterm", COLUMNS="200"),
            stdin=theirs,
            stdout=theirs,
        )
        os.close(theirs)
        async with agent(hub):
            await reads(ours, b"a real agent", b"ready")
        watching.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await watching.wait() == 130
        os.close(ours)


async def reads(terminal: int, *words: bytes) -> None:
    """Until all of this was shown."""
    seen = b""
    async with asyncio.timeout(30):
        while not all(word in seen for word in words):
            seen += await asyncio.to_thread(os.read, terminal, 4096)
