"""The operations described as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0), from what they are."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct
from msgspec.json import schema_components

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


class ErrorDetail(Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Struct):
    """The shape of every error."""

    error: ErrorDetail


def describe(operations: Iterable[Operation], public_url: str = "") -> dict[str, Any]:
    """The whole document; `public_url` is where the hub is reached, "" for where the document is."""
    operations = list(operations)
    bodies = [operation.body for operation in operations]
    results = [operation.result for operation in operations]
    # All together, since of two types with one name each gets a longer one.
    written, schemas = schema_components([*bodies, *results, ErrorBody], ref_template=SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for operation, body, result in zip(
        operations, written, written[len(operations) :], strict=False
    ):
        described = {**_operation(operation, result), **_request(operation, body, schemas)}
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LMArena Bridge: administration",
            "version": __version__,
            "description": "For keys with the admin scope. Money is in integer micro-dollars, moments are Unix"
            " seconds, lengths of time seconds.",
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


def _operation(operation: Operation, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.path.split("/")[3]],
        "responses": {
            "200": {"description": "Done.", **_json(result)},
            **{status: {"$ref": f"#/components/responses/{status}"} for status in ERRORS},
        },
    }


def _request(operation: Operation, body: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """How the members of a body are sent: as JSON, or in the query string."""
    schema = schemas[body["$ref"].rpartition("/")[2]]
    if operation.method == "GET":
        return {"parameters": _parameters(schema)}
    return {"requestBody": {"required": bool(schema["required"]), **_json(body)}}


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
