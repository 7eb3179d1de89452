"""Whose address counts behind proxies, for which hosts a hub answers, and which addresses are public."""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from ..errors import MisdirectedRequest

UNIX = "unix"
"""How `trusted_proxies` names whoever comes over a Unix socket."""
LONGEST_HOST = 300
"""A name has at most 253 characters; a port comes after it."""
REMEMBERED = 1_000
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/@\s]+)(:[0-9]*)?")
"""A name or an address, in brackets if it is one of IPv6, and perhaps a port."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class Client(NamedTuple):
    """Where a request comes from: an IP address ("" for this machine's Unix socket) and `http` or `https`."""

    address: str
    scheme: str


class Proxies:
    """The proxies that may say for whom they speak: addresses, networks, and `unix`."""

    def __init__(self, trusted: Iterable[str]) -> None:
        names = set(trusted)
        self._unix = UNIX in names
        self._networks = [ipaddress.ip_network(name) for name in names - {UNIX}]

    def client(self, peer: str, scheme: str, hops: str, schemes: str) -> Client:
        """The nearest hop that is not one of these proxies.

        `peer` is the socket's, "" for a Unix socket; `hops` is X-Forwarded-For and `schemes` is
        X-Forwarded-Proto, each with all its lines joined by commas. What cannot be read is not believed.
        """
        address = _ip(peer)
        nearest = str(address) if address else peer
        if not self._trusts(address):
            return Client(nearest, scheme)
        said = _items(hops)
        passed = 0
        while passed < len(said) and self._trusts(address):
            address = _ip(_without_port(said[-passed - 1]))
            if address is None:
                break
            nearest = str(address)
            passed += 1
        return Client(nearest, _scheme(_items(schemes), max(1, passed)) or scheme)

    def _trusts(self, address: IPv4Address | IPv6Address | None) -> bool:
        if address is None:
            return self._unix
        return any(address in network for network in self._networks)


def neighbourhood(address: str) -> str:
    """Whom to count together: one IPv4 address, or the 64 bits of IPv6 that a single household has to itself."""
    found = _ip(address)
    if isinstance(found, IPv6Address):
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return address


def _items(header: str) -> list[str]:
    return [item.strip() for item in header.split(",")] if header else []


def _scheme(said: list[str], passed: int) -> str | None:
    """What the outermost trusted proxy said, if each said something; else what came first."""
    return SCHEMES.get(said[-min(passed, len(said))].lower()) if said else None


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _without_port(hop: str) -> str:
    """Some proxies write `192.0.2.1:4711` or `[2001:db8::1]:4711`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0] if "]" in hop else hop
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


class Hosts:
    """For which Host headers the hub answers: others are some page's, which had a name point here."""

    def __init__(self, allowed: Iterable[str], public_host: str | None) -> None:
        names = {_name(name) for name in (*allowed, public_host or "")} - {""}
        self._names = {name for name in names if not name.startswith("*")}
        self._endings = tuple(name[1:] for name in names if name.startswith("*"))
        self._known = lru_cache(REMEMBERED)(self._judge)

    def check(self, host: str) -> None:
        """Raises MisdirectedRequest. Only callers that are no browsers send no Host, so that "" passes."""
        if host and (len(host) > LONGEST_HOST or not self._known(host)):
            raise MisdirectedRequest(
                f"This hub does not answer for the host {host[:LONGEST_HOST]!a}. If it should, "
                "the operator adds that name to the setting allowed_hosts (HUB_ALLOWED_HOSTS)."
            )

    def _judge(self, host: str) -> bool:
        name = _name(host)
        if not name:
            return False
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        return _ip(name.strip("[]")) is not None or name.endswith(self._endings)


def is_loopback(host: str) -> bool:
    """Whether a Host header names the machine that the caller sits at."""
    name = _name(host)
    address = _ip(name.strip("[]"))
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


class Origins:
    """Web origins: whole ones as `https://a.example`, `https://*.example` for its subdomains, `*` for all."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)
        self._patterns = [name.split("*", 1) for name in self._allowed if "*" in name]

    def __contains__(self, origin: str) -> bool:
        if origin in self._allowed:
            return True
        if not 0 < len(origin) <= LONGEST_HOST:
            return False
        return any(
            origin.startswith(head) and origin.endswith(tail) for head, tail in self._patterns
        )


def _name(host: str) -> str:
    """The name alone, in lower case, without a port or a full name's last dot; "" if it cannot be read."""
    found = HOST.fullmatch(host)
    return found[1].lower().removesuffix(".") if found else ""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether anybody on the internet could reach it, and it is one host.

    An IPv6 address that carries an IPv4 address is as public as that.
    """
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast
