"""The model server behind the agents of a soak: it answers, breaks off, refuses or hangs, and logs."""

import asyncio
import contextlib
import json
import random

from aiohttp import web

from tests.soak.answers import words
from tests.soak.evidence import Call

MODELS = ["m"]


class Upstream:
    """An OpenAI-compatible server on a loopback port."""

    def __init__(self, seed: str, log: list[Call]) -> None:
        self._chance = random.Random(f"{seed} upstream")
        self._log = log
        self._runner: web.AppRunner
        self.url = ""

    async def __aenter__(self) -> "Upstream":
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in MODELS]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body, chance = await request.json(), self._chance
        call = Call(body["messages"][-1]["content"].split()[0])
        self._log.append(call)
        await asyncio.sleep(chance.uniform(0, 0.2))
        turn = chance.random()
        if turn < 0.08:
            status = chance.choice([400, 404, 429, 500, 503])
            return web.json_response({"error": {"message": "on purpose"}}, status=status)
        if turn < 0.1:
            await asyncio.sleep(5)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        # An agent that is killed, or told to stop, hangs up.
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await self._stream(response, call)
        return response

    async def _stream(self, response: web.StreamResponse, call: Call) -> None:
        chance = self._chance
        for word in words(call.tag, chance):
            call.sent.append(word)
            await response.write(_event({"content": word}))
            if chance.random() < 0.01:
                # In mid-answer, without an end.
                call.end = "length"
                return
            if chance.random() < 0.3:
                await asyncio.sleep(chance.uniform(0, 0.05))
        call.end = "stop"
        await response.write(_event({}, "stop") + b"data: [DONE]\n\n")


def _event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()
