"""Liveness, for load balancers and people; figures for Prometheus."""

from aiohttp import web

from .addresses import is_local
from .middleware import authenticate_admin, json_response
from .state import HUB


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
