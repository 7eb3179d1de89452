"""Chromium for tests: with Playwright, or bare where Playwright's flags would hide what a user's browser does."""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import BrowserContext, async_playwright

from tests.browser.extension import EXTENSION_ID, background

PATIENCE_S = 15.0
NAMES = ["chromium", "chromium-browser", "google-chrome", "microsoft-edge"]
"""Chromium first: newer Chromes and Edges ignore --load-extension."""

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """The browser's path; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def _command_line(
    extension: Path | None, hosts: Mapping[str, str], trusted_keys: Sequence[str]
) -> list[str]:
    line = [*ARGUMENTS]
    if extension:
        line.append(f"--load-extension={extension}")
    if hosts:
        rules = ", ".join(f"MAP {name} {address}" for name, address in hosts.items())
        line.append(f"--host-resolver-rules={rules}")
    if trusted_keys:
        line.append(f"--ignore-certificate-errors-spki-list={','.join(trusted_keys)}")
    return line


@contextlib.contextmanager
def _profile(folder: Path | None) -> Iterator[Path]:
    """A profile in which our extension may use chrome.userScripts; a passing one if no folder is given.

    That permission is otherwise a switch on chrome://extensions, a page that takes a second to open.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            passing = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(passing))
        preferences = folder / "Default" / "Preferences"
        if not preferences.exists():
            allowed = {EXTENSION_ID: {"user_scripts_enabled": True}}
            preferences.parent.mkdir(parents=True, exist_ok=True)
            preferences.write_text(json.dumps({"extensions": {"settings": allowed}}))
        yield folder


