"""The command line: `lmarena-agent`."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import structlog

from agent import __version__
from agent.address import HubAddress
from agent.browser_options import BrowserOptions
from agent.catalogue import Catalogue
from agent.dial import Dial
from agent.engines import CannotOpen, Engine, SiteEngine
from agent.engines.echo import EchoEngine
from agent.engines.openai import OpenAIEngine
from agent.identity import Identity, claim_identity, state_dir
from agent.link import Closed, tls_context
from agent.poll_link import PollLink
from agent.session import Card, Session
from agent.socket_link import SocketLink
from agent.status import LogFormat, set_up_log, shown
from hub.protocol import is_final

log = structlog.get_logger()

FIRST_CATALOGUE_S = 5.0
DRAIN_S = 5.0
GOODBYE_S = 5.0
MAX_TOKEN_CHARS = 200
MAX_SLOTS = 10_000


class Range(NamedTuple):
    """So many slots at first, and up to so many if the hub asks for them."""

    least: int
    most: int


DEFAULT_SLOTS = {"browser": Range(1, 1), "openai": Range(4, 4), "echo": Range(4, 4)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line asked for, checked."""

    address: HubAddress
    token: str = field(repr=False)
    card: Card
    transport: str
    tls: ssl.SSLContext | None
    make_engine: Callable[[], Engine]


def _slots(context: click.Context, option: click.Parameter, text: str | None) -> Range | None:
    if text is None:
        return None
    least, dash, most = text.partition("-")
    try:
        slots = Range(int(least), int(most if dash else least))
    except ValueError:
        raise click.BadParameter("a number, or two of them such as 1-4") from None
    if not 1 <= slots.least <= slots.most <= MAX_SLOTS:
        raise click.BadParameter(f"from 1 to {MAX_SLOTS}, the smaller one first")
    return slots


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--hub", required=True, envvar="LMARENA_HUB", help="The hub: https://host:port.")
@click.option("--token", help="The worker token; others on this machine can read arguments.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that holds the worker token. [env: LMARENA_TOKEN holds the token itself]",
)
@click.option("--engine", required=True, type=click.Choice(["browser", "openai", "echo"]))
@click.option("--upstream", help="The openai engine's base URL, such as http://localhost:11434/v1.")
@click.option("--upstream-key-env", help="The environment variable that holds the upstream's key.")
@click.option(
    "--slots",
    callback=_slots,
    metavar="N|MIN-MAX",
    help="How many jobs at once: N, or MIN-MAX for the hub to choose. [default: 4, browser: 1]",
)
@click.option("--browser", help="The browser's program. [default: Chrome, Chromium or Edge]")
@click.option("--headless", is_flag=True, help="No window; needs --mode automatic.")
@click.option(
    "--mode",
    type=click.Choice(["assist", "automatic"]),
    help="Who presses send: you, or the agent. [default: assist]",
)
@click.option("--arena", help="The site's address. [default: as the site profile says]")
@click.option(
    "--browser-profile",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder of the browser's profile. [default: one of its own, which lasts]",
)
@click.option("--browser-arg", multiple=True, help="One more argument for the browser.")
@click.option("--name", default=socket.gethostname, help="Shown to people. [default: hostname]")
@click.option("--region", help="Where this agent is, in the hub's words.")
@click.option(
    "--transport",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "socket", "poll"]),
)
@click.option("--ca-file", type=click.Path(dir_okay=False), help="More certificates to trust.")
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
)
@click.option(
    "--log-format",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "console", "json"]),
    help="auto: for people on a terminal, JSON elsewhere.",
)
@click.version_option(__version__)
def main(
    hub: str,
    token: str | None,
    token_file: Path | None,
    engine: str,
    upstream: str | None,
    upstream_key_env: str | None,
    slots: Range | None,
    name: str,
    region: str | None,
    transport: str,
    ca_file: str | None,
    log_level: str,
    log_format: LogFormat,
    **of_browser: Any,
) -> None:
    """Answer a hub's jobs from an engine on this machine."""
    set_up_log(log_level, log_format)
    address = _address(hub)
    token = _token(token, token_file)
    tls = _tls(address, ca_file)
    least, most = slots or DEFAULT_SLOTS[engine]
    if engine == "browser":
        make_engine = BrowserOptions(**of_browser).engine(least)
    else:
        BrowserOptions(**of_browser).forbid(engine)
        make_engine = _engine(engine, upstream, _upstream_key(upstream_key_env))
    name, region = name[:200], region[:200] if region else None
    identity = _identity(address, name, engine)
    card = Card(identity.worker, name, least, region, most)
    engine_of_ours = partial(make_engine, identity)
    try:
        _exit(_run(Plan(address, token, card, transport, tls, engine_of_ours)))
    except CannotOpen as error:
        raise click.ClickException(str(error)) from None
    finally:
        identity.release()


def _address(hub: str) -> HubAddress:
    try:
        return HubAddress.parse(hub)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--hub") from None


