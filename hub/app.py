"""Assemble the hub: the application, its listeners, its lock; and drain it at the end."""

import asyncio
import contextlib
import gc
import os
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from filelock import FileLock, Timeout

from .live.hub import Hub, open_hub
from .settings import Hosting, Settings, SettingsError
from .web import addresses, cors, pages
from .web.addresses import known_hosts
from .web.middleware import add_headers, errors_in_one_shape
from .web.presence import Presence
from .web.routes import control_routes, public_routes
from .web.state import HUB

CONTROL_SOCKET = "control.sock"
LOCK = "hub.lock"
CERTIFICATE_LOOK_S = 5.0
"""How often the certificate files are looked at."""
LOOK_S = 0.5
"""How often a hub that may end by itself looks whether it should."""
PREDECESSOR_S = 10.0
"""Behind Passenger: how long a hub waits for the one before it to leave the data directory."""
LONGEST_SOCKET_PATH = 100
"""Bytes that fit every system's Unix socket addresses."""


class AlreadyRunning(Exception):
    """Another hub or command holds this data directory. Stop it, or choose another with --data."""


@contextmanager
def hold(data: Path, patience_s: float = 0.0) -> Iterator[None]:
    """The data directory's lock, and the directory itself. Raises AlreadyRunning."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(data / LOCK, mode=0o600)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout:
        raise AlreadyRunning(AlreadyRunning.__doc__) from None
    try:
        yield
    finally:
        lock.release()


def make_public_app(hub: Hub, *more: Middleware) -> web.Application:
    """What the world reaches."""
    app = make_app(hub, public_routes())
    app.middlewares.append(known_hosts)
    cors.set_up(app, hub.settings)
    app.middlewares.extend(more)
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
async def running(
    settings: Settings, presence: Presence | None = None
) -> AsyncIterator[tuple[Hub, str]]:
    """A hub that listens, and its address. Leaving the context drains it.

    `presence` counts its public requests. Raises AlreadyRunning, SettingsError, NewerDatabase, OSError
    when the port is taken.
    """
    counted = [presence.middleware()] if presence else []
    async with contextlib.AsyncExitStack() as stack:
        patience_s = PREDECESSOR_S if settings.hosting.kind == "shared" else 0.0
        stack.enter_context(hold(settings.data, patience_s))
        hub = await stack.enter_async_context(open_hub(settings))
        runner = await _runner(make_public_app(hub, *counted), stack)
        context = _tls(settings)
        await _listen(runner, settings, context, stack)
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


async def _listen(
    runner: web.AppRunner,
    settings: Settings,
    context: ssl.SSLContext | None,
    stack: contextlib.AsyncExitStack,
) -> None:
    if settings.unix:
        path = Path.cwd() / settings.unix
        # A proxy of another user may be let in through the group; the folder decides who comes near.
        await _listen_on_unix(runner, path, 0o660, stack, context)
    else:
        await web.TCPSite(runner, settings.host, settings.port, ssl_context=context).start()


async def _listen_on_unix(
    runner: web.AppRunner,
    path: Path,
    mode: int,
    stack: contextlib.AsyncExitStack,
    context: ssl.SSLContext | None = None,
) -> None:
    """Raises SettingsError where the system's addresses are too short for the path."""
    address = _free(path)
    await web.UnixSite(runner, address, ssl_context=context).start()
    os.chmod(address, mode)
    stack.callback(_free, path)


def _free(path: Path) -> str:
    """The path as an address, without the socket that a hub left there. Raises SettingsError."""
    if len(str(path).encode()) > LONGEST_SOCKET_PATH:
        raise SettingsError(f"the path is too long for a Unix socket: {path}")
    if path.is_socket():
        path.unlink()
    return str(path)


async def _listen_for_commands(
    hub: Hub, settings: Settings, stack: contextlib.AsyncExitStack
) -> None:
    if not hasattr(asyncio.get_running_loop(), "create_unix_server"):
        return
    path = settings.data.resolve() / CONTROL_SOCKET
    if len(str(path).encode()) > LONGEST_SOCKET_PATH:
        raise SettingsError(f"data_dir: its path is too long for a control socket: {path.parent}")
    runner = await _runner(make_app(hub, control_routes()), stack)
    await _listen_on_unix(runner, path, 0o600, stack)


def _address(runner: web.AppRunner, settings: Settings) -> str:
    if settings.unix:
        return f"unix:{settings.unix}"
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
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the draining.

    As `hosting` says, the hub also ends when nobody has called for long, or when a file changes.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, stop.set)
    log = structlog.get_logger()
    hosting = settings.hosting
    # From the very start: whoever touches it while the hub starts means this hub.
    untouched = _touched_at(hosting.restart_file)
    presence = Presence(hosting.max_callers) if hosting != Hosting() else None
    async with running(settings, presence) as (hub, address):
        # What start-up made stays for good, and requests leave no cycles: the garbage collector need not
        # walk through the one, nor look often for the other.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        log.info("hub is ready", address=address, data=str(settings.data))
        reason = await _reason_to_end(stop, hosting, presence, untouched)
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, hub.dispatch.hurry)
        log.info(
            "hub is draining",
            reason=reason,
            active=hub.dispatch.active,
            waiting=hub.dispatch.waiting,
        )
    log.info("hub has stopped")


async def _reason_to_end(
    stop: asyncio.Event, hosting: Hosting, presence: Presence | None, untouched: float | None
) -> str:
    if presence is None:
        await stop.wait()
    while not stop.is_set():
        if presence and hosting.idle_end_s and presence.quiet_s >= hosting.idle_end_s:
            return "nobody called for long"
        if _touched_at(hosting.restart_file) != untouched:
            return f"{hosting.restart_file} changed"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_S)
    return "it was told to stop"


def _touched_at(file: str) -> float | None:
    return os.stat(file).st_mtime if file and os.path.exists(file) else None
