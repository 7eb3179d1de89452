"""A page of another origin that calls the API with the browser's own fetch."""

import asyncio
from typing import Any

from aiohttp import web

from hub.protocol import End, JobFrame, Piece
from tests.doors import socket_worker

ASK = """
async ([url, key]) => {
    const headers = {
        "Authorization": `Bearer ${key}`,
        "Content-Type": "application/json",
        "X-Stainless-Lang": "js",
        "X-Stainless-Retry-Count": "0",
    };
    const body = JSON.stringify({model: "m", stream: true, messages: [{role: "user", content: "hi"}]});
    try {
        const answer = await fetch(`${url}/v1/chat/completions`, {method: "POST", headers, body});
        const text = await answer.text();
        return {status: answer.status, text, id: answer.headers.get("x-request-id"),
                left: answer.headers.get("x-ratelimit-remaining-requests")};
    } catch (error) {
        return {failed: String(error)};
    }
}
"""


async def blank(request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>a page</title>", content_type="text/html")


async def test_a_page_of_an_allowed_origin_reads_a_stream_and_errors_and_others_read_nothing(
    start_hub, serve, start_browser
):
    app = web.Application()
    app.router.add_get("/", blank)
    port = await serve(app)
    hub = await start_hub(cors={"origins": [f"http://localhost:{port}"]})
    browser = await start_browser()

    async def asked(host: str, key: str) -> Any:
        page = await browser.new_page()
        await page.goto(f"http://{host}:{port}/")
        return await page.evaluate(ASK, [hub.url, key])

    async with socket_worker(hub) as worker:
        asking = asyncio.create_task(asked("localhost", hub.key))
        job = await worker.hear(JobFrame)
        await worker.say(Piece(job.job, "hello page"), End(job.job))
        answer = await asking
        assert answer["status"] == 200
        assert "hello page" in answer["text"]
        assert answer["text"].endswith("data: [DONE]\n\n")
        assert answer["id"] == job.job
        assert answer["left"]
        refused = await asked("localhost", "sk-wrong")
        assert (refused["status"], "invalid_api_key" in refused["text"]) == (401, True)
        assert "Failed to fetch" in (await asked("127.0.0.1", hub.key))["failed"]
