"""Caller, hub, tab, page, arena and back: the real userscript in a real Chromium."""

import asyncio
import json

import aiohttp
import pytest

from tests.arena.designs import fitting
from tests.browser.stage import userscript
from tests.doors import eventually

# --- answers -------------------------------------------------------------------------------------


async def test_an_answer_comes_through_the_page(start_stage):
    stage = await start_stage()
    page = await stage.open()
    prompt = 'Hello there \N{PARROT}, say\n  this \\ "twice"\tplease'
    reply = await stage.ask(prompt)
    assert reply.text == stage.arena.answer_to(prompt)
    assert await stage.seen(page) == reply.text
    [request] = stage.arena.requests
    assert (request.text, request.model, request.mode) == (prompt, stage.model, "direct")
    assert not stage.arena.forged
    await eventually(lambda: stage.states() == [("ready", None)])


async def test_the_first_piece_comes_before_the_last(start_stage):
    stage = await start_stage()
    await stage.open()
    body = stage.body("[[stall pieces=2 text=abcdefgh]]", stream=True)
    headers = {"Authorization": f"Bearer {stage.hub.key}"}
    url = f"{stage.hub.url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json=body) as response,
    ):
        text = ""
        async for line in response.content:
            if line.startswith(b"data: {"):
                [choice] = json.loads(line[6:])["choices"]
                text += choice["delta"].get("content", "")
            if text and not stage.arena.latest.released.is_set():
                assert stage.arena.latest.outcome == "open"
                stage.arena.release()
        assert line == b"\n"
    assert text == stage.arena.answer_to("[[stall pieces=2 text=abcdefgh]]")


async def test_one_prompt_after_another_each_in_a_chat_of_its_own(start_stage):
    stage = await start_stage()
    await stage.open()
    for number in range(4):
        model = stage.arena.models[number * 301].name
        reply = await stage.ask(f"Number {number}", model=model)
        assert reply.text == stage.arena.answer_to(f"Number {number}")
        await stage.ready()
    asked = [(request.text, request.model) for request in stage.arena.requests]
    assert asked == [(f"Number {n}", stage.arena.models[n * 301].name) for n in range(4)]
    assert {request.path for request in stage.arena.requests} == {
        "/nextjs-api/stream/create-evaluation"
    }


async def test_a_conversation_arrives_as_one_prompt(start_stage):
    stage = await start_stage()
    await stage.open()
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
    ]
    reply = await stage.ask("", messages=messages)
    assert reply.status == 200
    assert stage.arena.latest.text == "[System]\nBe brief.\n\n[User]\nHello!"


async def test_a_prompt_of_100_kilobytes_arrives_whole(start_stage):
    stage = await start_stage()
    await stage.open()
    prompt = "[[slow pieces=1 text=ok]] " + "0123456789 " * 9_000
    assert (await stage.ask(prompt)).text == "ok"
    assert stage.arena.latest.text.split() == prompt.split()
    reply = await stage.ask("x" * 120_000)
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert len(stage.arena.requests) == 1


async def test_the_catalogue_is_the_pages_own(start_stage):
    stage = await start_stage()
    await stage.open()
    [worker] = stage.hub.hub.roster
    offered = worker.models
    assert len(offered) == 1000
    for model in stage.arena.models:
        modalities = offered[model.name].modalities
        assert sorted(modalities.takes) == sorted(model.inputs)
        assert sorted(modalities.gives) == sorted(model.outputs)


