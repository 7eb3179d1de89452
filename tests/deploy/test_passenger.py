"""Shared hosting: the hub behind a real Apache with Passenger, as cPanel's *Setup Python App* runs it."""

import asyncio
import json
import os
import time
from collections import Counter

import aiohttp
import pytest

from tests.deploy.apache import Hosted, hosting, polling_agent
from tests.deploy.servers import needs_passenger, processes_with
from tests.processes import PROSE, bearer, chat, eventually, run, text_of

pytestmark = [needs_passenger, pytest.mark.timeout(120)]
SLOW = "a word at a time " * 5


@pytest.fixture
async def http():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:
        yield session


async def health(http: aiohttp.ClientSession, hosted: Hosted) -> dict:
    async with http.get(f"{hosted.url}/healthz") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def first_piece(answer: aiohttp.ClientResponse) -> bytes:
    """What has come of a stream once it holds text."""
    seen = b""
    while not text_of(seen):
        seen += await answer.content.readuntil(b"\n\n")
    return seen


# --- answers -------------------------------------------------------------------------------------


async def test_plain_and_streamed_answers_come_through_with_an_agent_that_polls(http):
    async with hosting() as hosted, polling_agent(hosted):
        assert hosted.lines("worker joined", "poll")
        async with hosted.post(http) as answer:
            assert (await answer.json())["choices"][0]["message"]["content"] == PROSE
            assert answer.headers["x-request-id"]
        async with hosted.post(http, stream=True) as answer:
            events = await answer.read()
        assert text_of(events) == PROSE
        assert events.endswith(b"data: [DONE]\n\n")


async def test_a_piece_comes_through_while_the_answer_still_runs(http):
    async with hosting() as hosted, polling_agent(hosted):
        async with hosted.post(http, "echo-slow", text=SLOW, stream=True) as answer:
            seen = await first_piece(answer)
            assert (await health(http, hosted))["active"] == 1
            seen += await answer.read()
        assert text_of(seen) == SLOW


async def test_a_caller_that_leaves_frees_its_worker(http):
    async with hosting() as hosted, polling_agent(hosted):
        async with hosted.post(http, "echo-slow", text=SLOW * 20, stream=True) as answer:
            await first_piece(answer)
        await eventually(lambda: hosted.lines("request cancelled"))


async def test_large_bodies_odd_urls_and_errors_pass_as_they_are(http):
    async with hosting("max_body_bytes = 300000") as hosted, polling_agent(hosted):
        async with hosted.post(http, text="x " * 100_000) as answer:
            assert answer.status == 200
        async with hosted.post(http, text="x " * 200_000) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (
                413,
                "request_too_large",
            )
        headers = bearer(hosted.key)
        async with http.get(f"{hosted.url}//v1/models/some/model/?a=b", headers=headers) as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["code"] == "model_not_found"
        async with http.get(f"{hosted.url}/v1/models", headers=bearer("wrong")) as answer:
            assert answer.status == 401


async def test_a_body_in_chunks_passes(http):
    async def pieces():
        for character in json.dumps(chat()):
            yield character.encode()

    async with hosting() as hosted, polling_agent(hosted):
        url = f"{hosted.url}/v1/chat/completions"
        async with http.post(url, data=pieces(), headers=bearer(hosted.key)) as answer:
            assert (await answer.json())["choices"][0]["message"]["content"] == PROSE


# --- one hub -------------------------------------------------------------------------------------


async def test_many_processes_share_one_hub(http):
    async with hosting() as hosted:
        await asyncio.gather(*(health(http, hosted) for _ in range(12)))
        # Each of the pool's processes has answered, or will.
        await eventually(lambda: len(hosted.doors) == 3)
        await asyncio.gather(*(health(http, hosted) for _ in range(12)))
        assert processes_with(str(hosted.socket)) == {hosted.hub}
        assert len(hosted.lines("hub is ready")) == 1


async def test_the_hub_outlives_the_process_that_started_it(http):
    async with hosting() as hosted:
        await health(http, hosted)
        hub = hosted.hub
        assert os.getsid(hub) == hub
        assert os.getsid(hub) != os.getsid(0)


async def test_the_settings_for_such_a_host_are_chosen_by_themselves(http):
    async with hosting() as hosted, polling_agent(hosted) as agent:
        assert not hosted.lines("transport", "socket")
        # Exchanges are not held: an idle agent comes again and again.
        await eventually(lambda: hosted.lines("worker joined"))
        assert agent.process.returncode is None
        async with hosted.post(http, "echo-slow", text=SLOW, stream=True) as answer:
            await first_piece(answer)
            assert (await health(http, hosted))["workers"] == 1


async def test_callers_beyond_the_pools_size_minus_two_are_told_to_come_back(http):
    async with hosting("[hosting]\nmax_callers = 1") as hosted, polling_agent(hosted):
        async with hosted.post(http, "echo-slow", text=SLOW, stream=True) as first:
            seen = await first_piece(first)
            async with hosted.post(http) as second:
                assert second.status == 503
                assert (await second.json())["error"]["code"] == "too_many_callers"
                assert int(second.headers["Retry-After"]) >= 1
            seen += await first.read()
        assert text_of(seen) == SLOW
        async with hosted.post(http) as third:
            assert third.status == 200


