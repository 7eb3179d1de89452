"""GET /v1/models: what the live workers offer, under the names that the operator shows."""

from typing import Any

from aiohttp import web
from msgspec.structs import replace

from ..errors import ModelNotFound
from ..live.hub import Hub
from ..rules.catalogue import Offer
from ..rules.openai import model_object
from ..store.keys import Caller
from .middleware import authenticate, json_response
from .state import HUB


async def list_models(request: web.Request) -> web.Response:
    """All live models that are not hidden, and aliases of live models; an empty list when there are none."""
    caller = await authenticate(request, "models")
    hub = request.app[HUB]
    data = [_shown(hub, caller, offer) for offer in models_for(hub, caller).values()]
    return json_response({"object": "list", "data": data})


async def retrieve_model(request: web.Request) -> web.Response:
    """One live model, hidden or not, or an alias of one; its id may hold slashes, raw or as %2F."""
    caller = await authenticate(request, "models")
    hub, asked = request.app[HUB], request.match_info["model"]
    offer = models_for(hub, caller).get(asked) or _live(hub, caller).get(asked)
    if offer is None:
        message = "No live worker offers this model. GET /v1/models lists those that are live."
        raise ModelNotFound(message, param="model")
    return json_response(_shown(hub, caller, offer))


def models_for(hub: Hub, caller: Caller) -> dict[str, Offer]:
    """What is live, and this caller may use, by the names that are shown: an alias as what it leads to first."""
    live = _live(hub, caller)
    listed = hub.routing.listed(caller, live)
    return {name: _called(name, live[model]) for name, model in listed.items()}


def _live(hub: Hub, caller: Caller) -> dict[str, Offer]:
    allows = caller.key.scopes.allows_model
    return {name: offer for name, offer in hub.models_of(caller).items() if allows(name)}


def _called(name: str, offer: Offer) -> Offer:
    if offer.model.id == name:
        return offer
    return offer._replace(model=replace(offer.model, id=name))


def created(hub: Hub, caller: Caller, name: str) -> int:
    """When a model was first offered to this caller, or an alias made, in Unix seconds."""
    first_seen = hub.store.workers.first_seen(name, caller.user_id)
    return first_seen or hub.store.aliases.since.get(name, 0)


def _shown(hub: Hub, caller: Caller, offer: Offer) -> dict[str, Any]:
    return model_object(offer, created(hub, caller, offer.model.id))