# --- policies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("csp", "transport"), [(None, "socket"), ("strict", "poll")])
async def test_over_https_and_wss_under_an_open_and_a_strict_policy(
    start_stage, start_browser, certificate, csp, transport
):
    """Page and hub as they are in the world: `https://arena.ai` and a hub of its own name with TLS."""
    tls = {"tls_cert": str(certificate.pem), "tls_key": str(certificate.pem)}
    stage = await start_stage(
        arena={"tls": certificate.context, "csp": csp},
        hub={**tls, "public_url": "https://hub.test"},
        profile={"hosts": ["arena.ai"]},
    )
    script = await userscript(stage.hub)
    names = {"arena.ai": stage.arena.url[8:], "hub.test": stage.hub.url[8:]}
    values = {"hub": f"https://hub.test {stage.hub.worker_token}", "mode": "automatic"}
    stage.browser = await start_browser(script, values=values, hosts=names)
    page = await stage.browser.new_page()
    problems = []
    page.on("pageerror", lambda problem: problems.append(problem))
    await page.goto("https://arena.ai/text/direct")
    await stage.ready()
    [worker] = stage.hub.hub.roster
    assert worker.transport == transport
    for number in range(2):
        prompt = f"Number {number}"
        assert (await stage.ask(prompt)).text == stage.arena.answer_to(prompt)
        await stage.ready()
    panel = await stage.panel(page)
    await panel.shows("Ready")
    assert not problems


@pytest.mark.parametrize("switches", [{"csp": "strict"}, {"saves_fetch": True}])
async def test_on_this_machine_too(start_stage, switches):
    stage = await start_stage(arena=switches)
    page = await stage.open()
    assert (await stage.ask()).text == await stage.seen(page) == stage.arena.answer_to("Hello")


# --- modes ---------------------------------------------------------------------------------------


async def test_in_assist_mode_nothing_is_sent_before_the_persons_click(start_stage):
    stage = await start_stage(mode="assist", hub={"deadlines": {"offer_s": 2}})
    page = await stage.open()
    panel = await stage.panel(page)
    asking = stage.asking("Read this first")
    await panel.shows("Your turn")
    await page.wait_for_function("document.querySelector('textarea').value === 'Read this first'")
    # Longer than an offer may take without a human.
    await asyncio.sleep(2.5)
    assert not asking.done()
    assert not stage.arena.requests
    await page.click("button[type=submit]")
    assert (await asking).text == stage.arena.answer_to("Read this first")
    assert len(stage.arena.requests) == 1


async def test_the_mode_and_the_pause_are_the_owners_choice_in_the_panel(start_stage):
    stage = await start_stage(mode="assist", folded=False)
    page = await stage.open()
    panel = await stage.panel(page)
    await panel.click("The script")
    assert (await stage.ask("One")).status == 200
    await panel.click("Pause")
    await eventually(lambda: stage.states() == [("draining", "paused by its owner")])
    await panel.click("Resume")
    await stage.ready()
    await panel.click("I do")
    asking = stage.asking("Two")
    await panel.shows("Your turn")
    await page.click("button[type=submit]")
    assert (await asking).status == 200


async def test_a_tab_makes_pauses_and_keeps_to_its_days_ceiling(start_stage):
    pace = {"pace": {"between_s": 2, "longest_s": 60, "daily": 2}}
    stage = await start_stage(profile=pace)
    await stage.open()
    for number in range(2):
        assert (await stage.ask(f"Number {number}")).status == 200
        await eventually(lambda: stage.states()[0][0] == "cooling")
    first, second = stage.arena.requests
    assert second.at - first.at >= 2
    [worker] = stage.hub.hub.roster
    loop = asyncio.get_running_loop()
    await eventually(lambda: worker.cools_until(stage.model) > loop.time() + 10)


# --- leaving early -------------------------------------------------------------------------------


@pytest.mark.parametrize("reader_cancel", [False, True])
async def test_a_caller_that_leaves_has_the_pages_stop_pressed(start_stage, reader_cancel):
    stage = await start_stage(arena={"reader_cancel": reader_cancel})
    page = await stage.open()
    asking = stage.asking("[[stall]]", stream=True)
    await stage.arena.reached("[[stall]]")
    await page.wait_for_selector("[data-state=streaming] [data-answer]:not(:empty)")
    asking.cancel()
    await stage.arena.aborted("[[stall]]")
    await page.wait_for_selector("[data-state=stopped]")
    await stage.ready()
    assert (await stage.ask("Next")).text == stage.arena.answer_to("Next")


# --- what the site may answer --------------------------------------------------------------------

