"""What a link is: one face for the WebSocket and for polling, and how each of them ends."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from agent.session import Session
from hub.protocol import Close

Cause = Literal["closed", "lost", "unreachable", "no_upgrade", "not_a_socket", "left"]
Transport = Literal["socket", "poll"]


@dataclass(frozen=True, slots=True)
class Closed:
    """How a link ended.

    `closed`: the hub said so, with `code`. `lost`: it broke after the welcome. `unreachable`: nothing
    listens there. `no_upgrade`: something listens, but no welcome came. `not_a_socket`: the handshake was
    answered with something that is no WebSocket. `left`: we said goodbye.
    """

    reason: str
    cause: Cause
    code: int | None = None
    welcomed: bool = False
    retry_after_s: float = 0.0


class Link(Protocol):
    """Carries one session's packets over one connection, and decides nothing."""

    transport: Transport

    async def carry(self, session: Session) -> Closed:
        """Say hello, then carry packets until the connection ends. Never raises for the network."""
        ...


class _Complaint(msgspec.Struct):
    close: int | None = None
    message: str = ""


class _Complaints(msgspec.Struct):
    error: _Complaint


_CLOSE_BY_STATUS = {
    400: Close.PROTOCOL_ERROR,
    401: Close.UNAUTHORIZED,
    403: Close.REMOVED,
    409: Close.REPLACED,
    410: Close.SESSION_GONE,
    413: Close.TOO_BIG,
}
MAX_RETRY_AFTER_S = 600.0


def closed_by_body(status: int, headers: Mapping[str, str], body: bytes) -> Closed | None:
    """What a hub's HTTP refusal says, or None if its body names no close code."""
    try:
        complaint = msgspec.json.decode(body, type=_Complaints).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if complaint.close is None:
        return None
    reason = complaint.message[:300] or f"HTTP {status}"
    return Closed(reason, "closed", complaint.close, retry_after_s=retry_after(headers))


def closed_by_status(status: int, headers: Mapping[str, str], body: bytes) -> Closed | None:
    """What an HTTP refusal means for a polling worker, or None for a passing failure."""
    said = closed_by_body(status, headers, body)
    if said is not None:
        return said
    code = _CLOSE_BY_STATUS.get(status)
    return None if code is None else Closed(f"HTTP {status}", "closed", code)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header, 0 if there is none that is a number."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if seconds == seconds else 0.0


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """The system's certificates, and those in `ca_file` besides. Raises OSError if it is unusable."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
