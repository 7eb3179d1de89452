"""Several workers' descriptions of one model, as one."""

from hub.protocol import Modalities, Model
from hub.rules.catalogue import join


def model(**more) -> Model:
    return Model("m", **more)


def test_a_single_workers_description_stands_as_it_is():
    only = model(features=["tools"], context=5)
    assert join([only]) == (only, 1)


def test_together_they_can_what_any_of_them_can():
    joined, workers = join([model(features=["stop", "tools"]), model(features=["tools", "image"])])
    assert (joined.features, workers) == (["stop", "tools", "image"], 2)


def test_they_read_and_write_what_any_of_them_does():
    sees = model(modalities=Modalities(["text", "image"], ["text"]), kinds=["chat"])
    draws = model(modalities=Modalities(["text"], ["text", "image"]), kinds=["chat", "image"])
    joined, _ = join([model(), sees, draws])
    assert joined.modalities == Modalities(["text", "image"], ["text", "image"])
    assert joined.kinds == ["chat", "image"]


def test_the_shortest_context_counts_of_those_that_say_one():
    contexts = [None, 8_000, 4_000]
    assert join([model(context=context) for context in contexts]).model.context == 4_000
    assert join([model(), model()]).model.context is None


def test_whoever_names_the_organization_is_believed():
    assert join([model(), model(organization="lab")]).model.organization == "lab"
