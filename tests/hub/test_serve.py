"""`lmarena-hub serve` as a process of its own: its beginning, its doors, its end."""

import asyncio
import contextlib
import signal
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
import trustme

from hub.app import running
from hub.protocol import SUBPROTOCOL, Close
from hub.settings import load
from hub.web.presence import Presence
from tests.deploy.servers import short_folder
from tests.processes import (
    PROSE,
    agent,
    bearer,
    chat,
    eventually,
    free_port,
    mode,
    run,
    serving,
    text_of,
)

# --- the beginning -------------------------------------------------------------------------------


async def test_the_first_start_makes_the_directory_and_the_database(tmp_path):
    async with serving(tmp_path) as hub, aiohttp.ClientSession() as http:
        async with http.get(f"{hub.url}/healthz") as answer:
            assert await answer.json() == {"status": "ok", "active": 0, "waiting": 0, "workers": 0}
        assert mode(hub.data) == 0o700
        assert mode(hub.data / "hub.db") == 0o600


async def test_options_choose_the_address_and_the_data_directory(tmp_path):
    port = free_port()
    options = ("--host", "127.0.0.2", "--port", str(port), "--data", "elsewhere")
    async with serving(tmp_path, *options, HUB_PORT="1", HUB_HOST="127.0.0.3") as hub:
        assert hub.url == f"http://127.0.0.2:{port}"
        assert (tmp_path / "elsewhere" / "hub.db").exists()
        assert not hub.data.exists()


async def test_the_environment_chooses_the_address_and_the_data_directory(tmp_path):
    port = free_port()
    environ = {"HUB_HOST": "127.0.0.2", "HUB_PORT": str(port), "HUB_DATA_DIR": "elsewhere"}
    async with serving(tmp_path, **environ) as hub:
        assert hub.url == f"http://127.0.0.2:{port}"
        assert (tmp_path / "elsewhere" / "hub.db").exists()


async def test_a_hub_on_a_unix_socket_takes_no_port(tmp_path):
    with short_folder() as folder:
        path = folder / "hub.sock"
        async with serving(tmp_path, "--unix", str(path)) as hub:
            assert hub.url == f"unix:{path}"
            assert mode(path) == 0o660
            connector = aiohttp.UnixConnector(str(path))
            async with aiohttp.ClientSession("http://localhost", connector=connector) as http:
                async with http.get("/healthz") as answer:
                    assert answer.status == 200
                async with http.get("/") as page:
                    assert "https://&lt;this hub&gt;/v1" in await page.text()
            assert await hub.program.end() == 0
        assert not path.exists()


async def test_a_hub_on_a_unix_socket_takes_the_place_of_one_that_was_killed(tmp_path):
    with short_folder() as folder:
        path = str(folder / "hub.sock")
        async with serving(tmp_path, "--unix", path) as hub:
            hub.program.process.kill()
            await hub.program.process.wait()
        async with serving(tmp_path, HUB_UNIX=path) as hub:
            connector = aiohttp.UnixConnector(path)
            async with (
                aiohttp.ClientSession("http://localhost", connector=connector) as http,
                http.get("/healthz") as answer,
            ):
                assert answer.status == 200


async def test_a_hub_that_nobody_calls_ends_by_itself(tmp_path):
    async with serving(tmp_path, HUB_HOSTING_IDLE_END_S="0.5") as hub:
        await hub.program.said("hub is draining", "nobody called for long")
        assert await hub.program.process.wait() == 0


async def test_whoever_is_connected_keeps_a_hub_awake(tmp_path):
    settings = load({"data_dir": str(tmp_path / "data"), "port": 0}, environ={}, directory=tmp_path)
    presence = Presence(max_callers=0)
    async with running(settings, presence) as (_, url), aiohttp.ClientSession() as http:
        assert presence.quiet_s > 0
        async with http.ws_connect(f"{url}/worker/socket", protocols=(SUBPROTOCOL,)):
            assert presence.quiet_s == 0
        await eventually(lambda: presence.quiet_s > 0)