TEXTS = [
    "[[reasoning]]",
    "[[heartbeat beats=3]]",
    "[[bytes]]",
    "[[battle]]",
    "[[lookalike]]",
    "[[split_emoji]]",
    "[[citations]]",
    "[[unended]]",
    "[[usage spelling=google prompt=3 completion=4]]",
    "[[many pieces=300 per_second=1000]]",
]


async def test_every_kind_of_answer_arrives_as_the_page_shows_it(start_stage):
    stage = await start_stage()
    page = await stage.open()
    for prompt in TEXTS:
        reply = await stage.ask(prompt)
        assert reply.status == 200, (prompt, reply.body)
        assert reply.text == stage.arena.answer_to(prompt), prompt
        await page.wait_for_selector("[data-state=done]")
        assert await stage.seen(page) == reply.text, prompt
        assert reply.json["choices"][0]["finish_reason"] == "stop"
        await stage.ready()
    assert len(stage.arena.requests) == len(TEXTS)
    assert not await stage.hub.rows("SELECT * FROM system_log")


ENDS = [
    ("[[truncated]]", 200, "length"),
    ("[[finish reason=length]]", 200, "length"),
    ("[[finish reason=content-filter]]", 200, "content_filter"),
    ("[[finish reason=error]]", 502, "upstream_error"),
    ("[[empty]]", 502, "upstream_error"),
    ("[[provider_error]]", 502, "upstream_error"),
    ("[[nested_error]]", 400, "content_policy_violation"),
    ("[[nested_error code=overloaded text=Busy]]", 502, "upstream_error"),
    ("[[moderation_blocked]]", 400, "content_policy_violation"),
    ("[[step_error]]", 502, "upstream_error"),
    ("[[has_arena_error]]", 502, "upstream_error"),
    ("[[dropped]]", 502, "upstream_error"),
    ("[[prompt_failed]]", 400, "content_policy_violation"),
    ("[[violates_terms]]", 400, "content_policy_violation"),
    ("[[direct_not_allowed]]", 502, "upstream_contract_changed"),
    ("[[spoofed]]", 502, "upstream_contract_changed"),
    ("[[moved]]", 502, "upstream_contract_changed"),
    ("[[method_not_allowed]]", 502, "upstream_contract_changed"),
    ("[[teapot]]", 502, "upstream_contract_changed"),
    ("[[too_large]]", 413, "attachment_too_large"),
    ("[[server_error]]", 502, "upstream_error"),
    ("[[unavailable]]", 502, "upstream_error"),
]


async def test_every_end_and_error_has_its_own_status_and_leaves_the_tab_ready(start_stage):
    # So many failures in a row would have the tab rest.
    stage = await start_stage(hub={"breaker": {"failure_threshold": 1_000}})
    await stage.open()
    for prompt, status, code in ENDS:
        reply = await stage.ask(prompt)
        assert reply.status == status, (prompt, reply.body)
        if status == 200:
            assert reply.json["choices"][0]["finish_reason"] == code, prompt
        else:
            assert reply.error["code"] == code, prompt
        await stage.ready()
    assert [request.text for request in stage.arena.requests] == [end[0] for end in ENDS]
    seen = " ".join(line["message"] for line in await stage.logged())
    assert all(status in seen for status in ("400", "redirected", "405", "418")), seen


async def test_a_model_that_the_site_does_not_know_any_more_is_dropped(start_stage):
    stage = await start_stage()
    await stage.open()
    reply = await stage.ask("[[models_not_found]]")
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    [worker] = stage.hub.hub.roster
    await eventually(lambda: stage.model not in worker.models)
    assert (await stage.ask("Another", model=stage.arena.models[2].name)).status == 200


@pytest.mark.parametrize("refusal", ["rate_limited", "too_many"])
async def test_a_tab_that_is_told_to_slow_down_rests(start_stage, refusal):
    stage = await start_stage()
    await stage.open()
    reply = await stage.ask(f"[[{refusal} after=900]]")
    assert (reply.status, reply.error["code"]) == (429, "upstream_rate_limited")
    assert 890 < float(reply.headers["Retry-After"]) <= 900
    await eventually(lambda: stage.states()[0][0] == "cooling")


