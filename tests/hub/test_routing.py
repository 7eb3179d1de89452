"""Aliases, patterns, fallbacks and hidden models: on paper, and over real sockets with the official SDK."""

import asyncio
import json
import signal
import time
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from hub.protocol import Bye, Cancel, End, Fail, JobFrame, Piece, Refuse, Started
from hub.rules.openai import with_model
from hub.rules.routing import Alias, models_along, targets_of
from hub.rules.tiers import Limits, Price, Tier
from hub.store.keys import Scopes
from tests.conftest import TEST, RunningHub
from tests.doors import ask, send, socket_worker
from tests.processes import agent, bearer, chat, eventually, run, serving

ANN, BOB = "ann@example.org", "bob@example.org"
ALIASES = {"best": ["m"], "gpt-*": ["m"], "gpt-4*": ["n"], "gpt-4o": ["x", "y"]}


async def alias(hub: RunningHub, name: str, *targets: str) -> None:
    await hub.hub.store.aliases.set(Alias(name, [*targets]), TEST)


def models(*names: str, **details: Any) -> list[dict[str, Any]]:
    return [{"id": name, **details} for name in names]


def two_models(**more: Any) -> Any:
    return {"models": models("m", "n"), **more}


async def names(hub: RunningHub) -> list[str]:
    listed = await send(hub, method="GET", path="/v1/models")
    return [model["id"] for model in listed.json["data"]]


# --- on paper ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "is_model", "targets"),
    [
        ("best", False, ["m"]),
        ("best", True, ["m"]),
        ("gpt-5", False, ["m"]),
        ("gpt-5", True, None),
        ("gpt-4.1", False, ["n"]),
        ("gpt-4o", True, ["x", "y"]),
        ("other", False, None),
        ("gpt-*", False, ["m"]),
    ],
)
def test_a_name_goes_before_a_model_and_a_model_before_a_pattern(asked, is_model, targets):
    assert targets_of(asked, ALIASES, is_model=is_model) == targets


@pytest.mark.parametrize(
    ("targets", "along"),
    [
        (["b", "a", "b"], ["b", "a"]),
        (["not here"], ["not here"]),
        (["*"], ["c", "a", "ab"]),
        (["a*", "*"], ["a", "ab", "c"]),
        (["z*"], []),
    ],
)
def test_models_come_in_order_and_once(targets, along):
    assert [*models_along(targets, ["c", "a", "ab"])] == along


def test_a_body_is_the_same_for_another_model():
    body = {"model": "a", "messages": [{"role": "user", "content": "ä \\ud83d"}], "x": [1, None]}
    raw = json.dumps(body).encode()
    assert json.loads(with_model(raw, 'b"')) == {**body, "model": 'b"'}


# --- aliases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_an_alias_is_answered_under_its_name_by_its_model(hub, stream):
    await alias(hub, "best", "m")
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub, model="best", stream=stream))
        job = await worker.hear(JobFrame)
        assert (job.model, json.loads(bytes(job.body))["model"]) == ("m", "m")
        await worker.say(Piece(job.job, "hello"), End(job.job))
        reply = await asking
    assert reply.text == "hello"
    told = reply.events if stream else [reply.json]
    assert {event["model"] for event in told} == {"best"}
    assert reply.headers["x-bridge-model"] == "m"
    [row] = await hub.rows()
    assert (row["model"], row["state"]) == ("m", "completed")


async def test_a_models_own_name_says_nothing_of_an_alias(hub):
    await alias(hub, "best", "m")
    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(ask(hub))
        job = await worker.hear(JobFrame)
        await worker.say(End(job.job))
        assert "x-bridge-model" not in (await asking).headers


async def test_the_official_sdk_finds_an_alias_and_uses_it(hub):
    await alias(hub, "gpt-4o", "m")
    async with (
        socket_worker(hub) as worker,
        AsyncOpenAI(base_url=f"{hub.url}/v1", api_key=hub.key, max_retries=0) as sdk,
    ):
        assert [model.id async for model in sdk.models.list()] == ["gpt-4o", "m"]
        shown = await sdk.models.retrieve("gpt-4o")
        assert shown.id == "gpt-4o"
        assert abs(shown.created - time.time()) < 60
        asking = asyncio.create_task(
            sdk.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "hi"}], store=True
            )
        )
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "hello"), End(job.job))
        made = await asking
        kept = await sdk.chat.completions.retrieve(made.id)
        with pytest.raises(openai.NotFoundError):
            await sdk.models.retrieve("gpt-5")
    assert made.model == kept.model == "gpt-4o"


