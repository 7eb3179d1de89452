"""A value that a JSON schema allows, made up: for an engine that has no model behind it.

Knows what tools and answer formats are described with (https://json-schema.org/draft/2020-12), not all there is.
"""

from typing import Any

DEEPEST = 8
"""Levels; a schema may contain itself."""


def example(schema: Any, text: str, root: Any = None, depth: int = 0) -> Any:
    """A value for the schema, as small as it may be, with `text` for every text that may be any."""
    root = schema if root is None else root
    if not isinstance(schema, dict) or depth > DEEPEST:
        return text
    if (given := _given(schema)) is not None:
        return given[0]
    if (other := _elsewhere(schema, root)) is not None:
        return example(other, text, root, depth + 1)
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    kind = next(iter(kind), "string") if isinstance(kind, list) else kind
    if kind == "object":
        return _object(schema, text, root, depth)
    if kind == "array":
        return [example(schema.get("items"), text, root, depth + 1)] * _least(schema, "minItems")
    if kind in ("integer", "number"):
        return _least(schema, "minimum")
    return {"boolean": False, "null": None}.get(str(kind), text)


def _given(schema: dict[str, Any]) -> list[Any] | None:
    """A value that stands in the schema itself, in a list of its own; None if there is none."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) and values else None


def _elsewhere(schema: dict[str, Any], root: Any) -> Any:
    """The schema that this one refers to, or the first that it offers; None if it says all itself."""
    if isinstance(schema.get("$ref"), str):
        found = root
        for name in schema["$ref"].removeprefix("#").strip("/").split("/"):
            found = found.get(name) if name and isinstance(found, dict) else found
        return found
    choices = (schema.get(word) for word in ("anyOf", "oneOf", "allOf"))
    return next((choice[0] for choice in choices if isinstance(choice, list) and choice), None)


def _object(schema: dict[str, Any], text: str, root: Any, depth: int) -> dict[str, Any]:
    """With what is required alone; with everything where nothing is said of that."""
    known = schema.get("properties")
    known = known if isinstance(known, dict) else {}
    names = schema.get("required", list(known))
    names = names if isinstance(names, list) else []
    return {name: example(known.get(name), text, root, depth + 1) for name in map(str, names)}


def _least(schema: dict[str, Any], name: str) -> Any:
    least = schema.get(name, 0)
    return least if isinstance(least, int | float) and 0 <= least <= 1000 else 0
