"""How a handler reaches anything: typed keys, and nothing else."""

from aiohttp import web

from ..live.hub import Hub
from ..store.accounts import Credential

HUB = web.AppKey("hub", Hub)
REQUEST_ID = web.RequestKey("request_id", str)
RECEIVED = web.RequestKey("received", float)
CALLER = web.RequestKey("caller", Credential)
HEADERS = web.RequestKey("headers", dict[str, str])