async def test_a_pattern_catches_names_that_no_model_has(hub):
    await alias(hub, "gpt-*", "m")
    async with socket_worker(hub, models=models("m", "gpt-own")) as worker:
        for asked, answers in (("gpt-4", "m"), ("gpt-own", "gpt-own")):
            asking = asyncio.create_task(ask(hub, model=asked))
            job = await worker.hear(JobFrame)
            assert job.model == answers
            await worker.say(End(job.job))
            assert (await asking).json["model"] == asked
        assert await names(hub) == ["gpt-own", "m"]
        assert (await ask(hub, model="claude")).status == 404


async def test_auto_takes_a_model_whose_worker_is_free(hub):
    await alias(hub, "auto", "*")
    async with (
        socket_worker(hub, worker="w-1", models=models("a"), slots=1) as first,
        socket_worker(hub, worker="w-2", models=models("b"), slots=1) as second,
    ):
        one = asyncio.create_task(ask(hub, model="auto"))
        busy = await first.hear(JobFrame)
        other = asyncio.create_task(ask(hub, model="auto"))
        job = await second.hear(JobFrame)
        await second.say(End(job.job))
        await first.say(End(busy.job))
        replies = [await one, await other]
    assert [reply.headers["x-bridge-model"] for reply in replies] == ["a", "b"]
    assert {reply.json["model"] for reply in replies} == {"auto"}


async def test_an_alias_of_nothing_that_was_ever_here_is_a_404(hub):
    await alias(hub, "best", "never-here")
    reply = await ask(hub, model="best")
    assert (reply.status, reply.error["code"], reply.error["param"]) == (
        404,
        "model_not_found",
        "model",
    )
    assert "best" in reply.error["message"]


async def test_aliases_do_not_lead_to_aliases(hub):
    await alias(hub, "first", "second")
    await alias(hub, "second", "m")
    async with socket_worker(hub):
        assert (await ask(hub, model="first")).status == 404
        assert await names(hub) == ["m", "second"]


async def test_of_an_alias_only_models_that_can_are_asked(hub):
    await alias(hub, "best", "m", "n")
    shown = [*models("m"), *models("n", features=["json_schema"])]
    async with socket_worker(hub, models=shown) as worker:
        asking = asyncio.create_task(
            ask(hub, model="best", response_format={"type": "json_object"})
        )
        job = await worker.hear(JobFrame)
        assert job.model == "n"
        await worker.say(End(job.job))
        assert (await asking).status == 200
        refused = await ask(hub, model="best", logprobs=True)
    assert (refused.status, refused.error["code"]) == (400, "unsupported_parameter")
    assert refused.error["param"] == "logprobs"


# --- falling back --------------------------------------------------------------------------------

FAILURES = [
    lambda job: [Refuse(job, "no")],
    lambda job: [Fail(job, "rate_limited", "slow down", retry_after_s=60)],
    lambda job: [Started(job), Fail(job, "upstream_error", "broken")],
    lambda job: [Started(job), Fail(job, "context_length_exceeded", "too long")],
    lambda job: [Fail(job, "model_not_found", "gone")],
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
async def test_what_fails_before_a_piece_falls_back_even_on_the_same_worker(hub, failure, stream):
    await alias(hub, "best", "m", "n")
    async with socket_worker(hub, **two_models()) as worker:
        asking = asyncio.create_task(ask(hub, model="best", stream=stream))
        first = await worker.hear(JobFrame)
        await worker.say(*failure(first.job))
        second = await worker.hear(JobFrame)
        assert (first.model, second.model) == ("m", "n")
        assert first.job != second.job
        assert json.loads(bytes(second.body))["model"] == "n"
        # What still comes of the first is nobody's.
        await worker.say(Piece(first.job, "late"), Piece(second.job, "hello"), End(second.job))
        reply = await asking
    assert (reply.status, reply.text) == (200, "hello")
    assert reply.headers["x-bridge-model"] == "n"
    [row] = await hub.rows()
    assert (row["model"], row["state"], row["deliveries"]) == ("n", "completed", 2)
    [usage] = await hub.rows("SELECT model, requests, completed FROM usage_hourly")
    assert usage == {"model": "n", "requests": 1, "completed": 1}


async def test_after_the_first_piece_an_error_is_an_error(hub):
    await alias(hub, "best", "m", "n")
    async with socket_worker(hub, **two_models()) as worker:
        asking = asyncio.create_task(ask(hub, model="best", stream=True))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "hel"), Fail(job.job, "upstream_error", "broken"))
        reply = await asking
    assert [event for event in reply.events if "error" in event]
    [row] = await hub.rows()
    assert (row["model"], row["error_code"]) == ("m", "upstream_error")


async def test_moderation_is_not_got_around(hub):
    await alias(hub, "best", "m", "n")
    async with socket_worker(hub, **two_models()) as worker:
        asking = asyncio.create_task(ask(hub, model="best"))
        job = await worker.hear(JobFrame)
        await worker.say(Fail(job.job, "moderated", "no"))
        reply = await asking
    assert (reply.status, reply.error["code"]) == (400, "content_policy_violation")


