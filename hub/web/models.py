"""GET /v1/models: what the live workers offer."""

from typing import Any

from aiohttp import web

from ..errors import ModelNotFound
from ..live.hub import Hub
from ..protocol import Model
from ..rules.openai import model_object
from .middleware import authenticate, json_response
from .state import HUB


async def list_models(request: web.Request) -> web.Response:
    """All live models; an empty list when there are none."""
    await authenticate(request)
    hub = request.app[HUB]
    offered = hub.roster.models()
    data = [_shown(hub, offered[name]) for name in sorted(offered)]
    return json_response({"object": "list", "data": data})


async def retrieve_model(request: web.Request) -> web.Response:
    """One live model; its id may hold slashes, raw or as %2F."""
    await authenticate(request)
    hub = request.app[HUB]
    model = hub.roster.models().get(request.match_info["model"])
    if model is None:
        message = "No live worker offers this model. GET /v1/models lists those that are live."
        raise ModelNotFound(message, param="model")
    return json_response(_shown(hub, model))


def _shown(hub: Hub, model: Model) -> dict[str, Any]:
    created = hub.store.workers.known.get(model.id, 0)
    return model_object(model.id, created, model.organization or "arena")
