"""The hub as `lmarena-hub serve` runs it, with a window: at SIGUSR1 it writes down what it holds.

`python -m tests.soak.hub_process FILE`, with the settings in `hub.toml`.
"""

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path

import structlog

from hub.app import running
from hub.cli import new_event_loop
from hub.live import log
from hub.live.hub import Hub
from hub.settings import Settings, load


def counts(hub: Hub) -> dict[str, int]:
    """What a hub without work has none of, but for the sessions of workers."""
    dispatch = hub.dispatch
    return {
        "jobs": len(dispatch._jobs),
        "jobs in hands": dispatch.active,
        "places in line": dispatch.waiting,
        "waits": len(dispatch._waits),
        "answers being counted": len(dispatch._counting),
        "reservations": hub.gate.open,
        "taken slots": sum(len(worker.jobs) for worker in hub.roster),
        "unwritten ends": len(hub.store.journal._owed),
        "sessions": len(hub.roster),
    }


def tasks() -> dict[str, int]:
    return Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())


def look(hub: Hub, file: Path) -> None:
    """Write what is there now, whole or not at all."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"counts": counts(hub), "tasks": tasks()}))
    new.replace(file)


async def serve(settings: Settings, file: Path) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with running(settings) as (hub, address):
        loop.add_signal_handler(signal.SIGUSR1, look, hub, file)
        structlog.get_logger().info("hub is ready", address=address)
        await stop.wait()


def main() -> None:
    settings = load()
    log.configure(settings)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(settings, Path(sys.argv[1])))


if __name__ == "__main__":
    main()
