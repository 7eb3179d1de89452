"""What Open WebUI and others ask an Ollama, in Ollama's words."""

import re
from datetime import datetime
from typing import Any

import pytest

from hub import __version__
from hub.store.keys import Scopes
from tests.doors import Reply, send, socket_worker

MODELS = [{"id": "lab/one", "organization": "lab"}, {"id": "two"}]


async def get(hub: Any, path: str, **more: Any) -> Reply:
    return await send(hub, method="GET", path=path, **more)


async def test_the_version_is_told_without_a_key(hub):
    reply = await get(hub, "/api/version", headers={})
    assert (reply.status, reply.json) == (200, {"version": __version__})
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__), "Open WebUI compares it number by number"


async def test_the_tags_are_the_models_of_the_list(hub):
    async with socket_worker(hub, models=MODELS):
        listed = (await get(hub, "/v1/models")).json["data"]
        models = (await get(hub, "/api/tags")).json["models"]
    assert [model["name"] for model in models] == ["lab/one", "two"]
    assert [model["model"] for model in models] == [model["id"] for model in listed]
    assert [model["details"]["family"] for model in models] == ["lab", "arena"]
    moments = [datetime.fromisoformat(model["modified_at"]).timestamp() for model in models]
    assert moments == [model["created"] for model in listed]
    members = {"name", "model", "modified_at", "size", "digest", "details"}
    assert all(set(model) == members for model in models)


async def test_a_key_sees_only_the_tags_it_may_use(hub):
    key = await hub.new_key("narrow", scopes=Scopes(models=["two"]))
    async with socket_worker(hub, models=MODELS):
        models = (await get(hub.calling(key), "/api/tags")).json["models"]
    assert [model["name"] for model in models] == ["two"]


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api//tags/"])
async def test_without_workers_there_is_nothing_and_no_error(hub, path):
    reply = await get(hub, path)
    assert (reply.status, reply.json) == (200, {"models": []})


async def test_no_model_is_ever_in_memory(hub):
    async with socket_worker(hub, models=MODELS):
        assert (await get(hub, "/api/ps")).json == {"models": []}


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps"])
async def test_what_tells_of_models_wants_a_key(hub, path):
    reply = await get(hub, path, headers={})
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/show"])
async def test_ollamas_other_urls_name_the_base_url(hub, path):
    reply = await send(hub, {"model": "two"}, path=path)
    assert (reply.status, reply.error["code"]) == (404, "unknown_url")
    assert "/v1" in reply.error["message"]
