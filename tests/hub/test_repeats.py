"""Idempotency-Key: the same key and body is one run, one charge and one answer, for its user alone."""

import asyncio
import contextlib
import json
import signal
import socket
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from hub.errors import IdempotencyKeyInUse, InsufficientQuota
from hub.protocol import Cancel, End, Fail, JobFrame, Piece
from hub.rules.routing import Alias
from hub.rules.tiers import Limits, Price, Tier
from hub.store.content import Kept
from hub.store.keys import Scopes
from hub.store.repeats import Repeat
from hub.store.sealed import BODY
from tests import processes
from tests.conftest import TEST, RunningHub, StartHub
from tests.doors import Reply, chat, eventually, send, socket_worker
from tests.processes import Served, agent, bearer, serving, text_of

MARKER = "a very private thought"


def on_disk(folder: Path) -> bytes:
    """Every byte of a data directory."""
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


@pytest.fixture
async def hub(start_hub: StartHub) -> RunningHub:
    """One whose streams say soon that they have begun."""
    return await start_hub(deadlines={"headers_s": 0.05})


async def ask(hub: Any, key: str = "one", **members: Any) -> Reply:
    """A chat completion with an Idempotency-Key."""
    headers = {"Authorization": f"Bearer {hub.key}", "Idempotency-Key": key}
    return await send(hub, chat(**members), headers=headers)


async def answer(worker: Any, *words: str) -> str:
    """The worker answers the next job with these words."""
    job = await worker.hear(JobFrame)
    await worker.say(*(Piece(job.job, word) for word in words), End(job.job))
    return str(job.job)


async def joined(hub: RunningHub, callers: int) -> None:
    """So many callers listen to the one run."""
    runs = hub.hub.repeats._runs
    await eventually(lambda: [len(run.listeners) for run in runs.values()] == [callers])


@contextlib.asynccontextmanager
async def calling(hub: Any, key: str = "one", **members: Any) -> Any:
    """An open call, left when the block ends."""
    headers = {"Authorization": f"Bearer {hub.key}", "Idempotency-Key": key}
    url = f"{hub.url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=chat(stream=True, **members), headers=headers) as response,
    ):
        yield response


# --- after the answer ----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_the_same_answer_comes_again_without_a_run(hub, stream):
    options = {"stream_options": {"include_usage": True}} if stream else {}
    async with socket_worker(hub) as worker:
        first, _ = await asyncio.gather(
            ask(hub, stream=stream, **options), answer(worker, "hello ", "world")
        )
        again = await ask(hub, stream=stream, **options)
        assert not worker.unread
    assert again.body == first.body
    assert again.text == "hello world"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["x-bridge-worker"] == first.headers["x-bridge-worker"]
    assert again.headers["x-bridge-replayed"] == "true"
    assert "x-bridge-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert len(await hub.rows()) == 1


async def test_the_official_sdk_gets_the_same_answer(hub):
    async with (
        socket_worker(hub) as worker,
        AsyncOpenAI(base_url=f"{hub.url}/v1", api_key=hub.key, max_retries=0) as sdk,
    ):

        def asked(text: str) -> Any:
            return sdk.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": text}],
                extra_headers={"Idempotency-Key": "from the SDK"},
            )

        first, _ = await asyncio.gather(asked("hi"), answer(worker, "hello"))
        assert await asked("hi") == first
        with pytest.raises(openai.ConflictError) as refused:
            await asked("something else")
    assert refused.value.code == "idempotency_key_in_use"


