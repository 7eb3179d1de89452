"""The how-to pages show what happens; and the runner that says so can fail."""

import sys
from pathlib import Path

import pytest

from tests.clients.places import NODE_MODULES, OF_THEIR_OWN
from tests.pages import Saved, follow, saved, steps
from tests.processes import agent, run, serving

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"
ADDRESS = "http://127.0.0.1:8080"


@pytest.mark.slow
async def test_keys_and_tiers(tmp_path):
    await follow_with_an_echo("keys-and-tiers.md", tmp_path)


@pytest.mark.slow
async def test_names_for_models(tmp_path):
    await follow_with_an_echo("route-models.md", tmp_path)


async def follow_with_an_echo(name: str, directory: Path) -> None:
    """Beside a hub with an agent of the echo engine."""
    page = (HOW_TO / name).read_text("utf-8")
    async with serving(directory) as hub:
        token = await run(directory, "worker-token", "create", "--name", "home")
        async with agent(hub, token=token.out.strip()):
            await follow(page, directory, {ADDRESS: hub.url})


@pytest.mark.parametrize(
    ("name", "stopped"),
    [("backup.md", "## Restore"), ("upgrade.md", "## Back to an older version")],
)
async def test_pages_whose_second_half_is_for_a_hub_that_is_stopped(tmp_path, name, stopped):
    before, heading, after = (HOW_TO / name).read_text("utf-8").partition(stopped)
    assert heading
    assert steps(before)
    assert steps(after)
    async with serving(tmp_path) as hub:
        await follow(before, tmp_path)
        assert await hub.program.end() == 0
    await follow(after, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "client", ["curl", "openai-python", "openai-node", "langchain", "llm", "aider"]
)
async def test_use_with(tmp_path, client):
    if client == "aider" and sys.version_info >= (3, 13):
        pytest.skip("aider has no release for this Python")
    page = (HOW_TO / f"use-with-{client}.md").read_text("utf-8")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    (tmp_path / "llm").mkdir()
    environ = {"HOME": str(tmp_path), "LLM_USER_PATH": str(tmp_path / "llm")}
    environ["AIDER_ANALYTICS"] = "false"
    async with serving(tmp_path) as hub, agent(hub):
        known = {ADDRESS: hub.url, "sk-lmb-5f0c…": await hub.key()}
        await follow(page, tmp_path, known, OF_THEIR_OWN / "aider/bin", **environ)


# --- the runner ----------------------------------------------------------------------------------


def page(*lines: str) -> str:
    return "\n".join(["# A page", "", "```console", *lines, "```", ""])


def test_steps_are_read_with_their_continuations():
    text = "$ not here\n```console\n$ one \\\n  more\nout\n\n$ two\n```\n```sh\n$ nor here\n```\n"
    assert steps(text) == [("one \\\n  more", ["out", ""], 3), ("two", [], 7)]


def test_files_are_read_with_their_names():
    text = "Save as `a.py`:\n\n```python\none\n\ntwo\n```\n\n```sh\nno file\n```\n"
    text += "And `b`:\n\n```\n```\n\nThen `run` it:\n\n```console\n$ run\n```\n"
    assert saved(text) == [Saved("a.py", "one\n\ntwo\n"), Saved("b", "")]


async def test_a_file_is_saved_with_ones_own_values(tmp_path):
    text = "Save as `it`:\n\n```text\nHUB/v1\n```\n" + page("$ cat it", "HUB/v1")
    await follow(text, tmp_path, {"HUB": "http://h"})
    assert (tmp_path / "it").read_text() == "http://h/v1\n"


@pytest.mark.parametrize(
    "lines",
    [
        ("$ echo one; echo two >&2", "one", "two"),
        ("$ NAME=ada", "$ echo $NAME", "ada"),
        ("$ cat", "$ printf 'no end'", "no end"),
        ("$ echo a \\", "  b", "a b"),
        ("$ seq 9", "1", "…", "9"),
        ("$ echo from here to there", "from … there"),
        ("$ date '+%F %T'", "2026-01-31 12:00:00"),
        (
            "$ printf '%048x' 7 | sed s/^/sk-lmb-/",
            "sk-lmb-5f0c…",
            "$ echo sk-lmb-5f0c…",
            "sk-lmb-5f0c…",
        ),
        ("$ printf '%016x' 9", "0fe9e82d847d72ba", "$ echo 0fe9e82d847d72ba", "0000000000000009"),
        ("$ echo HUB/v1", "HUB/v1"),
    ],
)
async def test_a_page_that_tells_the_truth_passes(tmp_path, lines):
    await follow(page(*lines), tmp_path, {"HUB": "http://h"})


@pytest.mark.parametrize(
    "lines",
    [
        ("$ echo one", "two"),
        ("$ echo one",),
        ("$ true", "one"),
        ("$ echo one; echo two", "one"),
        ("$ echo from here", "from … there"),
        ("$ printf '%015x' 9", "0fe9e82d847d72ba"),
        ("$ printf '%016x\\n' 9 8", "0fe9e82d847d72ba", "0fe9e82d847d72ba"),
        ("$ printf '%047x' 7 | sed s/^/sk-lmb-/", "sk-lmb-5f0c…"),
        ("$ seq 9", "1 … 9"),
    ],
)
async def test_a_page_that_does_not_fails(tmp_path, lines):
    with pytest.raises(AssertionError, match="the page shows"):
        await follow(page(*lines), tmp_path)
