"""Databases as hubs of each released schema left them: `tests/data/schema-N.sql`, for tests of upgrades.

`python -m tests.stored` adds the present schema's, made by a real hub that is killed in mid-answer. Do so with each
release, and never change a file that is there.
"""

import asyncio
import hashlib
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import aiohttp

from tests.processes import agent, bearer, chat, serving

DATA = Path(__file__).with_name("data")
SECRET = "sk-lmb-" + "5" * 48
"""The API key that works in every stored database."""


def unpack(stored: Path, target: Path) -> Path:
    """A stored database as a file."""
    with closing(sqlite3.connect(target)) as connection:
        connection.executescript(stored.read_text("utf-8"))
    return target


def pack(database: Path) -> Path:
    """Store a database under the number of its schema."""
    with closing(sqlite3.connect(database)) as connection:
        digest = hashlib.sha256(SECRET.encode()).digest()
        connection.execute("UPDATE api_keys SET hash = ?, prefix = ?", (digest, SECRET[:12]))
        connection.commit()
        schema = connection.execute("PRAGMA user_version").fetchone()[0]
        lines = [*connection.iterdump(), f"PRAGMA user_version = {schema};"]
    stored = DATA / f"schema-{schema}.sql"
    stored.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return stored


async def live(directory: Path) -> Path:
    """A hub answers, fails, is left by its caller, and is killed with a request in hand; its database."""
    async with serving(directory) as hub, agent(hub), aiohttp.ClientSession() as http:
        headers = bearer(await hub.key())
        url = f"{hub.url}/v1/chat/completions"
        for model in ("echo", "echo", "echo", "echo-fail"):
            async with http.post(url, json=chat(model, "one two three"), headers=headers) as answer:
                await answer.read()
        for _ in range(2):
            slow = chat("echo-slow", "a b c " * 500, stream=True)
            async with http.post(url, json=slow, headers=headers) as answer:
                await answer.content.readuntil(b'"content":"a')
        await hub.program.said("request cancelled")
        await http.post(url, json=slow, headers=headers)
        hub.program.process.kill()
        await hub.program.process.wait()
        return hub.data / "hub.db"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        print(pack(asyncio.run(live(Path(directory)))))


if __name__ == "__main__":
    main()
