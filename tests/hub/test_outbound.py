"""The hub fetches from public addresses alone, whatever a name says or comes to say."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver

from hub.live.outbound import Outbound, Unreachable
from hub.rules.addresses import is_public
from hub.settings import SettingsError, load

HERE = ["127.0.0.1/32"]


def settings(tmp_path: Any, networks: list[str]) -> Any:
    return load({"outbound": {"networks": networks}}, environ={}, directory=tmp_path)


@pytest.fixture
async def site() -> AsyncIterator[int]:
    """The port of a server on every address of this machine, which counts its visitors."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=request.path.encode())

    app = web.Application()
    app.router.add_get("/{_:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::1",
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ],
)
async def test_this_machine_is_not_fetched_from_by_any_spelling(tmp_path, site, host):
    outbound = Outbound(settings(tmp_path, []))
    with pytest.raises(Unreachable, match="not public"):
        await outbound.fetch(f"http://{host}:{site}/secret", 100)
    await outbound.close()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/x",
        "gopher://example.org",
        "//example.org/x",
        "http://",
        "http:///x",
        "http://user@127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://[::1/",
        "http://" + "x" * 9_000,
        "http://ex\nample.org/",
        "http://\N{SNOWMAN}.\ud83d/",
        "",
    ],
)
async def test_odd_addresses_are_refused_in_words(tmp_path, url):
    outbound = Outbound(settings(tmp_path, HERE))
    with pytest.raises(Unreachable) as refused:
        await outbound.fetch(url, 100)
    assert str(refused.value).startswith("its address")
    await outbound.close()


class Fickle(AbstractResolver):
    """A name that is one address when first asked for and another ever after."""

    def __init__(self, first: str, later: str) -> None:
        self.answers = [first, later]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> Any:
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self) -> None:
        pass


async def test_a_name_is_asked_for_once_and_what_it_was_is_what_is_fetched_from(tmp_path, site):
    names = Fickle("127.0.0.1", "127.0.0.2")
    outbound = Outbound(settings(tmp_path, HERE), names)
    assert await outbound.fetch(f"http://fickle.example:{site}/x", 100) == b"/x"
    assert names.answers == ["127.0.0.2"]
    with pytest.raises(Unreachable, match="not public"):
        await outbound.fetch(f"http://fickle.example:{site}/x", 100)
    await outbound.close()


async def test_what_is_too_large_is_left_at_the_limit(tmp_path, site):
    outbound = Outbound(settings(tmp_path, HERE))
    assert len(await outbound.fetch(f"http://127.0.0.1:{site}/{'x' * 99}", 100)) == 100
    with pytest.raises(Unreachable, match="more than 100 bytes"):
        await outbound.fetch(f"http://127.0.0.1:{site}/{'x' * 100}", 100)
    await outbound.close()


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    outbound = Outbound(settings(tmp_path, HERE))
    with pytest.raises(Unreachable):
        await outbound.fetch(f"https://127.0.0.1:{port}/", 100)
    await outbound.close()
    server.close()


@pytest.mark.parametrize("networks", [["everything"], ["10.0.0.1/8"]])
def test_a_bad_network_is_a_settings_error(tmp_path, networks):
    with pytest.raises(SettingsError, match=r"outbound\.networks"):
        settings(tmp_path, networks)
