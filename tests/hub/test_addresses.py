"""For which hosts a hub answers, and whose address counts behind proxies."""

import asyncio
from ipaddress import ip_address

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from hub.app import CONTROL_SOCKET, make_public_app
from hub.rules.addresses import Client, Proxies
from hub.settings import SettingsError, load
from hub.web.addresses import client
from tests.doors import send


async def status(hub, host: str, path: str = "/healthz") -> int:
    """What a request with this Host header, written by hand, is answered."""
    address, _, port = hub.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(address, int(port))
    line = host.encode("utf-8", "surrogateescape")
    writer.write(
        b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (path.encode(), line)
    )
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


# --- hosts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST.",
        "hub.localhost:80",
        "127.0.0.1",
        "127.0.0.1:8080",
        "192.0.2.7",
        "[::1]",
        "[2001:db8::1]:443",
        "hub.example.org",
        "Hub.Example.org.:8443",
        "bridge",
        "bridge:9000",
        "a.b.example.net",
        "",
    ],
)
async def test_the_hub_answers_for_its_own_hosts(start_hub, host):
    hub = await start_hub(
        public_url="https://hub.example.org/base", allowed_hosts=["bridge", "*.example.net"]
    )
    assert await status(hub, host) == 200


ODD = [
    "evil.example",
    "hub.example.org.evil.example",
    "example.net",
    "notexample.net",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1.nip.io",
    "user@localhost",
    "localhost/path",
    "localhost:80:80",
    "localhost:port",
    "[::1",
    "::1",
    "[localhost]",
    "0x7f.1",
    "[]",
    ":",
    "*",
    "a b",
    "\u00fcml\u00e4ut",
    "\udc80\udcff",
    "h" * 5000,
]


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/worker/socket", "/nothing"])
async def test_other_hosts_are_refused_on_every_path(hub, path):
    assert await status(hub, "evil.example", path) == 421


async def test_other_and_odd_hosts_are_refused_and_are_never_our_fault(start_hub):
    hub = await start_hub(allowed_hosts=["*.example.net"], public_url="https://hub.example.org")
    for host in ODD:
        assert await status(hub, host) in (400, 421), host
        assert await status(hub, host) in (400, 421), "also when remembered"


async def test_the_refusal_names_the_host_and_the_setting(hub):
    reply = await send(hub, method="GET", path="/v1/models", headers={"Host": "evil.example"})
    assert reply.status == 421
    assert reply.error["code"] == "misdirected_request"
    assert "'evil.example'" in reply.error["message"]
    assert "allowed_hosts" in reply.error["message"]


async def test_a_star_answers_for_everything(start_hub):
    hub = await start_hub(allowed_hosts=["*"])
    assert await status(hub, "anything.example") == 200


async def test_the_control_socket_takes_any_host(hub):
    path = hub.hub.settings.data.resolve() / CONTROL_SOCKET
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
        http.get("http://evil.example/admin/api/keys") as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("name", ["https://hub.example.org", "a/b", "", "a b", "*a", "a.*"])
def test_a_bad_host_in_the_settings_is_named(tmp_path, name):
    with pytest.raises(SettingsError, match="allowed_hosts"):
        load({"allowed_hosts": [name]}, environ={}, directory=tmp_path)


# --- proxies ---------------------------------------------------------------------------------------------


async def seen(hub, headers: list[tuple[str, str]], path: str | None = None) -> list[str]:
    """The address and the scheme that a hub sees, over TCP from 127.0.0.1 or over the Unix socket at `path`."""
    app = make_public_app(hub.hub)

    async def tell(request: web.Request) -> web.Response:
        return web.json_response(client(request))

    app.router.add_get("/seen", tell)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        if path:
            await web.UnixSite(runner, path).start()
            connector, url = aiohttp.UnixConnector(path), "http://localhost"
        else:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            connector, url = None, f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.get(url + "/seen", headers=headers) as answer,
        ):
            assert answer.status == 200
            found: list[str] = await answer.json()
            return found
    finally:
        await runner.cleanup()


FORWARDED = [("X-Forwarded-For", "198.51.100.9"), ("X-Forwarded-Proto", "https")]


async def test_a_header_of_somebody_untrusted_counts_for_nothing(hub):
    assert await seen(hub, FORWARDED) == ["127.0.0.1", "http"]


async def test_a_trusted_proxy_names_the_caller(start_hub):
    hub = await start_hub(trusted_proxies=["127.0.0.0/8"])
    assert await seen(hub, FORWARDED) == ["198.51.100.9", "https"]
    assert await seen(hub, []) == ["127.0.0.1", "http"]


