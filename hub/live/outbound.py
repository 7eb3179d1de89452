"""Fetch what somebody else named. No other module opens a connection to an address that a caller supplied.

Only http and https, only public addresses, no redirects, no cookies, no credentials; bounded in bytes and time.
"""

import ipaddress
import socket
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from ..rules.addresses import is_public
from ..settings import Settings

TIMEOUT_S = 10.0
AT_ONCE = 16
"""Connections that are open at the same time."""
LONGEST_URL = 8_000


class Unreachable(Exception):
    """It could not be fetched; the message says why, for people."""


class Outbound:
    """The way out, for as long as the hub runs."""

    def __init__(self, settings: Settings, resolver: AbstractResolver | None = None) -> None:
        self._allowed = [ipaddress.ip_network(name) for name in settings.outbound.networks]
        # Checked where a socket is made for an address: whatever a name resolved to, and literals too.
        connector = aiohttp.TCPConnector(
            resolver=resolver,
            use_dns_cache=False,
            force_close=True,
            limit=AT_ONCE,
            socket_factory=self._socket,
        )
        self._client = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            headers={"User-Agent": "lmarena-bridge", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        await self._client.close()

    async def fetch(self, url: str, most: int) -> bytes:
        """What is at an address, at most that many bytes. Raises Unreachable."""
        address = _parsed(url)
        try:
            async with self._client.get(address, allow_redirects=False) as response:
                _check_status(response.status)
                return await _read(response, most)
        except TimeoutError:
            raise Unreachable(f"it did not come within {TIMEOUT_S:g} seconds") from None
        except (aiohttp.ClientError, OSError, ValueError):
            # One answer for all: nobody learns from it what runs inside this network.
            raise Unreachable("its address cannot be reached, or is not public") from None

    def _socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._may_reach(address[0]):
            raise OSError("not a public address")
        return socket.socket(family, kind, protocol)

    def _may_reach(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        return is_public(address) or any(address in network for network in self._allowed)


def _parsed(url: str) -> URL:
    try:
        address = URL(url) if len(url) <= LONGEST_URL else URL()
    except ValueError:
        address = URL()
    if address.scheme not in ("http", "https") or not address.host:
        raise Unreachable("its address must begin with http:// or https:// and name a host")
    if address.user is not None or address.password is not None:
        raise Unreachable("its address must not hold a user name or password")
    return address


def _check_status(status: int) -> None:
    if 300 <= status < 400:
        raise Unreachable("its address leads elsewhere: redirects are not followed")
    if status != 200:
        raise Unreachable(f"its address answers with status {status}")


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    parts, left = [], most
    if (response.content_length or 0) > most:
        left = -1
    while left >= 0 and (part := await response.content.readany()):
        parts.append(part)
        left -= len(part)
    if left < 0:
        raise Unreachable(f"it has more than {most} bytes")
    return b"".join(parts)
