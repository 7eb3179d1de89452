"""The userscript's tab when it is reloaded, cut off, closed, crashed, duplicated, frozen or spied upon."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import CDPSession, Error, Route

from tests.browser.gate import gate
from tests.browser.stage import userscript
from tests.doors import eventually

TRAPS = Path(__file__).with_name("traps.js").read_text()
STALL = "[[stall pieces=2 text=abcdefgh]]"


async def transport(stage, kind: str) -> None:
    await eventually(lambda: [worker.transport for worker in stage.hub.hub.roster] == [kind])


@contextlib.asynccontextmanager
async def behind_a_gate(start_stage, start_browser, **options):
    """A stage whose browser finds the hub as `http://hub.test`, through a gate."""
    stage = await start_stage(hub={"allowed_hosts": ["hub.test"]}, **options)
    async with gate(stage.hub.url) as standing:
        stage.browser = await start_browser(
            await userscript(stage.hub),
            values={"hub": f"http://hub.test {stage.hub.worker_token}", "mode": "automatic"},
            hosts={"hub.test": f"127.0.0.1:{standing.port}"},
        )
        yield stage, standing


async def test_a_hub_elsewhere_is_reached_by_socket(start_stage, start_browser):
    async with behind_a_gate(start_stage, start_browser) as (stage, standing):
        await stage.open()
        await transport(stage, "socket")
        assert standing.sockets == 1
        assert (await stage.ask()).text == stage.arena.answer_to("Hello")


async def test_where_no_socket_passes_it_polls_and_remembers(start_stage, start_browser):
    async with behind_a_gate(start_stage, start_browser) as (stage, standing):
        standing.refuses_sockets = True
        page = await stage.open()
        await transport(stage, "poll")
        # Twice before it polls, and once more when polling shows that the hub is there.
        await eventually(lambda: standing.sockets == 3)
        assert (await stage.ask()).text == stage.arena.answer_to("Hello")
        await page.reload()
        await stage.ready()
        await transport(stage, "poll")
        assert (await stage.ask()).text == stage.arena.answer_to("Hello")
        assert standing.sockets == 3


async def test_a_socket_that_stops_passing_in_mid_answer_loses_nothing(start_stage, start_browser):
    async with behind_a_gate(start_stage, start_browser) as (stage, standing):
        await stage.open()
        await transport(stage, "socket")
        asking = stage.asking(STALL)
        await stage.arena.reached(STALL)
        await stage.started()
        standing.refuses_sockets = True
        standing.cut()
        await transport(stage, "poll")
        stage.arena.release()
        assert (await asking).text == stage.arena.answer_to(STALL)
        assert len(stage.arena.requests) == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_twenty_seconds_offline_in_mid_answer_lose_nothing(start_stage, start_browser):
    async with behind_a_gate(start_stage, start_browser) as (stage, standing):
        page = await stage.open()
        await transport(stage, "socket")
        asking = stage.asking(STALL)
        await stage.arena.reached(STALL)
        await stage.started()
        standing.shut()
        await transport(stage, "none")
        stage.arena.release()
        await page.wait_for_selector("[data-state=done]")
        await asyncio.sleep(20)
        assert not asking.done()
        standing.open()
        assert (await asking).text == stage.arena.answer_to(STALL)
        assert len(stage.arena.requests) == 1


async def test_a_hub_on_this_machine_is_polled_until_its_owner_wants_more(start_stage):
    stage = await start_stage(folded=False)
    page = await stage.open()
    await transport(stage, "poll")
    panel = await stage.panel(page)
    await panel.click("Use the faster link")
    await transport(stage, "socket")
    assert (await stage.ask()).text == stage.arena.answer_to("Hello")


# --- the document goes ---------------------------------------------------------------------------


async def test_a_tab_reloaded_before_the_start_gets_its_own_job_again(start_stage):
    stage = await start_stage(mode="assist")
    page = await stage.open()
    panel = await stage.panel(page)
    asking = stage.asking("Once only")
    await panel.shows("Your turn")
    await page.reload()
    await panel.shows("Your turn")
    assert not stage.arena.requests
    await page.click("button[type=submit]")
    assert (await asking).text == stage.arena.answer_to("Once only")
    assert len(stage.arena.requests) == 1


async def test_a_tab_reloaded_in_mid_answer_says_so_at_once_and_goes_on(start_stage):
    stage = await start_stage()
    page = await stage.open()
    asking = stage.asking(STALL)
    await stage.arena.reached(STALL)
    await stage.started()
    await page.reload()
    reply = await asking
    assert (reply.status, reply.error["code"]) == (502, "worker_lost")
    await stage.ready()
    assert (await stage.ask("Next")).text == stage.arena.answer_to("Next")
    assert [request.text for request in stage.arena.requests] == [STALL, "Next"]


@pytest.mark.parametrize("how", ["closed", "crashed"])
async def test_a_tab_gone_in_mid_answer_is_told_and_another_goes_on(start_stage, how):
    workers = {"grace_s": 0.5, "poll_gone_s": 2, "wait_s": 0.5}
    stage = await start_stage(hub={"workers": workers})
    page = await stage.open()
    asking = stage.asking(STALL)
    await stage.arena.reached(STALL)
    await stage.started()
    if how == "closed":
        await page.close()
    else:
        with contextlib.suppress(Error):
            await page.goto("chrome://crash")
    reply = await asking
    assert (reply.status, reply.error["code"]) == (502, "worker_lost")
    await stage.open()
    assert (await stage.ask("Next")).text == stage.arena.answer_to("Next")
    assert [request.text for request in stage.arena.requests] == [STALL, "Next"]


async def test_a_job_for_another_chat_survives_the_load_of_a_new_page(start_stage):
    """Without a link to a new chat the page must be loaded anew; the job comes back to the same tab."""
    stage = await start_stage()
    page = await stage.open()
    assert (await stage.ask("One")).status == 200
    await page.evaluate("document.querySelector('a[href=\"/text/direct\"]').remove()")
    pages = stage.arena.counts["pages"]
    reply = await stage.ask("Two")
    assert reply.text == stage.arena.answer_to("Two")
    assert stage.arena.counts["pages"] == pages + 1
    assert [request.text for request in stage.arena.requests] == ["One", "Two"]


async def test_a_duplicated_tab_is_a_worker_of_its_own(start_stage):
    stage = await start_stage()
    page = await stage.open()
    [first] = stage.hub.hub.roster
    async with stage.browser.expect_page() as opened:
        # What window.open opens begins with a copy of its opener's sessionStorage, as a duplicate does.
        await page.evaluate("window.open(location.href)")
    await (await opened.value).wait_for_load_state()
    await eventually(lambda: len(stage.hub.hub.roster) == 2)
    await stage.ready()
    assert not first.over
    assert len({worker.id for worker in stage.hub.hub.roster}) == 2


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["socket", "poll"])
async def test_the_page_cannot_read_the_token(start_stage, start_browser, kind):
    # Few models: through its own traps the page does everything slowly.
    few = {"arena": {"models": 8}}
    async with behind_a_gate(start_stage, start_browser, **few) as (stage, standing):
        standing.refuses_sockets = kind == "poll"
        await stage.browser.route("**/text/direct", set_traps)
        # A document that did not come by the network counts as one of a public site.
        local = ["local-network-access"]
        await stage.browser.grant_permissions(local, origin=stage.arena.url)
        page = await stage.open()
        await transport(stage, kind)
        assert (await stage.ask()).text == stage.arena.answer_to("Hello")
        standing.cut()
        await stage.ready()
        token = stage.hub.worker_token
        session = await stage.browser.new_cdp_session(page)
        assert await evaluated(session, "caught('Hello')")
        assert await evaluated(session, f"caught({json.dumps(token)})") == []
        assert await evaluated(session, f"caught({json.dumps(token[7:])})") == []
        kept = await evaluated(session, "JSON.stringify([{...sessionStorage}, {...localStorage}])")
        assert "lmarena-bridge.worker" in kept
        assert token not in kept + await page.content()


async def set_traps(route: Route) -> None:
    """Let the page begin with a script that replaces everything and remembers what it is given."""
    response = await route.fetch()
    page = await response.text()
    trapped = page.replace("<head>", f"<head><script>{TRAPS}</script>", 1)
    assert trapped != page
    await route.fulfill(response=response, body=trapped)


async def evaluated(session: CDPSession, expression: str) -> Any:
    """A value of the page's world. Playwright's own `evaluate` would carry it through the traps."""
    call = {"expression": expression, "returnByValue": True}
    return (await session.send("Runtime.evaluate", call))["result"]["value"]


async def test_a_page_elsewhere_cannot_open_a_worker_socket(start_stage, start_browser):
    stage = await start_stage()
    page = await stage.browser.new_page()
    await page.goto(f"{stage.arena.url.replace('127.0.0.1', 'localhost')}/practice/blank")
    opened = await page.evaluate(
        """url => new Promise((resolve) => {
            const socket = new WebSocket(url, "lmarena-bridge.1");
            socket.onopen = () => resolve(true);
            socket.onerror = () => resolve(false);
        })""",
        stage.hub.url.replace("http", "ws") + "/worker/socket",
    )
    assert opened is False
