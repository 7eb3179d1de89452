"""Log lines: how they look, and which event of the feed makes which line."""

import logging
import re
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from ..settings import Settings
from .feed import (
    AlarmChanged,
    BreakerChanged,
    Event,
    RequestSettled,
    SiteChanged,
    StorageTrouble,
    WorkerChanged,
    WorkerCut,
    WorkerFailed,
    WorkerJoined,
    WorkerLeft,
    WorkerMisbehaved,
)

_SECRET_TEXT = re.compile(
    r"\b(sk-|wt-|ss-lmb-|in-lmb-)[A-Za-z0-9_-]{8,}|(?i:bearer)\s+[A-Za-z0-9._~+/=-]+"
)
_SECRET_SIGNS = ("sk-", "wt-", "-lmb-", "earer", "EARER")
_SECRET_NAMES = {"token", "secret", "secret_key", "password", "authorization", "api_key", "cookie"}
REDACTED = "[redacted]"

log = structlog.get_logger()


def configure(settings: Settings) -> None:
    """Set up logging for the whole process: console lines for people, JSON for machines."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    machine = settings.log.format == "json" or (
        settings.log.format == "auto"
        and (settings.environment == "production" or not sys.stderr.isatty())
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_named,
    ]
    renderer: list[Any] = [
        structlog.processors.JSONRenderer(_dumps)
        if machine
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
        hide_by_look,
    ]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    _adopt_standard_logging(shared, renderer, level)


def _adopt_standard_logging(shared: list[Any], renderer: list[Any], level: int) -> None:
    """What libraries log looks like our own lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))


def _dumps(event: EventDict, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()


def hide_named(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank out what is a secret by its field's name."""
    for name in _SECRET_NAMES & event.keys():
        event[name] = REDACTED
    return event


def hide_by_look(_logger: WrappedLogger, _method: str, line: str) -> str:
    """Blank out what looks like a secret, in a line as it is about to be written."""
    if any(sign in line for sign in _SECRET_SIGNS):
        return _SECRET_TEXT.sub(REDACTED, line)
    return line


def write_lines(event: Event) -> None:
    """The feed's listener that writes log lines."""
    match event:
        case RequestSettled():
            _request_line(event)
        case WorkerJoined():
            log.info(
                "worker joined",
                worker=event.worker,
                kind=event.kind,
                transport=event.transport,
                models=event.models,
                slots=event.slots,
                resumed=event.resumed,
            )
        case WorkerCut():
            log.info("worker link lost", worker=event.worker)
        case WorkerLeft():
            log.info("worker left", worker=event.worker, reason=event.reason)
        case WorkerChanged():
            say = log.warning if event.state == "attention" else log.info
            say("worker changed", worker=event.worker, state=event.state, reason=event.reason)
        case BreakerChanged():
            say = log.warning if event.state == "open" else log.info
            say(
                "breaker " + event.state.replace("_", "-"),
                worker=event.worker,
                model=event.model,
                failures=event.failures,
            )
        case WorkerFailed():
            log.warning(
                "job failed",
                request_id=event.request,
                worker=event.worker,
                model=event.model,
                code=event.code,
                problem=event.message,
            )
        case SiteChanged():
            log.error("the site has changed", worker=event.worker, seen=event.seen)
        case WorkerMisbehaved():
            log.warning("worker broke the protocol", worker=event.worker, reason=event.reason)
        case AlarmChanged(is_raised=True):
            log.error("alarm", kind=event.kind, subject=event.subject, problem=event.message)
        case AlarmChanged():
            log.info("alarm is over", kind=event.kind, subject=event.subject)
        case StorageTrouble():
            log.error("the database cannot be written", problem=event.problem)


def _request_line(event: RequestSettled) -> None:
    first = event.first_piece_s
    log.info(
        "request " + event.state,
        request_id=event.request,
        key=event.key,
        model=event.model,
        worker=event.worker,
        error=event.error,
        deliveries=event.deliveries,
        ms=round(event.duration_s * 1000, 1),
        first_piece_ms=None if first is None else round(first * 1000, 1),
        tokens_in=event.prompt_tokens,
        tokens_out=event.completion_tokens,
    )