# --- its ends ------------------------------------------------------------------------------------


async def test_a_stream_whose_hub_is_killed_does_not_look_whole(http):
    async with hosting() as hosted, polling_agent(hosted):
        async with hosted.post(http, "echo-slow", text=SLOW * 9, stream=True) as answer:
            await first_piece(answer)
            hosted.kill()
            rest = await answer.read()
        assert b'"hub_stopped"' in rest
        assert b'"finish_reason":"stop"' not in rest
        assert rest.endswith(b"data: [DONE]\n\n")


async def test_a_plain_answer_whose_hub_is_killed_is_a_502(http):
    async with hosting() as hosted, polling_agent(hosted):
        asking = asyncio.ensure_future(hosted.post(http, "echo-slow", text=SLOW * 9).__aenter__())
        while (await health(http, hosted))["active"] == 0:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)
        hosted.kill()
        answer = await asking
        assert (answer.status, (await answer.json())["error"]["code"]) == (502, "hub_stopped")


async def test_a_hub_killed_under_load_is_replaced_and_nothing_is_lost_or_billed_twice(http):
    ended: Counter[str] = Counter()
    whole: set[str] = set()
    over = asyncio.Event()

    async def caller(hosted: Hosted, *, stream: bool) -> None:
        while not over.is_set():
            async with hosted.post(http, text=SLOW, stream=stream) as answer:
                body = await answer.read()
                if answer.status == 200 and b"hub_stopped" not in body:
                    whole.add(answer.headers["x-request-id"])
                ended["hub_stopped" if b"hub_stopped" in body else str(answer.status)] += 1

    async with hosting(pool=6) as hosted, polling_agent(hosted):
        callers = [asyncio.create_task(caller(hosted, stream=n % 2 == 0)) for n in range(3)]
        took = []
        for _ in range(3):
            before = len(whole)
            await eventually(lambda: len(whole) > before + 3)  # noqa: B023 - awaited at once
            killed = hosted.kill()
            began = time.monotonic()
            await health(http, hosted)
            took.append(time.monotonic() - began)
            assert hosted.hub != killed
        # A machine that is busy with other things takes longer merely to load our code.
        began = time.monotonic()
        await run(hosted.app, "--version")
        pace = time.monotonic() - began
        over.set()
        await asyncio.gather(*callers)
        assert min(took) < max(2, 3 * pace)
        # A fourth start settles what the third left open, if it left anything.
        rows = await hosted.settled()
    states = {row["id"]: row["state"] for row in rows}
    assert len(states) == len(rows)
    assert set(ended) <= {"200", "hub_stopped", "503"}
    assert set(states) >= whole
    # An answer that was whole a moment before the kill may not have been settled: then it costs less.
    assert set(states.values()) <= {"completed", "interrupted", "failed"}
    completed = {r["completion_tokens"] for r in rows if r["state"] == "completed"}
    assert len(completed) == 1
    assert all(row["completion_tokens"] <= max(completed) for row in rows)


async def test_an_idle_hub_ends_and_the_next_caller_starts_another(http):
    async with hosting("[hosting]\nidle_end_s = 1") as hosted:
        await health(http, hosted)
        first = hosted.hub
        await eventually(lambda: hosted.lines("hub has stopped"))
        assert not hosted.socket.exists()
        await health(http, hosted)
        assert hosted.hub not in (None, first)


async def test_touching_restart_txt_brings_a_new_hub_and_lets_a_running_answer_finish(http):
    async with hosting() as hosted, polling_agent(hosted):
        first = hosted.hub
        async with hosted.post(http, "echo-slow", text=SLOW, stream=True) as answer:
            seen = await first_piece(answer)
            (hosted.app / "tmp/restart.txt").touch()
            await eventually(lambda: hosted.lines("hub is draining", "restart.txt"))
            seen += await answer.read()
        assert text_of(seen) == SLOW
        await eventually(lambda: hosted.lines("hub has stopped"))
        await health(http, hosted)
        assert hosted.hub not in (None, first)


async def test_a_hub_that_does_not_start_is_a_503_that_names_the_log(http):
    async with hosting() as hosted:
        (hosted.app / "hub.toml").write_text('tls_cert = "nowhere.pem"\ntls_key = "nowhere.pem"\n')
        async with http.get(f"{hosted.url}/healthz") as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (503, "hub_absent")
        assert "hub.log" in error["message"]
        assert str(hosted.folder) not in error["message"]
        assert "tls_cert" in hosted.log


async def test_bad_settings_are_told_in_the_hosts_error_log(http):
    async with hosting() as hosted:
        (hosted.app / "hub.toml").write_text("prot = 1\n")
        async with http.get(f"{hosted.url}/healthz") as answer:
            assert answer.status == 503
        await eventually(lambda: "`prot`" in (hosted.folder / "passenger.log").read_text())
