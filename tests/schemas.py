"""What OpenAI's public API description says of answers, chunks and errors, as a check of everything the hub says."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DESCRIPTION = Path(__file__).parent / "data/openai_schemas.json"


@cache
def _described() -> Any:
    return json.loads(DESCRIPTION.read_text("utf-8"))


@cache
def _validator(name: str) -> Draft202012Validator:
    schema = {"$ref": f"#/$defs/{name}", "$defs": _described()["$defs"]}
    return Draft202012Validator(schema)


def check(value: Any, name: str) -> None:
    """Raises ValidationError unless a value is what the description says of that name."""
    _validator(name).validate(value)


def check_event(event: Any) -> None:
    """A stream's event: a chunk, or an error."""
    check(event, "ErrorResponse" if "error" in event else "CreateChatCompletionStreamResponse")


def check_answer(path: str, status: int, body: bytes) -> None:
    """An answer of the API in one piece."""
    value = json.loads(body)
    if status >= 400:
        check(value, "ErrorResponse")
    elif path.strip("/") == "v1/chat/completions" and value.get("object") != "list":
        check(value, "CreateChatCompletionResponse")
    elif path.strip("/") == "v1/models":
        check(value, "ListModelsResponse")
