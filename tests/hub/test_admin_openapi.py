"""/admin/api/openapi.json says what is so: schemathesis asks a real hub all that it describes."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.web.openapi import describe
from hub.web.operations import OPERATIONS
from tests.processes import Served, bearer, environment, run, serving

PATH = "/admin/api/openapi.json"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,negative_data_rejection,ignored_auth"
)
EXAMPLES = 15


async def admin_key(hub: Served) -> str:
    made = await run(hub.directory, "key", "create", "--name", "operations", "--admin")
    assert made.code == 0, made.err
    return made.out.strip()


async def schemathesis(directory: Path, *arguments: str) -> tuple[int, str]:
    """Run it from its command line; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        *arguments,
        cwd=directory,
        env=environment(NO_COLOR="1", COLUMNS="120"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.mark.slow
async def test_whatever_is_asked_the_answer_is_as_described(tmp_path):
    async with serving(tmp_path) as hub:
        key = await admin_key(hub)
        code, said = await schemathesis(
            tmp_path,
            hub.url + PATH,
            *("--header", f"Authorization: Bearer {key}"),
            *("--checks", CHECKS),
            *("--phases", "coverage,fuzzing"),
            *("--max-examples", str(EXAMPLES)),
            *("--seed", "1"),
            "--no-shrink",
        )
        assert code == 0, said
        assert f"{len(OPERATIONS)} selected" in said.replace("Operations: ", ""), said
        # It was asked through a key that still works.
        async with aiohttp.request("GET", hub.url + PATH, headers=bearer(key)) as answer:
            assert answer.status == 200


async def test_the_description_needs_a_key_that_may_administer(tmp_path):
    async with serving(tmp_path) as hub:
        for headers, status in (({}, 401), (bearer(await hub.key()), 403)):
            async with aiohttp.request("GET", hub.url + PATH, headers=headers) as answer:
                assert answer.status == status


def described() -> dict[str, Any]:
    return describe(OPERATIONS, "https://hub.example.org/")


def test_every_operation_is_described_in_sentences():
    document = described()
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "https://hub.example.org"}]
    for operation in OPERATIONS:
        entry = document["paths"][operation.path][operation.method.lower()]
        assert entry["operationId"] == operation.name
        assert entry["summary"].endswith(".")
        assert {"200", "400", "401", "403", "404", "409"} <= set(entry["responses"])
    names = [o.name for o in OPERATIONS]
    assert len(names) == len(set(names))


def test_every_member_of_every_body_has_a_sentence():
    schemas = described()["components"]["schemas"]
    bodies = [operation.body.__name__ for operation in OPERATIONS]
    silent = [
        f"{body}.{name}"
        for body in (*bodies, "Limits", "LimitChanges", "TierChanges", "Scopes", "NewPrice")
        for name, schema in schemas[body]["properties"].items()
        if "description" not in str(schema) and "$ref" not in str(schema)
    ]
    assert silent == []


def test_no_name_tells_of_the_insides():
    assert all(name.isidentifier() for name in described()["components"]["schemas"])


def test_what_a_query_takes_is_described_without_null():
    parameters = described()["paths"]["/admin/api/audit-log"]["get"]["parameters"]
    assert [each["name"] for each in parameters] == ["count", "actor", "action", "subject"]
    assert all(each["in"] == "query" and each["description"] for each in parameters)
    assert all("anyOf" not in each["schema"] for each in parameters)
