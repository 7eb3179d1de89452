"""The practice arena: the site's page, its endpoints, and a backstage for tests.

    async with practice_arena(csp="strict") as arena:
        ...                                   # a browser opens arena.url
        prompt = await arena.ended("hello")
        arena.modal = "challenge"             # open pages show it at once
        assert (prompt.model, prompt.outcome) == ("orion-0", "answered")

The backstage is reachable by other processes too: GET and POST /practice/state.
"""

import asyncio
import base64
import binascii
import contextlib
import hashlib
import json
import secrets
import ssl
import struct
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import web

from tests.arena import scenarios
from tests.arena.backstage import SETTINGS, Arena, Attachment, Prompt, Visit
from tests.arena.designs import codes_of, look_of
from tests.arena.scenarios import Ask, Cut, Hold, Pause, Refusal, Step

HERE = Path(__file__).parent
LARGEST_REQUEST = 64 * 1024 * 1024
HALF_A_HEAD = b"HTTP/1.1 200 OK\r\nContent-Ty"
CLOUDFLARE_PATH = "/cdn-cgi/challenge-platform/clear"

ARENA = web.AppKey("arena", Arena)
routes = web.RouteTableDef()


# --- the page ------------------------------------------------------------------------------------------


@routes.get("/")
@routes.get("/text/direct")
@routes.get("/chat/new")
async def page(request: web.Request) -> web.Response:
    return show(request, chat=None)


@routes.get("/c/{chat}")
async def chat_page(request: web.Request) -> web.Response:
    chat = request.match_info["chat"]
    if chat not in request.app[ARENA].chats:
        # A first prompt that was refused has changed the address, and made no chat.
        raise web.HTTPFound("/text/direct")
    return show(request, chat)


def show(request: web.Request, chat: str | None) -> web.Response:
    arena = request.app[ARENA]
    arena.counts["pages"] += 1
    visit = secrets.token_hex(8)
    arena.visits[visit] = Visit(
        secrets.token_hex(16), request.query.get("scenario", ""), arena.design
    )
    nonce = secrets.token_urlsafe(16)
    boot = {
        "visit": visit,
        "secret": arena.visits[visit].secret,
        "codes": codes_of(arena.design),
        "look": look_of(arena.design),
        "savesFetch": arena.saves_fetch,
        "readerCancel": arena.reader_cancel,
        "account": arena.account(),
        "chat": chat,
        "chatModel": arena.chats.get(chat or ""),
    }
    context = {
        "nonce": nonce,
        "look": look_of(arena.design),
        "saves_fetch": arena.saves_fetch,
        "boot": json.dumps(boot).replace("<", "\\u003c"),
        "scripts": arena.flight,
    }
    response = aiohttp_jinja2.render_template("page.html", request, context)
    response.set_cookie("arena-auth", arena.cookie, samesite="Lax")
    response.headers["Cache-Control"] = "no-store"
    if arena.csp == "strict":
        response.headers["Content-Security-Policy"] = strict(nonce)
    return response