async def test_tool_calls_reasoning_and_probabilities_come_again(hub):
    token = await hub.new_worker_token("believed", trusted=True)
    models = [{"id": "m", "features": ["tools", "logprobs"]}]
    async with socket_worker(hub, token=token, models=models) as worker:
        tools = [{"type": "function", "function": {"name": "f"}}]
        asked = {"tools": tools, "logprobs": True, "stream": True}
        asking = asyncio.create_task(ask(hub, **asked))
        job = await worker.hear(JobFrame)
        call = {"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}
        likely = {"token": "hi", "logprob": -0.5, "bytes": None, "top_logprobs": []}
        deltas = [
            {"reasoning_content": "hm"},
            {"content": "hi", "logprobs": {"content": [likely], "refusal": None}},
            {"tool_calls": [call]},
        ]
        usage = {"prompt_tokens": 7, "completion_tokens": 9}
        end = End(job.job, "tool_calls", usage=usage)
        await worker.say(*(Piece(job.job, delta=d) for d in deltas), end)
        first = await asking
        assert b"-0.5" in first.body
        assert (await ask(hub, **asked)).body == first.body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("bounds", "text"), [({"stop": "lo w"}, "hel"), ({"max_tokens": 3}, "hello world,")]
)
async def test_an_answer_that_was_cut_is_cut_alike_for_all(hub, bounds, text, stream):
    asked = {"stream": stream, **bounds}
    async with socket_worker(hub) as worker:
        asking = [asyncio.create_task(ask(hub, **asked))]
        job = await worker.hear(JobFrame)
        await joined(hub, 1)
        asking.append(asyncio.create_task(ask(hub, **asked)))
        await joined(hub, 2)
        await worker.say(*(Piece(job.job, text) for text in ("hel", "lo ", "wor", "ld, and more")))
        await worker.hear(Cancel)
        first, second = await asyncio.gather(*asking)
        again = await ask(hub, **asked)
    assert first.text == text
    assert first.body == second.body == again.body


async def test_another_body_under_the_same_key_is_refused(hub):
    async with socket_worker(hub) as worker:
        await asyncio.gather(ask(hub), answer(worker, "hello"))
        for other in ({"temperature": 1}, {"stream": True}, {"model": "n"}):
            refused = await ask(hub, **other)
            assert refused.status == 409
            assert refused.error["type"] == "idempotency_error"
            assert refused.error["code"] == "idempotency_key_in_use"
            assert refused.headers["x-should-retry"] == "false"
        assert not worker.unread


async def test_the_same_json_written_otherwise_is_the_same_body(hub):
    headers = {"Authorization": f"Bearer {hub.key}", "Idempotency-Key": "one"}
    written = b'{"messages": [{"content": "hi", "role": "user"}],   "model": "m"}'
    async with socket_worker(hub) as worker:
        first, _ = await asyncio.gather(ask(hub), answer(worker, "hello"))
        again = await send(hub, written, headers=headers, path="//v1/chat/completions/")
    assert again.body == first.body


async def test_other_keys_run_each_for_itself(hub):
    async with socket_worker(hub) as worker:
        for key in ("one", "two", "One", "one ünd", "x" * 255):
            said, _ = await asyncio.gather(ask(hub, key), answer(worker, key))
            assert said.text == key
            assert (await ask(hub, key)).text == key


@pytest.mark.parametrize(("key", "status"), [("x" * 256, 400), ("", 200)])
async def test_a_key_is_neither_too_long_nor_nothing(hub, key, status):
    async with socket_worker(hub) as worker:
        answering = asyncio.create_task(answer(worker, "hello"))
        said = await ask(hub, key)
        answering.cancel()
    assert said.status == status
    if status == 400:
        assert said.error["param"] == "Idempotency-Key"
    assert await hub.rows("SELECT * FROM idempotency") == []


async def test_after_its_life_a_key_may_be_used_anew(start_hub):
    hub = await start_hub(idempotency={"life_s": 1})
    async with socket_worker(hub) as worker:
        await asyncio.gather(ask(hub), answer(worker, "first"))
        await hub.rows("SELECT 1")
        await hub.hub.store.database.write(
            lambda c: c.execute("UPDATE idempotency SET expires_at = 1").rowcount
        )
        second, _ = await asyncio.gather(ask(hub, temperature=1), answer(worker, "second"))
        assert second.text == "second"
        assert (await ask(hub, temperature=1)).text == "second"
    [row] = await hub.rows("SELECT * FROM idempotency")
    assert row["expires_at"] > 1


