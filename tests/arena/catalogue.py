"""A thousand models, and the Next flight data that carries them."""

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FAMILIES = ("orion", "halcyon", "birch", "qwerty-vl", "tundra", "mira-r1", "Nova Pro", "zephyr_7b")
ODD_NAMES = (
    'say "hello" preview',
    "lab/slashed-70b:free",
    "back\\slash-1",
    "p\u00e8re-no\u00ebl-4",
    "\u6a21\u578b-\u516b-max",
    "parrot-\N{PARROT}",
    "<b>bold</b> & co",
    "orion",
)
"""The last one is a part of many other names."""
ORGANIZATIONS = (
    "Soci\u00e9t\u00e9 Exemple",
    "Example Labs",
    'The "Quoted" Company',
    "\u4f8b\u793e",
)
ODD_EVERY = 37
CHUNK_CHARACTERS = 9000
EDGES = re.compile(r'"initial(?=Models")|\\(?=["\\])|\\u00(?=[0-9a-f])')
"""After these a chunk may end: within a name, and within an escape sequence."""


@dataclass(frozen=True)
class Model:
    """One entry; `entry` is how the site writes it, the rest what that means."""

    id: str
    name: str
    organization: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    entry: dict[str, Any]


def catalogue(count: int = 1000) -> list[Model]:
    """So many models with new ids; the names are always the same."""
    return [model(number) for number in range(count)]


def model(number: int) -> Model:
    inputs = ("text", "image") if number % 3 == 0 else ("text",)
    outputs = ("image",) if number % 10 == 7 else ("text",)
    organization = ORGANIZATIONS[number % len(ORGANIZATIONS)]
    entry = {
        "id": str(uuid.uuid4()),
        "publicName": name_of(number),
        "organization": organization,
        "provider": organization.lower().replace(" ", "-"),
        "capabilities": capabilities(inputs, outputs, as_objects=number % 2 == 1),
    }
    return Model(entry["id"], entry["publicName"], organization, inputs, outputs, entry)


def name_of(number: int) -> str:
    odd, rest = divmod(number, ODD_EVERY)
    if rest == 5 and odd < len(ODD_NAMES):
        return ODD_NAMES[odd]
    return f"{FAMILIES[number % len(FAMILIES)]}-{number}"


def capabilities(
    inputs: tuple[str, ...], outputs: tuple[str, ...], *, as_objects: bool
) -> dict[str, Any]:
    if not as_objects:
        return {"inputCapabilities": list(inputs), "outputCapabilities": list(outputs)}
    details = {"text": True, "image": {"multipleImages": True, "aspectRatios": ["1:1", "16:9"]}}
    return {
        "inputCapabilities": {kind: kind in inputs and details[kind] for kind in details},
        "outputCapabilities": {kind: details[kind] for kind in outputs},
    }


def flight(models: list[Model]) -> list[str]:
    """The flight data's rows, in chunks that end wherever they like."""
    # Both ways of writing JSON occur: with and without \u escapes.
    entries = ",".join(
        json.dumps(model.entry, ensure_ascii=number % 4 < 2, separators=(",", ":"))
        for number, model in enumerate(models)
    )
    rows = (
        '1:"$Sreact.fragment"\n'
        '2:I[4711,["101","static/chunks/app/layout.js"],"default"]\n'
        '3:{"metadata":[["$","title","0",{"children":"Arena"}]]}\n'
        '5:["$","$L2",null,{"locale":"en","initialState":{"mode":"direct"},'
        f'"initialModels":[{entries}],"initialModelAId":"$undefined"}}]\n'
        '6:["$","footer",null,{"children":"\\u003cArena\\u003e"}]\n'
    )
    return list(chunks(rows))


def chunks(text: str) -> Iterator[str]:
    start = 0
    for edge in EDGES.finditer(text):
        if start == 0 or edge.end() - start >= CHUNK_CHARACTERS:
            yield text[start : edge.end()]
            start = edge.end()
    yield text[start:]


def script(chunk: str) -> str:
    """The script that hands one chunk to the page."""
    literal = json.dumps(chunk, ensure_ascii=False).replace("<", "\\u003c")
    return f"self.__next_f.push([1,{literal}])"
