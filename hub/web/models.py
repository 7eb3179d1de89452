"""GET /v1/models: what the live workers offer."""

from typing import Any

from aiohttp import web

from ..errors import ModelNotFound
from ..live.hub import Hub
from ..protocol import Model
from ..rules.openai import model_object
from ..store.keys import Caller
from .middleware import authenticate, json_response
from .state import HUB


async def list_models(request: web.Request) -> web.Response:
    """All live models; an empty list when there are none."""
    caller = await authenticate(request, "models")
    hub = request.app[HUB]
    offered = _models(hub, caller)
    data = [_shown(hub, caller, model) for model in offered.values()]
    return json_response({"object": "list", "data": data})


async def retrieve_model(request: web.Request) -> web.Response:
    """One live model; its id may hold slashes, raw or as %2F."""
    caller = await authenticate(request, "models")
    hub = request.app[HUB]
    model = _models(hub, caller).get(request.match_info["model"])
    if model is None:
        message = "No live worker offers this model. GET /v1/models lists those that are live."
        raise ModelNotFound(message, param="model")
    return json_response(_shown(hub, caller, model))


def _models(hub: Hub, caller: Caller) -> dict[str, Model]:
    """What is live, and this caller may use."""
    allows = caller.key.scopes.allows_model
    return {name: model for name, model in hub.models_of(caller).items() if allows(name)}


def _shown(hub: Hub, caller: Caller, model: Model) -> dict[str, Any]:
    created = hub.store.workers.first_seen(model.id, caller.user_id) or 0
    return model_object(model.id, created, model.organization or "arena")