def strict(nonce: str) -> str:
    return (
        f"default-src 'self'; script-src 'nonce-{nonce}' 'strict-dynamic'; connect-src 'self'; "
        "img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


@routes.get("/site.js")
async def site_script(request: web.Request) -> web.FileResponse:
    await asyncio.sleep(request.app[ARENA].script_delay_s)
    return web.FileResponse(HERE / "site.js", headers={"Cache-Control": "no-store"})


@routes.get("/site.css")
async def site_style(request: web.Request) -> web.FileResponse:
    return web.FileResponse(HERE / "site.css")


@routes.get("/favicon.ico")
async def icon(request: web.Request) -> web.Response:
    return web.Response(status=204)


@routes.get(scenarios.IMAGE_PATH)
async def image(request: web.Request) -> web.Response:
    request.app[ARENA].counts["images"] += 1
    return web.Response(body=png(), content_type="image/png")


def png(side: int = 8) -> bytes:
    """A small green square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    rows = (b"\0" + b"\x22\xaa\x44" * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- what the page's own script talks to ---------------------------------------------------------------


@routes.get("/nextjs-api/live")
async def live(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await request.app[ARENA].follow(socket)
    return socket


@routes.post("/nextjs-api/telemetry")
async def telemetry(request: web.Request) -> web.Response:
    request.app[ARENA].counts["telemetry"] += 1
    return web.json_response({"ok": True})


@routes.post("/nextjs-api/account/{action:verify|sign_in|agree}")
async def account(request: web.Request) -> web.Response:
    """A human pressed the button of a dialog."""
    arena, action = request.app[ARENA], request.match_info["action"]
    arena.counts[action] += 1
    name, value = {
        "verify": ("modal", None),
        "sign_in": ("signed_in", True),
        "agree": ("consent", True),
    }[action]
    setattr(arena, name, value)
    return web.json_response(arena.account())


@routes.post("/nextjs-api/stream/create-evaluation")
@routes.post("/nextjs-api/stream/post-to-evaluation/{chat}")
async def evaluate(request: web.Request) -> web.StreamResponse:
    arena = request.app[ARENA]
    try:
        prompt = read_prompt(arena, request, await request.json())
    except (ValueError, KeyError, TypeError, AttributeError):
        return web.json_response({"error": "Invalid request"}, status=400)
    arena.take(prompt)
    if not spend(arena, prompt):
        arena.counts["forged"] += 1
        return refuse(arena, prompt, scenarios.RECAPTCHA, "forged")
    answer = objection(arena, request, prompt) or scripted(arena, request, prompt)
    if isinstance(answer, Refusal):
        return refuse(arena, prompt, answer)
    arena.chats[prompt.chat] = prompt.model_id
    return await play(request, prompt, answer)


def read_prompt(arena: Arena, request: web.Request, body: Any) -> Prompt:
    message = body["userMessage"]
    text, model_id = message["content"], body["modelAId"]
    if not isinstance(text, str) or not isinstance(model_id, str):
        raise TypeError
    return Prompt(
        path=request.path,
        text=text,
        mode=body["mode"],
        model=next((m.name for m in arena.models if m.id == model_id), None),
        model_id=model_id,
        chat=str(request.match_info.get("chat") or body["id"]),
        verification=str(body.get("verification") or ""),
        attachments=[read_attachment(a) for a in message.get("experimental_attachments", [])],
        headers=dict(request.headers),
        at=time.time(),
    )


def read_attachment(attachment: dict[str, str]) -> Attachment:
    head, _, data = attachment["url"].partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise ValueError("an attachment is a data: URL")
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error as mistake:
        raise ValueError("an attachment is base64") from mistake
    return Attachment(attachment["name"], attachment["contentType"], content)


def visit_of(arena: Arena, prompt: Prompt) -> tuple[Visit | None, int, str]:
    name, _, rest = prompt.verification.partition(".")
    number, _, digest = rest.partition(".")
    return arena.visits.get(name), int(number) if number.isdecimal() else 0, digest


def spend(arena: Arena, prompt: Prompt) -> bool:
    """Whether the verification is right, for this prompt, and was not used before."""
    visit, number, digest = visit_of(arena, prompt)
    if visit is None or number in visit.used:
        return False
    # The page's TextEncoder writes a lone surrogate as U+FFFD.
    text = prompt.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    expected = hashlib.sha256(f"{visit.secret}:{number}:{text}".encode()).hexdigest()
    if not secrets.compare_digest(digest.encode(), expected.encode()):
        return False
    visit.used.add(number)
    return True


def objection(arena: Arena, request: web.Request, prompt: Prompt) -> Refusal | None:
    """What stands in the way of any answer."""
    if arena.modal == "challenge":
        return scenarios.RECAPTCHA
    if not arena.signed_in:
        return scenarios.LOGIN_GATE
    if prompt.mode != "direct":
        return scenarios.DIRECT_NOT_ALLOWED
    if prompt.model is None:
        return scenarios.MODELS_NOT_FOUND
    if "chat" in request.match_info and prompt.chat not in arena.chats:
        return scenarios.error(404, "Evaluation not found")
    return None


def scripted(arena: Arena, request: web.Request, prompt: Prompt) -> Refusal | Iterator[Step]:
    visit, _, _ = visit_of(arena, prompt)
    assert visit is not None
    ask = Ask(prompt.text, str(request.url.origin()), codes_of(visit.design))
    try:
        return scenarios.answer(ask, visit.scenario or arena.scenario)
    except scenarios.NoSuchScenario as mistake:
        return scenarios.error(400, f"no such scenario: {mistake}")


def refuse(
    arena: Arena, prompt: Prompt, refusal: Refusal, outcome: str = "refused"
) -> web.Response:
    prompt.status = refusal.status
    arena.settle(prompt, outcome)
    if outcome != "forged" and refusal.wants == "verify":
        arena.modal = "challenge"
    if refusal.wants == "sign_in":
        arena.signed_in = False
    return respond(refusal)


def respond(refusal: Refusal) -> web.Response:
    headers = {"Content-Type": refusal.content_type, **refusal.headers}
    return web.Response(status=refusal.status, body=refusal.body.encode(), headers=headers)


async def play(request: web.Request, prompt: Prompt, steps: Iterator[Step]) -> web.StreamResponse:
    """Write the stream; the headers go with its first byte."""
    arena = request.app[ARENA]
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "X-Vercel-AI-Data-Stream": "v1",
    }
    response = web.StreamResponse(headers=headers)
    outcome = "aborted"
    try:
        outcome = await perform(request, response, prompt, steps)
    except ConnectionError:
        # The page has gone; there is nobody to tell.
        return response
    finally:
        arena.settle(prompt, outcome)
    return response


async def perform(
    request: web.Request, response: web.StreamResponse, prompt: Prompt, steps: Iterator[Step]
) -> str:
    loop = asyncio.get_running_loop()
    due = loop.time()
    for step in steps:
        match step:
            case Pause(seconds):
                due += seconds
                await asyncio.sleep(max(0.0, due - loop.time()))
            case Hold():
                await prompt.released.wait()
                due = loop.time()
            case Cut():
                if request.transport is not None:
                    request.transport.write(b"" if response.prepared else HALF_A_HEAD)
                    request.transport.close()
                return "cut"
            case _:
                await start(request, response, prompt)
                await response.write(step)
    await start(request, response, prompt)
    await response.write_eof()
    return "answered"


async def start(request: web.Request, response: web.StreamResponse, prompt: Prompt) -> None:
    if not response.prepared:
        prompt.status = response.status
        await response.prepare(request)


# --- Cloudflare, in front of everything ----------------------------------------------------------------


@web.middleware
async def cloudflare(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    challenge = request.app[ARENA].challenge_page
    open_to_all = request.path.startswith(("/practice/", "/cdn-cgi/"))
    if not challenge or open_to_all:
        return await handler(request)
    if challenge == "attention":
        return respond(scenarios.BLOCKED)
    response = aiohttp_jinja2.render_template(
        "challenge.html", request, {"action": CLOUDFLARE_PATH, "path": request.path_qs}, status=403
    )
    response.headers["cf-mitigated"] = "challenge"
    return response


@routes.post(CLOUDFLARE_PATH)
async def pass_cloudflare(request: web.Request) -> web.Response:
    """A human pressed the button of the challenge."""
    arena = request.app[ARENA]
    arena.counts["cloudflare"] += 1
    arena.challenge_page = False
    raise web.HTTPSeeOther((await request.post()).get("path", "/"))


# --- backstage -----------------------------------------------------------------------------------------


@routes.get("/practice/blank")
async def blank(request: web.Request) -> web.Response:
    return web.Response(text=scenarios.document("Blank"), content_type="text/html")


@routes.get("/practice/state")
async def state(request: web.Request) -> web.Response:
    arena = request.app[ARENA]
    described = {
        "url": arena.url,
        "models": [model.name for model in arena.models],
        "counts": arena.counts,
        "requests": [prompt.described() for prompt in arena.requests],
        "forged": arena.forged,
        "stops": [prompt.text for prompt in arena.stops],
        **{name: getattr(arena, name) for name in SETTINGS},
    }
    return web.json_response(described)


@routes.post("/practice/state")
async def switch(request: web.Request) -> web.Response:
    """Any setting by its name; {"release": "text"}, {"forget": true}, {"rotate_models": true}."""
    arena = request.app[ARENA]
    actions = {
        "release": arena.release,
        "forget": lambda _: arena.forget(),
        "rotate_models": lambda _: arena.rotate_models(),
    }
    for name, value in (await request.json()).items():
        if name in actions:
            actions[name](value)
        elif name in SETTINGS:
            try:
                setattr(arena, name, value)
            except ValueError as mistake:
                return web.json_response({"error": str(mistake)}, status=400)
        else:
            return web.json_response({"error": f"no such setting: {name}"}, status=400)
    return await state(request)


# --- assembly ------------------------------------------------------------------------------------------


def application(arena: Arena) -> web.Application:
    app = web.Application(client_max_size=LARGEST_REQUEST, middlewares=[cloudflare])
    app[ARENA] = arena
    app.add_routes(routes)
    aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(HERE), autoescape=True)

    async def close(_: web.Application) -> None:
        await arena.close()

    app.on_shutdown.append(close)
    return app


@contextlib.asynccontextmanager
async def practice_arena(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    models: int = 1000,
    **settings: Any,
) -> AsyncIterator[Arena]:
    """A running arena; `settings` are any of SETTINGS. Raises TypeError and ValueError for others."""
    arena = Arena(models=models)
    for name, value in settings.items():
        if name not in SETTINGS:
            raise TypeError(f"no such setting: {name}")
        setattr(arena, name, value)
    # Handlers are cancelled when their page goes: that is how a stop is seen.
    runner = web.AppRunner(
        application(arena), access_log=None, handler_cancellation=True, shutdown_timeout=0.2
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        scheme = "https" if tls else "http"
        arena.url = f"{scheme}://{host}:{runner.addresses[0][1]}"
        yield arena
    finally:
        await runner.cleanup()
