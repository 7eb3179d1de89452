"""The command line, thin: settings, then the same code as the admin API."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, NoReturn, TextIO

import click
import rich
from rich.markup import escape
from rich.table import Table

from . import __version__, control
from .app import AlreadyRunning, serve
from .errors import HubError
from .live import log
from .settings import Settings, SettingsError, load
from .store import NewerDatabase

try:
    from uvloop import new_event_loop
except ImportError:  # Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

data_option = click.option("--data", metavar="DIR", help="The data directory (default: data).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
name_option = click.option("--name", required=True, help="A name that people will recognise.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lmarena-hub")
def main() -> None:
    """LMArena Bridge's hub."""


@main.command("serve")
@click.option("--host", help="The address to listen on (default: 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="The port (default: 8080).")
@data_option
@click.option("--tls-cert", metavar="FILE", help="A PEM certificate chain, for wss and https.")
@click.option("--tls-key", metavar="FILE", help="Its private key.")
def serve_command(**options: Any) -> None:
    """Run the hub until it is told to stop."""
    settings = _settings(**options)
    log.configure(settings)
    _run(lambda: serve(settings), debug=settings.debug)


@main.group()
def key() -> None:
    """API keys, for callers."""


@main.group("worker-token")
def worker_token() -> None:
    """Worker tokens, for tabs and agents."""


def _credential_commands(group: click.Group, path: str, what: str) -> None:
    """The same three commands for keys and for tokens."""

    @group.command("create", help=f"Make {what}. Its secret is printed this once.")
    @name_option
    @data_option
    @json_option
    def create(name: str, data: str | None, as_json: bool) -> None:
        made = _call(data, "POST", path, {"name": name})
        click.echo(json.dumps(made) if as_json else made["secret"])

    @group.command("list", help=f"Show every {what.split(' ', 1)[1]} that is not revoked.")
    @data_option
    @json_option
    def list_all(data: str | None, as_json: bool) -> None:
        _show(_call(data, "GET", path, {}), as_json)

    @group.command("revoke", help=f"End {what}, by the id that `list` shows.")
    @click.argument("id")
    @data_option
    @json_option
    def revoke(id: str, data: str | None, as_json: bool) -> None:  # noqa: A002 - click names it
        done = _call(data, "POST", f"{path}/revoke", {"id": id})
        click.echo(json.dumps(done) if as_json else f"revoked {id}")


_credential_commands(key, "/admin/api/keys", "an API key")
_credential_commands(worker_token, "/admin/api/worker-tokens", "a worker token")


@main.group()
def profile() -> None:
    """The site profile: what tabs know of the site, as data."""


@profile.command("show")
@data_option
def profile_show(data: str | None) -> None:
    """Print the profile in force, as JSON."""
    click.echo(_pretty(_call(data, "GET", "/admin/api/profile", {})))


@profile.command("set")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--note", default="", help="Why, for the history.")
@data_option
@json_option
def profile_set(file: TextIO, note: str, data: str | None, as_json: bool) -> None:
    """Put the profile in FILE (- for standard input) in force; workers get it at once."""
    try:
        values = json.load(file)
    except ValueError as error:
        _stop(SettingsError(f"{file.name}: {error}"))
    stored = _call(data, "POST", "/admin/api/profile", {"profile": values, "note": note})
    click.echo(json.dumps(stored) if as_json else f"version {stored['version']} is in force")


@profile.command("history")
@data_option
@json_option
def profile_history(data: str | None, as_json: bool) -> None:
    """Every version, the newest first; 0 is the one that came with the hub."""
    _show(_call(data, "GET", "/admin/api/profile/history", {}), as_json)


@profile.command("rollback")
@click.argument("version", required=False, type=click.IntRange(0))
@data_option
@json_option
def profile_rollback(version: int | None, data: str | None, as_json: bool) -> None:
    """Put an older VERSION in force again; without one, the version before the current."""
    stored = _call(data, "POST", "/admin/api/profile/rollback", {"version": version})
    click.echo(json.dumps(stored) if as_json else f"version {stored['version']} is in force")


@main.command("system-log")
@click.option("--count", default=100, show_default=True, type=click.IntRange(1, 10_000))
@data_option
@json_option
def system_log(count: int, data: str | None, as_json: bool) -> None:
    """What an operator should know of: a changed site, workers that need their human."""
    rows = _call(data, "GET", "/admin/api/system-log", {"count": count})
    if not as_json:
        for row in rows:
            row["at"] = datetime.fromtimestamp(row["at"]).astimezone().isoformat(" ", "seconds")
    _show(rows, as_json)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(rows))
    else:
        _print_table(rows)


def _print_table(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("None yet.", err=True)
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    rich.print(table)


def _settings(data: str | None = None, **options: Any) -> Settings:
    overrides = {name: value for name, value in options.items() if value is not None}
    if data is not None:
        overrides["data_dir"] = data
    try:
        return load(overrides)
    except SettingsError as error:
        _stop(error)


def _call(data: str | None, method: str, path: str, body: dict[str, Any]) -> Any:
    settings = _settings(data)
    if not (settings.data / "hub.db").exists():
        click.echo(f"making a new data directory: {settings.data}", err=True)
    return _run(lambda: control.call(settings, method, path, body))


def _run(main: Callable[[], Coroutine[Any, Any, Any]], *, debug: bool = False) -> Any:
    try:
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
            return runner.run(main())
    except (SettingsError, AlreadyRunning, NewerDatabase, HubError, OSError) as error:
        _stop(error)
    except KeyboardInterrupt:
        sys.exit(130)


def _stop(error: Exception) -> NoReturn:
    click.echo(f"lmarena-hub: {error}", err=True)
    sys.exit(1)
