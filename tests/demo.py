"""`make demo`: a hub and a desktop agent as real processes, one question, its streamed answer.

The agent answers from a tab of the practice arena in a real browser; where there is none, by its echo engine.
Everything lives in a temporary directory and ends with Ctrl-C, or after the first answer with --once.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from agent.chrome import find_browser

T = TypeVar("T")

PATIENCE_S = 60.0
QUESTION = "Hello from a caller, through the hub, to a worker and back!"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the first answer")
    once = parser.parse_args().once
    # SIGTERM must end the children too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (
        tempfile.TemporaryDirectory(prefix="lmarena-demo-") as directory,
        contextlib.ExitStack() as stack,
        contextlib.suppress(KeyboardInterrupt),
    ):
        demonstrate(Path(directory), stack, once)


def demonstrate(directory: Path, stack: contextlib.ExitStack, once: bool) -> None:
    start = Starter(directory, stack)
    url = f"http://127.0.0.1:{free_port()}"
    data = str(directory / "data")
    key = hub_command("key", "create", "--name", "demo", "--data", data)
    token = hub_command("worker-token", "create", "--name", "demo", "--data", data)
    (directory / "token").write_text(token)
    found = find_browser(sys.platform, os.environ, shutil.which, os.path.isfile)
    browser = found.path if found else None
    arena = start_arena(start, directory, data) if browser else None
    start("hub", "serve", "--port", url.rpartition(":")[2], "--data", data)
    address = ("agent", "--hub", url, "--token-file", str(directory / "token"), "--name", "demo")
    engine = in_tabs(str(browser), arena) if arena else ("--engine", "echo")
    start(*address, *engine)
    model = wait_for_model(url, key, start)
    if arena:
        print(f"A hub runs at {url}; an agent has a tab of the practice arena open in {browser}.\n")
    else:
        print("There is no Chromium, Chrome or Edge here, so the echo engine answers.")
        print(f"A hub runs at {url}; a desktop agent is connected to it.\n")
    ask(url, key, model)
    if arena:
        show_the_tab(arena)
    print(f"\nKey:       {key}\nBase URL:  {url}/v1\nPage:      {url}/\n")
    print("Ask it yourself:\n")
    print(f"  curl -N {url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\")
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hi there!"}]}
    print(f"    -d '{json.dumps(body)}'\n")
    if not once:
        print("Ctrl-C ends everything.", flush=True)
        signal.pause()


class Starter:
    """Starts processes of ours; each writes a log of its own, and they end with the stack."""

    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._children: list[tuple[Path, subprocess.Popen[bytes]]] = []

    def __call__(self, *command: str) -> Path:
        """Start a module; the file that has what it says."""
        log = self._directory / f"{command[0]}.log"
        self._children.append((log, self._stack.enter_context(process(command, log))))
        return log

    def failure(self, why: str) -> SystemExit:
        """The demo's end, once what everybody said is shown."""
        for log, _ in self._children:
            print(f"--- {log.name}\n{log.read_text()}", file=sys.stderr)
        return SystemExit(f"{why} What was said is above.")

    def until(self, found: Callable[[], T | None]) -> T:
        """Wait for something; the demo is over if a process dies or time is up."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and all(c.poll() is None for _, c in self._children):
            with contextlib.suppress(OSError):
                if (it := found()) is not None:
                    return it
            time.sleep(0.1)
        raise self.failure("The demo did not come up.")


def start_arena(start: Starter, directory: Path, data: str) -> str:
    """A practice arena, and a site profile for it: the real one's, on this machine and without pauses."""
    log = start("tests.arena", "--scenario", "normal pause_ms=60")
    arena = start.until(lambda: log.read_text().strip() or None)
    profile = json.loads(hub_command("profile", "show", "--data", data))
    profile.update(hosts=["127.0.0.1"], pace={"between_s": 0, "longest_s": 0, "daily": 1000})
    (directory / "profile.json").write_text(json.dumps(profile))
    hub_command("profile", "set", str(directory / "profile.json"), "--data", data)
    return arena


def in_tabs(browser: str, arena: str) -> tuple[str, ...]:
    """How the agent is to use a browser that nobody sees."""
    options = ["--browser", browser, "--arena", arena, "--headless", "--mode", "automatic"]
    # Chromium refuses to be root with its sandbox on; containers often are.
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ("--engine", "browser", *options, *(["--browser-arg=--no-sandbox"] if as_root else []))


def hub_command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hub", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextlib.contextmanager
def process(command: tuple[str, ...], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, ended with the context."""
    with log.open("wb") as output:
        environment = {**os.environ, "LMARENA_STATE_DIR": str(log.parent / "state")}
        child = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, env=environment
        )
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                child.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_model(url: str, key: str, start: Starter) -> str:
    """A model on offer, with a name that is easy to type; once there is one."""

    def first() -> str | None:
        request = urllib.request.Request(f"{url}/v1/models", headers=bearer(key))
        with urllib.request.urlopen(request) as response:
            models = [model["id"] for model in json.load(response)["data"]]
            return next((model for model in models if re.fullmatch(r"[a-z0-9-]+", model)), None)

    return start.until(first)


def ask(url: str, key: str, model: str) -> None:
    """One streamed chat completion, shown piece by piece."""
    messages = [{"role": "user", "content": QUESTION}]
    body = json.dumps({"model": model, "stream": True, "messages": messages}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, bearer(key))
    print(f"You:    {QUESTION}\nModel:  ", end="", flush=True)
    pieces = 0
    with urllib.request.urlopen(request) as response:
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                sys.exit(event["error"]["message"])
            for choice in event["choices"]:
                text = choice["delta"].get("content", "")
                pieces += bool(text)
                print(text, end="", flush=True)
        worker = response.headers["x-bridge-worker"]
    print(f"\n\nStreamed in {pieces} pieces by the worker {worker!r}, for the model {model!r}.")


def show_the_tab(arena: str) -> None:
    """What the practice arena saw: the page's own request, out of a tab."""
    with urllib.request.urlopen(f"{arena}/practice/state") as response:
        [prompt] = json.load(response)["requests"]
    agent = next(v for k, v in prompt["headers"].items() if k.lower() == "user-agent")
    print(
        f"It went through a Chromium tab: the page itself asked the practice arena, once, as\n{agent}"
    )


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


if __name__ == "__main__":
    main()
