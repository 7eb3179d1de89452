"""`make demo`: a hub and a desktop agent as real processes, one question, its streamed answer.

Everything lives in a temporary directory and ends with Ctrl-C, or after the first answer with --once.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

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
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    data = str(directory / "data")
    key = hub_command("key", "create", "--name", "demo", "--data", data)
    token = hub_command("worker-token", "create", "--name", "demo", "--data", data)
    (directory / "token").write_text(token)
    start = lambda *command, log: stack.enter_context(process(command, directory, log))  # noqa: E731
    hub = start("hub", "serve", "--port", str(port), "--data", data, log="hub.log")
    agent = start(
        "agent",
        "--hub",
        url,
        "--token-file",
        str(directory / "token"),
        "--engine",
        "echo",
        log="agent.log",
    )
    wait_for_worker(url, hub, agent, directory)
    print(f"A hub runs at {url}; a desktop agent with the echo engine is connected to it.\n")
    ask(url, key)
    print(f"\nKey:       {key}\nBase URL:  {url}/v1\nPage:      {url}/\n")
    print("Ask it yourself:\n")
    print(f"  curl -N {url}/v1/chat/completions -H 'Authorization: Bearer {key}' \\")
    print(
        """    -d '{"model": "echo-slow", "stream": true, "messages": [{"role": "user", "content": "Say this slowly, please."}]}'\n"""
    )
    if not once:
        print("Ctrl-C ends the hub and the agent.", flush=True)
        signal.pause()


def hub_command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hub", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@contextlib.contextmanager
def process(
    command: tuple[str, ...], directory: Path, log: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, ended with the context."""
    with (directory / log).open("wb") as output:
        environment = {**os.environ, "LMARENA_STATE_DIR": str(directory / "state")}
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


def wait_for_worker(
    url: str, hub: subprocess.Popen[bytes], agent: subprocess.Popen[bytes], directory: Path
) -> None:
    """Until the hub has a worker. Ends the demo with both logs if a process died or time is up."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and hub.poll() is None and agent.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/healthz") as response:
            if json.load(response)["workers"]:
                return
        time.sleep(0.1)
    for name in ("hub.log", "agent.log"):
        print(f"--- {name}\n{(directory / name).read_text()}", file=sys.stderr)
    sys.exit("The demo did not come up; its logs are above.")


def ask(url: str, key: str) -> None:
    """One streamed chat completion, shown piece by piece."""
    messages = [{"role": "user", "content": QUESTION}]
    body = json.dumps({"model": "echo", "stream": True, "messages": messages}).encode()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", body, {"Authorization": f"Bearer {key}"}
    )
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
    print(f"\n\nStreamed in {pieces} pieces by the worker {worker!r}.")


if __name__ == "__main__":
    main()