async def test_a_hub_ends_when_its_restart_file_changes(tmp_path):
    async with serving(tmp_path, HUB_HOSTING_RESTART_FILE="restart.txt") as hub:
        (tmp_path / "restart.txt").touch()
        await hub.program.said("hub is draining", "restart.txt changed")
        assert await hub.program.process.wait() == 0


async def test_a_port_that_is_taken_is_a_sentence_and_not_a_traceback(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = await run(tmp_path, "serve", HUB_PORT=str(taken.getsockname()[1]))
    assert refused.code == 1
    assert "in use" in refused.err
    assert "Traceback" not in refused.err


async def test_a_bad_setting_is_a_sentence_and_not_a_traceback(tmp_path):
    refused = await run(tmp_path, "serve", HUB_PORT="many")
    assert refused.code == 1
    assert "the environment" in refused.err
    assert "port" in refused.err
    assert "Traceback" not in refused.err


async def test_a_data_path_too_long_for_the_control_socket_is_refused(tmp_path):
    refused = await run(tmp_path, "serve", "--data", "d" * 120, HUB_PORT="0")
    assert refused.code == 1
    assert "too long for a control socket" in refused.err


# --- pages ---------------------------------------------------------------------------------------


async def test_the_front_page_shows_the_base_url_escaped_under_a_strict_policy(tmp_path):
    public = "https://hub.example.org/<b>&"
    async with serving(tmp_path, HUB_PUBLIC_URL=public) as hub, aiohttp.ClientSession() as http:
        async with http.get(hub.url) as answer:
            page = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert "https://hub.example.org/&lt;b&gt;&amp;/v1" in page
    assert "<b>" not in page
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_front_page_never_repeats_the_host_header(tmp_path):
    headers = {"Host": "evil.example"}
    everything = {"HUB_ALLOWED_HOSTS": "*"}
    async with (
        serving(tmp_path, **everything) as hub,
        aiohttp.request("GET", hub.url, headers=headers) as answer,
    ):
        assert answer.status == 200
        assert "evil.example" not in await answer.text()


async def test_the_style_sheet_of_the_front_page_is_served(tmp_path):
    async with serving(tmp_path) as hub, aiohttp.ClientSession() as http:
        async with http.get(hub.url) as answer:
            assert '"./static/hub.css"' in await answer.text()
        async with http.get(f"{hub.url}/static/hub.css") as answer:
            assert answer.status == 200
            assert answer.content_type == "text/css"


# --- the end -------------------------------------------------------------------------------------


async def test_sigterm_lets_a_running_answer_finish_and_turns_newcomers_away(tmp_path):
    async with serving(tmp_path) as hub, agent(hub), aiohttp.ClientSession() as http:
        headers = bearer(await hub.key())
        url = f"{hub.url}/v1/chat/completions"
        async with http.post(url, json=chat("echo-slow", stream=True), headers=headers) as running:
            assert running.status == 200
            begun = await running.content.readline()
            ending = asyncio.create_task(hub.program.end(signal.SIGTERM))
            await hub.program.said("hub is draining")
            async with http.post(url, json=chat(), headers=headers) as refused:
                assert refused.status == 503
                assert (await refused.json())["error"]["code"] == "shutting_down"
                assert int(refused.headers["Retry-After"]) > 0
            events = begun + await running.read()
        assert text_of(events) == PROSE
        assert b'"finish_reason":"stop"' in events
        assert events.endswith(b"data: [DONE]\n\n")
        assert await ending == 0


async def test_workers_are_sent_away_with_1012_when_the_hub_stops(tmp_path):
    async with serving(tmp_path) as hub, aiohttp.ClientSession() as http:
        hello = {
            "protocol": 1,
            "worker": "w-1",
            "name": "by hand",
            "kind": "agent",
            "version": "0",
            "slots": 1,
            "models": [],
            "token": await hub.token(),
        }
        url = f"{hub.url}/worker/socket"
        async with http.ws_connect(url, protocols=[SUBPROTOCOL]) as worker:
            await worker.send_json({"hello": hello})
            assert "welcome" in await worker.receive_json()
            ending = asyncio.create_task(hub.program.end(signal.SIGTERM))
            async for _ in worker:
                pass
            assert worker.close_code == Close.RESTART == 1012
        assert await ending == 0
        await hub.program.said("hub has stopped")


async def test_a_second_signal_ends_the_draining(tmp_path):
    slow = chat("echo-slow", stream=True)
    async with serving(tmp_path) as hub, agent(hub), aiohttp.ClientSession() as http:
        headers = bearer(await hub.key())
        url = f"{hub.url}/v1/chat/completions"
        async with http.post(url, json=slow, headers=headers) as running:
            begun = await running.content.readline()
            hub.program.process.send_signal(signal.SIGTERM)
            await hub.program.said("hub is draining")
            assert await hub.program.end(signal.SIGTERM) == 0
            events = begun + await running.read()
    assert b'"code":"shutting_down"' in events
    assert b'"finish_reason":"stop"' not in events


# --- TLS -----------------------------------------------------------------------------------------


def put_certificate(authority: trustme.CA, directory: Path) -> None:
    """A new certificate for this machine, in place of the last."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(directory / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(directory / "cert.pem")


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def certificate_of(url: str, context: ssl.SSLContext) -> bytes | None:
    """What a new connection is shown; None if it cannot be made."""
    port = int(url.rpartition(":")[2])
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return bytes(shown)
    return None


TLS = ("--tls-cert", "cert.pem", "--tls-key", "key.pem")


async def test_callers_come_over_https_and_agents_over_wss(tmp_path):
    authority = trustme.CA()
    put_certificate(authority, tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    connector = aiohttp.TCPConnector(ssl=trusting(authority))
    async with serving(tmp_path, *TLS) as hub, aiohttp.ClientSession(connector=connector) as http:
        assert hub.url.startswith("https://")
        over_wss = ("--ca-file", "ca.pem", "--transport", "socket")
        async with agent(hub, *over_wss):
            url, headers = f"{hub.url}/v1/chat/completions", bearer(await hub.key())
            async with http.post(url, json=chat(text="hello"), headers=headers) as answer:
                assert (await answer.json())["choices"][0]["message"]["content"] == "hello"


async def test_an_unusable_certificate_is_a_sentence_and_not_a_traceback(tmp_path):
    (tmp_path / "cert.pem").write_text("no certificate")
    (tmp_path / "key.pem").write_text("no key")
    refused = await run(tmp_path, "serve", *TLS, HUB_PORT="0")
    assert refused.code == 1
    assert "tls_cert, tls_key" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.slow
async def test_a_certificate_replaced_on_disk_is_shown_to_new_connections(tmp_path):
    authority = trustme.CA()
    put_certificate(authority, tmp_path)
    async with serving(tmp_path, *TLS) as hub:
        before = await certificate_of(hub.url, trusting(authority))
        assert before is not None
        put_certificate(authority, tmp_path)
        await hub.program.said("certificate read again")
        after = await certificate_of(hub.url, trusting(authority))
        assert after is not None
        assert after != before


@pytest.mark.slow
async def test_a_certificate_without_its_key_leaves_the_old_one_at_work(tmp_path):
    authority = trustme.CA()
    put_certificate(authority, tmp_path)
    async with serving(tmp_path, *TLS) as hub:
        before = await certificate_of(hub.url, trusting(authority))
        only_half = authority.issue_cert("127.0.0.1")
        only_half.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        await hub.program.said("the new certificate is unusable")
        assert before is not None
        assert await certificate_of(hub.url, trusting(authority)) == before