async def test_where_all_fail_the_last_error_is_told(hub):
    await alias(hub, "best", "m", "n")
    async with socket_worker(hub, **two_models()) as worker:
        asking = asyncio.create_task(ask(hub, model="best"))
        for code in ("upstream_error", "context_length_exceeded"):
            job = await worker.hear(JobFrame)
            await worker.say(Started(job.job), Fail(job.job, code, "no"))
        reply = await asking
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    [row] = await hub.rows()
    assert (row["model"], row["state"]) == ("n", "failed")


async def test_a_model_that_nobody_offers_now_is_passed_over_at_once(start_hub):
    hub = await start_hub(deadlines={"absent_s": 60, "absent_stream_s": 60})
    await alias(hub, "best", "m", "n")
    async with socket_worker(hub, worker="gone", models=models("m")) as gone:
        await gone.say(Bye("enough"))
    async with socket_worker(hub, worker="here", models=models("n")) as worker:
        await eventually(lambda: not list(hub.hub.roster.offering("m")))
        asking = asyncio.create_task(ask(hub, model="best"))
        job = await worker.hear(JobFrame)
        assert job.model == "n"
        await worker.say(End(job.job))
        assert (await asking).status == 200


async def test_who_waits_goes_on_when_the_last_worker_of_its_model_leaves(start_hub):
    hub = await start_hub(deadlines={"absent_s": 60})
    await alias(hub, "best", "m", "n")
    async with (
        socket_worker(hub, worker="w-1", models=models("m"), slots=1) as first,
        socket_worker(hub, worker="w-2", models=models("n")) as second,
    ):
        one = asyncio.create_task(ask(hub))
        await first.hear(JobFrame)
        asking = asyncio.create_task(ask(hub, model="best"))
        await eventually(lambda: hub.hub.dispatch.waiting)
        await first.say(Bye("enough"))
        job = await second.hear(JobFrame)
        await second.say(End(job.job))
        assert (await asking).headers["x-bridge-model"] == "n"
        one.cancel()


async def test_a_busy_model_is_waited_for_until_its_time_is_over(start_hub):
    hub = await start_hub(deadlines={"queue_s": 0.3})
    await alias(hub, "best", "m", "n")
    async with (
        socket_worker(hub, worker="w-1", models=models("m"), slots=1) as first,
        socket_worker(hub, worker="w-2", models=models("n")) as second,
    ):
        one = asyncio.create_task(ask(hub))
        busy = await first.hear(JobFrame)
        asking = asyncio.create_task(ask(hub, model="best"))
        job = await second.hear(JobFrame)
        await second.say(Piece(job.job, "hello"), End(job.job))
        assert (await asking).text == "hello"
        await first.say(End(busy.job))
        assert (await one).status == 200


async def test_a_worker_that_still_runs_the_first_is_told_to_stop(start_hub):
    hub = await start_hub(deadlines={"first_piece_s": 0.2})
    await alias(hub, "best", "m", "n")
    async with socket_worker(hub, **two_models()) as worker:
        asking = asyncio.create_task(ask(hub, model="best"))
        first = await worker.hear(JobFrame)
        await worker.say(Started(first.job))
        second = await worker.hear(JobFrame)
        assert (await worker.hear(Cancel)).job == first.job
        await worker.say(Piece(second.job, "hello"), End(second.job))
        assert (await asking).text == "hello"


async def test_a_caller_that_leaves_stops_whichever_model_is_at_it(hub):
    await alias(hub, "best", "m", "n")
    async with socket_worker(hub, **two_models()) as worker:
        asking = asyncio.create_task(ask(hub, model="best"))
        first = await worker.hear(JobFrame)
        await worker.say(Refuse(first.job, "no"))
        second = await worker.hear(JobFrame)
        asking.cancel()
        assert (await worker.hear(Cancel)).job == second.job


# --- money and rights ----------------------------------------------------------------------------


async def test_the_price_is_that_of_the_model_that_answered(hub):
    await hub.hub.store.prices.add(
        [Price("m", output=1_000_000), Price("n", output=7_000_000)], TEST
    )
    await alias(hub, "best", "m", "n")
    async with socket_worker(hub, **two_models()) as worker:
        asking = asyncio.create_task(ask(hub, model="best"))
        first = await worker.hear(JobFrame)
        await worker.say(Refuse(first.job, "no"))
        second = await worker.hear(JobFrame)
        await worker.say(Piece(second.job, "hello"), End(second.job))
        used = (await asking).json["usage"]
    [row] = await hub.rows()
    assert row["cost"] == 7 * used["completion_tokens"]


