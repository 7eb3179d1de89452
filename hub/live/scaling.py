"""Tell agents how many slots to have, by how long requests wait for them."""

from collections import Counter
from math import ceil
from time import monotonic
from weakref import WeakKeyDictionary

from ..protocol import MAX_SLOTS
from ..rules.scaling import Load
from ..settings import Scaling as Rules
from .dispatch import Dispatch
from .rota import EVERYBODY
from .workers import Roster, Worker


class Scaling:
    """Looks at the line and at the agents from time to time."""

    def __init__(self, rules: Rules, roster: Roster, dispatch: Dispatch) -> None:
        self._rules = rules
        self._roster = roster
        self._dispatch = dispatch
        self._loads: WeakKeyDictionary[Worker, Load] = WeakKeyDictionary()

    def look(self) -> None:
        """Ask for more slots where requests have waited too long, for fewer where they were not used."""
        now = monotonic()
        agents = [
            worker for worker in self._roster if worker.kind == "agent" and worker.is_able(now)
        ]
        more = self._needed(agents, now)
        for agent in agents:
            load = self._loads.setdefault(agent, Load(self._rules, now))
            most = MAX_SLOTS if agent.token.slots is None else agent.token.slots
            wanted = load.look(now, agent.slots, agent.take_busiest(), more[agent], most)
            if wanted is not None:
                agent.scale(wanted)

    def _needed(self, agents: list[Worker], now: float) -> Counter[Worker]:
        """How many more slots each agent should have: an equal share of those who wait too long."""
        more: Counter[Worker] = Counter()
        for (model, user_id), count in self._overdue(now).items():
            pools = {user_id, EVERYBODY}
            able = [agent for agent in agents if model in agent.models and agent.pool in pools]
            for agent in able:
                more[agent] += ceil(count / len(able))
        return more

    def _overdue(self, now: float) -> Counter[tuple[str, str]]:
        """How many requests have waited too long, by model and user."""
        latest = now - self._rules.grow_after_s
        return Counter(
            (job.model, job.caller.user_id)
            for job in self._dispatch.in_line()
            if job.accepted <= latest
        )
