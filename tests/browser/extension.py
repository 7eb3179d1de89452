"""A userscript as a Chromium extension: the smallest userscript manager that tests can trust.

What the hub serves is run as it is, in the page's own world and under the page's Content Security Policy, with
requests, values and menu commands behind it that keep to its metadata. `gm/` holds the extension's files.
"""

import asyncio
import hashlib
import json
import re
import shutil
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, Page, Worker

FILES = Path(__file__).parent / "gm"
PATIENCE_S = 15.0

_KEY = b"the extension of the tests"
EXTENSION_ID = (
    hashlib.sha256(_KEY)
    .hexdigest()[:32]
    .translate(str.maketrans("0123456789abcdef", "abcdefghijklmnop"))
)
"""Chromium derives it from the manifest's key, so it is the same wherever the folder lies."""

_RUN_AT = {"document-start": "document_start", "document-end": "document_end"}


@dataclass(frozen=True)
class Metadata:
    """The block at a userscript's head, as far as a manager heeds it."""

    name: str
    version: str
    matches: list[str] = field(default_factory=list)
    connect: list[str] = field(default_factory=list)
    grants: list[str] = field(default_factory=list)
    run_at: str = "document_idle"
    all_frames: bool = True


def metadata(script: str) -> Metadata:
    """Read the block; ValueError if there is none, or if it matches no page."""
    block = re.search(
        r"^// ==UserScript==$(.*?)^// ==/UserScript==$", script, re.DOTALL | re.MULTILINE
    )
    if block is None:
        raise ValueError("the script has no metadata block")
    lines = re.findall(r"^// @([\w:-]+)[ \t]*(.*?)[ \t]*$", block[1], re.MULTILINE)

    def every(key: str) -> list[str]:
        return [value for name, value in lines if name == key]

    if not every("match"):
        raise ValueError("the script matches no page")
    return Metadata(
        name=every("name")[0],
        version=every("version")[0],
        matches=every("match"),
        connect=every("connect"),
        grants=every("grant"),
        run_at=_RUN_AT.get("".join(every("run-at")), "document_idle"),
        all_frames=not every("noframes"),
    )


def make_extension(script: str, folder: Path, *, values: Mapping[str, Any] | None = None) -> Path:
    """Write the extension that runs this userscript into a new folder, and return the folder.

    `values` are what GM_getValue finds at the very first start; what a profile has stored goes before them.
    """
    head = metadata(script)
    shutil.copytree(FILES, folder)
    before, after = _wrapped(script, head)
    plan = {
        "before": before,
        "after": after,
        "values": dict(values or {}),
        "matches": head.matches,
        "connect": head.connect,
        "run_at": head.run_at,
        "all_frames": head.all_frames,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "manifest.json").write_text(json.dumps(_manifest(head)))
    return folder


def _manifest(head: Metadata) -> dict[str, Any]:
    return {
        "manifest_version": 3,
        "name": head.name,
        "version": "1",
        "key": b64encode(_KEY).decode(),
        "permissions": ["debugger", "declarativeNetRequest", "storage", "userScripts"],
        "host_permissions": ["<all_urls>"],
        "background": {"service_worker": "background.js"},
        "content_scripts": [
            {
                "js": ["bridge.js"],
                "matches": head.matches,
                "run_at": "document_start",
                "all_frames": head.all_frames,
            }
        ],
    }


def _wrapped(script: str, head: Metadata) -> tuple[str, str]:
    """What stands before and after the stored values in the text that is registered.

    Everything granted is a parameter of the function around the script; nothing is a global.
    """
    granted = [name for name in head.grants if name != "none"]
    names = list(dict.fromkeys([*granted, "window", "self", "globalThis"]))
    info = {"scriptHandler": "tests", "script": {"name": head.name, "version": head.version}}
    arguments = [f"own.{name}" for name in names]
    before = (
        f"(function ({', '.join(['GM_info', *names])}) {{\n{script}\n}}).apply(undefined, (() => {{\n"
        f'"use strict";\n{(FILES / "main_world.js").read_text()}\nconst own = grants('
    )
    after = f");\nreturn [{', '.join([json.dumps(info), *arguments])}];\n}})());\n//# sourceURL=userscript.js\n"
    return before, after


# --- reaching into a running extension -----------------------------------------------------------

READY = """(async () => {
  while (typeof ready === "undefined") await new Promise((resolve) => setTimeout(resolve, 5));
  await ready;
})()"""
"""Settles once the userscript is registered; the worker can be met before its script has run."""


async def background(context: BrowserContext) -> Worker:
    """The extension's background worker, once the userscript is registered."""
    ours = f"chrome-extension://{EXTENSION_ID}/"
    found = [worker for worker in context.service_workers if worker.url.startswith(ours)]
    worker = found[0] if found else await context.wait_for_event("serviceworker")
    await worker.evaluate(READY)
    return worker


async def stored_values(context: BrowserContext) -> dict[str, Any]:
    """What GM_setValue has stored, by name; a document opened from now on finds the same."""
    values = await (await background(context)).evaluate("chrome.storage.local.get()")
    assert isinstance(values, dict)
    return values


async def set_value(context: BrowserContext, name: str, value: object) -> None:
    """Store a value as if in the manager's editor: listeners in all tabs hear of a remote change."""
    await (await background(context)).evaluate(
        "([name, value]) => setValue(name, value)", [name, value]
    )


async def run_menu_command(context: BrowserContext, page: Page, name: str) -> None:
    """Choose a menu command in this tab, as soon as the userscript has registered it."""
    worker = await background(context)
    session = await context.new_cdp_session(page)
    target = (await session.send("Target.getTargetInfo"))["targetInfo"]["targetId"]
    await session.detach()
    async with asyncio.timeout(PATIENCE_S):
        command = [target, name]
        while not await worker.evaluate("(c) => runMenuCommand(...c)", command):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)
