"""The echo engine: says the last user message back. For trying a hub out, and for tests."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from agent.engines import EngineFailure, Finish, Job, Part, Text
from hub.protocol import Model

_PIECE = re.compile(r"\S+\s*|\s+")
SLOW_PIECES = 40


class _Message(msgspec.Struct):
    role: str = ""
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(str(part.get("text") or "") for part in self.content)
        return self.content or ""


class _Body(msgspec.Struct):
    messages: list[_Message] = []


class EchoEngine:
    """Offers `echo`, `echo-slow` (the same over `slow_s` seconds) and `echo-fail` (breaks off)."""

    kinds = frozenset({"chat"})

    def __init__(self, slow_s: float = 2.0) -> None:
        self._slow_s = slow_s

    async def catalogue(self) -> list[Model]:
        """The three models; what they take and give is text."""
        ids = ("echo", "echo-slow", "echo-fail")
        return [Model(id=name, features=["history"], organization="echo") for name in ids]

    async def answer(self, job: Job) -> AsyncGenerator[Part, None]:
        """Raises EngineFailure for an unknown model, for a body it cannot read, and by `echo-fail`."""
        messages = _messages(job.body)
        said = next((m.text for m in reversed(messages) if m.role == "user"), "")
        pieces = _pieces(job.model, said)
        pause_s = self._slow_s / max(1, len(pieces)) if job.model == "echo-slow" else 0.0
        for piece in pieces:
            yield Text(piece)
            await asyncio.sleep(pause_s)
        if job.model == "echo-fail":
            raise EngineFailure("upstream_error", "echo-fail fails after three pieces")
        yield Finish("stop", _usage(messages, said))

    async def close(self) -> None:
        """Nothing to let go of."""


def _messages(body: bytes) -> list[_Message]:
    try:
        return msgspec.json.decode(body, type=_Body).messages
    except msgspec.DecodeError:
        raise EngineFailure("unsupported", "echo reads chat messages only", ran=False) from None


def _pieces(model: str, said: str) -> list[str]:
    if model == "echo":
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
