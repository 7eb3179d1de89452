"""The files for nginx and Caddy, in the real servers, with TLS and a certificate of our own."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from hub.app import make_public_app
from hub.web.addresses import client
from tests.deploy.servers import needs, short_folder, started
from tests.processes import (
    PROSE,
    Served,
    agent,
    bearer,
    chat,
    free_port,
    serving,
    text_of,
)

DEPLOY = Path(__file__).parents[2] / "deploy"
SLOW = "a word at a time " * 5
NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    include {folder}/hub.conf;
}}
"""


@dataclass
class Front:
    """A server with TLS in front of a hub's port."""

    url: str
    plain_url: str
    tls: ssl.SSLContext
    ca: Path


Proxy = Callable[[int], AbstractAsyncContextManager[Front]]


def filled_in(file: Path, **changes: str) -> str:
    """One of our files with its paths and ports changed; each of them must be there."""
    text = file.read_text()
    for old, new in changes.items():
        assert old in text, f"{file} has no {old}"
        text = text.replace(old, new)
    return text


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A certificate for localhost in `folder`, and what trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trusting = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    return trusting, folder / "ca.pem"


@asynccontextmanager
async def nginx(hub_port: int) -> AsyncIterator[Front]:
    with short_folder() as folder:
        tls, ca = certificate(folder)
        port, plain = free_port(), free_port()
        changes = {
            "/etc/letsencrypt/live/hub.example.org/fullchain.pem": f"{folder}/cert.pem",
            "/etc/letsencrypt/live/hub.example.org/privkey.pem": f"{folder}/cert.pem",
            "hub.example.org": "localhost",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "127.0.0.1:8080": f"127.0.0.1:{hub_port}",
        }
        (folder / "hub.conf").write_text(filled_in(DEPLOY / "nginx/lmarena-hub.conf", **changes))
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        command = ("nginx", "-c", f"{folder}/nginx.conf", "-p", str(folder))
        async with started(*command, "-e", f"{folder}/error.log", port=port):
            yield Front(f"https://localhost:{port}", f"http://localhost:{plain}", tls, ca)


@asynccontextmanager
async def caddy(hub_port: int) -> AsyncIterator[Front]:
    with short_folder() as folder:
        tls, ca = certificate(folder)
        port, plain = free_port(), free_port()
        own = f"{folder}/cert.pem"
        changes = {
            "hub.example.org {": f"https://localhost:{port} {{\n\ttls {own} {own}",
            "127.0.0.1:8080": f"127.0.0.1:{hub_port}",
        }
        options = f"{{\n\tadmin off\n\thttp_port {plain}\n\thttps_port {port}\n}}\n"
        file = folder / "Caddyfile"
        file.write_text(options + filled_in(DEPLOY / "caddy/Caddyfile", **changes))
        command = ("caddy", "run", "--config", str(file), "--adapter", "caddyfile")
        homes = {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
        async with started(*command, port=port, **homes):
            yield Front(f"https://localhost:{port}", f"http://localhost:{plain}", tls, ca)


BOTH = pytest.mark.parametrize(
    "proxy",
    [pytest.param(nginx, marks=needs("nginx")), pytest.param(caddy, marks=needs("caddy"))],
    ids=["nginx", "caddy"],
)


@dataclass
class Behind:
    """A hub behind a proxy, with an agent that came through it, and a caller's session."""

    hub: Served
    front: Front
    http: aiohttp.ClientSession
    key: str

    def post(self, model: str = "echo", **members: Any) -> Any:
        url = f"{self.front.url}/v1/chat/completions"
        return self.http.post(url, json=chat(model, **members), headers=bearer(self.key))

    async def active(self) -> int:
        async with self.http.get(f"{self.front.url}/healthz") as answer:
            return int((await answer.json())["active"])


@asynccontextmanager
async def behind(proxy: Proxy, directory: Path) -> AsyncIterator[Behind]:
    trusted = {"HUB_TRUSTED_PROXIES": "127.0.0.1", "HUB_PUBLIC_URL": "https://localhost"}
    async with (
        serving(directory, **trusted) as hub,
        proxy(int(hub.url.rpartition(":")[2])) as front,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=front.tls)) as http,
        agent(hub._replace(url=front.url), "--ca-file", str(front.ca)),
    ):
        yield Behind(hub, front, http, await hub.key())


@BOTH
async def test_workers_come_by_websocket_and_answers_come_whole(proxy, tmp_path):
    async with behind(proxy, tmp_path) as place:
        assert "socket" in await place.hub.program.said("worker joined")
        async with place.post() as answer:
            assert (await answer.json())["choices"][0]["message"]["content"] == PROSE
        async with place.post(stream=True) as answer:
            assert text_of(await answer.read()) == PROSE


@BOTH
async def test_streams_are_not_held_back(proxy, tmp_path):
    async with behind(proxy, tmp_path) as place:
        async with place.post("echo-slow", text=SLOW, stream=True) as answer:
            seen = b""
            while not text_of(seen):
                seen += await answer.content.readuntil(b"\n\n")
            assert await place.active() == 1
            seen += await answer.read()
        assert text_of(seen) == SLOW


@BOTH
async def test_a_caller_that_leaves_frees_its_worker(proxy, tmp_path):
    async with behind(proxy, tmp_path) as place:
        async with place.post("echo-slow", text=SLOW * 20, stream=True) as answer:
            await answer.content.readuntil(b"\n\n")
        await place.hub.program.said("request cancelled")


@BOTH
async def test_the_hub_is_who_refuses_a_large_body(proxy, tmp_path):
    async with behind(proxy, tmp_path) as place, place.post(text="x" * 21_000_000) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "request_too_large"


@BOTH
async def test_the_hub_knows_who_calls_and_believes_no_caller(proxy, start_hub):
    async def tell(request: web.Request) -> web.Response:
        return web.json_response(client(request))

    hub = await start_hub(trusted_proxies=["127.0.0.1"], public_url="https://localhost")
    app = make_public_app(hub.hub)
    app.router.add_get("/who", tell)
    async with listening(app) as port, proxy(port) as front, aiohttp.ClientSession() as http:
        lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
        for headers in ({}, lies):
            async with http.get(f"{front.url}/who", headers=headers, ssl=front.tls) as answer:
                assert await answer.json() == ["127.0.0.1", "https"]


@asynccontextmanager
async def listening(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


@needs("nginx")
async def test_nginx_sends_plain_http_to_https(tmp_path):
    async with (
        nginx(1) as front,
        aiohttp.ClientSession() as http,
        http.get(f"{front.plain_url}/v1/models?a=b", allow_redirects=False) as answer,
    ):
        assert answer.status == 301
        assert answer.headers["Location"] == "https://localhost/v1/models?a=b"