@asynccontextmanager
async def chromium(
    profile_dir: Path | None = None,
    extension: Path | None = None,
    *,
    headless: bool = True,
    hosts: Mapping[str, str] | None = None,
    trusted_keys: Sequence[str] = (),
    arguments: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[BrowserContext]:
    """A browser under Playwright; an extension's userscript runs in every page opened from now on.

    `hosts` sends names to `address:port`, so that a local server is `https://arena.ai/` in every respect that
    scripts can see. `trusted_keys` are certificates' key hashes (`Certificate.spki`). A `profile_dir` keeps what
    is stored; without one all is forgotten. `arguments` are more flags, `options` Playwright's.

    Tabs never count as hidden here, and their timers are not throttled: see `spawn_chromium`.
    """
    with _profile(profile_dir) as folder:
        async with async_playwright() as playwright:
            context = await playwright.chromium.launch_persistent_context(
                folder,
                executable_path=find_chromium(),
                headless=headless,
                ignore_default_args=["--disable-extensions"],
                args=[*_command_line(extension, hosts or {}, trusted_keys), *arguments],
                **options,
            )
            try:
                if extension is not None:
                    await background(context)
                yield context
            finally:
                await context.close()


# --- without Playwright --------------------------------------------------------------------------

Parameters = dict[str, Any]


class Session:
    """What the DevTools protocol offers for one target: `send` as Playwright's sessions have it, and events."""

    def __init__(self, connection: "Connection", session_id: str | None, target: str) -> None:
        self.id = session_id
        self.target = target
        self._connection = connection
        self._waiting: list[
            tuple[str, Callable[[Parameters], Any], asyncio.Future[Parameters]]
        ] = []

    async def send(self, method: str, params: Parameters | None = None) -> Parameters:
        """Call a method; RuntimeError if the browser refuses it."""
        return await self._connection.call(method, params or {}, self.id)

    def event(
        self, method: str, where: Callable[[Parameters], Any] = lambda params: True
    ) -> "asyncio.Future[Parameters]":
        """The next event of this kind from now on: ask for it before what causes it."""
        future: asyncio.Future[Parameters] = asyncio.get_running_loop().create_future()
        self._waiting.append((method, where, future))
        return future

    def heed(self, method: str, params: Parameters) -> None:
        for waiting in [w for w in self._waiting if w[0] == method and w[1](params)]:
            self._waiting.remove(waiting)
            if not waiting[2].done():
                waiting[2].set_result(params)

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited; RuntimeError if it throws."""
        answer = await self.send(
            "Runtime.evaluate",
            {"expression": expression, "awaitPromise": True, "returnByValue": True},
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    async def goto(self, url: str) -> None:
        """Load a page and wait until it has."""
        await self.send("Page.enable")
        loaded = self.event("Page.loadEventFired")
        await self.send("Page.navigate", {"url": url})
        async with asyncio.timeout(PATIENCE_S):
            await loaded


class Connection:
    """The DevTools protocol over one socket, for any number of sessions."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.browser = Session(self, None, "browser")
        self._sessions: dict[str | None, Session] = {None: self.browser}
        self._socket = socket
        self._last = 0
        self._answers: dict[int, asyncio.Future[Parameters]] = {}

    async def read(self) -> None:
        async for message in self._socket:
            self._heed(message.json())

    def _heed(self, message: Parameters) -> None:
        if "id" not in message:
            session = self._sessions.get(message.get("sessionId"))
            if session is not None:
                session.heed(message["method"], message["params"])
        elif "error" in message:
            self._answers[message["id"]].set_exception(RuntimeError(message["error"]["message"]))
        else:
            self._answers[message["id"]].set_result(message["result"])

    async def call(self, method: str, params: Parameters, session_id: str | None) -> Parameters:
        self._last += 1
        number = self._last
        self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": params}
        await self._socket.send_json(message | ({"sessionId": session_id} if session_id else {}))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._answers[number]
        finally:
            del self._answers[number]

    async def attach(self, target: str) -> Session:
        answer = await self.browser.send(
            "Target.attachToTarget", {"targetId": target, "flatten": True}
        )
        session = Session(self, answer["sessionId"], target)
        self._sessions[session.id] = session
        return session


class BareChromium:
    """A browser as users have it: background tabs are hidden, their timers throttled."""

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid = pid
        self._connection = connection

    async def new_page(self, url: str = "about:blank") -> Session:
        """Open a tab in front of the others, which are hidden from now on."""
        target = await self._connection.browser.send("Target.createTarget", {"url": "about:blank"})
        page = await self._connection.attach(target["targetId"])
        if url != "about:blank":
            await page.goto(url)
        return page

    async def bring_to_front(self, page: Session) -> None:
        await self._connection.browser.send("Target.activateTarget", {"targetId": page.target})

    async def extension_ready(self) -> None:
        """Wait until the extension's userscript runs in every page opened from then on.

        A page of the extension asks; a background worker that a debugger enters while it starts crashes.
        """
        page = await self.new_page(f"chrome-extension://{EXTENSION_ID}/manifest.json")
        await page.evaluate("chrome.runtime.sendMessage('ready')")
        await self._connection.browser.send("Target.closeTarget", {"targetId": page.target})


@asynccontextmanager
async def spawn_chromium(
    profile_dir: Path | None = None,
    extension: Path | None = None,
    *,
    hosts: Mapping[str, str] | None = None,
    trusted_keys: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> AsyncIterator[BareChromium]:
    """A browser without Playwright, which keeps every tab visible and awake; otherwise like `chromium`."""
    path = find_chromium()
    assert path is not None
    with _profile(profile_dir) as folder:
        process = await asyncio.create_subprocess_exec(
            path,
            *_command_line(extension, hosts or {}, trusted_keys),
            "--headless=new",
            "--no-default-browser-check",
            "--password-store=basic",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}",
            *arguments,
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with _connected(await _devtools(folder)) as connection:
                browser = BareChromium(process.pid, connection)
                if extension is not None:
                    await browser.extension_ready()
                yield browser
        finally:
            await _ended(process)


async def _devtools(folder: Path) -> str:
    """The address that the browser writes into its profile."""
    file = folder / "DevToolsActivePort"
    async with asyncio.timeout(PATIENCE_S):
        while not (file.exists() and file.read_text().count("\n") == 1):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)
    port, path = file.read_text().split("\n")
    return f"ws://127.0.0.1:{port}{path}"


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[Connection]:
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(address, max_msg_size=0) as socket,
    ):
        connection = Connection(socket)
        reading = asyncio.create_task(connection.read())
        try:
            yield connection
        finally:
            reading.cancel()


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End the browser by its pid; its own processes end with it."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