NEEDS_HUMAN = [
    ("recaptcha", "challenge", "I am human", None),
    ("cloudflare", "challenge", None, "Security check"),
    ("just_a_moment", "challenge", None, "Security check"),
    ("attention_required", "challenge", None, "Security check"),
    ("login_gate", "login_required", "Sign in", None),
    ("user_not_found", "login_required", "Sign in", None),
]


async def test_at_each_of_the_sites_lines_the_tab_stops_until_its_human_acts(start_stage):
    """Where the page has a button for it, pressing that is enough; where not, the panel has one."""
    stage = await start_stage(hub={"deadlines": {"absent_s": 0.2}})
    page = await stage.open()
    panel = await stage.panel(page)
    for number, (refusal, code, button, headline) in enumerate(NEEDS_HUMAN, 1):
        reply = await stage.ask(f"[[{refusal}]]")
        assert (reply.status, reply.error["code"]) == (503, "no_worker_available"), refusal
        assert "Retry-After" in reply.headers
        await eventually(lambda code=code: stage.states() == [("attention", code)])
        # It does not try again by itself, whatever is asked of it.
        assert (await stage.ask("Meanwhile")).status == 503
        assert len(stage.arena.requests) == number
        if button is not None:
            await page.click(f"[role=dialog] button:has-text('{button}')")
        else:
            await panel.shows(headline)
            await panel.click("Done")
        await stage.ready()
    assert not stage.arena.forged


async def test_a_consent_dialog_stops_the_tab(start_stage):
    stage = await start_stage(hub={"deadlines": {"absent_s": 0.2}})
    page = await stage.open()
    stage.arena.consent = False
    await eventually(lambda: stage.states() == [("attention", "consent_required")])
    assert (await stage.ask()).status == 503
    await page.click("[role=dialog] button:has-text('Agree')")
    await stage.ready()
    assert (await stage.ask()).status == 200


async def test_a_challenge_page_stops_the_tab_and_nothing_is_sent(start_stage):
    stage = await start_stage(arena={"challenge_page": True})
    page = await stage.open(ready=False)
    await eventually(lambda: stage.states() == [("attention", "challenge")])
    panel = await stage.panel(page)
    await panel.shows("Security check")
    assert not stage.arena.requests


# --- a site that has changed ---------------------------------------------------------------------


async def test_unknown_lines_are_told_although_the_answer_came(start_stage):
    stage = await start_stage()
    await stage.open()
    reply = await stage.ask("[[unknown_lines]]")
    assert reply.text == stage.arena.answer_to("[[unknown_lines]]")
    [line] = await stage.logged()
    assert line["kind"] == "site_changed"
    assert "z" in line["message"]
    assert reply.text not in line["message"]


async def test_a_page_without_a_composer_is_told_before_any_job(start_stage):
    stage = await start_stage(arena={"design": "new"})
    page = await stage.open(ready=False)
    panel = await stage.panel(page)
    await panel.shows("Site changed")
    seen = {line["kind"]: line["message"] for line in await stage.logged()}
    assert seen["attention"] == "site_changed"
    assert "composer" in seen["site_changed"]


async def test_a_redesigned_page_is_told_within_one_job_and_a_profile_mends_it(start_stage):
    stage = await start_stage(arena={"design": "renamed"})
    await stage.open("/chat/new")
    reply = await stage.ask()
    assert (reply.status, reply.error["code"]) == (502, "upstream_contract_changed")
    [line] = await stage.logged()
    assert line["kind"] == "site_changed"
    assert "picker" in line["message"]
    await stage.change_profile(lambda profile: fitting(profile, "renamed"))
    assert (await stage.ask()).text == stage.arena.answer_to("Hello")


async def test_other_line_codes_are_told_within_one_job_and_a_profile_mends_it(start_stage):
    stage = await start_stage(arena={"design": "codes"})
    await stage.open()
    reply = await stage.ask()
    assert (reply.status, reply.error["code"]) == (502, "upstream_contract_changed")
    assert len(await stage.logged()) == 1
    await stage.change_profile(lambda profile: fitting(profile, "codes"))
    assert (await stage.ask()).text == stage.arena.answer_to("Hello")
