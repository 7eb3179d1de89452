"""How the command line reaches the house: through the running hub, or straight to the database."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from .app import CONTROL_SOCKET, AlreadyRunning, hold
from .errors import HubError
from .settings import Settings
from .store import backup, open_store
from .store.backup import Restored
from .web.admin import COMMAND_LINE
from .web.operations.operation import Office, Operation

PATIENCE_S = 10.0
"""How long to wait for another command, or for a hub that is just starting or stopping."""


PATIENT = aiohttp.ClientTimeout(total=None)
"""A backup takes as long as it takes, and so does encrypting everything anew."""


async def call(settings: Settings, operation: Operation, members: dict[str, Any]) -> Any:
    """Carry out an operation of the admin API. Raises HubError, AlreadyRunning."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await _directly(settings, operation, members)
        except AlreadyRunning:
            if asyncio.get_running_loop().time() > deadline:
                raise
        try:
            return await _through_the_hub(settings, operation, members)
        except (aiohttp.ClientConnectorError, FileNotFoundError):
            # Whoever holds the lock is not listening: a command like this one, or a hub about to.
            await asyncio.sleep(0.05)
        except aiohttp.ClientError:
            message = "The hub ended before it answered; look whether it did what it was told."
            raise HubError(message) from None


def restore(settings: Settings, file: Path) -> Restored:
    """Put a backup in the place of the database. No hub may run. Raises AlreadyRunning, BackupError."""
    with hold(settings.data):
        return backup.restore(settings, file)


async def _directly(settings: Settings, operation: Operation, members: dict[str, Any]) -> Any:
    with hold(settings.data):
        async with open_store(settings) as store:
            office = Office(store, None, COMMAND_LINE, settings.public_url)
            return await operation.carry_out(office, members)


async def _through_the_hub(
    settings: Settings, operation: Operation, members: dict[str, Any]
) -> Any:
    connector = aiohttp.UnixConnector(str(settings.data.resolve() / CONTROL_SOCKET))
    carried: dict[str, Any] = (
        {"params": members} if operation.method == "GET" else {"json": members}
    )
    async with (
        aiohttp.ClientSession("http://hub", connector=connector, timeout=PATIENT) as session,
        session.request(operation.method, operation.path, **carried) as response,
    ):
        answer = await response.json()
        if response.status >= 400:
            raise HubError(answer["error"]["message"])
        return answer
