"""Assemble the hub: the application, its listeners, its lock; and drain it at the end."""

import asyncio
import contextlib
import gc
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog
from aiohttp import web
from filelock import FileLock, Timeout

from .live.hub import Hub, open_hub
from .settings import Settings, SettingsError
from .web import addresses, cors, pages
from .web.addresses import known_hosts
from .web.middleware import add_headers, errors_in_one_shape
from .web.routes import control_routes, public_routes
from .web.state import HUB

CONTROL_SOCKET = "control.sock"
LOCK = "hub.lock"
CERTIFICATE_LOOK_S = 5.0
"""How often the certificate files are looked at."""
LONGEST_SOCKET_PATH = 100
"""Bytes that fit every system's Unix socket addresses."""


class AlreadyRunning(Exception):
    """Another hub or command holds this data directory. Stop it, or choose another with --data."""


@contextmanager
def hold(data: Path) -> Iterator[None]:
    """The data directory's lock, and the directory itself. Raises AlreadyRunning."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(data / LOCK, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise AlreadyRunning(AlreadyRunning.__doc__) from None
    try:
        yield
    finally:
        lock.release()


def make_public_app(hub: Hub) -> web.Application:
    """What the world reaches."""
    app = make_app(hub, public_routes())
    app.middlewares.append(known_hosts)
    cors.set_up(app, hub.settings)
    return app


def make_app(hub: Hub, routes: list[web.AbstractRouteDef]) -> web.Application:
    app = web.Application(middlewares=[errors_in_one_shape], client_max_size=0)
    app[HUB] = hub
    app.on_response_prepare.append(add_headers)
    app.router.add_routes(routes)
    addresses.set_up(app, hub.settings)
    pages.set_up(app)
    return app


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[Hub, str]]:
    """A hub that listens, and its address. Leaving the context drains it.

    Raises AlreadyRunning, SettingsError, NewerDatabase, OSError when the port is taken.
    """
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(hold(settings.data))
        hub = await stack.enter_async_context(open_hub(settings))
        runner = await _runner(make_public_app(hub), stack)
        context = _tls(settings)
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=context)
        await site.start()
        if context is not None:
            renewal = asyncio.create_task(_renew_certificate(context, settings))
            stack.callback(renewal.cancel)
        await _listen_for_commands(hub, settings, stack)
        # Runs first when leaving: callers are still answered while the hub drains.
        stack.push_async_callback(hub.drain)
        yield hub, _address(runner, settings)


async def _runner(app: web.Application, stack: contextlib.AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=2.0, keepalive_timeout=75
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


async def _listen_for_commands(
    hub: Hub, settings: Settings, stack: contextlib.AsyncExitStack
) -> None:
    if not hasattr(asyncio.get_running_loop(), "create_unix_server"):
        return
    path = settings.data.resolve() / CONTROL_SOCKET
    if len(str(path).encode()) > LONGEST_SOCKET_PATH:
        raise SettingsError(f"data_dir: its path is too long for a control socket: {path.parent}")
    path.unlink(missing_ok=True)
    runner = await _runner(make_app(hub, control_routes()), stack)
    await web.UnixSite(runner, path).start()
    path.chmod(0o600)
    stack.callback(path.unlink, missing_ok=True)


def _address(runner: web.AppRunner, settings: Settings) -> str:
    host, port = runner.addresses[0][:2]
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"tls_cert, tls_key: {error}") from None
    return context


async def _renew_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Read the certificate again when its files change; connections that are open keep the old one."""
    seen = _changed_at(settings)
    while True:
        await asyncio.sleep(CERTIFICATE_LOOK_S)
        now = _changed_at(settings)
        if now == seen:
            continue
        try:
            # Tried elsewhere first: a certificate without its key would leave the live one broken.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                settings.tls_cert, settings.tls_key
            )
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            structlog.get_logger().error("the new certificate is unusable", problem=str(error))
        else:
            seen = now
            structlog.get_logger().info("certificate read again")


def _changed_at(settings: Settings) -> list[float]:
    files = (Path(settings.tls_cert), Path(settings.tls_key))
    return [file.stat().st_mtime for file in files if file.exists()]


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the draining."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, stop.set)
    log = structlog.get_logger()
    async with running(settings) as (hub, address):
        # What start-up made stays for good, and requests leave no cycles: the garbage collector need not
        # walk through the one, nor look often for the other.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        log.info("hub is ready", address=address, data=str(settings.data))
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, hub.dispatch.hurry)
        log.info("hub is draining", active=hub.dispatch.active, waiting=hub.dispatch.waiting)
    log.info("hub has stopped")
