"""Log lines: for people or machines, with request ids, and never with a secret in them."""

import json
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from hub.live.log import REDACTED, hide_by_look, hide_named
from tests.processes import agent, bearer, chat, environment, serving

SECRET = "sk-lmb-0123456789abcdef0123456789abcdef"
TOKEN = "wt-lmb-0123456789abcdef0123456789abcdef"


def written(directory: Path, statements: str, **environ: str) -> str:
    """What a process that configures its log and runs these statements writes to stderr."""
    lines = [
        "import logging, structlog",
        "from hub.live.log import configure",
        "from hub.settings import load",
        "configure(load())",
        "log = structlog.get_logger()",
        statements,
    ]
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=directory,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ran.stdout == ""
    return ran.stderr


@pytest.mark.parametrize(
    "name", ["token", "secret", "password", "authorization", "api_key", "cookie"]
)
def test_a_field_named_like_a_secret_is_blanked_out(name):
    assert hide_named(None, "info", {"event": "x", name: "anything"})[name] == REDACTED


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (SECRET, REDACTED),
        (f"key {TOKEN}, refused", f"key {REDACTED}, refused"),
        (f"/invitation/in-lmb-{SECRET[7:]}", f"/invitation/{REDACTED}"),
        (f"lmarena-session=ss-lmb-{SECRET[7:]}", f"lmarena-session={REDACTED}"),
        (
            "in-memory, in-between and across-the-board",
            "in-memory, in-between and across-the-board",
        ),
        ("Authorization: Bearer abcdef", f"Authorization: {REDACTED}"),
        ("BEARER abcdef", REDACTED),
        ("task-force and risk-taking", "task-force and risk-taking"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_looks_like_a_secret_is_blanked_out_anywhere(text, left):
    assert hide_by_look(None, "info", text) == left


def test_a_line_of_json_stays_json_without_its_secrets():
    line = json.dumps({"event": "Bearer abcdef", "key": SECRET, "level": "info"})
    hidden = json.loads(hide_by_look(None, "info", line))
    assert hidden == {"event": REDACTED, "key": REDACTED, "level": "info"}


def test_machines_get_one_json_object_a_line(tmp_path):
    out = written(tmp_path, "log.info('hello', n=1)\nlog.error('bye')", HUB_LOG_FORMAT="json")
    first, second = map(json.loads, out.splitlines())
    assert (first["event"], first["level"], first["n"]) == ("hello", "info", 1)
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["level"]) == ("bye", "error")


def test_people_get_words_and_no_json(tmp_path):
    out = written(tmp_path, "log.info('hello', n=1)", HUB_LOG_FORMAT="console")
    assert "hello" in out
    assert "n=1" in out
    assert "{" not in out


@pytest.mark.parametrize("environ", [{}, {"HUB_ENVIRONMENT": "production"}])
def test_where_there_is_no_terminal_auto_means_json(tmp_path, environ):
    assert json.loads(written(tmp_path, "log.info('hello')", **environ))["event"] == "hello"


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({}, ["info", "warning", "error"]),
        ({"HUB_LOG_LEVEL": "warning"}, ["warning", "error"]),
        ({"HUB_LOG_LEVEL": "debug"}, ["debug", "info", "warning", "error"]),
        ({"HUB_LOG_LEVEL": "error", "HUB_DEBUG": "1"}, ["debug", "info", "warning", "error"]),
    ],
)
def test_the_level_is_the_least_that_is_written(tmp_path, environ, seen):
    say = "for say in (log.debug, log.info, log.warning, log.error): say('x')"
    out = written(tmp_path, say, **environ)
    assert [json.loads(line)["level"] for line in out.splitlines()] == seen


def test_what_libraries_log_looks_like_our_lines_without_secrets(tmp_path):
    out = written(tmp_path, f"logging.getLogger('lib').warning('saw %s', '{SECRET}')")
    line = json.loads(out)
    assert (line["event"], line["level"]) == (f"saw {REDACTED}", "warning")


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_line_holds_no_secret(tmp_path, style):
    say = f"log.info('met {SECRET}', token='hidden-thing', problem='Bearer {TOKEN}')"
    out = written(tmp_path, say, HUB_LOG_FORMAT=style)
    assert "met" in out
    assert "0123456789" not in out
    assert "hidden-thing" not in out


FAILURES = [
    f"try: raise ValueError('bad {SECRET}')\nexcept ValueError: log.exception('failed')",
    f"try: raise ValueError('bad {SECRET}')\nexcept ValueError: logging.exception('failed')",
    "def work(authorization): 1 / 0\n"
    f"try: work('{SECRET}')\nexcept ArithmeticError: log.exception('failed')",
]


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("failure", FAILURES, ids=["ours", "a library's", "a variable's"])
def test_a_traceback_holds_no_secret(tmp_path, style, failure):
    """The statements are no file, so a traceback cannot quote their source."""
    out = written(tmp_path, failure, HUB_LOG_FORMAT=style)
    assert "failed" in out
    assert "Error" in out
    assert "0123456789" not in out


async def test_the_line_of_a_request_names_its_id_and_no_secret(tmp_path):
    async with serving(tmp_path) as hub, agent(hub), aiohttp.ClientSession() as http:
        key = await hub.key()
        url = f"{hub.url}/v1/chat/completions"
        async with http.post(url, json=chat(text="my own words"), headers=bearer(key)) as answer:
            assert answer.status == 200
            request_id = answer.headers["x-request-id"]
        line = json.loads(await hub.program.said("request completed"))
        assert line["request_id"] == request_id
        assert (line["model"], line["worker"], line["error"]) == ("echo", "a real agent", None)
        assert line["ms"] > 0
        assert await hub.program.end() == 0
        assert all(json.loads(said) for said in hub.program.lines if said)
        assert key not in hub.program.log
        assert "my own words" not in hub.program.log
