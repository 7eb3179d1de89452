"""Liveness, for load balancers and people; figures for Prometheus; a short stream, to look at a proxy with."""

import asyncio

from aiohttp import web

from .addresses import is_local
from .middleware import authenticate_admin, json_response
from .state import HUB

EVENTS = 4
APART_S = 0.3


async def healthz(request: web.Request) -> web.Response:
    """How many requests run and wait, and how many workers are here."""
    hub = request.app[HUB]
    return json_response(
        {
            "status": "ok",
            "active": hub.dispatch.active,
            "waiting": hub.dispatch.waiting,
            "workers": len(hub.roster),
        }
    )


async def readyz(request: web.Request) -> web.Response:
    """Whether this hub takes requests now, and if not, why."""
    hub = request.app[HUB]
    reasons = []
    if hub.dispatch.draining:
        reasons.append("shutting down")
    if not len(hub.roster):
        reasons.append("no worker is connected")
    return json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)


async def metrics(request: web.Request) -> web.Response:
    """Figures for Prometheus. Raises InvalidApiKey, InsufficientScope for those who may not see them."""
    hub = request.app[HUB]
    if not hub.settings.metrics.public and not is_local(request):
        await authenticate_admin(request)
    body, content_type = hub.metrics.page(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"Content-Type": content_type})


async def stream(request: web.Request) -> web.StreamResponse:
    """A second of events, evenly sent: `lmarena-hub doctor` looks when they come."""
    headers = {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
        "x-bridge-sent-over": f"{(EVENTS - 1) * APART_S:.1f}",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for number in range(EVENTS):
        await asyncio.sleep(APART_S if number else 0)
        await response.write(b"data: %d\n\n" % number)
    await response.write_eof()
    return response
