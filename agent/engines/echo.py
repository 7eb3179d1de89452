"""The echo engine: says the last user message back. For trying a hub out, and for tests."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from agent.engines import Delta, EngineFailure, Finish, Job, Part, Text
from agent.engines.example import example
from hub.protocol import Modalities, Model

_PIECE = re.compile(r"\S+\s*|\s+")
SLOW_PIECES = 40
ABLE = Model(
    id="echo-tools",
    modalities=Modalities(["text", "image"], ["text"]),
    features=["history", "tools", "json_schema"],
    organization="echo",
)


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(str(part.get("text") or "") for part in self.content)
        return self.content or ""


class _Function(msgspec.Struct):
    name: str = ""
    parameters: Any = None


class _Tool(msgspec.Struct):
    function: _Function = msgspec.field(default_factory=_Function)


class _JsonSchema(msgspec.Struct):
    schema: Any = None


class _Format(msgspec.Struct):
    type: str = "text"
    json_schema: _JsonSchema | None = None


class _Body(msgspec.Struct):
    messages: list[_Message] = []
    tools: list[_Tool] | None = None
    tool_choice: Any = None
    response_format: _Format | None = None

    @property
    def said(self) -> str:
        """What the user said last."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def tool(self) -> _Function | None:
        """The tool to call: the one that is named, else the first; none once a tool has answered."""
        heard = bool(self.messages) and self.messages[-1].role == "tool"
        if not self.tools or self.tool_choice == "none" or heard:
            return None
        functions = [tool.function for tool in self.tools]
        choice = self.tool_choice if isinstance(self.tool_choice, dict) else {}
        named = [f for f in functions if choice.get("function") == {"name": f.name}]
        return (named or functions)[0]


class EchoEngine:
    """Offers `echo`, `echo-slow` (the same over `slow_s` seconds), `echo-fail` (breaks off) and `echo-tools`.

    The last calls tools and keeps to JSON schemas, with what the user said for every text in them.
    """

    kinds = frozenset({"chat"})

    def __init__(self, slow_s: float = 2.0) -> None:
        self._slow_s = slow_s

    async def catalogue(self) -> list[Model]:
        """Three models whose all is text, and one that can more."""
        ids = ("echo", "echo-slow", "echo-fail")
        plain = [Model(id=name, features=["history"], organization="echo") for name in ids]
        return [*plain, ABLE]

    async def answer(self, job: Job) -> AsyncGenerator[Part, None]:
        """Raises EngineFailure for an unknown model, for a body it cannot read, and by `echo-fail`."""
        body = _read(job.body)
        if job.model == ABLE.id and (tool := body.tool):
            arguments = _json(example(tool.parameters or {"type": "object"}, body.said))
            yield Delta(_call(job.id, tool.name, arguments))
            yield Finish("tool_calls", _usage(body.messages, arguments))
            return
        said = _said(body) if job.model == ABLE.id else body.said
        pieces = _pieces(job.model, said)
        pause_s = self._slow_s / max(1, len(pieces)) if job.model == "echo-slow" else 0.0
        for piece in pieces:
            yield Text(piece)
            await asyncio.sleep(pause_s)
        if job.model == "echo-fail":
            raise EngineFailure("upstream_error", "echo-fail fails after three pieces")
        yield Finish("stop", _usage(body.messages, said))

    async def close(self) -> None:
        """Nothing to let go of."""


def _read(body: bytes) -> _Body:
    try:
        return msgspec.json.decode(body, type=_Body)
    except msgspec.DecodeError:
        raise EngineFailure("unsupported", "echo reads chat messages only", ran=False) from None


def _said(body: _Body) -> str:
    """What the user or a tool said last, in the format that is asked for."""
    last = body.messages[-1] if body.messages else _Message()
    said = last.text if last.role == "tool" else body.said
    wanted = body.response_format or _Format()
    if wanted.type == "json_schema" and wanted.json_schema is not None:
        return _json(example(wanted.json_schema.schema, said))
    return _json({"echo": said}) if wanted.type == "json_object" else said


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _call(job: str, name: str, arguments: str) -> dict[str, Any]:
    """The delta of a tool call."""
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": 0, "id": f"call_{job}", "function": function}]}


def _pieces(model: str, said: str) -> list[str]:
    if model in ("echo", ABLE.id):
        return _PIECE.findall(said)
    if model == "echo-fail":
        return (_PIECE.findall(said) + ["echo "] * 3)[:3]
    if model == "echo-slow":
        size = max(1, -(-len(said) // SLOW_PIECES))
        return [said[at : at + size] for at in range(0, len(said), size)]
    raise EngineFailure("model_not_found", f"the echo engine has no model {model}")


def _usage(messages: list[_Message], answer: str) -> dict[str, Any]:
    prompt = sum(len(message.text.split()) for message in messages)
    completion = len(answer.split())
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
