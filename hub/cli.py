"""The command line, thin: settings, then the same code as the admin API."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click
import msgspec
import rich
from rich.live import Live
from rich.markup import escape

from . import __version__, control, doctor
from .app import AlreadyRunning, serve
from .errors import HubError
from .live import log
from .options import members, parameters
from .rules import price_list
from .settings import Settings, SettingsError, explain, load, strangers
from .store import NewerDatabase
from .store.vault import FILE as VAULT_KEYS
from .tables import cell, flat, print_table, printable, table_of
from .web.operations import (
    database,
    invitations,
    keeping,
    keys,
    logs,
    operation_of,
    routing,
    site_profile,
    tiers,
    users,
    worker_tokens,
    workers,
)

try:
    from uvloop import new_event_loop
except ImportError:  # Windows
    from asyncio import new_event_loop  # type: ignore[assignment]

Run = Callable[..., Coroutine[Any, Any, Any]]
Tell = Callable[[Any], None]

data_option = click.option("--data", metavar="DIR", help="The data directory (default: data).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
LOOK_S = 1.0
"""How often a command that watches looks again."""
WORKER_COLUMNS = "id name kind token region transport state reason busy slots models weight completed failed resting"
ASK = ""
"""What `--password` says when nothing follows it."""
PASSWORD_VARIABLE = "LMARENA_PASSWORD"  # noqa: S105 - its name


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lmarena-hub")
def main() -> None:
    """LMArena Bridge's hub."""


