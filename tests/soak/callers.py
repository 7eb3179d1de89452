"""Callers: streamed and plain, quick and slow, and those that leave."""

import asyncio
import json
import random
import time
from collections.abc import Callable

import aiohttp

from tests.soak.evidence import BROKEN, LEFT, Transcript

MODELS = ["m"] * 6 + ["other"] * 2 + ["echo", "echo-slow"]
WORDS = ["alpha", "béta", "gämma", "delta😀", "epsilon", "zeta", "eta", "theta"]
LEAVES, LEAVES_EARLY, IS_SLOW = 0.15, 0.1, 0.1
"""How many of a hundred do so, over a hundred."""
DOWN_S = 0.3
"""Before a caller tries a hub again that is not there."""


class Caller:
    """Asks one request after the other."""

    def __init__(self, name: str, seed: str, url: str, key: str, log: list[Transcript]) -> None:
        self._name = name
        self._chance = random.Random(f"{seed} {name}")
        self._url = f"{url}/v1/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._log = log
        self._count = 0

    async def call_until(self, over: Callable[[], bool]) -> None:
        async with aiohttp.ClientSession() as http:
            while not over():
                if not await self.call(http):
                    await asyncio.sleep(DOWN_S)

    async def call(self, http: aiohttp.ClientSession) -> bool:
        """One request; its transcript is kept whatever happens. False if nobody listens."""
        transcript = self._asked()
        leaving = asyncio.timeout(self._chance.uniform(0, 1) if self._leaves_early else None)
        transcript.began = time.time()
        self._log.append(transcript)
        try:
            async with leaving:
                await self._ask(http, transcript)
        except aiohttp.ClientConnectorError:
            self._log.remove(transcript)
            return False
        except TimeoutError:
            _broke_off(transcript, LEFT)
        except (aiohttp.ClientError, ConnectionError):
            _broke_off(transcript, BROKEN)
        finally:
            transcript.ended = time.time()
        return True

    def _asked(self) -> Transcript:
        chance = self._chance
        self._count += 1
        tag = f"{self._name}-{self._count}"
        words = [tag, *chance.choices(WORDS, k=chance.randint(0, 60))]
        self._leaves_early = chance.random() < LEAVES_EARLY
        self._leaves_after = chance.randint(1, 20) if chance.random() < LEAVES else None
        self._pause_s = chance.uniform(0.01, 0.1) if chance.random() < IS_SLOW else 0.0
        stream = chance.random() < 0.7
        return Transcript(tag, chance.choice(MODELS), " ".join(words), stream)

    async def _ask(self, http: aiohttp.ClientSession, transcript: Transcript) -> None:
        body = {
            "model": transcript.model,
            "stream": transcript.stream,
            "messages": [{"role": "user", "content": transcript.prompt}],
        }
        async with http.post(self._url, json=body, headers=self._headers) as response:
            transcript.request_id = response.headers["x-request-id"]
            if response.status != 200:
                transcript.endings.append((await response.json())["error"]["code"])
            elif transcript.stream:
                await self._read(transcript, response)
            else:
                (choice,) = (await response.json())["choices"]
                transcript.text = choice["message"]["content"]
                transcript.endings.append(choice["finish_reason"])

    async def _read(self, transcript: Transcript, response: aiohttp.ClientResponse) -> None:
        events = 0
        async for line in response.content:
            if line.startswith(b"data: "):
                _take(transcript, line[6:].strip())
                events += 1
                if events == self._leaves_after and not transcript.endings:
                    transcript.endings.append(LEFT)
                    response.close()
                    return
                await asyncio.sleep(self._pause_s)


def _broke_off(transcript: Transcript, how: str) -> None:
    """The reading ended early; between an answer's last word and the end of the connection that means nothing."""
    if not transcript.dones and len(transcript.endings) <= 1:
        transcript.endings = [how]


def _take(transcript: Transcript, data: bytes) -> None:
    if data == b"[DONE]":
        transcript.dones += 1
        return
    event = json.loads(data)
    if "error" in event:
        transcript.endings.append(event["error"]["code"])
        return
    for choice in event["choices"]:
        transcript.text += choice["delta"].get("content") or ""
        if choice["finish_reason"]:
            transcript.endings.append(choice["finish_reason"])