async def test_the_nearest_hop_that_is_not_trusted_counts(start_hub):
    hub = await start_hub(trusted_proxies=["127.0.0.1", "10.0.0.0/8"])
    forged = [("X-Forwarded-For", "203.0.113.1"), ("X-Forwarded-For", "198.51.100.9, 10.1.2.3")]
    assert await seen(hub, forged) == ["198.51.100.9", "http"]


async def test_a_unix_socket_counts_as_a_proxy_only_when_listed(start_hub, tmp_path):
    untrusting = await start_hub(data_dir=str(tmp_path / "a"), trusted_proxies=["127.0.0.1"])
    trusting = await start_hub(data_dir=str(tmp_path / "b"), trusted_proxies=["unix"])
    path = str(tmp_path / "door.sock")
    assert await seen(untrusting, FORWARDED, path) == ["", "http"]
    assert await seen(trusting, FORWARDED, path) == ["198.51.100.9", "https"]


@pytest.mark.parametrize(
    "value",
    ["", ",", ",,, ,", "unknown", "\u00fc", "999.1.1.1", "[::1", "1.2.3.4:x:y", "%", "a" * 4000],
)
async def test_what_cannot_be_read_is_not_believed(start_hub, value):
    hub = await start_hub(trusted_proxies=["127.0.0.1"])
    headers = [("X-Forwarded-For", value), ("X-Forwarded-Proto", value)]
    assert await seen(hub, headers) == ["127.0.0.1", "http"]


@pytest.mark.parametrize(
    ("hops", "schemes", "client_seen"),
    [
        ("198.51.100.9:4711", "https", Client("198.51.100.9", "https")),
        ("[2001:db8::9]:4711", "https", Client("2001:db8::9", "https")),
        ("2001:db8::9", "WSS", Client("2001:db8::9", "https")),
        ("::ffff:198.51.100.9", "gopher", Client("198.51.100.9", "http")),
        ("10.0.0.7", "https", Client("10.0.0.7", "https")),
        ("10.0.0.7, 10.0.0.8", "", Client("10.0.0.7", "http")),
        ("unknown, 10.0.0.8", "", Client("10.0.0.8", "http")),
        # The caller's own claim comes first, then what each proxy saw.
        ("198.51.100.9", "https, http", Client("198.51.100.9", "http")),
        ("198.51.100.9, 10.0.0.8", "gopher, https, http", Client("198.51.100.9", "https")),
        ("198.51.100.9, 10.0.0.8", "https", Client("198.51.100.9", "https")),
    ],
)
def test_how_hops_are_read(hops, schemes, client_seen):
    assert Proxies(["10.0.0.0/8"]).client("10.0.0.1", "http", hops, schemes) == client_seen


def test_an_ipv4_peer_of_a_dual_socket_is_the_same_proxy():
    seen = Proxies(["10.0.0.1"]).client("::ffff:10.0.0.1", "http", "198.51.100.9", "")
    assert seen.address == "198.51.100.9"


@given(st.text(), st.text(), st.lists(st.ip_addresses().map(str)).map(", ".join))
def test_nothing_that_a_header_says_makes_us_fail(hops, schemes, before):
    proxies = Proxies(["10.0.0.0/8", "unix"])
    for peer in ("", "10.0.0.1", "198.51.100.9"):
        for said in (hops, f"{before}, 10.0.0.2", f"{hops}, {before}"):
            seen = proxies.client(peer, "http", said, schemes)
            assert seen.address == "" or ip_address(seen.address)
            assert seen.scheme in ("http", "https")


@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1))
def test_the_nearest_untrusted_hop_against_a_plain_search(hops):
    trusted = Proxies(["0.0.0.0/1"])
    untrusted = [hop for hop in hops if int(ip_address(hop)) >= 2**31]
    expected = untrusted[-1] if untrusted else hops[0]
    assert trusted.client("10.0.0.1", "http", ",".join(hops), "").address == expected


@pytest.mark.parametrize("name", ["proxy.example", "10.0.0.1/8", "10.0.0.0/99", "", "Unix"])
def test_a_bad_proxy_in_the_settings_is_named(tmp_path, name):
    with pytest.raises(SettingsError, match="trusted_proxies"):
        load({"trusted_proxies": [name]}, environ={}, directory=tmp_path)


def test_both_come_from_the_environment_with_commas(tmp_path):
    environ = {"HUB_ALLOWED_HOSTS": "a, *.b", "HUB_TRUSTED_PROXIES": "unix,10.0.0.0/8"}
    settings = load(environ=environ, directory=tmp_path)
    assert (settings.allowed_hosts, settings.trusted_proxies) == (
        ["a", "*.b"],
        ["unix", "10.0.0.0/8"],
    )