@main.command("serve")
@click.option("--host", help="The address to listen on (default: 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="The port (default: 8080).")
@click.option("--unix", metavar="PATH", help="A Unix socket to listen on instead.")
@data_option
@click.option("--tls-cert", metavar="FILE", help="A PEM certificate chain, for wss and https.")
@click.option("--tls-key", metavar="FILE", help="Its private key.")
def serve_command(**options: Any) -> None:
    """Run the hub until it is told to stop."""
    settings = _settings(**options)
    log.configure(settings)
    _run(lambda: serve(settings), debug=settings.debug)


# --- how a command is made of an operation -------------------------------------------------------------


def said(sentence: str) -> Tell:
    """Tell an answer in one sentence, in which its members stand in braces."""
    return lambda answer: click.echo(printable(sentence.format_map(answer)))


def table(columns: str) -> Tell:
    """Tell an answer as a table of these columns."""

    def tell(rows: list[dict[str, Any]]) -> None:
        if rows:
            print_table([flat(row) for row in rows], columns.split())
        else:
            click.echo("None yet.", err=True)

    return tell


def limits(answer: Any) -> None:
    """Tell the limits that somebody has now."""
    told = cell("limits", answer["limits"]) or "no limits"
    click.echo(printable(f"{answer['name']}: {told}"))


def leads(answer: Any) -> None:
    """Tell what answers to a name."""
    click.echo(printable(f"{answer['name']}: {cell('targets', answer['targets'])}"))


def link(answer: Any) -> None:
    """Tell an invitation's link, as whole as it is known."""
    click.echo(answer["url"] or answer["path"])
    if answer["url"] is None:
        click.echo("Put the hub's address before it; the setting public_url does so.", err=True)


def command(
    group: click.Group, name: str, run: Run, *arguments: str, tell: Tell, prefix: str = ""
) -> None:
    """Add a command that carries out an operation; its options are the members of the operation's body."""
    operation = operation_of(run)
    fields = parameters(operation.body, arguments, prefix)
    secret = [field for field in fields if field.name == "password"]

    def callback(data: str | None, as_json: bool, **values: Any) -> None:
        if secret:
            values["password"] = _password(required=secret[0].required, **values)
            values.pop("password_file")
        answer = _call(data, run, members(values))
        if as_json:
            click.echo(json.dumps(answer))
        else:
            tell(answer)

    made = click.command(name, help=operation.summary)(json_option(data_option(callback)))
    made.params[:0] = [field for field in fields if field not in secret]
    made.params += _password_options(prefix) if secret else []
    group.add_command(made)


def _password_options(prefix: str) -> list[click.Parameter]:
    """How to hand over a password: best typed, or from a file, so that no list of processes shows it."""
    return [
        click.Option(
            ["password", f"--{prefix}password"],
            is_flag=False,
            flag_value=ASK,
            envvar=PASSWORD_VARIABLE,
            show_envvar=True,
            help="A password; asked for, unseen, if nothing follows.",
        ),
        click.Option(
            ["--password-file"],
            type=click.File("r", encoding="utf-8"),
            help="A file that holds the password, - for standard input.",
        ),
    ]


def _password(
    *, required: bool, password: str | None, password_file: TextIO | None, **_: Any
) -> str | None:
    if password_file is not None:
        return password_file.read().rstrip("\r\n")
    if password != ASK and not (password is None and required):
        return password
    if not sys.stdin.isatty():
        raise click.UsageError(f"Give a password: with --password-file, or as {PASSWORD_VARIABLE}.")
    # Not on standard output, where the secret alone belongs.
    asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return asked


# --- the commands ----------------------------------------------------------------------------------------


@main.group()
def user() -> None:
    """People with an account."""


@main.group()
def key() -> None:
    """API keys, for callers."""


@main.group("worker-token")
def worker_token() -> None:
    """Worker tokens, for tabs and agents."""


@main.group()
def tier() -> None:
    """Tiers: what their users may use."""


@main.group()
def price() -> None:
    """What models cost, in dollars per million tokens and per image."""


@main.group()
def alias() -> None:
    """Other names for models."""


@main.group()
def model() -> None:
    """Which models callers are shown."""


@main.group()
def vault() -> None:
    """The keys under which stored content is encrypted."""


@main.group()
def profile() -> None:
    """The site profile: what tabs know of the site, as data."""


has_tier = said("{email} has the tier {tier}")
secret_alone = said("{secret}")
revoked = said("revoked {id}")

command(main, "init", users.init, tell=secret_alone, prefix="admin-")

command(user, "add", users.create_user, tell=said("{email} has an account, with the tier {tier}"))
command(
    user,
    "list",
    users.list_users,
    tell=table("email name role tier disabled created_at id"),
)
command(user, "set-tier", users.set_tier, "user", "tier", tell=has_tier)
command(user, "set-role", users.set_role, "user", "role", tell=said("{email} has the role {role}"))
command(user, "disable", users.disable_user, "user", tell=said("{email} is disabled"))
command(user, "enable", users.enable_user, "user", tell=said("{email} is enabled"))
command(
    user,
    "reset-password",
    users.reset_password,
    "user",
    tell=said("{email} has a new password"),
)

command(user, "invite", invitations.create_invitation, tell=link)
command(
    user,
    "invitations",
    invitations.list_invitations,
    tell=table("id email role tier created_at expires_at"),
)
command(user, "revoke-invitation", invitations.revoke_invitation, "id", tell=revoked)

command(key, "create", keys.create_key, tell=secret_alone)
command(
    key,
    "list",
    keys.list_keys,
    tell=table("id name prefix user scopes limits own_workers_only expires_at last_used_at"),
)
command(key, "rotate", keys.rotate_key, "id", tell=secret_alone)
command(key, "revoke", keys.revoke_key, "id", tell=revoked)
command(key, "set-limits", keys.set_key_limits, "id", tell=limits)

command(worker_token, "create", worker_tokens.create_worker_token, tell=secret_alone)
command(
    worker_token,
    "list",
    worker_tokens.list_worker_tokens,
    tell=table("id name prefix user shared models slots trusted last_seen_at"),
)
command(worker_token, "revoke", worker_tokens.revoke_worker_token, "id", tell=revoked)

command(tier, "list", tiers.list_tiers, tell=table("name limits"))
command(tier, "set", tiers.change_tier, "name", tell=limits)

command(
    price,
    "list",
    tiers.list_prices,
    tell=table("id pattern input output cached image valid_from own_workers"),
)
command(price, "set", tiers.set_price, "pattern", tell=said("price {id} for {price[pattern]}"))
command(price, "remove", tiers.remove_price, "id", tell=said("removed price {id}"))

command(alias, "set", routing.set_alias, "name", "targets", tell=leads)
command(alias, "list", routing.list_aliases, tell=table("name targets"))
command(alias, "remove", routing.remove_alias, "name", tell=said("removed alias {name}"))
command(model, "hide", routing.hide_model, "pattern", tell=said("{pattern} is hidden"))
command(model, "show", routing.show_model, "pattern", tell=said("{pattern} is shown"))
command(model, "hidden", routing.list_hidden_models, tell=table("pattern"))

command(
    vault,
    "status",
    keeping.vault_status,
    tell=said("key {current} is in use; texts by key: {texts}; missing keys: {missing}"),
)
command(
    vault,
    "rotate",
    keeping.rotate_vault,
    tell=said("key {current} is in use; encrypted anew: {resealed}, unreadable: {unreadable}"),
)
command(
    main,
    "cleanup",
    keeping.cleanup,
    tell=said("removed {journal} rows of the journal, {answers} answers, {sessions} sign-ins"),
)

told = said("told {name}")
command(main, "drain", workers.drain_worker, "id", tell=told)
command(main, "kick", workers.kick_worker, "id", tell=told)
command(main, "weight", workers.weigh_worker, "id", "weight", tell=told)

command(main, "audit-log", logs.audit_log, tell=table("at actor address action subject detail"))
command(main, "system-log", logs.system_log, tell=table("at kind subject message"))


@main.command("workers", help=operation_of(workers.list_workers).summary)
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@data_option
@json_option
def workers_command(watch: bool, data: str | None, as_json: bool) -> None:
    rows = _call(data, workers.list_workers, {})
    if as_json:
        click.echo(json.dumps(rows))
    elif not watch:
        table(WORKER_COLUMNS)(rows)
    else:
        _watch(data, rows)


def _watch(data: str | None, rows: list[dict[str, Any]]) -> None:
    with Live(auto_refresh=False) as screen:
        while True:
            screen.update(table_of(rows, WORKER_COLUMNS.split()), refresh=True)
            _pause()
            rows = _call(data, workers.list_workers, {})


@main.command("requests", help=operation_of(workers.list_requests).summary)
@click.option("--count", type=click.IntRange(1, 1000), default=20, help="How many at most.")
@click.option("--follow", is_flag=True, help="Go on with those to come, until Ctrl-C.")
@data_option
@json_option
def requests_command(count: int, follow: bool, data: str | None, as_json: bool) -> None:
    seen = 0
    while True:
        for row in _call(data, workers.list_requests, {"count": count, "after": seen}):
            seen, count = row["number"], 1000
            click.echo(json.dumps(row) if as_json else _request_line(row))
        if not follow:
            return
        _pause()


def _pause() -> None:
    """Until it is time to look again; Ctrl-C is how watching ends."""
    try:
        time.sleep(LOOK_S)
    except KeyboardInterrupt:
        sys.exit(130)


def _request_line(row: dict[str, Any]) -> str:
    first = "" if row["first_piece_s"] is None else f", first piece {row['first_piece_s']:.2f} s"
    return printable(
        f"{cell('at', row['at'])}  {row['state']:9}  {row['error'] or 'ok'}  {row['model']}"
        f"  {row['key']} > {row['worker'] or 'nobody'}  {row['duration_s']:.2f} s"
        f" (in line {row['waited_s']:.2f} s{first})  {row['tokens_in']} > {row['tokens_out']} tokens"
    )


@price.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8-sig"))
@data_option
@json_option
def price_import(file: TextIO, data: str | None, as_json: bool) -> None:
    """Set the prices in FILE, a .csv or .json of dollars (- for JSON on standard input); all or none."""
    try:
        prices = price_list.read(file.read(), as_csv=file.name.lower().endswith(".csv"))
    except ValueError as error:
        _stop(SettingsError(f"{file.name}: {error}"))
    added = _call(data, tiers.import_prices, {"prices": prices})
    click.echo(json.dumps(added) if as_json else f"prices added: {len(added)}")


@profile.command("show")
@data_option
def profile_show(data: str | None) -> None:
    """Print the profile in force, as JSON."""
    shown = _call(data, site_profile.show_profile, {})
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False))


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
    stored = _call(data, site_profile.set_profile, {"profile": values, "note": note})
    click.echo(json.dumps(stored) if as_json else f"version {stored['version']} is in force")


