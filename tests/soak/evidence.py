"""What was seen of a soak: by callers, by workers, in the database, and in the hub itself."""

from dataclasses import dataclass, field

from tests.records import Records, Row

LEFT = "left"
BROKEN = "broken"
"""The connection broke: only a hub that is killed does that."""


@dataclass
class Transcript:
    """One request as its caller saw it. Times are Unix seconds."""

    tag: str
    """A word of the prompt that no other request has."""
    model: str
    prompt: str
    stream: bool
    began: float = 0.0
    ended: float = 0.0
    request_id: str = ""
    text: str = ""
    endings: list[str] = field(default_factory=list)
    """Every end that it was told: a finish reason or an error's code; or LEFT, or BROKEN."""
    dones: int = 0
    """How often the stream said [DONE]."""

    @property
    def ending(self) -> str:
        return self.endings[0] if self.endings else ""

    @property
    def stayed(self) -> bool:
        """Whether the caller read all that there was."""
        return self.ending not in (LEFT, BROKEN)


@dataclass
class Attempt:
    """One delivery of a job to a scripted worker, as that worker logged it."""

    job: str
    tag: str
    worker: str
    session: str
    offered_s: float
    """When the hub offered it, in seconds after it accepted the request: from the job's own deadline."""
    sent: list[str] = field(default_factory=list)
    """Its pieces, sent or waiting for a link."""
    started: bool = False
    heard: bool = False
    """The hub has acknowledged its `started`."""
    end: str | None = None
    """The finish reason that it said."""
    failed: str | None = None
    ran: bool | None = None
    """What its `fail` said of that, if anything."""
    cancelled: str | None = None
    """Why the hub took it back."""

    @property
    def text(self) -> str:
        return "".join(self.sent)


@dataclass
class Call:
    """One request of an agent to its upstream, as that logged it."""

    tag: str
    sent: list[str] = field(default_factory=list)
    end: str | None = None
    """What a caller reads as its finish reason; an upstream that breaks off leaves a truncated answer."""

    @property
    def text(self) -> str:
        return "".join(self.sent)


@dataclass
class Look:
    """The inside of a hub at one moment."""

    counts: dict[str, int]
    """What it holds of requests: jobs, places in line, reservations, taken slots, ..."""
    tasks: dict[str, int]
    """Its asyncio tasks, by the name of what they run."""

    def is_no_more_than(self, other: "Look") -> bool:
        """Whether it holds nothing, and runs no task that the other did not."""
        more = [task for task, count in self.tasks.items() if count > other.tasks.get(task, 0)]
        return not more and not any(self.counts.values())


@dataclass
class Evidence:
    transcripts: list[Transcript]
    attempts: list[Attempt]
    calls: list[Call]
    records: Records
    kills: list[float]
    """When the hub was killed."""
    calm: Look
    """When everything was over, with workers still there."""
    first: Look
    """Before the first worker came."""
    last: Look
    """After the last one went."""
    log: str
    """What the hub logged."""
    complaints: list[str] = field(default_factory=list)
    """What workers found wrong with the hub's frames."""
    faults: dict[str, int] = field(default_factory=dict)

    def row(self, request_id: str) -> Row | None:
        return next((row for row in self.records.rows if row["id"] == request_id), None)