async def test_a_stored_completion_outlives_its_key(hub):
    async with socket_worker(hub) as worker:
        await asyncio.gather(ask(hub, store=True), answer(worker, "hello"))
    await hub.hub.store.database.write(
        lambda c: c.execute("UPDATE idempotency SET expires_at = 1").rowcount
    )
    assert await hub.hub.store.content.purge() == 0
    assert await hub.rows("SELECT * FROM idempotency") == []
    listed = await send(hub, method="GET", path="/v1/chat/completions")
    assert len(listed.json["data"]) == 1


async def test_nothing_of_it_is_kept_longer_than_its_life(hub):
    async with socket_worker(hub) as worker:
        await asyncio.gather(ask(hub), answer(worker, MARKER))
        await asyncio.gather(ask(hub, "two", store=True), answer(worker, MARKER))
    for table in ("request_bodies", "idempotency"):
        await hub.hub.store.database.write(
            lambda c, table=table: c.execute(f"UPDATE {table} SET expires_at = 1").rowcount
        )
    assert await hub.hub.store.content.purge() == 2
    for table in ("request_bodies", "idempotency", "response_pieces"):
        assert await hub.rows(f"SELECT * FROM {table}") == []


# --- while it runs -------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_second_one_attaches_to_the_first_and_gets_all_of_it(hub, stream):
    async with socket_worker(hub) as worker:
        first = asyncio.create_task(ask(hub, stream=stream))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "hello "))
        await joined(hub, 1)
        others = [asyncio.create_task(ask(hub, stream=stream)) for _ in range(3)]
        await joined(hub, 4)
        await worker.say(Piece(job.job, "world"), End(job.job))
        replies = await asyncio.gather(first, *others)
        assert not worker.unread
    assert {reply.body for reply in replies} == {replies[0].body}
    assert replies[0].text == "hello world"
    marked = [reply for reply in replies if "x-bridge-replayed" in reply.headers]
    assert len(marked) == 3
    assert len(await hub.rows()) == 1


async def test_many_at_once_are_one_run(hub):
    async with socket_worker(hub) as worker:
        asking = [asyncio.create_task(ask(hub)) for _ in range(30)]
        await answer(worker, "hello")
        assert {(await each).text for each in asking} == {"hello"}
        assert not worker.unread
    assert len(await hub.rows()) == 1


async def test_another_body_while_it_runs_is_refused(hub):
    async with socket_worker(hub) as worker:
        first = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        assert (await ask(hub, temperature=1)).error["code"] == "idempotency_key_in_use"
        await worker.say(Piece(job.job, "hello"), End(job.job))
        assert (await first).text == "hello"


async def never() -> Any:
    raise AssertionError("nothing has to run")


async def test_of_two_that_race_after_the_answer_only_the_wrong_one_is_refused(hub):
    async with socket_worker(hub) as worker:
        first = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await joined(hub, 1)
        [run] = hub.hub.repeats._runs.values()
        await worker.say(Piece(job.job, "hello"), End(job.job))
        await first
    right, wrong = run.repeat, run.repeat._replace(asked="something else")
    for order in ([wrong, right], [right, wrong]):
        answers = await asyncio.gather(
            *(hub.hub.repeats.join(each, never) for each in order), return_exceptions=True
        )
        kinds = {each.asked: type(given) for each, given in zip(order, answers, strict=True)}
        assert kinds == {right.asked: Kept, wrong.asked: IdempotencyKeyInUse}


