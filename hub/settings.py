"""One typed settings object, read from `hub.toml`, `.env`, `HUB_*` and the command line, in that order.

A field's environment name is `HUB_` and its path in capitals: `deadlines.queue_s` is `HUB_DEADLINES_QUEUE_S`.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from dotenv import dotenv_values
from msgspec import Meta, Struct

MIB = 1024 * 1024
LISTS = ("origins", "allowed_hosts", "trusted_proxies", "networks")
"""Settings whose variables hold several values, with commas between."""


ENVIRONMENT = "the environment"
SECRET = re.compile(r"(^|_)(secret|password|token)(_|$)")
"""Settings whose value is told to nobody, by their name."""


class SettingsError(Exception):
    """A setting is unknown or has a bad value; the message names where it came from."""


def doc(sentence: str, **bounds: Any) -> Meta:
    return Meta(description=sentence, **bounds)


Seconds = Annotated[float, Meta(ge=0)]


class Deadlines(Struct, forbid_unknown_fields=True, frozen=True):
    """How long each step of a request may take, in seconds."""

    queue_s: Annotated[Seconds, doc("In line while workers are busy; then 504 queue_timeout.")] = 60
    absent_s: Annotated[
        Seconds, doc("In line while no live worker offers the model; then 503.")
    ] = 15
    absent_stream_s: Annotated[
        Seconds, doc("The same for streams, whose status is still free.")
    ] = 5
    offer_s: Annotated[Seconds, doc("From the offer until the worker says `started`.")] = 15
    human_s: Annotated[Seconds, doc("The same while the worker waits for its human.")] = 300
    first_piece_s: Annotated[Seconds, doc("From `started` until the first piece.")] = 120
    between_pieces_s: Annotated[Seconds, doc("Between two pieces.")] = 60
    job_s: Annotated[Seconds, doc("The whole request, from its acceptance.")] = 600
    cut_s: Annotated[
        Seconds, doc("A lost link may resume this long before a job is redelivered.")
    ] = 5
    headers_s: Annotated[Seconds, doc("How long a stream's headers wait for the first piece.")] = 5
    keep_alive_s: Annotated[Seconds, doc("Silence on a stream before a keep-alive comment.")] = 10
    slow_caller_s: Annotated[
        Seconds, doc("A caller that reads nothing is cut off this long after its job was stopped.")
    ] = 10
    drain_s: Annotated[Seconds, doc("How long running answers may take after SIGTERM.")] = 30


class Workers(Struct, forbid_unknown_fields=True, frozen=True):
    """How links to workers are kept."""

    heartbeat_s: Annotated[float, doc("Silence before a ping; closed after twice this.", gt=0)] = 20
    grace_s: Annotated[Seconds, doc("How long a session outlives its socket.")] = 30
    hello_s: Annotated[Seconds, doc("How long a new socket may take to say hello.")] = 10
    stalled_s: Annotated[Seconds, doc("A worker that reads nothing this long is cut off.")] = 10
    poll_gone_s: Annotated[Seconds, doc("Silence after which a polling session is gone.")] = 90
    poll_late_s: Annotated[
        Seconds, doc("A poller later than `next_s` by this much gets no new jobs.")
    ] = 10
    wait_s: Annotated[Seconds, doc("How long an idle exchange is held; 0 where that is dear.")] = 25
    origins: Annotated[
        list[str],
        doc(
            "More web origins whose pages may open a worker socket, besides the site's; `*.` matches subdomains."
        ),
    ] = []


class Breakers(Struct, forbid_unknown_fields=True, frozen=True):
    """When workers that keep failing get no jobs for a while; one breaker a worker, one a worker and model."""

    failure_threshold: Annotated[int, doc("Failures in a row that open a breaker.", ge=1)] = 3
    recovery_time_s: Annotated[
        Seconds, doc("Seconds until an open breaker lets one request through, the probe.")
    ] = 300
    health_check_interval_s: Annotated[
        Seconds,
        doc("Seconds until the next probe, if one ended without showing whether the worker works."),
    ] = 60


class Scaling(Struct, forbid_unknown_fields=True, frozen=True):
    """When agents that were started with a range of slots are told to have more or fewer."""

    grow_after_s: Annotated[Seconds, doc("Wait for a worker that calls for more slots.")] = 5
    shrink_after_s: Annotated[float, doc("So long unused, slots are given up.", gt=0)] = 120


class Line(Struct, forbid_unknown_fields=True, frozen=True):
    """The line that requests wait in."""

    max_waiting: Annotated[int, doc("Requests waiting at once; then 429 queue_full.", ge=0)] = 1000
    max_waiting_per_key: Annotated[int, doc("The same of a single key.", ge=0)] = 200


class Admission(Struct, forbid_unknown_fields=True, frozen=True):
    """How requests are held against the limits of their key and its user."""

    answer_tokens: Annotated[
        int,
        doc(
            "Tokens held back for an answer until its length is known, where the caller names none.",
            ge=0,
        ),
    ] = 2048


class Retention(Struct, forbid_unknown_fields=True, frozen=True):
    """How long things are kept where no tier says so, in days."""

    operator_days: Annotated[
        int, doc("Journal rows and stored completions of keys that belong to no user.", ge=2)
    ] = 365


class SignIn(Struct, forbid_unknown_fields=True, frozen=True):
    """How people sign in. Only refused sign-ins count against the two limits."""

    session_s: Annotated[float, doc("How long a sign-in lasts, in seconds.", gt=0)] = 14 * 86_400
    window_s: Annotated[float, doc("How long a refused sign-in counts, in seconds.", gt=0)] = 900
    per_account: Annotated[int, doc("Refused sign-ins of one account in that time.", ge=1)] = 10
    per_address: Annotated[
        int, doc("Refused sign-ins from one IP address (of IPv6, one /64) in that time.", ge=1)
    ] = 30


class Idempotency(Struct, forbid_unknown_fields=True, frozen=True):
    """Requests with an Idempotency-Key, in seconds."""

    life_s: Annotated[
        float, doc("How long the same key and body get the same answer again.", ge=1)
    ] = 86_400
    linger_s: Annotated[
        Seconds, doc("How long such a request goes on when nobody is there to read its answer.")
    ] = 10


class Cache(Struct, forbid_unknown_fields=True, frozen=True):
    """How long, in seconds, what was looked up stays in memory. Changes made through the hub hold at once."""

    user_data_ttl: Annotated[float, doc("Keys, worker tokens and their users.", gt=0)] = 300
    model_list_ttl: Annotated[float, doc("The lists that GET /v1/models answers.", gt=0)] = 3600


FOLDED = """
{% for message in messages %}
[{{ message.heading }}]
{{ message.text }}
{% if not loop.last %}

