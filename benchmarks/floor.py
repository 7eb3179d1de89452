"""The floor: the least code that carries a chat completion from a caller to a worker and back.

aiohttp, uvloop and orjson, the hub's URLs and frames, one write per piece; no keys, limits, counting, storage
or resuming. What the hub costs more than this is what its features cost.
"""

import asyncio
from typing import Any

import click
import orjson
import uvloop
from aiohttp import WSMsgType, web

SUBPROTOCOL = "lmarena-bridge.1"
ACK_EVERY_FRAMES = 1_000
SSE_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
EVENT = (
    b'data: {"id":"chatcmpl-%b","object":"chat.completion.chunk","created":1700000000,'
    b'"model":"bench","choices":[{"index":0,"delta":%b,"finish_reason":%b}]}\n\n'
)
ROLE = b'{"role":"assistant","content":""}'
DONE = b"data: [DONE]\n\n"
WELCOME = {
    "session": "s",
    "connection": "c",
    "resumed": False,
    "received": 0,
    "heartbeat_s": 20,
    "grace_s": 30,
    "max_bytes": 16 * 1024 * 1024,
    "exchange": {"wait_s": 25, "next_s": 0},
    "profile": None,
}


class Job:
    """One request; a streamed one is written to by the worker's side directly."""

    __slots__ = ("done", "id", "id_bytes", "response", "texts")

    def __init__(self, number: int, response: web.StreamResponse | None) -> None:
        self.id = f"{number:012d}"
        self.id_bytes = self.id.encode()
        self.response = response
        self.texts: list[str] = []
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def event(self, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        return EVENT % (self.id_bytes, delta, finish_reason)

    async def put(self, text: str) -> None:
        if self.response is None:
            self.texts.append(text)
        else:
            await self.response.write(self.event(b'{"content":%b}' % orjson.dumps(text)))


class Floor:
    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.worker: web.WebSocketResponse | None = None
        self.created = 0
        self.sent = 0
        self.received = 0
        self.acked = 0

    async def send(self, frames: bytes, count: int) -> None:
        if self.worker is None:
            raise web.HTTPServiceUnavailable
        packet = b'{"n":%d,"ack":%d,"frames":[%b]}' % (self.sent + 1, self.received, frames)
        self.sent += count
        self.acked = self.received
        await self.worker.send_frame(packet, WSMsgType.TEXT)

    async def offer(self, job: Job, body: bytes) -> None:
        self.jobs[job.id] = job
        await self.send(
            b'{"t":"job","job":"%b","kind":"chat","model":"bench","body":%b,"deadline_s":60}'
            % (job.id_bytes, body),
            1,
        )

    async def receive(self, packet: dict[str, Any]) -> None:
        for frame in packet["frames"]:
            kind = frame["t"]
            if kind == "piece":
                await self.jobs[frame["job"]].put(frame["text"])
            elif kind == "end":
                self.jobs.pop(frame["job"]).done.set_result(frame["finish_reason"])
        self.received += len(packet["frames"])
        if self.received - self.acked >= ACK_EVERY_FRAMES:
            await self.send(b"", 0)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.created += 1
        if orjson.loads(body).get("stream"):
            return await self.stream(request, body)
        job = Job(self.created, None)
        await self.offer(job, body)
        return web.Response(
            body=orjson.dumps(answer(job, await job.done)),
            content_type="application/json",
        )

    async def stream(self, request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers=SSE_HEADERS)
        await response.prepare(request)
        job = Job(self.created, response)
        await response.write(job.event(ROLE))
        await self.offer(job, body)
        finish_reason = await job.done
        await response.write(job.event(b"{}", orjson.dumps(finish_reason)) + DONE)
        await response.write_eof()
        return response

    async def worker_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(
            protocols=[SUBPROTOCOL], compress=False, max_msg_size=0, decode_text=False
        )
        await socket.prepare(request)
        await socket.receive()
        await socket.send_frame(orjson.dumps({"welcome": WELCOME}), WSMsgType.TEXT)
        self.worker = socket
        self.sent = self.received = self.acked = 0
        async for message in socket:
            await self.receive(orjson.loads(message.data))
        self.worker = None
        return socket


def answer(job: Job, finish_reason: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{job.id}",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(job.texts), "refusal": None},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }


async def healthz(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def floor_app() -> web.Application:
    floor = Floor()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", floor.complete)
    app.router.add_get("/worker/socket", floor.worker_socket)
    app.router.add_get("/healthz", healthz)
    return app


@click.command(help=__doc__)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8080, show_default=True)
def main(host: str, port: int) -> None:
    web.run_app(
        floor_app(),
        host=host,
        port=port,
        access_log=None,
        print=None,
        shutdown_timeout=1.0,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