async def test_one_who_leaves_early_takes_nobody_along(hub):
    async def make() -> Any:
        await admitted.wait()
        raise InsufficientQuota

    admitted, repeat = asyncio.Event(), Repeat("owner", "key", "asked", 10**17)
    first, second = (asyncio.create_task(hub.hub.repeats.join(repeat, make)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    admitted.set()
    with pytest.raises(InsufficientQuota):
        await second
    assert not hub.hub.repeats._runs


async def test_the_first_may_leave_and_the_second_still_gets_all(hub):
    async with socket_worker(hub) as worker:
        async with calling(hub):
            job = await worker.hear(JobFrame)
            await worker.say(Piece(job.job, "hello "))
            await joined(hub, 1)
            second = asyncio.create_task(ask(hub, stream=True))
            await joined(hub, 2)
        await joined(hub, 1)
        await worker.say(Piece(job.job, "world"), End(job.job))
        assert (await second).text == "hello world"
        assert not worker.unread


async def test_one_whose_connection_broke_comes_back_to_the_same_run(hub):
    async with socket_worker(hub) as worker:
        async with calling(hub):
            job = await worker.hear(JobFrame)
            await worker.say(Piece(job.job, "hello "))
        await joined(hub, 0)
        again = asyncio.create_task(ask(hub, stream=True))
        await joined(hub, 1)
        await worker.say(Piece(job.job, "world"), End(job.job))
        assert (await again).text == "hello world"
    [row] = await hub.rows()
    assert row["state"] == "completed"


async def test_one_who_comes_back_later_gets_what_ended_meanwhile(hub):
    async with socket_worker(hub) as worker:
        async with calling(hub):
            job = await worker.hear(JobFrame)
        await joined(hub, 0)
        await worker.say(Piece(job.job, "hello"), End(job.job))
        await eventually(lambda: not hub.hub.repeats._runs)
        assert (await ask(hub, stream=True)).text == "hello"


async def test_without_anybody_a_run_ends_and_its_key_is_free(start_hub):
    hub = await start_hub(idempotency={"linger_s": 0.05}, deadlines={"headers_s": 0.05})
    await hub.hub.store.prices.add([Price("*", output=1_000_000)], TEST)
    async with socket_worker(hub) as worker:
        async with calling(hub) as response:
            job = await worker.hear(JobFrame)
            await worker.say(Piece(job.job, "hello"))
            async for line in response.content:
                if b"hello" in line:
                    break
        assert (await worker.hear(Cancel)).job == job.job
        assert not hub.hub.repeats._runs
        [row] = await hub.rows()
        # What was delivered is billed.
        assert (row["state"], row["completion_tokens"], row["cost"]) == ("cancelled", 1, 1)
        assert await hub.rows("SELECT * FROM idempotency") == []
        assert await hub.rows("SELECT * FROM response_pieces") == []
        again, _ = await asyncio.gather(ask(hub, stream=True), answer(worker, "anew"))
        assert again.text == "anew"


@contextlib.asynccontextmanager
async def silent_call(hub: RunningHub) -> Any:
    """A caller that sends its request, and reads nothing."""
    url = urlsplit(hub.url)
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    plug.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plug, (url.hostname, url.port))
    body = json.dumps(chat(stream=True)).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: one\r\n"
    head += f"Authorization: Bearer {hub.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(plug, head.encode() + body)
    try:
        yield plug
    finally:
        plug.close()


async def test_one_who_reads_nothing_costs_only_its_own_answer(start_hub):
    hub = await start_hub(max_pending_bytes=500_000, deadlines={"slow_caller_s": 0})
    async with socket_worker(hub) as worker, silent_call(hub):
        job = await worker.hear(JobFrame)
        await joined(hub, 1)
        [run] = hub.hub.repeats._runs.values()
        [silent] = run.listeners
        reading = asyncio.create_task(ask(hub, stream=True))
        await joined(hub, 2)
        [reader] = run.listeners - {silent}
        sent = ""
        while not silent.is_over:
            piece = "word " * 4_000
            sent += piece
            await worker.say(Piece(job.job, piece))
            await eventually(lambda: reader.taken_chars == len(sent))  # noqa: B023
        await joined(hub, 1)
        await worker.say(End(job.job))
        assert (await reading).text == sent
        assert (await ask(hub, stream=True)).text == sent
    assert [row["state"] for row in await hub.rows()] == ["completed"]


async def test_in_line_each_of_them_is_told_the_place(start_hub):
    hub = await start_hub(deadlines={"headers_s": 0.05, "keep_alive_s": 0.05})
    async with socket_worker(hub, slots=1) as worker:
        before = [asyncio.create_task(send(hub, chat()))]
        held = await worker.hear(JobFrame)
        before.append(asyncio.create_task(send(hub, chat())))
        await eventually(lambda: hub.hub.dispatch.waiting == 1)
        async with calling(hub) as one, calling(hub) as two:
            for response in (one, two):
                async for line in response.content:
                    if b"position=2" in line:
                        break
            await worker.say(End(held.job))
            await answer(worker, "next")
            await answer(worker, "hello")
            for response in (one, two):
                assert b"hello" in await response.read()
        await asyncio.gather(*before)


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [[], ["half"]])
async def test_a_failure_is_not_given_again(hub, said):
    async with socket_worker(hub) as worker:
        for stream in (False, True):
            key = f"key {stream}"
            failing = asyncio.create_task(ask(hub, key, stream=stream))
            job = await worker.hear(JobFrame)
            pieces = [Piece(job.job, text) for text in said]
            await worker.say(*pieces, Fail(job.job, "moderated", "no"))
            failed = await failing
            assert b"content_policy_violation" in failed.body
            second, _ = await asyncio.gather(ask(hub, key, stream=stream), answer(worker, "whole"))
            assert second.text == "whole"
            assert (await ask(hub, key, stream=stream)).text == "whole"


