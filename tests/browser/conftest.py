"""What browser tests are given: a Chromium with a userscript in it, and servers with and without TLS."""

import base64
import contextlib
import hashlib
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import BrowserContext

from tests.arena import practice_arena
from tests.browser.chromium import chromium, find_chromium
from tests.browser.extension import make_extension
from tests.browser.stage import Stage, connected, use_local_site, userscript


@pytest.fixture(autouse=True, scope="session")
def _browser_is_there() -> None:
    if find_chromium() is None:
        pytest.skip("there is no Chromium; see `make chromium`")


@dataclass(frozen=True)
class Certificate:
    """A certificate that no authority signed, and the hash by which a browser trusts its key all the same."""

    context: ssl.SSLContext
    spki: str
    pem: Path
    """Its chain and its key, in one file."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For loopback and for every name that tests use."""
    issued = trustme.CA().issue_cert("127.0.0.1", "localhost", "arena.ai", "*.arena.ai", "hub.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    leaf = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
    key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pem = tmp_path_factory.mktemp("certificate") / "certificate.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(pem)
    return Certificate(context, base64.b64encode(hashlib.sha256(key).digest()).decode(), pem)


Serve = Callable[..., Awaitable[int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers on 127.0.0.1: `port = await serve(app)`, or `await serve(app, certificate)` for TLS.

    A handler is cancelled when its client goes away. They end with the test.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(app: web.Application, certificate: Certificate | None = None) -> int:
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            context = certificate.context if certificate else None
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            return int(runner.addresses[0][1])

        yield start


StartBrowser = Callable[..., Awaitable[BrowserContext]]


@pytest.fixture
async def start_browser(tmp_path: Path, certificate: Certificate) -> AsyncIterator[StartBrowser]:
    """Start browsers: `context = await start_browser(script, values={"token": "..."})`; more options go to
    `chromium`. Without a script there is no extension. They end with the test.
    """
    numbers = itertools.count()
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            script: str | None = None, *, values: Mapping[str, Any] | None = None, **options: Any
        ) -> BrowserContext:
            folder = tmp_path / f"extension-{next(numbers)}"
            extension = make_extension(script, folder, values=values) if script else None
            options.setdefault("trusted_keys", [certificate.spki])
            return await stack.enter_async_context(chromium(extension=extension, **options))

        yield start


StartStage = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def start_stage(start_hub, start_browser) -> AsyncIterator[StartStage]:
    """`stage = await start_stage(arena={"csp": "strict"}, hub={...}, mode="assist")`: a hub, an arena, a browser.

    `hub` are settings, `arena` its switches, `profile` changes of the site profile, `browser` options of
    `start_browser`; other names are values in the userscript manager's storage.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            arena: Mapping[str, Any] | None = None,
            hub: Mapping[str, Any] | None = None,
            profile: Mapping[str, Any] | None = None,
            browser: Mapping[str, Any] | None = None,
            **values: Any,
        ) -> Stage:
            playing = await stack.enter_async_context(practice_arena(**arena or {}))
            running = await start_hub(**hub or {})
            await use_local_site(running, **profile or {})
            script = await userscript(running)
            context = await start_browser(
                script, values=connected(running, **values), **browser or {}
            )
            return Stage(running, playing, context)

        yield start