{% endif %}
{% endfor %}
"""


class Folding(Struct, forbid_unknown_fields=True, frozen=True):
    """How a conversation becomes the one message that a tab can put into its page's composer."""

    template: Annotated[str, doc("A Jinja template; see below.")] = FOLDED.strip()


class Cors(Struct, forbid_unknown_fields=True, frozen=True):
    """Web pages that may call the API from a browser."""

    origins: Annotated[
        list[str],
        doc(
            "Their origins, as `https://chat.example.org`; `https://*.` matches subdomains, `*` all. None: no page may."
        ),
    ] = []


class Outbound(Struct, forbid_unknown_fields=True, frozen=True):
    """What the hub fetches for callers: images that they name by their address."""

    networks: Annotated[
        list[str],
        doc("Networks that it may fetch from although they are not public, as `10.1.0.0/16`."),
    ] = []


class Alarms(Struct, forbid_unknown_fields=True, frozen=True):
    """From where on the operator is told, in the system log and the metrics."""

    error_rate: Annotated[
        float,
        doc("Share of the requests of five minutes that the hub or a worker failed.", ge=0, le=1),
    ] = 0.2
    queue_wait_s: Annotated[
        Seconds, doc("Wait for a worker that one request in ten of five minutes exceeds.")
    ] = 20
    disk_free_mib: Annotated[int, doc("MiB free where the database lies.", ge=0)] = 500


