"""The site profile: checked, numbered, handed to workers; and what they see of a changed site."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hub.errors import InvalidRequest
from hub.rules import profile as rules
from hub.store.audit import Actor
from tests.doors import chat, eventually, send
from tests.processes import run, serving
from tests.workers import ScriptedWorker


def shipped() -> dict[str, Any]:
    return json.loads(rules.SHIPPED.read_bytes())


def changed(**members: Any) -> dict[str, Any]:
    return shipped() | members


# --- on paper ------------------------------------------------------------------------------------


def test_the_shipped_profile_is_valid_and_comes_out_as_it_went_in():
    profile = rules.parse(shipped())
    assert json.loads(msgspec.json.encode(profile)) == shipped()
    assert profile.version == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.pop("selectors"), "selectors"),
        (lambda p: p["selectors"].update(composr="textarea"), "composr"),
        (lambda p: p["selectors"].update(send=""), "$.selectors.send"),
        (lambda p: p.update(hosts=["https://arena.ai/"]), "no host name"),
        (lambda p: p.update(hosts=["a.b\n// @grant none"]), "no host name"),
        (lambda p: p.update(hosts=[]), "$.hosts"),
        (lambda p: p.update(requests=["nextjs-api/stream"]), "$.requests[0]"),
        (lambda p: p["lines"].update(z="dance"), "$.lines"),
        (lambda p: p["lines"].pop("d"), "of the end"),
        (lambda p: p["errors"].append({"code": "challenge"}), "$.errors"),
        (lambda p: p["errors"].append({"code": "bad_weather", "status": ["403"]}), "$.errors"),
        (lambda p: p["errors"].append({"code": "challenge", "status": ["9xx"]}), "$.errors"),
        (lambda p: p["signs"].append({"code": "challenge"}), "$.signs"),
        (lambda p: p["pace"].update(between_s=-1), "$.pace.between_s"),
        (lambda p: p["pace"].update(daily=0), "$.pace.daily"),
        (lambda p: p.update(signs=[{"code": "challenge", "title": "x" * 400}] * 300), "bytes"),
    ],
)
def test_a_bad_profile_is_refused_by_name(spoil: Callable[[dict[str, Any]], Any], words: str):
    profile = shipped()
    spoil(profile)
    with pytest.raises(InvalidRequest) as refused:
        rules.parse(profile)
    assert words in refused.value.message


# --- handed to workers ---------------------------------------------------------------------------


async def test_every_welcome_brings_the_profile(hub):
    async with ScriptedWorker(hub.url, hub.worker_token) as worker:
        welcome = await worker.hello()
        assert welcome.profile == shipped()


@pytest.mark.parametrize("by", ["socket", "poll"])
async def test_a_new_profile_reaches_the_workers_that_are_here(hub, by):
    profile = rules.parse(changed(catalogue="otherModels"))
    async with ScriptedWorker(hub.url, hub.worker_token, by=by) as worker:
        await worker.hello()
        await hub.hub.store.profiles.set(profile, "", Actor("test"))
        hub.hub.hand_out_profile()
        if by == "poll":
            await worker.send()
        frame = await worker.expect(t="profile")
        assert frame["profile"] == changed(catalogue="otherModels", version=1)
    async with ScriptedWorker(hub.url, hub.worker_token, "later") as later:
        assert (await later.hello()).profile["version"] == 1


async def test_a_site_that_changed_is_in_the_system_log_within_one_job(hub):
    async with ScriptedWorker(hub.url, hub.worker_token, "tab") as worker:
        await worker.hello()
        asking = asyncio.create_task(send(hub, chat()))
        await worker.expect(t="job")
        await worker.send(
            {"t": "started"},
            {"t": "fail", "code": "site_changed", "message": "no element for composer: textarea"},
        )
        reply = await asking
    assert reply.status == 502
    assert reply.error["code"] == "upstream_contract_changed"
    assert "textarea" not in reply.error["message"]
    [line] = await hub.rows("SELECT kind, subject, message FROM system_log")
    assert line == {
        "kind": "site_changed",
        "subject": "tab",
        "message": "no element for composer: textarea",
    }


async def test_a_notice_is_logged_although_the_answer_came(hub):
    async with ScriptedWorker(hub.url, hub.worker_token, "tab") as worker:
        await worker.hello()
        asking = asyncio.create_task(send(hub, chat()))
        await worker.expect(t="job")
        await worker.send(
            {"t": "piece", "text": "fine"},
            {"t": "notice", "code": "site_changed", "message": "unknown lines: z 2"},
            {"t": "end"},
        )
        reply = await asking
    assert reply.text == "fine"
    [line] = await hub.rows("SELECT kind, subject, message FROM system_log")
    assert line == {"kind": "site_changed", "subject": "tab", "message": "unknown lines: z 2"}


async def test_a_worker_that_floods_the_system_log_is_heard_a_little(hub):
    async with ScriptedWorker(hub.url, hub.worker_token, "tab") as worker:
        await worker.hello()
        same = [{"t": "notice", "code": "site_changed", "message": "again"}] * 50
        new = [{"t": "notice", "code": "site_changed", "message": f"{n}"} for n in range(200)]
        await worker.send(*same, *new)
        await worker.acked()
    lines = await hub.rows("SELECT message FROM system_log")
    assert len(lines) == 30
    assert lines.count({"message": "again"}) == 1


async def test_a_worker_that_needs_its_human_is_in_the_system_log(hub):
    async with ScriptedWorker(hub.url, hub.worker_token, "tab") as worker:
        await worker.hello()
        await worker.send({"t": "status", "state": "attention", "reason": "challenge"})
        await worker.acked()
    [line] = await hub.rows("SELECT kind, subject, message FROM system_log")
    assert line == {"kind": "attention", "subject": "tab", "message": "challenge"}


# --- the command line ----------------------------------------------------------------------------


async def test_profile_show_set_history_rollback(tmp_path):
    shown = await run(tmp_path, "profile", "show")
    assert json.loads(shown.out) == shipped()
    (tmp_path / "new.json").write_text(json.dumps(changed(catalogue="first")))
    put = await run(tmp_path, "profile", "set", "new.json", "--note", "the site moved")
    assert (put.code, put.out) == (0, "version 1 is in force\n")
    (tmp_path / "new.json").write_text(json.dumps(changed(catalogue="second")))
    await run(tmp_path, "profile", "set", "new.json")
    back = await run(tmp_path, "profile", "rollback")
    assert back.out == "version 3 is in force\n"
    assert json.loads((await run(tmp_path, "profile", "show")).out)["catalogue"] == "first"
    back = await run(tmp_path, "profile", "rollback", "0", "--json")
    assert json.loads(back.out) == shipped() | {"version": 4}
    history = json.loads((await run(tmp_path, "profile", "history", "--json")).out)
    assert [(row["version"], row["note"], row["current"]) for row in history] == [
        (4, "rolled back to 0", True),
        (3, "rolled back to 1", False),
        (2, "", False),
        (1, "the site moved", False),
        (0, "shipped with the hub", False),
    ]


async def test_a_bad_profile_changes_nothing(tmp_path):
    (tmp_path / "new.json").write_text("{")
    refused = await run(tmp_path, "profile", "set", "new.json")
    assert refused.code == 1
    assert "new.json" in refused.err
    (tmp_path / "new.json").write_text(json.dumps(changed(hosts=["*"])))
    refused = await run(tmp_path, "profile", "set", "new.json")
    assert refused.code == 1
    assert "no host name" in refused.err
    refused = await run(tmp_path, "profile", "rollback", "7")
    assert "no version 7" in refused.err
    assert json.loads((await run(tmp_path, "profile", "show")).out) == shipped()


async def test_profile_set_beside_a_running_hub_reaches_its_workers(tmp_path):
    async with serving(tmp_path) as hub:
        async with ScriptedWorker(hub.url, await hub.token(), "tab") as worker:
            await worker.hello()
            (tmp_path / "new.json").write_text(json.dumps(changed(catalogue="first")))
            put = await run(tmp_path, "profile", "set", "new.json")
            assert put.code == 0, put.err
            frame = await worker.expect(t="profile")
            assert frame["profile"]["catalogue"] == "first"
            await worker.send({"t": "notice", "code": "site_changed", "message": "[/odd] lines"})
            await worker.acked()
        shown = await run(tmp_path, "system-log")
        assert "site_changed" in shown.out
        assert "[/odd] lines" in shown.out
        [line] = json.loads((await run(tmp_path, "system-log", "--json")).out)
        assert line["message"] == "[/odd] lines"


async def test_a_profile_of_another_hubs_making_gives_way_to_the_shipped_one(start_hub):
    hub = await start_hub()
    await hub.hub.store.database.write(
        lambda c: c.execute(
            "INSERT INTO site_profiles VALUES (9, ?, '', 'test', 0)", (json.dumps({"version": 9}),)
        )
    )
    await hub.hub.store.profiles.load()
    assert hub.hub.store.profiles.current == rules.shipped()


# --- folding -------------------------------------------------------------------------------------


async def test_a_worker_without_history_gets_one_message(hub):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello!"}]},
        {"role": "assistant", "content": "Hi.", "tool_calls": []},
        {"role": "user", "content": "How are you?"},
    ]
    folded = "[System]\nBe brief.\n\n[User]\nHello!\n\n[Assistant]\nHi.\n\n[User]\nHow are you?"
    async with ScriptedWorker(hub.url, hub.worker_token, "tab") as worker:
        await worker.hello(models=[{"id": "m"}, {"id": "n", "features": ["history"]}])
        for model, expected in [("m", [{"role": "user", "content": folded}]), ("n", messages)]:
            asking = asyncio.create_task(send(hub, chat(model=model, messages=messages)))
            job = await worker.expect(t="job", model=model)
            assert job["body"]["messages"] == expected
            await worker.send({"t": "piece", "text": "Well."}, {"t": "end"})
            assert (await asking).text == "Well."


async def test_a_lone_message_is_not_touched(hub):
    async with ScriptedWorker(hub.url, hub.worker_token, "tab") as worker:
        await worker.hello()
        asking = asyncio.create_task(send(hub, chat()))
        job = await worker.expect(t="job")
        assert job["body"]["messages"] == [{"role": "user", "content": "hi"}]
        await worker.send({"t": "piece", "text": "Well."}, {"t": "end"})
        await asking
        await eventually(lambda: not hub.hub.dispatch.active)
