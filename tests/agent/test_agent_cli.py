"""The command line as people start it: a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from double import TOKEN, eventually, free_port, hub_double

from agent.address import HubAddress
from agent.identity import claim_identity

ROOT = Path(__file__).resolve().parents[2]
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on POSIX")


@asynccontextmanager
async def started(
    folder: Path, *arguments: str, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    kept = {k: v for k, v in os.environ.items() if k not in ("LMARENA_TOKEN", "LMARENA_HUB")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent",
        *arguments,
        cwd=ROOT,
        env=kept | {"LMARENA_STATE_DIR": str(folder / "state")} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out + err).decode()


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    return str(file)


@on_posix
@pytest.mark.parametrize("transport", ["auto", "poll"])
async def test_an_agent_answers_and_leaves_politely(tmp_path, token_file, transport):
    async with hub_double() as hub:
        options = ["--engine", "echo", "--name", "desk", "--transport", transport]
        options += ["--hub", hub.url, "--token-file", token_file, "--log-level", "debug"]
        async with started(tmp_path, *options) as process:
            session = await hub.worker()
            assert session.hello.name == "desk"
            job = hub.offer(session, "from a process")
            await hub.over(job)
            assert job.text == "from a process"
            process.send_signal(signal.SIGTERM)
            code, said = await ended(process)
            assert code == 0, said
            assert session.ended
            assert "job done" in said
            assert TOKEN not in said
            assert "from a process" not in said


@on_posix
async def test_a_running_job_gets_a_moment_and_a_second_signal_cuts_it_short(tmp_path, token_file):
    async with hub_double() as hub:
        options = ["--hub", hub.url, "--engine", "echo", "--token-file", token_file]
        async with started(tmp_path, *options) as process:
            session = await hub.worker()
            job = hub.offer(session, "slowly " * 20, model="echo-slow")
            await hub.until(lambda: job.pieces)
            process.send_signal(signal.SIGINT)
            await hub.over(job)
            assert job.text == "slowly " * 20
            assert (await ended(process))[0] == 0
        async with started(tmp_path, *options) as process:
            await hub.until(lambda: len(hub.sessions) == 2 and hub.sessions[1].connected)
            job = hub.offer(hub.sessions[1], "slowly " * 20, model="echo-slow")
            await hub.until(lambda: job.pieces)
            process.send_signal(signal.SIGINT)
            await hub.until(lambda: len(hub.sessions[1].frames) > job.pieces + 1)
            process.send_signal(signal.SIGINT)
            assert (await ended(process))[0] == 130
            assert not job.is_over


async def test_the_token_may_come_by_environment_and_a_wrong_one_ends_it(tmp_path):
    async with hub_double() as hub:
        options = ["--hub", hub.url.replace("http", "ws"), "--engine", "echo"]
        async with started(tmp_path, *options, LMARENA_TOKEN=TOKEN):
            await hub.worker()
        async with started(tmp_path, *options, LMARENA_TOKEN="wrong-token") as process:
            code, said = await ended(process)
            assert code == 1
            assert "unknown token (4501)" in said
            assert "wrong-token" not in said


async def test_the_worker_id_is_kept_and_twins_get_their_own(tmp_path, token_file):
    async with hub_double() as hub:
        options = ["--hub", hub.url, "--engine", "echo", "--token-file", token_file]
        async with started(tmp_path, *options):
            await hub.until(lambda: len(hub.sessions) == 1)
            async with started(tmp_path, *options):
                await hub.until(lambda: len(hub.sessions) == 2)
        async with started(tmp_path, *options):
            await hub.until(lambda: len(hub.sessions) == 3)
        first, twin, again = (session.hello.worker for session in hub.sessions)
        assert first == again
        assert first != twin


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--hub", "ftp://x", "--engine", "echo", "--token", "t"], "address"),
        (["--hub", "http://u:p@x", "--engine", "echo", "--token", "t"], "nothing secret"),
        (["--hub", "http://x", "--engine", "echo"], "token"),
        (["--hub", "http://x", "--engine", "echo", "--token-file", "/no/such"], "cannot be read"),
        (["--hub", "http://x", "--engine", "openai", "--token", "t"], "--upstream"),
        (
            ["--hub", "http://x", "--engine", "echo", "--token", "t", "--upstream-key-env", "NO"],
            "empty",
        ),
    ],
)
async def test_mistakes_are_explained(tmp_path, arguments, complaint):
    async with started(tmp_path, *arguments) as process:
        code, said = await ended(process)
        assert code == 2
        assert complaint in said
        assert "Traceback" not in said


@on_posix
async def test_leaving_while_no_hub_is_there(tmp_path):
    options = ["--hub", f"http://127.0.0.1:{free_port()}", "--engine", "echo", "--token", "t"]
    async with started(tmp_path, *options) as process:
        assert process.stderr is not None
        async with asyncio.timeout(15):
            await process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert (await ended(process))[0] == 0


def test_addresses():
    assert (
        HubAddress.parse("wss://Hub.example:1/x/").socket == "wss://hub.example:1/x/worker/socket"
    )
    assert HubAddress.parse("http://h:1").worker("bye") == "http://h:1/worker/bye"
    for wrong in ("h:1", "http://", "http://h:x", "http://h?token=x", "file:///x"):
        with pytest.raises(ValueError, match=r".+"):
            HubAddress.parse(wrong)


def test_an_identity_is_of_one_hub_name_and_engine(tmp_path):
    first = claim_identity(tmp_path, "http://h", "n", "echo")
    other = claim_identity(tmp_path, "http://h", "n", "openai")
    assert first.worker != other.worker
    first.release()
    other.release()
    assert claim_identity(tmp_path, "http://h", "n", "echo").worker == first.worker


@on_posix
async def test_a_terminal_shows_a_live_line(tmp_path, token_file):
    import pty

    seen = bytearray()
    ours, theirs = pty.openpty()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: seen.extend(os.read(ours, 65_536)))
    async with hub_double() as hub:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *["-m", "agent", "--hub", hub.url, "--engine", "echo", "--token-file", token_file],
            cwd=ROOT,
            env=os.environ | {"LMARENA_STATE_DIR": str(tmp_path), "TERM": "xterm"},
            stderr=theirs,
        )
        try:
            await hub.over(hub.offer(await hub.worker(), "x"))
            await eventually(lambda: b"connected by socket" in seen and b"done 1" in seen)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
            loop.remove_reader(ours)
            os.close(ours)
            os.close(theirs)
