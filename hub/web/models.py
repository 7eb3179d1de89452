"""GET /v1/models: what the live workers offer."""

from typing import Any

from aiohttp import web

from ..errors import ModelNotFound
from ..live.hub import Hub
from ..rules.catalogue import Offer
from ..rules.openai import model_object
from ..store.keys import Caller
from .middleware import authenticate, json_response
from .state import HUB


async def list_models(request: web.Request) -> web.Response:
    """All live models; an empty list when there are none."""
    caller = await authenticate(request, "models")
    hub = request.app[HUB]
    data = [_shown(hub, caller, offer) for offer in models_for(hub, caller).values()]
    return json_response({"object": "list", "data": data})


async def retrieve_model(request: web.Request) -> web.Response:
    """One live model; its id may hold slashes, raw or as %2F."""
    caller = await authenticate(request, "models")
    hub = request.app[HUB]
    offer = models_for(hub, caller).get(request.match_info["model"])
    if offer is None:
        message = "No live worker offers this model. GET /v1/models lists those that are live."
        raise ModelNotFound(message, param="model")
    return json_response(_shown(hub, caller, offer))


def models_for(hub: Hub, caller: Caller) -> dict[str, Offer]:
    """What is live, and this caller may use."""
    allows = caller.key.scopes.allows_model
    return {name: offer for name, offer in hub.models_of(caller).items() if allows(name)}


def created(hub: Hub, caller: Caller, model: str) -> int:
    """When a model was first offered to this caller, in Unix seconds."""
    return hub.store.workers.first_seen(model, caller.user_id) or 0


def _shown(hub: Hub, caller: Caller, offer: Offer) -> dict[str, Any]:
    return model_object(offer, created(hub, caller, offer.model.id))