def _engine(engine: str, upstream: str | None, key: str) -> Callable[[Identity], Engine]:
    if engine == "echo":
        return lambda _: EchoEngine()
    if upstream is None:
        raise click.UsageError("the openai engine needs --upstream")
    if not upstream.startswith(("http://", "https://")):
        raise click.BadParameter("an http(s) URL, please", param_hint="--upstream")
    return lambda _: OpenAIEngine(upstream, key)


def _upstream_key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise click.UsageError("the variable that --upstream-key-env names is empty")
    if not (key.isascii() and key.isprintable()):
        raise click.UsageError("the variable that --upstream-key-env names holds no usable key")
    return key


def _token(token: str | None, file: Path | None) -> str:
    if token is None and file is not None:
        try:
            token = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            raise click.UsageError("the token file cannot be read") from None
    token = (os.environ.get("LMARENA_TOKEN", "") if token is None else token).strip()
    if not token:
        raise click.UsageError("a worker token is needed: --token-file, or LMARENA_TOKEN")
    if not (token.isascii() and token.isprintable() and len(token) <= MAX_TOKEN_CHARS):
        raise click.UsageError("that is no worker token")
    return token


def _identity(address: HubAddress, name: str, engine: str) -> Identity:
    try:
        return claim_identity(state_dir(), address.http, name, engine)
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(
            f"no worker id can be kept ({reason}): set LMARENA_STATE_DIR to a writable folder"
        ) from None


def _tls(address: HubAddress, ca_file: str | None) -> ssl.SSLContext | None:
    if not address.is_tls:
        return None
    try:
        return tls_context(ca_file)
    except OSError:
        raise click.BadParameter("no certificates can be read", param_hint="--ca-file") from None


def _run(plan: Plan) -> Closed | None:
    """Run until the end; None if a second signal cut it short."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work(plan))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _exit(closed: Closed | None) -> None:
    if closed is None:
        sys.exit(130)
    if closed.code is not None and is_final(closed.code):
        raise click.ClickException(f"the hub sent this agent away: {closed.reason} ({closed.code})")


async def work(plan: Plan) -> Closed:
    """Be a worker until told to leave, or sent away for good. Cancelled by the second signal."""
    engine = plan.make_engine()
    session = Session(plan.card, engine)
    dial = _dial(plan, session)
    catalogue = Catalogue(session, engine)
    signals = _Signals(session)
    keeping: asyncio.Task[None] | None = None
    try:
        signals.heed()
        if isinstance(engine, SiteEngine) and not await _opened(engine, session):
            return Closed("left before the engine was open", "left")
        await _first(catalogue)
        keeping = asyncio.create_task(catalogue.keep())
        async with shown(session, dial):
            return await _until_the_end(session, dial)
    finally:
        if keeping is not None:
            keeping.cancel()
        await session.close()
        await engine.close()


def _dial(plan: Plan, session: Session) -> Dial:
    by_socket = SocketLink(plan.address, plan.token, plan.tls)
    by_poll = PollLink(plan.address, plan.token, plan.tls)
    return Dial(
        session,
        None if plan.transport == "poll" else by_socket,
        None if plan.transport == "socket" else by_poll,
    )


async def _opened(engine: SiteEngine, session: Session) -> bool:
    """Whether it is open before we leave. Raises CannotOpen."""
    opening = asyncio.create_task(engine.open(session))
    leaving = asyncio.create_task(session.departure.wait())
    try:
        await asyncio.wait({opening, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
        return opening.done()
    finally:
        opening.cancel()
        leaving.cancel()
        await asyncio.gather(opening, leaving, return_exceptions=True)


async def _first(catalogue: Catalogue) -> None:
    try:
        async with asyncio.timeout(FIRST_CATALOGUE_S):
            await catalogue.read()
    except TimeoutError:
        log.warning("the catalogue takes long: starting without it")


async def _until_the_end(session: Session, dial: Dial) -> Closed:
    running = asyncio.create_task(dial.run())
    leaving = asyncio.create_task(session.departure.wait())
    try:
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        async with asyncio.timeout(GOODBYE_S if session.departure.is_set() else None):
            return await running
    except TimeoutError:
        return Closed("left without an answer", "left")
    finally:
        running.cancel()
        leaving.cancel()
        await asyncio.gather(running, leaving, return_exceptions=True)


class _Signals:
    """The first SIGINT or SIGTERM drains and leaves, the second leaves at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._main = asyncio.current_task()
        self._leaving: asyncio.Task[None] | None = None

    def heed(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._came)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._came))

    def _came(self) -> None:
        if self._leaving is None:
            log.info("leaving: running jobs get a moment; once more to leave at once")
            self._leaving = asyncio.create_task(_leave(self._session))
        elif self._main is not None:
            self._main.cancel()


async def _leave(session: Session) -> None:
    session.drain("self", "the agent is shutting down")
    try:
        async with asyncio.timeout(DRAIN_S):
            await session.idle()
    except TimeoutError:
        pass
    session.leave("the agent is shutting down")
