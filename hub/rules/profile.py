"""The site profile: everything about the site that may change, as data.

The shipped one is `site_profile.json`; an operator's own versions are stored, and pushed to workers. What the
members mean to a tab is told in `docs/reference/site-profile.md`.
"""

import functools
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from ..errors import InvalidRequest
from ..protocol import FailureCode

SHIPPED = Path(__file__).with_name("site_profile.json")
LARGEST = 64 * 1024
"""Bytes of a profile's JSON: it travels in every welcome."""

LOCAL_HOSTS = ("127.0.0.1", "localhost")

_HOST = re.compile(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*")

Text = Annotated[str, Meta(min_length=1, max_length=500)]
Texts = Annotated[list[Text], Meta(min_length=1, max_length=50)]
UrlPath = Annotated[str, Meta(pattern=r"^/[^?#\s]*$", max_length=500)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Status = Annotated[str, Meta(pattern=r"^[1-5](\d\d|xx)$")]
LineMeaning = Literal[
    "text", "reasoning", "data", "error", "citation", "step", "step_end", "end", "ignore"
]


class _Strict(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A misspelt member is an error, not a silence."""


class NewChat(_Strict):
    """Where a new direct chat opens, and the parameter that chooses its model."""

    path: UrlPath
    model_parameter: Text


class Selectors(_Strict):
    """CSS selectors of what a tab drives."""

    composer: Text
    send: Text
    stop: Text
    files: Text
    new_chat: Text
    picker: Text
    picker_filter: Text
    option: Text


class Sign(_Strict):
    """What a page that needs its human looks like: by its title, or by a visible element with a text."""

    code: Literal["challenge", "login_required", "consent_required"]
    title: Text | None = None
    selector: Text | None = None
    text: Text | None = None

    def __post_init__(self) -> None:
        if self.title is None and self.selector is None:
            raise ValueError("a sign needs a title or a selector")


class ErrorRule(_Strict):
    """What an answer of the site means, when everything that is given here holds."""

    code: FailureCode
    status: Annotated[list[Status], Meta(min_length=1)] | None = None
    header: tuple[Text, Text] | None = None
    text: Texts | None = None
    pause_s: Seconds | None = None

    def __post_init__(self) -> None:
        if self.status is None and self.header is None and self.text is None:
            raise ValueError("an error rule needs a status, a header or a text")


class SiteLimits(_Strict):
    prompt_characters: Annotated[int, Meta(ge=1)]


class Pace(_Strict):
    """Seconds between two sends of a tab, the longest pause it adapts to, and sends a day."""

    between_s: Seconds
    longest_s: Seconds
    daily: Annotated[int, Meta(ge=1)]


class Profile(_Strict):
    version: Annotated[int, Meta(ge=0)]
    hosts: Annotated[list[Text], Meta(min_length=1, max_length=50)]
    new_chat: NewChat
    requests: Annotated[list[UrlPath], Meta(min_length=1, max_length=50)]
    prompt_at: Texts
    catalogue: Text
    selectors: Selectors
    positions: Annotated[list[Annotated[str, Meta(min_length=1, max_length=1)]], Meta(min_length=1)]
    lines: dict[Annotated[str, Meta(min_length=1, max_length=1)], LineMeaning]
    signs: list[Sign]
    errors: list[ErrorRule]
    stream_errors: list[ErrorRule]
    limits: SiteLimits
    pace: Pace

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no host name")
        if not {"text", "end"} <= set(self.lines.values()):
            raise ValueError("lines must name the codes of text and of the end")

    @staticmethod
    def is_local(host: str) -> bool:
        """Whether a host is this very machine, where a site may do without TLS."""
        return host in LOCAL_HOSTS

    def is_site(self, origin: str) -> bool:
        """Whether a web origin, such as `https://arena.ai`, is the site's."""
        url = urlsplit(origin)
        if self.is_local(url.hostname or ""):
            return url.hostname in self.hosts
        # A public site's name alone: another port is another site.
        return url.scheme == "https" and any(_matches(url.netloc, name) for name in self.hosts)


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def parse(value: Any) -> Profile:
    """A profile from JSON values. Raises InvalidRequest, which says what is wrong and where."""
    try:
        profile = msgspec.convert(value, Profile)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"This is no site profile: {error}.") from None
    if len(msgspec.json.encode(profile)) > LARGEST:
        raise InvalidRequest(f"A site profile has at most {LARGEST} bytes.")
    return profile


@functools.cache
def shipped() -> Profile:
    """The profile that came with this hub; its version is 0."""
    return msgspec.json.decode(SHIPPED.read_bytes(), type=Profile)
