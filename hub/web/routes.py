"""Every URL of the house."""

from aiohttp import web
from aiohttp.typedefs import Handler

from . import (
    admin,
    completions,
    health,
    models,
    ollama,
    organization,
    pages,
    sign_in,
    stored,
    usage,
    userscript,
    worker_poll,
    worker_socket,
)
from .operations import LOCAL, OPERATIONS


def public_routes() -> list[web.AbstractRouteDef]:
    """What the hub serves to the world."""
    return [
        *route("GET", "/v1/models", models.list_models),
        *route("GET", "/v1/models/{model:.+}", models.retrieve_model),
        *route("GET", "/api/version", ollama.version),
        *route("GET", "/api/tags", ollama.tags),
        *route("GET", "/api/ps", ollama.loaded),
        *route("POST", "/v1/chat/completions", completions.create_chat_completion),
        *route("GET", "/v1/chat/completions", stored.list_completions),
        *route("GET", "/v1/chat/completions/{completion}", stored.retrieve_completion),
        *route("POST", "/v1/chat/completions/{completion}", stored.update_completion),
        *route("DELETE", "/v1/chat/completions/{completion}", stored.delete_completion),
        *route("GET", "/v1/chat/completions/{completion}/messages", stored.list_messages),
        *route("GET", "/v1/usage", usage.show_usage),
        *route("GET", "/v1/organization/usage/completions", organization.completions_usage),
        *route("GET", "/v1/organization/costs", organization.costs),
        *route("GET", "/worker/socket", worker_socket.worker_socket),
        *route("POST", "/worker/hello", worker_poll.worker_hello),
        *route("POST", "/worker/exchange", worker_poll.worker_exchange),
        *route("POST", "/worker/bye", worker_poll.worker_bye),
        *route("GET", "/healthz", health.healthz),
        *route("GET", "/healthz/stream", health.stream),
        *route("GET", "/readyz", health.readyz),
        *admin_routes(),
        *route("GET", "/admin/api/openapi.json", admin.openapi),
        *route("GET", "/metrics", health.metrics),
        web.get("/userscript/hub.user.js", userscript.user_script),
        web.get("/userscript/hub.meta.js", userscript.user_script_metadata),
        web.get("/", pages.front),
        web.get("/sign-in", pages.for_people(sign_in.show_sign_in)),
        web.post("/sign-in", pages.for_people(sign_in.sign_in)),
        web.post("/sign-out", pages.for_people(sign_in.sign_out)),
        web.get("/invitation/{secret}", pages.for_people(sign_in.show_invitation)),
        web.post("/invitation/{secret}", pages.for_people(sign_in.accept_invitation)),
        web.get("/password", pages.for_people(sign_in.show_password)),
        web.post("/password", pages.for_people(sign_in.change_password)),
        web.static("/static", pages.STATIC),
    ]


def admin_routes() -> list[web.AbstractRouteDef]:
    """What the hub serves to keys with the admin scope."""
    return [
        route_def
        for operation in OPERATIONS
        for route_def in route(
            operation.method, operation.path, admin.handler(operation, admin.with_a_key)
        )
    ]


def control_routes() -> list[web.AbstractRouteDef]:
    """What the hub serves to its own command line, over `<data>/control.sock`."""
    return [
        web.route(operation.method, operation.path, admin.handler(operation, admin.by_command_line))
        for operation in (*OPERATIONS, *LOCAL)
    ]


def route(method: str, path: str, handler: Handler) -> list[web.AbstractRouteDef]:
    """A path, and the same with doubled or trailing slashes, as some clients write it."""
    ends_open = path.endswith(".+}")
    parts = path.strip("/").split("/")
    slashes = [f"{{_{number}:/+}}{part}" for number, part in enumerate(parts[1:])]
    loose = "/{_:/*}" + parts[0] + "".join(slashes)
    tail = "" if ends_open else "{_end:/*}"
    return [web.route(method, path, handler), web.route(method, loose + tail, handler)]
