"""Where things are: the hub's address in both schemes, and what may be reached through a proxy."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

_HTTP_SCHEME = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A hub's base address; `http` has no trailing slash."""

    http: str

    @classmethod
    def parse(cls, text: str) -> "HubAddress":
        """Read http(s)://host:port or ws(s)://host:port. Raises ValueError for anything else."""
        parts = urlsplit(text.strip())
        scheme = _HTTP_SCHEME.get(parts.scheme.lower())
        if scheme is None or not parts.hostname:
            raise ValueError("the hub's address looks like https://hub.example:8000")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("the hub's address is a scheme, a host, a port and nothing secret")
        _ = parts.port  # raises ValueError when it is no number
        return cls(f"{scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}")

    @property
    def is_tls(self) -> bool:
        return self.http.startswith("https:")

    @property
    def socket(self) -> str:
        """Where a worker's WebSocket opens."""
        return "ws" + self.http.removeprefix("http") + "/worker/socket"

    def worker(self, action: str) -> str:
        """Where polling posts: `hello`, `exchange` or `bye`."""
        return f"{self.http}/worker/{action}"


def may_use_proxy(url: str) -> bool:
    """Whether the environment's proxy applies to `url`: never for this very machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
