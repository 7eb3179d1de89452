"""The userscript as the hub serves it: its own address, its own version, its site's pages."""

import json
import re

import msgspec
import pytest

from hub.store.audit import Actor
from hub.web.userscript import END_OF_METADATA
from tests.doors import Reply, send


async def fetch(hub, name: str = "hub.user.js", **headers: str) -> Reply:
    return await send(hub, method="GET", path=f"/userscript/{name}", headers=headers)


def metadata(reply: Reply) -> dict[str, list[str]]:
    """The metadata's members, each with its values."""
    block = reply.body.decode().partition(END_OF_METADATA)[0]
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^// @(\S+) +(.*)$", block, re.MULTILINE):
        found.setdefault(name, []).append(value.strip())
    return found


async def test_it_is_served_with_the_public_address(start_hub):
    hub = await start_hub(public_url="https://hub.example.org/base/")
    reply = await fetch(hub)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/javascript; charset=utf-8"
    members = metadata(reply)
    assert members["downloadURL"] == ["https://hub.example.org/base/userscript/hub.user.js"]
    assert members["updateURL"] == ["https://hub.example.org/base/userscript/hub.meta.js"]
    assert members["connect"] == ["hub.example.org", "127.0.0.1", "localhost", "*"]
    assert members["match"] == [
        "https://arena.ai/*",
        "https://*.arena.ai/*",
        "https://lmarena.ai/*",
        "https://*.lmarena.ai/*",
    ]
    assert re.fullmatch(r"\d+\.\d+\.\d+\.0", members["version"][0])
    code = reply.body.decode().partition(END_OF_METADATA)[2]
    assert json.dumps("https://hub.example.org/base") in code
    assert json.dumps(members["version"][0]) in code
    assert set(re.findall(r"__[A-Z]+__", reply.body.decode())) <= {"__PURE__"}


async def test_the_metadata_is_the_scripts_own(hub):
    script, alone = await fetch(hub), await fetch(hub, "hub.meta.js")
    assert metadata(alone) == metadata(script)
    assert alone.body.decode().endswith(END_OF_METADATA)


async def test_it_follows_the_profile(hub):
    before = metadata(await fetch(hub))
    profile = msgspec.structs.replace(
        hub.hub.store.profiles.current, hosts=["new.example", "127.0.0.1"]
    )
    await hub.hub.store.profiles.set(profile, "", Actor("test"))
    members = metadata(await fetch(hub))
    assert members["match"] == ["https://new.example/*", "*://127.0.0.1/*"]
    assert members["version"] == [before["version"][0].removesuffix(".0") + ".1"]


async def test_the_host_header_is_not_believed(start_hub):
    hub = await start_hub(allowed_hosts=["evil.example"])
    reply = await fetch(hub, Host="evil.example")
    assert reply.status == 200
    assert b"evil.example" not in reply.body
    assert metadata(reply)["downloadURL"] == [f"{hub.url}/userscript/hub.user.js"]


@pytest.mark.parametrize("name", ["hub.user.js", "hub.meta.js"])
async def test_behind_a_proxy_the_public_address_must_be_set(hub, name):
    reply = await fetch(hub, name, **{"X-Forwarded-For": "192.0.2.1"})
    assert reply.status == 503
    assert "public_url" in reply.error["message"]
