"""`lmarena-hub doctor` and `lmarena-hub settings`, on this machine and through proxies that spoil something."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hub import doctor
from hub.doctor import Finding, reach
from tests.processes import Ran, free_port, run, serving


async def examined(directory: Path, **environ: str) -> tuple[Ran, dict[str, Finding]]:
    ran = await run(directory, "doctor", "--json", **environ)
    findings = [Finding(**finding) for finding in json.loads(ran.out)]
    return ran, {finding.subject: finding for finding in findings}


async def reached(url: str) -> dict[str, Finding]:
    async with aiohttp.ClientSession() as http:
        return {finding.subject: finding async for finding in reach(http, url)}


async def test_this_machine_will_do(tmp_path):
    ran, findings = await examined(tmp_path)
    assert ran.code == 0
    mended = {name: f.seen for name, f in findings.items() if f.verdict == "bad"}
    assert not mended
    assert {"Python", "SQLite", "data directory", "file locks", "disk", "clock"} <= set(findings)
    assert findings["public_url"].verdict == "look"
    assert list(tmp_path.iterdir()) == []


async def test_people_get_lines_with_advice(tmp_path):
    ran = await run(tmp_path, "doctor", COLUMNS="300")
    assert "good  file locks: they hold" in ran.out
    assert "look  public_url: not set\n      Set it" in ran.out


async def test_a_hub_that_is_reached_directly_is_well(tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with serving(tmp_path, HUB_PORT=str(port)):
        ran, findings = await examined(tmp_path, HUB_PUBLIC_URL=url)
    assert ran.code == 0
    for subject in ("public address", "WebSocket", "streams"):
        assert findings[subject].verdict == "good"


async def test_a_hub_that_is_not_there_is_told(tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    ran, findings = await examined(tmp_path, HUB_PUBLIC_URL=url)
    assert ran.code == 1
    assert findings["public address"].verdict == "bad"
    assert "WebSocket" not in findings


async def test_something_else_that_answers_is_told(tmp_path):
    async with listening(web.Application()) as url:
        assert (await reached(url))["public address"].seen == f"{url}: HTTP 404"


async def test_a_proxy_that_holds_answers_back_and_passes_no_websocket_is_told(hub):
    async def whole(request: web.Request) -> web.Response:
        async with (
            aiohttp.ClientSession() as http,
            http.get(hub.url + request.path_qs) as answer,
        ):
            headers = {"x-bridge-sent-over": answer.headers.get("x-bridge-sent-over", "")}
            return web.Response(body=await answer.read(), status=answer.status, headers=headers)

    proxy = web.Application()
    proxy.router.add_get("/{_:.*}", whole)
    async with listening(proxy) as url:
        findings = await reached(url)
    assert findings["public address"].verdict == "good"
    assert findings["WebSocket"].verdict == "look"
    assert "poll" in findings["WebSocket"].advice
    assert findings["streams"].verdict == "bad"
    assert "proxy_buffering off" in findings["streams"].advice


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("version", "verdict"),
    [((3, 36, 9), "bad"), ((3, 40, 1), "look"), ((3, 51, 2), "look"), ((3, 51, 3), "good")],
)
def test_sqlite_is_judged_by_its_version(version, verdict):
    assert doctor.sqlite(version).verdict == verdict


def test_locks_that_do_not_hold_are_told(tmp_path):
    """As on some network drives: the other process works on a file of its own."""
    (tmp_path / "elsewhere").mkdir()
    found = doctor.locks(tmp_path, "import os; os.chdir('elsewhere')\n" + doctor.TAKE_BOTH)
    assert (found.verdict, found.seen) == ("bad", "the lock of a file")


async def test_a_data_directory_that_others_may_read_is_told(tmp_path):
    async with serving(tmp_path) as hub:
        hub.data.chmod(0o755)
        _, findings = await examined(tmp_path)
    assert findings["data directory"].advice.startswith("Others may look")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_data_directory_that_cannot_be_written_is_told(tmp_path):
    tmp_path.chmod(0o500)
    assert (await examined(tmp_path))[1]["data directory"].verdict == "bad"


# --- settings --------------------------------------------------------------------------------------------


async def test_settings_are_shown_with_their_sources(tmp_path):
    (tmp_path / "hub.toml").write_text("port = 9000\n")
    ran = await run(tmp_path, "settings", "--json", HUB_HOST="127.0.0.2", HUB_PROT="1")
    shown = {each["name"]: each for each in json.loads(ran.out)}
    assert shown["port"] == {"name": "port", "value": 9000, "source": "hub.toml, line 1"}
    assert shown["host"]["source"] == "the environment, HUB_HOST"
    assert "there is no setting HUB_PROT" in ran.err
    table = await run(tmp_path, "settings", COLUMNS="200")
    assert "hub.toml, line 1" in table.out


async def test_settings_with_a_mistake_are_a_sentence(tmp_path):
    (tmp_path / "hub.toml").write_text("\nprot = 9000\n")
    for command in ("settings", "doctor", "serve"):
        ran = await run(tmp_path, command)
        assert (ran.code, ran.out) == (1, "")
        assert "hub.toml, line 2" in ran.err
        assert "prot" in ran.err


async def test_a_short_stream_shows_what_comes_between(hub):
    now = asyncio.get_running_loop().time
    async with aiohttp.ClientSession() as http, http.get(f"{hub.url}/healthz/stream") as answer:
        times = [now() async for _ in answer.content.iter_any()]
    assert len(times) > 1
    assert times[-1] - times[0] > 0.3