async def test_the_dearest_model_of_an_alias_is_held_back(hub):
    await hub.hub.store.prices.add([Price("n", output=1_000_000)], TEST)
    await alias(hub, "best", "m", "n")
    key = await hub.new_key(limits=Limits(budget_per_day=50))
    async with socket_worker(hub, **two_models()):
        reply = await ask(hub.calling(key), model="best", max_tokens=51)
    assert (reply.status, reply.error["code"]) == (429, "insufficient_quota")


async def test_a_scope_holds_for_the_name_and_for_what_answers(hub):
    await alias(hub, "best", "m", "n")
    keys = {
        scope: await hub.new_key(" ".join(scope), scopes=Scopes(models=[*scope]))
        for scope in (("best",), ("m",), ("best", "n"))
    }
    async with socket_worker(hub, **two_models()) as worker:
        for scope, listed in ((("best",), []), (("m",), ["m"]), (("best", "n"), ["best", "n"])):
            caller = hub.calling(keys[scope])
            assert await names(caller) == listed
            if listed != ["best", "n"]:
                refused = await ask(caller, model="best")
                assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
        asking = asyncio.create_task(ask(hub.calling(keys["best", "n"]), model="best"))
        job = await worker.hear(JobFrame)
        assert job.model == "n"
        await worker.say(Fail(job.job, "upstream_error", "broken"))
        assert (await asking).status == 502


async def test_an_alias_leads_nobody_to_anothers_private_worker(hub):
    for email in (ANN, BOB):
        await hub.new_user(email, Tier())
    anns, bobs = [hub.calling(await hub.new_key(who, user=who)) for who in (ANN, BOB)]
    token = await hub.new_worker_token("ann's", user=ANN)
    await alias(hub, "best", "m")
    await alias(hub, "auto", "*")
    async with socket_worker(hub, token=token) as worker:
        assert (await names(anns), await names(bobs)) == (["auto", "best", "m"], [])
        for name in ("best", "auto"):
            assert (await ask(bobs, model=name)).status == 404
            asking = asyncio.create_task(ask(anns, model=name))
            job = await worker.hear(JobFrame)
            await worker.say(End(job.job))
            assert (await asking).status == 200


# --- hidden models -------------------------------------------------------------------------------


async def test_a_hidden_model_is_not_listed_and_still_answers(hub):
    await alias(hub, "best", "m")
    await alias(hub, "auto", "*")
    await hub.hub.store.aliases.hide("m", TEST)
    async with socket_worker(hub, **two_models()) as worker:
        assert await names(hub) == ["auto", "best", "n"]
        tags = await send(hub, method="GET", path="/api/tags")
        assert [each["name"] for each in tags.json["models"]] == ["auto", "best", "n"]
        assert (await send(hub, method="GET", path="/v1/models/m")).json["id"] == "m"
        for asked, answers in (("m", "m"), ("best", "m"), ("auto", "n")):
            asking = asyncio.create_task(ask(hub, model=asked))
            job = await worker.hear(JobFrame)
            assert job.model == answers
            await worker.say(End(job.job))
            assert (await asking).status == 200
        await hub.hub.store.aliases.show("m", TEST)
        assert await names(hub) == ["auto", "best", "m", "n"]


# --- by command, and after a crash ---------------------------------------------------------------


async def test_what_commands_set_holds_at_once_and_survives_kill_9(tmp_path):
    async def said(*arguments: str) -> str:
        done = await run(tmp_path, *arguments)
        assert done.code == 0, done.err
        return done.out

    async with serving(tmp_path) as hub:
        key, token = await hub.key(), await hub.token()
        assert await said("alias", "set", "best", "gone", "echo") == "best: gone, echo\n"
        await said("model", "hide", "echo-*")
        await hub.program.end(signal.SIGKILL)
    async with serving(tmp_path) as hub, agent(hub, token=token):
        async with aiohttp.ClientSession(hub.url, headers=bearer(key)) as http:
            async with http.get("/v1/models") as listed:
                shown = [model["id"] for model in (await listed.json())["data"]]
            async with http.post("/v1/chat/completions", json=chat("best", "hi there")) as asked:
                reply = await asked.json()
                assert asked.headers["x-bridge-model"] == "echo"
        assert shown == ["best", "echo"]
        assert reply["choices"][0]["message"]["content"] == "hi there"
        assert "gone, echo" in await said("alias", "list")
        assert "echo-*" in await said("model", "hidden")
        assert await said("model", "show", "echo-*") == "echo-* is shown\n"
        assert await said("alias", "remove", "best") == "removed alias best\n"
        missing = await run(tmp_path, "alias", "remove", "best")
        assert (missing.code, missing.out) == (1, "")
        assert "no alias 'best'" in missing.err
        log = await said("audit-log")
    assert all(act in log for act in ("aliases.set", "models.hide", "models.show"))
