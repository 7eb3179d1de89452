"""Fold a conversation into the one message that a browser tab can put into a page's composer.

A lone user message stays as it is. Anything longer becomes a transcript, written by a template that the operator may
change; the one in the settings gives

    [System]
    Be brief.

    [User]
    Hello!

    [Assistant]
    Hi.

    [User]
    How are you?
"""

from functools import lru_cache
from typing import Any

import orjson
from jinja2 import StrictUndefined, Template, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..settings import Folding, SettingsError

HEADINGS = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "function": "Tool",
}
SAID = "1 + 1 = 2"
SAMPLE: list[dict[str, Any]] = [
    {"role": role, "content": text, **name}
    for role in HEADINGS
    for text in (SAID, None)
    for name in ({}, {"name": "somebody"})
]
"""Whatever a template may meet."""

_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)


def check_template(template: str) -> None:
    """Try a template on messages of every kind. Raises SettingsError, naming the line if it can."""
    try:
        text = _render(template, SAMPLE)
    except TemplateSyntaxError as error:
        raise SettingsError(f"folding.template: line {error.lineno}: {error.message}") from None
    except Exception as error:  # noqa: BLE001 - a template may do anything
        raise SettingsError(f"folding.template: {error}") from None
    if SAID not in text:
        raise SettingsError("folding.template: it leaves out what the messages say")


def fold(body: bytes, template: str) -> bytes:
    """A valid chat body with its messages folded into one of the user's; pictures keep their order."""
    values: dict[str, Any] = orjson.loads(body)
    messages: list[dict[str, Any]] = values["messages"]
    if len(messages) == 1 and messages[0]["role"] == "user":
        return body
    pictures = [part for message in messages for part in _parts(message) if _is_picture(part)]
    text = _fold_text(messages, template)
    content = [{"type": "text", "text": text}, *pictures] if pictures else text
    values["messages"] = [{"role": "user", "content": content}]
    return orjson.dumps(values)


def _fold_text(messages: list[dict[str, Any]], template: str) -> str:
    try:
        return _render(template, messages)
    except Exception:  # noqa: BLE001 - a caller must not pay for what the operator's samples did not show
        return _render(Folding().template, messages)


def _render(template: str, messages: list[dict[str, Any]]) -> str:
    return _compiled(template).render(messages=[*map(_told, messages)]).removesuffix("\n")


@lru_cache(maxsize=8)
def _compiled(template: str) -> Template:
    return _environment.from_string(template)


def _told(message: dict[str, Any]) -> dict[str, str]:
    """A message as templates see it."""
    role = message["role"]
    return {
        "role": role,
        "heading": HEADINGS[role],
        "name": message.get("name") or "",
        "text": _text(message),
    }


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _is_picture(part: dict[str, Any]) -> bool:
    return bool(part["type"] == "image_url")


def _text(message: dict[str, Any]) -> str:
    """What the message says, and which tools it calls."""
    said = [part.get("text") or part.get("refusal") or "" for part in _parts(message)]
    calls = [orjson.dumps(call).decode() for call in message.get("tool_calls") or ()]
    return "\n".join([*filter(None, said), *calls])
