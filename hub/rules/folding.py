"""Fold a conversation into the one message that a browser tab can put into a page's composer.

A lone user message stays as it is. Anything longer becomes a transcript:

    [System]
    Be brief.

    [User]
    Hello!

    [Assistant]
    Hi.

    [User]
    How are you?
"""

from typing import Any

import orjson

HEADINGS = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "function": "Tool",
}


def fold(body: bytes) -> bytes:
    """A valid chat body with its messages folded into one of the user's; pictures keep their order."""
    values: dict[str, Any] = orjson.loads(body)
    messages: list[dict[str, Any]] = values["messages"]
    if len(messages) == 1 and messages[0]["role"] == "user":
        return body
    pictures = [part for message in messages for part in _parts(message) if _is_picture(part)]
    text = "\n\n".join(f"[{HEADINGS[message['role']]}]\n{_text(message)}" for message in messages)
    content = [{"type": "text", "text": text}, *pictures] if pictures else text
    values["messages"] = [{"role": "user", "content": content}]
    return orjson.dumps(values)


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