class Metrics(Struct, forbid_unknown_fields=True, frozen=True):
    """Figures for Prometheus at /metrics."""

    public: Annotated[
        bool,
        doc("Anybody may read them; otherwise this machine, and keys with the admin scope."),
    ] = False
    models: Annotated[
        int, doc("Models that have figures of their own; the rest are `other`.", ge=0)
    ] = 100


class Hosting(Struct, forbid_unknown_fields=True, frozen=True):
    """What kind of place the hub runs at."""

    kind: Annotated[
        Literal["server", "shared"],
        doc("`shared`: started behind Passenger, where other defaults hold (set there by itself)."),
    ] = "server"
    idle_end_s: Annotated[
        Seconds, doc("The hub ends by itself after so long without any request; 0: never.")
    ] = 0
    restart_file: Annotated[str, doc("The hub ends by itself when this file changes.")] = ""
    max_callers: Annotated[
        int, doc("Calls of `/v1` in hand at once; more get 503 too_many_callers. 0: any.", ge=0)
    ] = 0


SHARED_DEFAULTS: dict[str, Any] = {
    "trusted_proxies": ["unix"],
    "hosting": {"idle_end_s": 600.0, "restart_file": "tmp/restart.txt", "max_callers": 4},
    "workers": {"wait_s": 0.0},
}
"""Where each request that is held occupies one of about six processes: two of them are kept for workers."""


class Log(Struct, forbid_unknown_fields=True, frozen=True):
    """What is written to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], doc("The least to write.")] = (
        "info"
    )
    format: Annotated[
        Literal["auto", "console", "json"],
        doc("Lines for people or for machines; auto looks for a terminal."),
    ] = "auto"


class Settings(Struct, forbid_unknown_fields=True, frozen=True):
    """Everything that an operator may choose."""

    host: Annotated[str, doc("The address to listen on.")] = "127.0.0.1"
    port: Annotated[int, doc("The port to listen on; 0 picks a free one.", ge=0, le=65535)] = 8080
    unix: Annotated[str, doc("A Unix socket to listen on, instead of an address and port.")] = ""
    data_dir: Annotated[str, doc("Where the database and its keys live.")] = "data"
    public_url: Annotated[str, doc("The address under which people and workers reach the hub.")] = (
        ""
    )
    allowed_hosts: Annotated[
        list[str],
        doc(
            "More host names that the hub answers for, besides public_url's, localhost and IP addresses; `*.` matches subdomains, `*` everything."
        ),
    ] = []
    trusted_proxies: Annotated[
        list[str],
        doc(
            "Addresses and networks of proxies whose X-Forwarded-For and X-Forwarded-Proto count; `unix` is whoever comes over a Unix socket."
        ),
    ] = []
    secret_key: Annotated[
        str,
        doc(
            "Encrypts what is stored, instead of the data directory's own key; several with commas: the first encrypts, all decrypt. A secret: better in the environment than in a file."
        ),
    ] = ""
    environment: Annotated[
        Literal["development", "production"], doc("`production` logs JSON even on a terminal.")
    ] = "development"
    debug: Annotated[bool, doc("Log at debug level, and let asyncio check itself.")] = False
    tls_cert: Annotated[str, doc("A PEM certificate chain; read again when it changes.")] = ""
    tls_key: Annotated[str, doc("The certificate's private key.")] = ""
    max_body_bytes: Annotated[int, doc("The largest request body.", ge=1024)] = 20 * MIB
    max_pending_bytes: Annotated[
        int, doc("Pieces waiting for one slow caller; beyond it the job is cancelled.", ge=1024)
    ] = 4 * MIB
    synchronous: Annotated[
        Literal["FULL", "NORMAL"], doc("SQLite's durability: NORMAL may lose the last moments.")
    ] = "FULL"
    unsupported: Annotated[
        Literal["ignore", "reject"],
        doc("What to do with sampling parameters that no worker of the model honours."),
    ] = "ignore"
    deadlines: Deadlines = msgspec.field(default_factory=Deadlines)
    workers: Workers = msgspec.field(default_factory=Workers)
    breaker: Breakers = msgspec.field(default_factory=Breakers)
    scaling: Scaling = msgspec.field(default_factory=Scaling)
    line: Line = msgspec.field(default_factory=Line)
    limits: Admission = msgspec.field(default_factory=Admission)
    retention: Retention = msgspec.field(default_factory=Retention)
    sign_in: SignIn = msgspec.field(default_factory=SignIn)
    idempotency: Idempotency = msgspec.field(default_factory=Idempotency)
    cache: Cache = msgspec.field(default_factory=Cache)
    cors: Cors = msgspec.field(default_factory=Cors)
    folding: Folding = msgspec.field(default_factory=Folding)
    outbound: Outbound = msgspec.field(default_factory=Outbound)
    alarms: Alarms = msgspec.field(default_factory=Alarms)
    metrics: Metrics = msgspec.field(default_factory=Metrics)
    hosting: Hosting = msgspec.field(default_factory=Hosting)
    log: Log = msgspec.field(default_factory=Log)

    def __repr__(self) -> str:
        """Not its values, among which are secrets: this may end up in a log."""
        return f"Settings(data_dir={self.data_dir!r})"

    @property
    def data(self) -> Path:
        return Path(self.data_dir)

    @property
    def log_level(self) -> str:
        return "debug" if self.debug else self.log.level


def load(
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Settings from `directory` (default: here), `environ` (default: the process's) and `overrides`.

    Raises SettingsError for bad values, and for unknown names in the files or the overrides; it names file
    and line, or the variable. Unknown `HUB_*` variables of the environment are passed over: container
    platforms set such names for reasons of their own.
    """
    return _settle(_sources(overrides, environ, directory))


