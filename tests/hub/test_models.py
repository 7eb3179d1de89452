"""GET /v1/models: what a caller is told of what is live."""

from typing import Any

from tests.doors import Reply, send, socket_worker

ABLE = {
    "id": "lab/able",
    "modalities": {"in": ["text", "image"], "out": ["text"]},
    "features": ["tools", "stop"],
    "context": 8192,
    "organization": "lab",
}


async def get(hub: Any, path: str = "/v1/models") -> Reply:
    return await send(hub, method="GET", path=path)


async def test_a_model_is_told_with_what_it_can_and_how_many_offer_it(hub):
    async with socket_worker(hub, models=[ABLE]):
        reply = await get(hub)
    (model,) = reply.json["data"]
    created = model.pop("created")
    assert isinstance(created, int)
    assert created > 1_700_000_000
    assert model == {
        "id": "lab/able",
        "object": "model",
        "owned_by": "lab",
        "modalities": {"input": ["text", "image"], "output": ["text"]},
        "features": ["tools", "stop"],
        "context_length": 8192,
        "workers": 1,
    }


async def test_a_model_of_which_nothing_is_said_takes_and_gives_text(hub):
    async with socket_worker(hub):
        model = (await get(hub, "/v1/models/m")).json
    assert model["modalities"] == {"input": ["text"], "output": ["text"]}
    assert (model["features"], model["context_length"]) == ([], None)
    assert model["owned_by"] == "arena"


async def test_workers_of_one_model_are_told_together_as_long_as_they_are_here(hub):
    plain = {"id": "lab/able", "features": ["sampling"], "context": 4096}
    async with socket_worker(hub, models=[ABLE]):
        async with socket_worker(hub, worker="w-2", models=[plain]) as second:
            model = (await get(hub, "/v1/models/lab/able")).json
            assert (model["workers"], model["context_length"]) == (2, 4096)
            assert model["features"] == ["tools", "stop", "sampling"]
            await second.say({"t": "bye", "reason": ""})
            await second.closed()
        model = (await get(hub, "/v1/models/lab/able")).json
        assert (model["workers"], model["features"]) == (1, ["tools", "stop"])


async def test_anothers_private_worker_adds_nothing(hub):
    owner = await hub.new_user("owner@example.org")
    token = await hub.new_worker_token("own", user=owner.id)
    owners = hub.calling(await hub.new_key("owner's", user=owner.id))
    async with (
        socket_worker(hub, models=[{"id": "lab/able"}]),
        socket_worker(hub, token=token, worker="w-2", models=[ABLE]),
    ):
        model = (await get(hub, "/v1/models/lab/able")).json
        assert (model["workers"], model["features"]) == (1, [])
        own = (await get(owners, "/v1/models/lab/able")).json
        assert (own["workers"], own["features"]) == (2, ["tools", "stop"])


async def test_the_list_is_in_the_order_of_its_ids(hub):
    async with socket_worker(hub, models=[{"id": name} for name in "cab"]):
        assert [model["id"] for model in (await get(hub)).json["data"]] == ["a", "b", "c"]
