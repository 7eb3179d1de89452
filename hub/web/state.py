"""How a handler reaches anything: typed keys, and nothing else."""

from aiohttp import web

from ..live.hub import Hub
from ..store.keys import Caller

HUB = web.AppKey("hub", Hub)
REQUEST_ID = web.RequestKey("request_id", str)
RECEIVED = web.RequestKey("received", float)
CALLER = web.RequestKey("caller", Caller)
HEADERS = web.RequestKey("headers", dict[str, str])
