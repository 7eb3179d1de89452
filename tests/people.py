"""People in front of a hub's pages, in a few words: a browser's cookies and headers without the browser."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from hub.store.audit import Actor
from hub.store.users import User
from tests.doors import Reply

PASSWORD = "correct horse battery"


async def new_user(
    hub: Any, email: str = "ann@example.org", password: str | None = PASSWORD, **more: Any
) -> User:
    """An account that may sign in."""
    hashed = await hub.hub.sign_in.hash(password) if password else None
    user: User = await hub.hub.store.users.create(email, Actor("test"), password=hashed, **more)
    return user


async def new_invitation(hub: Any, email: str = "ben@example.org", **more: Any) -> str:
    """The path of a link."""
    more = {"tier": "free", "expires_at": 2**40, **more}
    made = await hub.hub.store.invitations.create(email, Actor("test"), **more)
    return f"/invitation/{made.secret}"


class Person:
    """A browser with somebody at it. It sends what a page of the hub would have it send."""

    def __init__(self, hub: Any, http: aiohttp.ClientSession) -> None:
        self.hub = hub
        self.http = http
        self.headers = {"Origin": hub.url, "User-Agent": "a test's browser"}

    async def get(self, path: str, **headers: str) -> Reply:
        return await self._send("GET", path, None, headers)

    async def post(self, path: str, fields: Any = None, **headers: str) -> Reply:
        return await self._send("POST", path, fields or {}, headers)

    async def _send(self, method: str, path: str, data: Any, more: dict[str, str]) -> Reply:
        headers = {**self.headers, **{k.replace("_", "-"): v for k, v in more.items()}}
        url = self.hub.url + path
        async with self.http.request(
            method, url, data=data, headers=headers, allow_redirects=False, ssl=False
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def sign_in(
        self,
        email: str = "ann@example.org",
        password: str = PASSWORD,
        wanted: str = "",
        **more: str,
    ) -> Reply:
        return await self.post(
            "/sign-in", {"email": email, "password": password, "next": wanted}, **more
        )

    async def choose(self, path: str, password: str = PASSWORD, **more: str) -> Reply:
        """Fill in a form that asks for a new password twice."""
        return await self.post(path, {"password": password, "again": password, **more})

    @property
    def secret(self) -> str:
        """What the session cookie holds; "" without one."""
        return next((each.value for each in self.http.cookie_jar if "lmarena" in each.key), "")

    async def who(self) -> str:
        """The address that the front page shows as signed in; "" for nobody."""
        page = (await self.get("/")).body.decode()
        found = re.search(r'<span class="who">([^<]*)</span>', page)
        return found[1] if found else ""


@asynccontextmanager
async def person(hub: Any) -> AsyncIterator[Person]:
    """Somebody who has never been here."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Person(hub, http)
