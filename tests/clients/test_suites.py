"""Suites that others wrote to tell whether an API is OpenAI's, against `lmarena-hub serve`."""

import json
from pathlib import Path

import pytest

from tests.clients.conftest import Bridge
from tests.clients.places import BIN, NODE, NODE_MODULES
from tests.processes import execute

pytestmark = pytest.mark.asyncio(loop_scope="package")

MODEL = "echo-tools"


async def test_llm_comply(bridge: Bridge, tmp_path: Path):
    options = ("--format", "openai-chat", "--model", MODEL, "--base-url", bridge.base_url, "--json")
    ran = await execute(tmp_path, BIN / "llm-comply", *options, OPENRESPONSES_API_KEY=bridge.key)
    assert ran.code == 0, ran
    results = json.loads(ran.out)["results"]
    reached = {result["id"]: result["status"] for result in results}
    # It asks models of certain names alone for their reasoning.
    assert reached.pop("chat-reasoning-summary") == "skipped"
    assert len(reached) == 8
    assert set(reached.values()) == {"passed"}, results
    # OpenAI's description lets an answer go without them.
    warnings = {warning for result in results for warning in result.get("warnings", ())}
    assert warnings <= {"choices[0].message missing 'annotations' field"}


async def test_compatcanary(bridge: Bridge, tmp_path: Path):
    program = NODE_MODULES / "compatcanary" / "src" / "cli.js"
    options = ("--base-url", bridge.base_url, "--model", MODEL, "--profile", "chat")
    ran = await execute(
        tmp_path, NODE, program, "scan", *options, "--format", "json", OPENAI_API_KEY=bridge.key
    )
    assert ran.code == 0, ran
    results = json.loads(ran.out)["results"]
    assert [result["status"] for result in results] == ["pass"] * 5, results
