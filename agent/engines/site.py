"""The site that tabs are opened at, as its profile describes it."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from agent.pace import Limits


class _NewChat(Struct):
    path: str


class _Profile(Struct):
    """What the engine itself reads of a profile; the rest is for the tabs."""

    hosts: list[str]
    new_chat: _NewChat
    pace: Limits


@dataclass(frozen=True, slots=True)
class Site:
    """Where tabs open, what belongs to the site, and how often it may be asked."""

    home: str
    hosts: tuple[str, ...]
    profile: dict[str, Any]
    limits: Limits

    @classmethod
    def read(cls, profile: dict[str, Any], arena: str | None) -> "Site":
        """The site of a profile; `arena` is its address where it is another one than the first host's.

        Raises ValueError.
        """
        read = msgspec.convert(profile, _Profile)
        if arena is None:
            first = next((host for host in read.hosts if not host.startswith("*.")), None)
            if first is None:
                raise ValueError("a profile without a host")
            arena = f"https://{first}"
        host = urlsplit(arena).hostname or ""
        hosts = read.hosts if _is_among(host, read.hosts) else [*read.hosts, host]
        home = arena.rstrip("/") + read.new_chat.path
        return cls(home, tuple(hosts), {**profile, "hosts": hosts}, read.pace)

    def has(self, url: str) -> bool:
        """Whether the address is one of the site's."""
        return _is_among(urlsplit(url).hostname or "", self.hosts)


def _is_among(host: str, hosts: "list[str] | tuple[str, ...]") -> bool:
    return any(
        host.endswith(known[1:]) if known.startswith("*.") else host == known for known in hosts
    )


def shipped_profile() -> dict[str, Any]:
    """The profile that came with this agent, until the hub's own arrives."""
    text = (files("hub.rules") / "site_profile.json").read_text("utf-8")
    profile: dict[str, Any] = json.loads(text)
    return profile


def shipped_script() -> str:
    """The tab's script: in this package once installed, in `userscript/dist` in a checkout."""
    installed = Path(__file__).parents[1] / "tab.js"
    checkout = Path(__file__).parents[2] / "userscript" / "dist" / "tab.js"
    return (installed if installed.is_file() else checkout).read_text("utf-8")
