"""What survives a restart. `open_store` is the door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..settings import Settings
from .accounts import KEY_PREFIX, TOKEN_PREFIX, Credentials
from .audit import SystemLog
from .database import Database, NewerDatabase, open_database
from .journal import Journal
from .profiles import Profiles
from .workers import WorkerBook

__all__ = ["NewerDatabase", "Store", "open_store"]


class Store:
    """Everything that is kept, by subject."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.keys = Credentials(database, "api_keys", KEY_PREFIX)
        self.worker_tokens = Credentials(database, "worker_tokens", TOKEN_PREFIX)
        self.journal = Journal(database)
        self.workers = WorkerBook(database)
        self.profiles = Profiles(database)
        self.system_log = SystemLog(database)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The store in `data_dir`, which is made if need be. Hold `hub.lock` while it is open: one hub, one writer."""
    database = await open_database(settings.data / "hub.db", settings.synchronous)
    try:
        store = Store(database)
        await store.workers.load()
        await store.profiles.load()
        yield store
    finally:
        await database.close()
