"""The command line's options of the browser engine, checked and turned into an engine."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import click

from agent.chrome import Browser, find_browser, named_browser
from agent.engines import Engine
from agent.identity import Identity, state_dir


@dataclass(frozen=True, slots=True)
class BrowserOptions:
    """As they were given; nothing where none was."""

    browser: str | None = None
    headless: bool = False
    mode: Literal["assist", "automatic"] | None = None
    arena: str | None = None
    browser_profile: Path | None = None
    browser_arg: tuple[str, ...] = ()

    def forbid(self, engine: str) -> None:
        """Raises UsageError if there is any: they are not for this engine."""
        if self != BrowserOptions():
            raise click.UsageError(f"the {engine} engine takes no options of the browser engine")

    def engine(self, slots: int) -> Callable[[Identity], Engine]:
        """What makes the engine for an identity. Raises UsageError and ClickException."""
        if self.headless and self.mode != "automatic":
            raise click.UsageError(
                "without a window nobody can press send: with --headless add `--mode automatic`"
            )
        if self.arena is not None and not _is_address(self.arena):
            raise click.BadParameter("an http(s) address without a path", param_hint="--arena")
        browser = self._browser()
        try:
            # Only now: Playwright is an extra that other engines do without.
            from agent.engines.browser import BrowserEngine, Setup
            from agent.engines.chromium import Launch
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "playwright":
                raise
            raise click.ClickException(
                "the browser engine needs Playwright: pip install 'lmarena-bridge[browser]'"
            ) from None

        def make(identity: Identity) -> Engine:
            profile = self._profile(browser, identity)
            launch = Launch(browser.path, profile, self.headless, self.browser_arg)
            day = state_dir() / f"sends-{_hash(str(profile))}.json"
            mode = self.mode or "assist"
            return BrowserEngine(Setup(launch, day, self.arena, mode, slots))

        return make

    def _browser(self) -> Browser:
        if self.browser is not None:
            return named_browser(self.browser, os.environ, shutil.which)
        found = find_browser(sys.platform, os.environ, shutil.which, os.path.isfile)
        if found is None:
            raise click.ClickException(
                "no Chrome, Chromium or Edge is found here: install one, or name it with --browser"
            )
        return found

    def _profile(self, browser: Browser, identity: Identity) -> Path:
        if self.browser_profile is not None:
            return self.browser_profile.absolute()
        folder = Path(browser.profiles) if browser.profiles else state_dir().absolute()
        return folder / f"browser-{identity.name}"


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises ValueError when it is no number
    except ValueError:
        return False
    rest = (parts.username, parts.password, parts.query, parts.fragment, parts.path.rstrip("/"))
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(rest)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
