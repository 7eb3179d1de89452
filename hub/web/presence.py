"""Who is in the house: requests in hand, and how long there have been none."""

from time import monotonic

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..errors import TooManyCallers

RETRY_S = 5.0
"""An answer takes about so long: when a caller who was turned away may try again."""


class Presence:
    """Counts the requests of one application through its middleware."""

    def __init__(self, max_callers: int) -> None:
        """At most `max_callers` requests of `/v1` are let in at once; 0 means any number."""
        self._max_callers = max_callers
        self._in_hand = 0
        self._callers = 0
        self._last = monotonic()

    @property
    def quiet_s(self) -> float:
        """For how long nobody has been here, in seconds."""
        return 0.0 if self._in_hand else monotonic() - self._last

    def middleware(self) -> Middleware:
        """Raises TooManyCallers."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            caller = request.method == "POST" and request.path.lstrip("/").startswith("v1/")
            if caller and self._max_callers and self._callers >= self._max_callers:
                raise TooManyCallers(retry_after=RETRY_S)
            self._in_hand += 1
            self._callers += caller
            try:
                return await handler(request)
            finally:
                self._in_hand -= 1
                self._callers -= caller
                self._last = monotonic()

        return count
