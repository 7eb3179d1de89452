"""What survives a restart. `open_store` is the door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..settings import Settings
from .aliases import Aliases
from .audit import AuditLog, SystemLog
from .content import Content
from .database import Database, NewerDatabase, open_database
from .invitations import Invitations
from .journal import Journal
from .keys import Keys
from .ledger import Ledger
from .profiles import Profiles
from .sessions import Sessions
from .tiers import Prices, Tiers
from .users import Users
from .vault import open_vault
from .worker_tokens import WorkerTokens
from .workers import WorkerBook

__all__ = ["NewerDatabase", "Store", "open_store"]


class Store:
    """Everything that is kept, by subject."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.operator_days = settings.retention.operator_days
        self.data = settings.data
        self.tiers = Tiers(database)
        self.prices = Prices(database)
        self.aliases = Aliases(database)
        self.users = Users(database, self._forget)
        self.sessions = Sessions(database, settings.sign_in.session_s)
        self.invitations = Invitations(database)
        self.keys = Keys(database, settings.cache.user_data_ttl)
        self.worker_tokens = WorkerTokens(database, settings.cache.user_data_ttl)
        self.journal = Journal(database)
        self.ledger = Ledger(database)
        self.content = Content(database, open_vault(settings))
        self.workers = WorkerBook(database)
        self.profiles = Profiles(database)
        self.audit_log = AuditLog(database)
        self.system_log = SystemLog(database)

    async def load(self) -> None:
        """Read what is held in memory."""
        for part in (self.tiers, self.prices, self.aliases, self.workers, self.profiles):
            await part.load()

    def _forget(self) -> None:
        self.keys.forget()
        self.worker_tokens.forget()


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Store]:
    """The store in `data_dir`, which is made if need be. Hold `hub.lock` while it is open: one hub, one writer.

    Raises NewerDatabase, SettingsError for bad keys of the vault.
    """
    database = await open_database(settings.data / "hub.db", settings.synchronous)
    try:
        store = Store(database, settings)
        await store.load()
        yield store
    finally:
        await database.close()