async def test_a_failure_reaches_all_who_wait(hub):
    async with socket_worker(hub) as worker:
        asking = [asyncio.create_task(ask(hub)) for _ in range(3)]
        job = await worker.hear(JobFrame)
        await joined(hub, 3)
        await worker.say(Fail(job.job, "moderated", "no"))
        for each in asking:
            assert (await each).error["code"] == "content_policy_violation"


async def test_what_was_refused_may_be_tried_again(hub):
    assert (await ask(hub)).status == 404
    refused = await ask(hub, messages=[])
    assert refused.status == 400
    async with socket_worker(hub) as worker:
        said, _ = await asyncio.gather(ask(hub), answer(worker, "hello"))
    assert said.text == "hello"


async def test_a_failed_one_that_is_stored_stays_stored(hub):
    async with socket_worker(hub) as worker:
        failing = asyncio.create_task(ask(hub, stream=True, store=True))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "half"), Fail(job.job, "upstream_error", "broke"))
        made = (await failing).events[0]["id"]
        second, _ = await asyncio.gather(ask(hub, stream=True, store=True), answer(worker, "whole"))
    assert second.text == "whole"
    listed = (await send(hub, method="GET", path="/v1/chat/completions")).json["data"]
    assert [each["choices"][0]["message"]["content"] for each in listed] == ["half", "whole"]
    assert listed[0]["id"] == made


# --- whose it is, and what it costs --------------------------------------------------------------


async def test_a_key_belongs_to_its_user(hub):
    for name in ("ann", "bob"):
        await hub.new_user(f"{name}@example.org", Tier())
    ann, anns_second, bob = [
        hub.calling(await hub.new_key(name, user=f"{name[:3]}@example.org"))
        for name in ("ann", "ann 2", "bob")
    ]
    async with socket_worker(hub) as worker:
        for caller, words in ((ann, "to ann"), (bob, "to bob"), (hub, "to the operator")):
            said, _ = await asyncio.gather(ask(caller), answer(worker, words))
            assert said.text == words
        for caller, words in ((ann, "to ann"), (anns_second, "to ann"), (bob, "to bob")):
            assert (await ask(caller)).text == words
        assert not worker.unread


async def test_a_key_that_may_not_use_the_model_gets_no_answer_of_it(hub):
    await hub.new_user("ann@example.org", Tier())
    ann = hub.calling(await hub.new_key("ann", user="ann@example.org"))
    narrow = await hub.new_key("narrow", user="ann@example.org", scopes=Scopes(models=["n"]))
    async with socket_worker(hub) as worker:
        await asyncio.gather(ask(ann), answer(worker, "hello"))
    refused = await ask(hub.calling(narrow))
    assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")