command(
    profile,
    "history",
    site_profile.profile_history,
    tell=table("version note actor created_at current"),
)


@profile.command("rollback")
@click.argument("version", required=False, type=click.IntRange(0))
@data_option
@json_option
def profile_rollback(version: int | None, data: str | None, as_json: bool) -> None:
    """Put an older VERSION in force again; without one, the version before the current."""
    stored = _call(data, site_profile.roll_back_profile, {"version": version})
    click.echo(json.dumps(stored) if as_json else f"version {stored['version']} is in force")


# --- the machine and the data ----------------------------------------------------------------------------


@main.command("settings")
@data_option
@json_option
def settings_command(data: str | None, as_json: bool) -> None:
    """Show every setting with its value and where that comes from; secrets are not shown."""
    overrides = {} if data is None else {"data_dir": data}
    try:
        origins = explain(overrides)
    except SettingsError as error:
        _stop(error)
    for name in strangers(os.environ):
        click.echo(f"lmarena-hub: there is no setting {name}; it is passed over", err=True)
    rows = [origin._asdict() for origin in origins]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        row["value"] = json.dumps(row["value"], ensure_ascii=False)  # as one would write it
    print_table(rows, ["name", "value", "source"])


VERDICTS = {"good": "[green]good[/]", "look": "[yellow]look[/]", "bad": "[red]bad [/]"}


