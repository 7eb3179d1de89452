"""The operations described as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), from what they are."""

from collections.abc import Iterable
from typing import Any

import msgspec

from .. import __version__
from .operations.operation import Operation

SCHEMAS = "#/components/schemas/{name}"
ERRORS = {
    "400": "The body or a parameter is wrong; `param` names it.",
    "401": "The key is missing, unknown, revoked or expired.",
    "403": "The key may not administer, or its account is disabled.",
    "404": "There is no such user, key, token, tier, price or version.",
    "409": "There is one already.",
    "413": "The body is too large.",
    "503": "The hub cannot write to its disk.",
}


class ErrorDetail(msgspec.Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    """The shape of every error."""

    error: ErrorDetail


def describe(operations: Iterable[Operation], public_url: str = "") -> dict[str, Any]:
    """The whole document; `public_url` is where the hub is reached, "" for where the document is."""
    operations = list(operations)
    types = [kind for o in operations for kind in (o.body, o.result)]
    _, schemas = msgspec.json.schema_components([*types, ErrorBody], ref_template=SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schemas)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    for operation in operations:
        if operation.method == "GET":
            schemas.pop(operation.body.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LMArena Bridge: administration",
            "version": __version__,
            "description": "For keys with the admin scope. Money is in integer micro-dollars, moments are Unix seconds, lengths of time seconds.",
        },
        "servers": [{"url": public_url.rstrip("/") or "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {status: _error(sentence) for status, sentence in ERRORS.items()},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key with the admin scope.",
                }
            },
        },
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.path.split("/")[3]],
        "responses": {
            "200": {"description": "Done.", **_json(_schema(operation.result))},
            **{status: {"$ref": f"#/components/responses/{status}"} for status in ERRORS},
        },
    }
    if operation.method == "GET":
        described["parameters"] = _parameters(schemas[operation.body.__name__])
    else:
        described["requestBody"] = {"required": True, **_json(_schema(operation.body))}
    return described


def _schema(kind: Any) -> dict[str, Any]:
    [schema], _ = msgspec.json.schema_components([kind], ref_template=SCHEMAS)
    return schema


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _error(sentence: str) -> dict[str, Any]:
    return {"description": sentence, **_json({"$ref": SCHEMAS.format(name="ErrorBody")})}


def _parameters(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The members of a body as they stand in a query string, where there is no null."""
    return [
        {
            "name": name,
            "in": "query",
            "required": name in body["required"],
            "description": schema.get("description", ""),
            "schema": _without_null(schema),
        }
        for name, schema in body["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    return options[0] if len(options) == 1 else schema
