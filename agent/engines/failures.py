"""What an OpenAI-compatible upstream's errors mean in the worker protocol's words."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from agent.engines import EngineFailure
from hub.protocol import FailureCode

_CONTEXT = re.compile(r"context.?(length|window|size)|prompt is too long", re.IGNORECASE)
_POLICY = re.compile(r"content.?(management.)?(policy|filter)|moderat|flagged", re.IGNORECASE)
_BY_STATUS: dict[int, FailureCode] = {
    401: "login_required",
    402: "login_required",
    403: "login_required",
    404: "model_not_found",
    408: "upstream_timeout",
    413: "attachment_too_large",
    429: "rate_limited",
    504: "upstream_timeout",
}
MAX_MESSAGE_CHARS = 500


class Complaint(NamedTuple):
    """An error as upstreams write it, in any of their shapes."""

    message: str
    words: str
    """Its code and type."""
    status: int | None


def read_complaint(body: bytes | str, status: int | None = None) -> Complaint:
    """An HTTP error's body, whatever it is."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error", value) if isinstance(value, dict) else None
    return complaint_of(error, status)


def complaint_of(error: Any, status: int | None = None) -> Complaint:
    """The `error` member of a body or of an event."""
    if isinstance(error, str):
        return Complaint(error, "", status)
    if not isinstance(error, dict):
        return Complaint("", "", status)
    message, code, kind = (error.get(key) for key in ("message", "code", "type"))
    if status is None and isinstance(code, int) and 400 <= code <= 599:
        status = code
    return Complaint(message if isinstance(message, str) else "", f"{code} {kind}".lower(), status)


def classify(complaint: Complaint) -> FailureCode:
    """The failure code for an upstream's error."""
    words, status = complaint.words, complaint.status
    if status == 429 or "rate_limit" in words:
        return "rate_limited"
    if status is None or status in (400, 403, 413, 422):
        said = f"{words} {complaint.message}"
        if status != 403 and _CONTEXT.search(said):
            return "context_length_exceeded"
        if _POLICY.search(said):
            return "moderated"
    if "model_not_found" in words:
        return "model_not_found"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return "unsupported" if status is not None and 400 <= status < 500 else "upstream_error"


def failure_of(complaint: Complaint, headers: Mapping[str, str], secret: str) -> EngineFailure:
    """The failure to report; `secret` never appears in it."""
    code = classify(complaint)
    said = complaint.message or "the upstream gave no reason"
    if complaint.status is not None:
        said = f"the upstream answered {complaint.status}: {said}"
    dimension = headers.get("X-Arena-Rate-Limit-Dimension")
    if code == "rate_limited" and dimension:
        said = f"{said} (limit: {dimension})"
    return EngineFailure(code, scrubbed(said, secret)[:MAX_MESSAGE_CHARS], retry_after_s(headers))


def scrubbed(text: str, secret: str) -> str:
    """`text` without `secret`."""
    return text.replace(secret, "***") if secret else text


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from Retry-After (seconds or a date) or retry-after-ms."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1_000
    text = headers.get("Retry-After")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