async def test_an_alias_is_told_again_as_it_was_asked_for(hub):
    await hub.hub.store.aliases.set(Alias("nickname", ["m", "n"]), TEST)
    await hub.new_user("ann@example.org", Tier())
    wide, narrow = [
        hub.calling(await hub.new_key("k", user="ann@example.org", scopes=Scopes(models=models)))
        for models in ([], ["nickname"])
    ]
    async with socket_worker(hub, models=[{"id": "m"}, {"id": "n"}]) as worker:
        asking = asyncio.create_task(ask(wide, model="nickname"))
        job = await worker.hear(JobFrame)
        await worker.say(Fail(job.job, "upstream_error", "another may"))
        await answer(worker, "hello")
        first = await asking
        again = await ask(wide, model="nickname")
    assert first.headers["x-bridge-model"] == "n"
    assert again.body == first.body
    assert again.json["model"] == "nickname"
    for name in ("x-bridge-model", "x-bridge-worker"):
        assert again.headers[name] == first.headers[name]
    refused = await ask(narrow, model="nickname")
    assert refused.error["code"] == "model_not_allowed"


async def test_it_costs_once_and_takes_no_more_of_any_limit(hub):
    await hub.hub.store.prices.add([Price("*", input=1_000_000, output=1_000_000)], TEST)
    limits = Limits(requests_per_minute=2, concurrent=1)
    limited = hub.calling(await hub.new_key("limited", limits=limits))
    async with socket_worker(hub) as worker:
        first = asyncio.create_task(ask(limited))
        job = await worker.hear(JobFrame)
        second = asyncio.create_task(ask(limited))
        await joined(hub, 2)
        await worker.say(Piece(job.job, "hello"), End(job.job))
        await asyncio.gather(first, second)
        for _ in range(5):
            again = await ask(limited)
            assert again.status == 200
            assert again.headers["x-ratelimit-remaining-requests"] == "1"
    [row] = await hub.rows()
    [day] = await hub.rows("SELECT SUM(requests) AS requests, SUM(cost) AS cost FROM usage_daily")
    assert row["cost"] > 0
    assert day == {"requests": 1, "cost": row["cost"]}


async def test_a_refusal_by_a_limit_is_not_given_again(hub):
    limits = Limits(concurrent=1)
    limited = hub.calling(await hub.new_key("limited", limits=limits))
    async with socket_worker(hub) as worker:
        busy = asyncio.create_task(ask(limited, "another"))
        job = await worker.hear(JobFrame)
        assert (await ask(limited)).status == 429
        await worker.say(End(job.job))
        await busy
        said, _ = await asyncio.gather(ask(limited), answer(worker, "hello"))
        assert said.text == "hello"


# --- at rest -------------------------------------------------------------------------------------


async def test_what_was_told_to_be_whole_is_on_the_disk(hub):
    file = sqlite3.connect(hub.hub.settings.data / "hub.db")
    async with socket_worker(hub) as worker:
        for number in range(20):
            await asyncio.gather(ask(hub, str(number)), answer(worker, "hello"))
            # As another process sees it at this very moment.
            [kept] = file.execute(
                "SELECT COUNT(*) FROM request_bodies b JOIN requests r ON r.id = b.id"
                " JOIN response_pieces p ON p.id = b.id WHERE b.batches = 1 AND r.state = 'completed'"
            ).fetchone()
            assert kept == number + 1
    file.close()


async def test_it_is_no_stored_completion(hub):
    async with socket_worker(hub) as worker:
        said, _ = await asyncio.gather(ask(hub), answer(worker, "hello"))
    [row] = await hub.rows("SELECT * FROM request_bodies")
    assert hub.hub.store.content.vault.open(row["body"], BODY.row(row["id"])) == b"{}"
    made = said.json["id"]
    for method, path in (("GET", made), ("GET", f"{made}/messages"), ("DELETE", made)):
        reply = await send(hub, method=method, path=f"/v1/chat/completions/{path}")
        assert reply.status == 404
    listed = await send(hub, method="GET", path="/v1/chat/completions")
    assert listed.json["data"] == []
    assert (await ask(hub)).text == "hello"


