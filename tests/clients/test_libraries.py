"""Libraries that programs are written with, against `lmarena-hub serve`."""

import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.conftest import Bridge
from tests.clients.places import BIN, HERE, NODE, OF_THEIR_OWN
from tests.processes import Ran, execute

pytestmark = pytest.mark.asyncio(loop_scope="package")

SAID = "one two three"


class Told(BaseModel):
    text: str
    sure: bool


def look(where: str) -> str:
    """Look somewhere."""
    return f"nothing in {where}"


async def asking(bridge: Bridge, directory: Path, *command: str | Path) -> Ran:
    """A program that knows the hub by the variables that OpenAI's libraries read."""
    who = {"OPENAI_BASE_URL": bridge.base_url, "OPENAI_API_KEY": bridge.key}
    return await execute(directory, *command, **who)


# --- OpenAI's own, and the AI SDK ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("python", "major"), [(Path(sys.executable), "3"), (OF_THEIR_OWN / "openai-2/bin/python", "2")]
)
async def test_openai_for_python(bridge: Bridge, tmp_path: Path, python: Path, major: str):
    ran = await asking(bridge, tmp_path, python, HERE / "openai_python.py", major)
    assert (ran.code, ran.out) == (0, "all is well\n"), ran.err


@pytest.mark.parametrize("file", ["openai_node.js", "ai_sdk.js"])
async def test_libraries_for_node(bridge: Bridge, tmp_path: Path, file: str):
    ran = await asking(bridge, tmp_path, NODE, "--test", "--test-reporter=tap", HERE / file)
    assert ran.code == 0, ran.out
    assert "# fail 0" in ran.out
    assert "# pass 0" not in ran.out


# --- LangChain -----------------------------------------------------------------------------------


def langchain(bridge: Bridge, model: str, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=bridge.base_url, api_key=bridge.key, model=model, max_retries=0, **more
    )


async def test_langchain_asks_and_streams(bridge: Bridge):
    answer = await langchain(bridge, "echo").ainvoke([("system", "be brief"), ("human", SAID)])
    assert answer.text == SAID
    assert answer.response_metadata["finish_reason"] == "stop"
    chunks = [chunk async for chunk in langchain(bridge, "echo", stream_usage=True).astream(SAID)]
    whole = sum(chunks[1:], chunks[0])
    assert isinstance(whole, AIMessageChunk)
    assert whole.text == SAID
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 3


async def test_langchain_calls_tools_and_keeps_to_a_schema(bridge: Bridge):
    model = langchain(bridge, "echo-tools")
    (call,) = (await model.bind_tools([look]).ainvoke(SAID)).tool_calls
    assert (call["name"], call["args"]) == ("look", {"where": SAID})
    for method in ("json_schema", "function_calling"):
        told = await model.with_structured_output(Told, method=method).ainvoke(SAID)
        assert told == Told(text=SAID, sure=False)


# --- pydantic-ai ---------------------------------------------------------------------------------


def pydantic_ai(bridge: Bridge, model: str, **more: Any) -> Agent[None, Any]:
    provider = OpenAIProvider(base_url=bridge.base_url, api_key=bridge.key)
    return Agent(OpenAIChatModel(model, provider=provider), **more)


async def test_pydantic_ai_asks_and_streams(bridge: Bridge):
    agent = pydantic_ai(bridge, "echo", instructions="be brief")
    answer = await agent.run(SAID)
    assert (answer.output, answer.usage.output_tokens) == (SAID, 3)
    async with agent.run_stream(SAID) as stream:
        assert "".join([text async for text in stream.stream_text(delta=True)]) == SAID


async def test_pydantic_ai_calls_tools_and_keeps_to_a_schema(bridge: Bridge):
    assert (await pydantic_ai(bridge, "echo-tools", tools=[look]).run(SAID)).output == (
        f"nothing in {SAID}"
    )
    told = (await pydantic_ai(bridge, "echo-tools", output_type=Told).run(SAID)).output
    assert told == Told(text=SAID, sure=False)


async def test_pydantic_ai_tells_a_refusal(bridge: Bridge):
    with pytest.raises(ModelHTTPError) as refused:
        await pydantic_ai(bridge, "echo", tools=[look]).run(SAID)
    assert refused.value.status_code == 400


# --- simonw's llm --------------------------------------------------------------------------------


@pytest.mark.slow
async def test_llm(bridge: Bridge, tmp_path: Path):
    known = f"- model_id: hub\n  model_name: echo-tools\n  api_base: {bridge.base_url}\n"
    known += "  api_key_name: hub\n  supports_tools: true\n  supports_schema: true\n"
    (tmp_path / "extra-openai-models.yaml").write_text(known)

    async def llm(*arguments: str) -> Ran:
        who = {"LLM_USER_PATH": str(tmp_path)}
        return await execute(tmp_path, BIN / "llm", *arguments, **who)

    assert (await llm("keys", "set", "hub", "--value", bridge.key)).code == 0
    for how in ((), ("--no-stream",)):
        ran = await llm("-m", "hub", *how, SAID)
        assert (ran.code, ran.out) == (0, f"{SAID}\n"), ran.err
    ran = await llm("-m", "hub", "--schema", "text, sure bool", SAID)
    assert Told.model_validate_json(ran.out) == Told(text=SAID, sure=False), ran.err
    source = "def look(where: str) -> str:\n    return 'nothing in ' + where"
    ran = await llm("-m", "hub", "--functions", source, SAID)
    assert ran.out.strip() == f"nothing in {SAID}", ran.err
