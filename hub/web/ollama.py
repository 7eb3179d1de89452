"""What programs ask an Ollama before anything else, answered; chats go by the OpenAI API.

Shapes follow https://docs.ollama.com/api. Open WebUI asks all three of these and shows an error where one fails.
"""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from .. import __version__
from ..live.hub import Hub
from ..rules.catalogue import Offer
from ..rules.openai import owner
from ..store.keys import Caller
from .middleware import authenticate, json_response
from .models import created, models_for
from .state import HUB


async def version(request: web.Request) -> web.Response:
    """The hub's own version; without a key, since Ollama has none."""
    return json_response({"version": __version__})


async def tags(request: web.Request) -> web.Response:
    """The models of GET /v1/models."""
    caller = await authenticate(request, "models")
    hub = request.app[HUB]
    models = [_shown(hub, caller, offer) for offer in models_for(hub, caller).values()]
    return json_response({"models": models})


async def loaded(request: web.Request) -> web.Response:
    """The models in this machine's memory: none ever are."""
    await authenticate(request, "models")
    return json_response({"models": []})


def _shown(hub: Hub, caller: Caller, offer: Offer) -> dict[str, Any]:
    """A model as Ollama shows it, with nothing where it would tell of a file."""
    name, family = offer.model.id, owner(offer)
    first_seen = datetime.fromtimestamp(created(hub, caller, name), UTC)
    details = {
        "parent_model": "",
        "format": "",
        "family": family,
        "families": [family],
        "parameter_size": "",
        "quantization_level": "",
    }
    return {
        "name": name,
        "model": name,
        "modified_at": first_seen.isoformat().replace("+00:00", "Z"),
        "size": 0,
        "digest": "",
        "details": details,
    }