async def test_deleting_the_stored_completion_frees_its_key(hub):
    async with socket_worker(hub) as worker:
        said, _ = await asyncio.gather(ask(hub, store=True), answer(worker, "hello"))
        await send(hub, method="DELETE", path=f"/v1/chat/completions/{said.json['id']}")
        again, _ = await asyncio.gather(ask(hub, store=True), answer(worker, "anew"))
    assert again.text == "anew"


async def test_an_answer_that_lost_a_piece_is_not_given_again(hub):
    async with socket_worker(hub) as worker:
        await asyncio.gather(ask(hub), answer(worker, "hello"))
        await hub.rows("SELECT 1")
        await hub.hub.store.database.write(
            lambda c: c.execute("DELETE FROM response_pieces").rowcount
        )
        again, _ = await asyncio.gather(ask(hub), answer(worker, "anew"))
    assert again.text == "anew"


async def test_a_row_made_to_name_anothers_request_gives_nothing(hub):
    other = hub.calling(await hub.new_key("other"))
    async with socket_worker(hub) as worker:
        await asyncio.gather(ask(other), answer(worker, MARKER))
        await asyncio.gather(ask(hub), answer(worker, "mine"))

        def swap(connection: Any) -> None:
            [theirs, mine] = [
                row["request"]
                for row in connection.execute("SELECT request FROM idempotency ORDER BY request")
            ]
            for old, new in ((theirs, "x"), (mine, theirs)):
                connection.execute("PRAGMA defer_foreign_keys = ON")
                connection.execute(
                    "UPDATE idempotency SET request = ? WHERE request = ?", (new, old)
                )
            connection.execute("DELETE FROM idempotency WHERE request = 'x'")

        await hub.hub.store.database.write(swap)
        again, _ = await asyncio.gather(ask(hub), answer(worker, "anew"))
    assert again.text == "anew"


async def test_a_missing_vault_key_is_an_honest_error(hub):
    async with socket_worker(hub) as worker:
        await asyncio.gather(ask(hub), answer(worker, "hello"))
        await hub.rows("SELECT 1")
        await hub.hub.store.database.write(
            lambda c: c.execute("UPDATE idempotency SET asked = zeroblob(60)").rowcount
        )
        again = await ask(hub)
        assert (again.status, again.error["code"]) == (503, "content_unreadable")
        assert "00000000" in again.error["message"]
        # Everything else goes on.
        said, _ = await asyncio.gather(ask(hub, "two"), answer(worker, "hello"))
        assert said.status == 200


# --- real processes ------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def posting(hub: Served, key: str, model: str, text: str, stream: bool) -> Any:
    headers = {**bearer(key), "Idempotency-Key": "one"}
    body = processes.chat(model, text, stream=stream)
    url = f"{hub.url}/v1/chat/completions"
    async with aiohttp.request("POST", url, json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield response


async def post(hub: Served, key: str, model: str, text: str, stream: bool) -> bytes:
    async with posting(hub, key, model, text, stream) as response:
        body: bytes = await response.read()
    return body


@pytest.mark.parametrize("stream", [False, True])
async def test_after_a_restart_the_answer_is_the_same(tmp_path, stream):
    async with serving(tmp_path) as hub, agent(hub):
        key = await hub.key()
        first = await post(hub, key, "echo", MARKER, stream)
        assert await hub.program.end() == 0
    assert MARKER.encode() not in on_disk(tmp_path / "data")
    async with serving(tmp_path) as hub:
        # There is no worker now: nothing can run.
        assert await post(hub, key, "echo", MARKER, stream) == first


async def test_what_kill_9_broke_off_runs_anew(tmp_path):
    async with serving(tmp_path) as hub, agent(hub):
        key = await hub.key()
        async with posting(hub, key, "echo-slow", MARKER, True) as response:
            async for line in response.content:
                if b"very" in line:
                    break
            await hub.program.end(signal.SIGKILL)
    async with serving(tmp_path) as hub, agent(hub):
        first = await post(hub, key, "echo-slow", MARKER, True)
        assert text_of(first) == MARKER
        assert await post(hub, key, "echo-slow", MARKER, True) == first
