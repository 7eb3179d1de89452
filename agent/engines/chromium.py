"""The browser's process: starting it with a lasting profile, and ending it for certain."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from playwright.async_api import BrowserContext, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from agent.engines import CannotOpen

LAUNCH_S = 60.0
CLOSE_S = 10.0
"""What a browser gets to write its profile down; then it is killed."""

_NO_SCREEN = "there is no screen: start the agent in a desktop session, or pass `--headless --mode automatic`"
_HINTS = {
    "Running as root without --no-sandbox": "it does not start for root: run the agent as an "
    "ordinary user, or, if you must, pass `--browser-arg --no-sandbox`",
    "No usable sandbox": "this system gives it no sandbox: allow user namespaces, or, if you must, "
    "pass `--browser-arg --no-sandbox`",
    "existing browser session": "another browser uses this profile: close it, or choose another "
    "folder with --browser-profile",
    "ProcessSingleton": "its profile is in use, or its folder cannot be written: choose another "
    "with --browser-profile",
    "XServer": _NO_SCREEN,
    "$DISPLAY": _NO_SCREEN,
    "executable doesn't exist": "there is no such program: name one with --browser",
    "ENOENT": "there is no such program: name one with --browser",
    "EACCES": "it may not be executed: name another with --browser",
}
"""What to do, by what a failed start's message contains."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start the browser."""

    program: str
    profile: Path
    headless: bool = False
    arguments: tuple[str, ...] = ()


class Chromium:
    """One browser at a time, with one profile."""

    def __init__(self, launch: Launch, on_close: Callable[[], None]) -> None:
        self._launch = launch
        self._on_close = on_close
        self._driver: asyncio.Task[Playwright] | None = None
        self._lock = FileLock(launch.profile.with_name(f"{launch.profile.name}.lock"))
        self.context: BrowserContext | None = None
        """The browser's window, or None while there is none."""

    async def open(self) -> BrowserContext:
        """Start the browser. Raises CannotOpen."""
        self._claim_profile()
        if self._driver is None:
            self._driver = asyncio.create_task(async_playwright().start())
        # Cancelled midway it would leave its process behind: `close` waits for it.
        playwright = await asyncio.shield(self._driver)
        try:
            context = await self._start(playwright)
        except PlaywrightError as error:
            raise CannotOpen(f"{self._launch.program}: {_why(error)}") from None
        context.on("close", lambda _: self._closed(context))
        self.context = context
        return context

    async def close(self) -> None:
        """End the browser, and everything that was started for it. Never raises."""
        context, self.context = self.context, None
        driver, self._driver = self._driver, None
        with contextlib.suppress(PlaywrightError, TimeoutError):
            if context is not None:
                async with asyncio.timeout(CLOSE_S):
                    await context.close()
        with contextlib.suppress(PlaywrightError, TimeoutError):
            if driver is not None:
                # Without its driver no browser stays: not one that hangs, nor one half started.
                async with asyncio.timeout(CLOSE_S):
                    await (await driver).stop()
        self._lock.release()

    def _claim_profile(self) -> None:
        profile = self._launch.profile
        try:
            profile.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._lock.is_locked:
                self._lock.acquire(timeout=0)
        except Timeout:
            raise CannotOpen(f"another agent uses the profile {profile}") from None
        except OSError as error:
            raise CannotOpen(f"no profile at {profile} ({error.strerror or error})") from None

    async def _start(self, playwright: Playwright) -> BrowserContext:
        launch = self._launch
        return await playwright.chromium.launch_persistent_context(
            launch.profile,
            executable_path=launch.program,
            headless=launch.headless,
            args=list(launch.arguments),
            # Playwright leaves it out, which is right for one's own pages only.
            chromium_sandbox=True,
            no_viewport=True,
            # Signals are the agent's: the browser ends after its last answer.
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
            timeout=LAUNCH_S * 1_000,
        )

    def _closed(self, context: BrowserContext) -> None:
        if self.context is context:
            self.context = None
            self._on_close()


def _why(error: PlaywrightError) -> str:
    lines = error.message.splitlines()
    # That one repeats our own arguments.
    said = "\n".join(line for line in lines if "<launching>" not in line)
    for sign, hint in _HINTS.items():
        if sign in said:
            return hint
    return lines[0][:300] if lines else "it does not start"
