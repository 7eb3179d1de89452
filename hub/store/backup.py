"""Backups: a copy of the database while it is used, checked once it is written; and the way back.

A backup is one SQLite file with one table more than the hub's own, which says when and by whom it was made,
and holds the vault's keys if they were asked for.
"""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from msgspec import Struct

from .. import __version__
from ..errors import HubError
from ..settings import Settings
from . import vault
from .database import MIGRATIONS, NewerDatabase

DATABASE = "hub.db"
REPLACED = "hub.db.replaced"
"""Where a restore leaves the database that was there before."""
SEALED = {"request_bodies": "body", "response_pieces": "pieces"}
"""Tables whose content only the vault's keys open, and a column of each that begins with its key's id."""

Keys = Literal["included", "apart", "none"]


class BackupError(HubError):
    """The backup could not be made, or is none."""

    status = 409
    type = "invalid_request_error"
    permanent = True


class Backup(Struct, frozen=True):
    """What a backup holds. `made_at` is in Unix seconds, `cost` in micro-dollars."""

    file: str
    bytes: int
    made_at: float
    version: str
    schema: int
    requests: int
    cost: int
    encrypted: int
    """Rows that nobody reads without the vault's keys."""
    vault_keys: Keys
    """`apart`: the data directory has keys, and they are not in the backup; `none`: the operator keeps them."""


def write(data: Path, target: Path, *, with_keys: bool) -> Backup:
    """Copy the database in `data`, which is in use, to `target`, and check the copy. Takes seconds to minutes.

    The file is there only once it is whole; mode 0600. Raises BackupError.
    """
    try:
        return _write(data, target, with_keys=with_keys)
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"No backup was made: {error}.") from None


def _write(data: Path, target: Path, *, with_keys: bool) -> Backup:
    if target.exists() and not _is_backup(target):
        raise BackupError(f"{target} is there already, and is no backup: choose another name.")
    with (
        _new_file(target) as part,
        closing(_reader(data / DATABASE)) as live,
        closing(sqlite3.connect(part)) as copy,
    ):
        # In one step, so that it sees one moment, however much is written meanwhile.
        live.backup(copy)
        # Otherwise the copy would want files beside it.
        copy.execute("PRAGMA journal_mode = DELETE")
        _note(copy, data / vault.FILE, with_keys=with_keys)
        copy.commit()
        _check(copy)
    return read(target)


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """A file to write to, which becomes `target` if all goes well."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read(file: Path) -> Backup:
    """What a backup holds. Raises BackupError for anything else, or one that is damaged."""
    if not _is_backup(file):
        raise BackupError(f"{file} is not a backup of this hub.")
    with closing(_reader(file)) as connection:
        _check(connection)
        made_at, version, vault_keys, _ = connection.execute("SELECT * FROM backup").fetchone()
        requests, cost = connection.execute(
            "SELECT count(*), coalesce(sum(cost), 0) FROM requests"
        ).fetchone()
        return Backup(
            file=str(file),
            bytes=file.stat().st_size,
            made_at=made_at,
            version=version,
            schema=_schema(connection),
            requests=requests,
            cost=cost,
            encrypted=sum(_sealed(connection).values()),
            vault_keys=vault_keys,
        )


class Restored(Struct, frozen=True):
    """What came of a restore."""

    backup: Backup
    replaced: str | None
    """Where the database is that was there before."""
    unreadable: int
    """Encrypted rows that the keys in the data directory do not open."""


def restore(settings: Settings, file: Path) -> Restored:
    """Put a backup in the place of the database in `data_dir`. Hold `hub.lock` meanwhile.

    What was there is kept beside it. Raises BackupError, NewerDatabase, SettingsError, OSError.
    """
    data = settings.data
    backup = read(file)
    newest = max(int(path.name.split("_")[0]) for path in MIGRATIONS.glob("[0-9]*.sql"))
    if backup.schema > newest:
        raise NewerDatabase(NewerDatabase.__doc__)
    with _new_file(data / DATABASE) as part:
        with closing(_reader(file)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            keys = copy.execute("SELECT keys FROM backup").fetchone()[0]
            sealed = _sealed(copy)
            copy.execute("PRAGMA secure_delete = ON")  # the keys are not to stay in unused pages
            copy.execute("DROP TABLE backup")
            copy.commit()
            _check(copy)
        replaced = _set_aside(data)
    if keys:
        _put_keys(data / vault.FILE, keys)
    known = {vault.key_id(key) for key in vault.keys_at_hand(settings)}
    return Restored(backup, replaced, sum(n for key, n in sealed.items() if key not in known))


def _set_aside(data: Path) -> str | None:
    """Move the present database out of the way, whole."""
    database = data / DATABASE
    if not database.exists():
        return None
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(
            "PRAGMA journal_mode = DELETE"
        )  # with all that is in the write-ahead log
    database.replace(data / REPLACED)
    return str(data / REPLACED)


def _put_keys(file: Path, keys: bytes) -> None:
    if file.exists() and file.read_bytes() != keys:
        # Older content may need them.
        file.replace(file.with_name(file.name + ".replaced"))
    file.touch(mode=0o600)
    file.write_bytes(keys)


def _note(copy: sqlite3.Connection, keys: Path, *, with_keys: bool) -> None:
    copy.execute("DROP TABLE IF EXISTS backup")
    copy.execute("CREATE TABLE backup (made_at REAL, version TEXT, vault_keys TEXT, keys BLOB)")
    held = keys.read_bytes() if with_keys and keys.exists() else None
    state: Keys = "included" if held else "apart" if keys.exists() else "none"
    row = (time.time(), __version__, state, held)
    copy.execute("INSERT INTO backup VALUES (?, ?, ?, ?)", row)


def _sealed(connection: sqlite3.Connection) -> Counter[bytes]:
    """How many rows are sealed under each key, by its id."""
    rows: Counter[bytes] = Counter()
    for table, column in SEALED.items():
        if _rows(connection, table):
            counted = (
                f"SELECT substr({column}, 1, {vault.ID_BYTES}), count(*) FROM {table} GROUP BY 1"  # noqa: S608 - our own names
            )
            rows.update(dict(connection.execute(counted).fetchall()))
    return rows


def _reader(file: Path) -> sqlite3.Connection:
    """A connection that neither writes nor checkpoints: the hub's writer alone does, see `database.py`."""
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _check(connection: sqlite3.Connection) -> None:
    """Raises BackupError."""
    try:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
        strays = connection.execute("PRAGMA foreign_key_check").fetchall()
    except sqlite3.DatabaseError as error:
        found, strays = [str(error)], []
    if found != ["ok"] or strays:
        raise BackupError(f"The copy is damaged: {'; '.join(found)}. It is not used.")


def _is_backup(file: Path) -> bool:
    try:
        with closing(_reader(file)) as connection:
            return _rows(connection, "backup") == 1
    except (sqlite3.Error, OSError):
        return False


def _rows(connection: sqlite3.Connection, table: str) -> int:
    known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(known, (table,)).fetchone() is None:
        return 0
    rows: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
    return rows


def _schema(connection: sqlite3.Connection) -> int:
    schema: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return schema
