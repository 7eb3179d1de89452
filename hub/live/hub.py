"""The running hub, without HTTP: `async with open_hub(settings) as hub`."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

import msgspec
import structlog
from cachetools import TTLCache

from ..protocol import Close
from ..rules import tokens
from ..rules.catalogue import Offer, join
from ..rules.folding import check_template
from ..settings import Settings
from ..store import Store, open_store
from ..store.journal import Open
from ..store.keys import Caller
from . import log
from .alarms import Alarms
from .dispatch import Dispatch
from .feed import Feed
from .gate import Gate
from .metrics import Metrics
from .outbound import Outbound
from .recent import RecentRequests
from .repeats import Repeats
from .routing import Routing
from .scaling import Scaling
from .sign_in import SignIn
from .upkeep import keep_up
from .workers import Roster

MODEL_LISTS = 100
"""Lists of models held in memory, one a user: a list may have thousands of entries."""
WEIGH_S = 5.0
"""How often the weights of workers are worked out, and the slots of agents."""
CHECKPOINT_S = 1.0
"""How much of a running answer a crash may forget, in seconds."""


class Hub:
    """Everything that exists while the process runs."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.feed = Feed()
        self.feed.listen(log.write_lines)
        self.alarms = Alarms(settings.alarms, settings.data, store.system_log, self.feed)
        self.feed.listen(self.alarms.hear)
        self.roster = Roster(settings, self.feed, msgspec.to_builtins(store.profiles.current))
        self.gate = Gate(store)
        self._models: TTLCache[tuple[int, str, bool], dict[str, Offer]] = TTLCache(
            MODEL_LISTS, settings.cache.model_list_ttl
        )
        self.sign_in = SignIn(settings, store)
        self.outbound = Outbound(settings)
        self.routing = Routing(store, self.roster)
        self.dispatch = Dispatch(settings, store, self.roster, self.gate, self.feed)
        self.recent = RecentRequests()
        self.feed.listen(self.recent.hear)
        self.scaling = Scaling(settings.scaling, self.roster, self.dispatch)
        self.metrics = Metrics(settings, store, self.alarms, self.roster, self.dispatch)
        self.feed.listen(self.metrics.hear)
        self.repeats = Repeats(self.dispatch, store.content, settings.idempotency.linger_s)

    def models_of(self, caller: Caller) -> dict[str, Offer]:
        """What the live workers that this caller may use offer, by id in order; remembered until that changes."""
        whose = (self.roster.version, caller.user_id, caller.key.own_workers_only)
        models = self._models.get(whose)
        if models is None:
            models = self._models[whose] = {
                name: self._offer(caller, name) for name in sorted(self.roster.models(caller))
            }
        return models

    def _offer(self, caller: Caller, model: str) -> Offer:
        offering = self.roster.offering_to(caller, model)
        return join([worker.models[model] for worker in offering])

    async def accounts_changed(self) -> None:
        """After a change to users or worker tokens: sessions that are not allowed any more end at once."""
        self.roster.heed(await self.store.worker_tokens.all())

    def hand_out_profile(self) -> None:
        """Let every worker have the site profile that is in force now."""
        self.roster.hand_out(msgspec.to_builtins(self.store.profiles.current))

    async def drain(self) -> None:
        """Finish what runs, refuse the rest, and send the workers away until the hub is back."""
        await self.dispatch.drain()
        for worker in self.roster:
            worker.end("the hub restarts", Close.RESTART)

    async def weigh_forever(self) -> None:
        """Let those who answer well have more of the work, agents have the slots they need; write down how all fare."""
        while True:
            await asyncio.sleep(WEIGH_S)
            self.roster.rota.weigh_anew()
            self.scaling.look()
            with suppress(Exception):  # others tell of a database that cannot be written
                await self.keep_health()

    async def keep_health(self) -> None:
        """Write down how workers fare."""
        if rows := self.roster.unsaved(_ahead()):
            await self.store.workers.keep(rows)

    async def checkpoint_forever(self) -> None:
        """Write down once a second how far the open requests have come."""
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            await self.store.journal.settle_owed()
            with suppress(Exception):  # the settlement will tell of the same trouble
                await self.dispatch.count_running()
                for written in (self.dispatch.store_pieces(), self.dispatch.checkpoint()):
                    if written is not None:
                        await written
                await self.store.keys.write_seen()
                await self.store.worker_tokens.write_seen()


@asynccontextmanager
async def open_hub(settings: Settings) -> AsyncIterator[Hub]:
    """A hub on the database in `data_dir`; what a crash left open there is settled first.

    Hold the data directory's lock meanwhile. Leaving the context does not drain; call `drain` before.
    Raises SettingsError for a template that does not work.
    """
    check_template(settings.folding.template)
    async with open_store(settings) as store:
        interrupted = await store.journal.interrupt_open(lambda left: _cost(store, left))
        if interrupted:
            structlog.get_logger().warning("settled as interrupted", requests=interrupted)
        hub = Hub(settings, store)
        hub.roster.restore(await store.workers.fared(), _ahead())
        vocabulary = asyncio.create_task(asyncio.to_thread(tokens.vocabulary))
        chores = [
            asyncio.create_task(hub.checkpoint_forever()),
            asyncio.create_task(keep_up(store)),
            asyncio.create_task(hub.weigh_forever()),
            asyncio.create_task(hub.alarms.look_forever()),
        ]
        try:
            await vocabulary
            yield hub
        finally:
            hub.sign_in.close()
            for chore in chores:
                chore.cancel()
            await asyncio.wait(chores)
            await hub.repeats.close()
            await hub.outbound.close()
            with suppress(Exception):
                await hub.keep_health()


def _cost(store: Store, left: Open) -> int:
    """What a request that a crash left open costs, in micro-dollars."""
    price = store.prices.of(left.model, left.accepted_at / 1e6, own_worker=left.own_worker)
    return price.cost(left.prompt_tokens, left.completion_tokens)


def _ahead() -> float:
    """How far Unix time is ahead of the event loop's clock, in seconds."""
    return time.time() - monotonic()
