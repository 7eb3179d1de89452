"""What a person sees: a live line on a terminal, log lines everywhere."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

import structlog
from rich.console import Console
from rich.live import Live
from rich.text import Text

from agent.dial import Dial
from agent.session import Session

LogFormat = Literal["auto", "console", "json"]
REFRESH_S = 0.25


def set_up_log(level: str, style: LogFormat = "auto") -> None:
    """Log lines of `level` and above to stderr: for people on a terminal, as JSON elsewhere."""
    for_people = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default one prints local variables, and some of them are secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
        if for_people
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *([] if for_people else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        # Looked up at each line: the live line replaces sys.stderr while it is shown.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


@asynccontextmanager
async def shown(session: Session, dial: Dial) -> AsyncGenerator[None, None]:
    """Show a live line while the block runs, if stderr is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with Live(status_line(session, dial), console=console, auto_refresh=False) as live:
        refreshing = asyncio.create_task(_refresh(live, session, dial))
        try:
            yield
        finally:
            refreshing.cancel()


async def _refresh(live: Live, session: Session, dial: Dial) -> None:
    while True:
        live.update(status_line(session, dial), refresh=True)
        await asyncio.sleep(REFRESH_S)


def status_line(session: Session, dial: Dial) -> Text:
    """One line: the link, the slots, the jobs so far and how many models are on offer."""
    tally = session.tally
    line = Text("● " if session.connected else "○ ", "green" if session.connected else "red")
    line.append(_link(session, dial), "bold")
    line.append(f"  {session.state}  slots {session.busy}/{session.slots}", "default")
    line.append(f"  done {tally.done}  failed {tally.failed}", "default")
    line.append(f"  models {len(session.models)}", "default")
    if session.waiting:
        line.append(f"  {len(session.waiting)} waiting for you to press send", "bold yellow")
    line.truncate(200)
    return line


def _link(session: Session, dial: Dial) -> str:
    if session.connected:
        return f"connected by {dial.transport}"
    return "connecting" if dial.last is None else f"not connected: {dial.last.reason}"