@main.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--with-vault-keys",
    is_flag=True,
    help="Put the keys of encrypted content into the backup, too.",
)
@data_option
@json_option
def backup_command(file: Path, with_vault_keys: bool, data: str | None, as_json: bool) -> None:
    """Copy the database to FILE, also while the hub runs, and check the copy."""
    body = {"file": str(file.absolute()), "with_vault_keys": with_vault_keys}
    made = _call(data, database.back_up, body)
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(f"{made['file']}: {made['requests']} requests, {made['bytes']} bytes, checked")
    if made["vault_keys"] == "apart":
        click.echo(
            f"It does not hold the vault's keys. Keep {VAULT_KEYS} of the data directory apart from it: "
            f"without them, {made['encrypted']} rows of content stay unreadable."
        )
    elif made["vault_keys"] == "included":
        click.echo("It holds the vault's keys: whoever has it can read everything.")


@main.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@data_option
@json_option
def restore_command(file: Path, data: str | None, as_json: bool) -> None:
    """Put the backup FILE in the place of the database. Stop the hub first."""
    settings = _settings(data)
    try:
        done = control.restore(settings, file)
    except (AlreadyRunning, HubError, NewerDatabase, SettingsError, OSError) as error:
        _stop(error)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(done)))
        return
    click.echo(f"restored {done.backup.requests} requests from {file}")
    if done.replaced:
        click.echo(f"What was there before is now {done.replaced}")
    if done.unreadable:
        click.echo(
            f"{done.unreadable} rows of content stay unreadable: put the {VAULT_KEYS} that belong to this "
            "backup into the data directory."
        )


@main.command("doctor")
@data_option
@json_option
def doctor_command(data: str | None, as_json: bool) -> None:
    """Look whether a hub will do well here, and say what to do. Exits with 1 if something must be mended."""
    settings = _settings(data)
    findings = _run(lambda: _examine(settings, aloud=not as_json))
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(findings)))
    if any(finding.verdict == "bad" for finding in findings):
        sys.exit(1)


async def _examine(settings: Settings, *, aloud: bool) -> list[doctor.Finding]:
    findings = []
    async for finding in doctor.examine(settings):
        findings.append(finding)
        if aloud:
            rich.print(f"{VERDICTS[finding.verdict]}  {finding.subject}: {escape(finding.seen)}")
        if aloud and finding.advice:
            rich.print(f"      {escape(finding.advice)}")
    return findings


# --- carrying out ----------------------------------------------------------------------------------------


def _settings(data: str | None = None, **options: Any) -> Settings:
    overrides = {name: value for name, value in options.items() if value is not None}
    if data is not None:
        overrides["data_dir"] = data
    try:
        return load(overrides)
    except SettingsError as error:
        _stop(error)


def _call(data: str | None, run: Run, body: dict[str, Any]) -> Any:
    settings = _settings(data)
    if not (settings.data / "hub.db").exists():
        click.echo(f"making a new data directory: {settings.data}", err=True)
    return _run(lambda: control.call(settings, operation_of(run), body))


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