class Origin(NamedTuple):
    """One setting as `explain` tells it; `source` says where its value comes from."""

    name: str
    value: Any
    source: str


def explain(
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> list[Origin]:
    """Every setting with its value and its source; secrets are not told. Raises SettingsError as `load`."""
    sources = _sources(overrides, environ, directory)
    values = msgspec.to_builtins(_settle(sources))
    layers = [Source("default", {}), *sources]
    if values["hosting"]["kind"] == "shared":
        layers.insert(1, Source("default for shared hosting", SHARED_DEFAULTS))
    return [_origin(path, values, layers) for path in field_paths(Settings)]


def _origin(path: tuple[str, ...], values: dict[str, Any], layers: "list[Source]") -> Origin:
    holding = [layer for layer in layers if _at(layer.values, path) is not None]
    source = holding[-1] if holding else layers[0]
    value = _at(values, path)
    if SECRET.search(path[-1]) and value:
        value = "(not shown)"
    return Origin(".".join(path), value, source.place(path))


def _at(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


class Source(NamedTuple):
    """A place that settings come from; `lines` says on which line of a file each one stands."""

    name: str
    values: dict[str, Any]
    lines: dict[tuple[str, ...], int] = {}

    def place(self, path: tuple[str, ...]) -> str:
        """The source, and the line or variable there. A section or value that is wrong stands below its path."""
        if self.name == ENVIRONMENT and path:
            return f"{self.name}, {variable(path)}"
        within = [line for known, line in self.lines.items() if known[: len(path)] == path]
        return f"{self.name}, line {min(within)}" if path and within else self.name


def _sources(
    overrides: Mapping[str, Any] | None,
    environ: Mapping[str, str] | None,
    directory: Path | None,
) -> list[Source]:
    """From the weakest to the strongest."""
    directory = directory or Path()
    environ = os.environ if environ is None else environ
    return [
        _from_toml(directory / "hub.toml"),
        _from_dotenv(directory / ".env"),
        Source(ENVIRONMENT, _from_environment(environ)),
        Source("the command line", dict(overrides or {})),
    ]


def _settle(sources: list[Source]) -> Settings:
    settings = _apply_all(Settings(), sources)
    if settings.hosting.kind == "shared":
        shared = msgspec.convert(merge(msgspec.to_builtins(Settings()), SHARED_DEFAULTS), Settings)
        settings = _apply_all(shared, sources)
    _check(settings)
    return settings


def _apply_all(settings: Settings, sources: list[Source]) -> Settings:
    for source in sources:
        settings = _apply(settings, source)
    return settings


def merge(base: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` laid over `base`, section by section."""
    merged = dict(base)
    for name, value in values.items():
        section = merged.get(name)
        if isinstance(section, dict) and isinstance(value, Mapping):
            merged[name] = merge(section, value)
        else:
            merged[name] = value
    return merged


def _apply(settings: Settings, source: Source) -> Settings:
    merged = merge(msgspec.to_builtins(settings), source.values)
    try:
        # Environment variables are text, so "8080" must do for 8080.
        return msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source.place(_path_in(str(error)))}: {error}") from None


def _path_in(complaint: str) -> tuple[str, ...]:
    """The setting that msgspec complains of."""
    at = re.search(r"at `\$\.([a-z_.]+)", complaint)
    unknown = re.search(r"unknown field `([^`]+)`", complaint)
    path = tuple(at[1].split(".")) if at else ()
    return (*path, unknown[1]) if unknown else path


def _from_toml(path: Path) -> Source:
    if not path.is_file():
        return Source(str(path), {})
    try:
        text = path.read_text(encoding="utf-8")
        return Source(str(path), tomllib.loads(text), _lines_of_toml(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _lines_of_toml(text: str) -> dict[tuple[str, ...], int]:
    lines: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = _names(header[1])
            lines.setdefault(section, number)
        elif key := re.match(r"\s*([\w.\s\"'-]+?)\s*=", line):
            lines.setdefault((*section, *_names(key[1])), number)
    return lines


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip(" \t\"'") for name in dotted.split("."))


def _from_dotenv(path: Path) -> Source:
    """Raises SettingsError for a name in the file that looks like a setting and is none."""
    values = {name: value or "" for name, value in dotenv_values(path).items()}
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if assigned := re.match(r"\s*(?:export\s+)?(HUB_\w+)\s*=", line):
            found[assigned[1]] = number
    known = {variable(setting): setting for setting in field_paths(Settings)}
    for name, number in found.items():
        if name not in known:
            raise SettingsError(f"{path}, line {number}: there is no setting {name}")
    lines = {known[name]: number for name, number in found.items()}
    return Source(str(path), _from_environment(values), lines)


def variable(path: tuple[str, ...]) -> str:
    """The environment variable of a setting."""
    return "HUB_" + "_".join(path).upper()


def strangers(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like settings and are none."""
    known = {variable(path) for path in field_paths(Settings)}
    return sorted(name for name in environ if name.startswith("HUB_") and name not in known)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path in field_paths(Settings):
        text = environ.get(variable(path))
        if text is None:
            continue
        section = values
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = _parse(text, path)
    return values


def _parse(text: str, path: tuple[str, ...]) -> Any:
    if path[-1] in LISTS:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def field_paths(struct: type[Struct], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every single setting, such as ("deadlines", "queue_s")."""
    paths = []
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            paths += field_paths(field.type, (*prefix, field.name))
        else:
            paths.append((*prefix, field.name))
    return paths


def _check(settings: Settings) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("tls_cert and tls_key go together: one of them is missing")
    url = urlsplit(settings.public_url)
    if settings.public_url and (url.scheme not in ("http", "https") or not url.hostname):
        raise SettingsError("public_url must look like https://hub.example.org")
    for name in settings.allowed_hosts:
        if not re.fullmatch(r"\*|(\*\.)?[^*/\s]+", name):
            raise SettingsError(f"allowed_hosts: {name!r} is no host name, *.domain or *")
    for origin in settings.cors.origins:
        if not re.fullmatch(r"\*|null|[a-z][a-z\d+.-]*://(\*\.)?[^*/\s]+", origin):
            raise SettingsError(f"cors.origins: {origin!r} is no origin, https://*.domain or *")
    for name in settings.trusted_proxies:
        if name != "unix":
            _check_network("trusted_proxies", name)
    for name in settings.outbound.networks:
        _check_network("outbound.networks", name)


def _check_network(setting: str, name: str) -> None:
    try:
        ip_network(name)
    except ValueError as error:
        raise SettingsError(f"{setting}: {error}") from None
