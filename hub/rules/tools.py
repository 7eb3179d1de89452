"""The tools that a caller offers, and which of them the model must or may call."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from ..errors import InvalidRequest

Name = Annotated[str, Meta(min_length=1, max_length=256)]
"""OpenAI allows 64 characters; others' tools have longer names."""


class Function(Struct):
    name: Name


class Tool(Struct):
    """A function that the model may call; its parameters are the worker's business."""

    type: Literal["function"]
    function: Function


class NamedChoice(Struct, tag_field="type", tag="function"):
    function: Function


class Allowed(Struct):
    mode: Literal["auto", "required"]
    tools: Annotated[list[dict[str, Any]], Meta(min_length=1)]


class AllowedChoice(Struct, tag_field="type", tag="allowed_tools"):
    """Some of the tools, and whether one of them must be called."""

    allowed_tools: Allowed


Choice = Literal["none", "auto", "required"] | NamedChoice | AllowedChoice


def check_choice(tools: list[Tool], choice: Choice | None) -> None:
    """A call can be demanded only of tools that are there. Raises InvalidRequest."""
    if choice is None or choice in ("none", "auto"):
        return
    if not tools:
        raise _refusal("it demands a tool, but there are no tools")
    if isinstance(choice, NamedChoice):
        name = choice.function.name
        if name not in {tool.function.name for tool in tools}:
            raise _refusal(f"there is no tool named {name[:80]!r}")


def _refusal(problem: str) -> InvalidRequest:
    return InvalidRequest(f"tool_choice: {problem}.", param="tool_choice")
