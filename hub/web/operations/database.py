"""Operations on the database as a whole. They name files of the hub's machine: for the command line alone."""

import asyncio
import functools
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from ...store import backup
from ...store.backup import Backup
from .operation import Office, Operation


class NewBackup(Struct, forbid_unknown_fields=True):
    """Where a backup goes, and what goes into it."""

    file: Annotated[str, Meta(min_length=1, description="An absolute path.")]
    with_vault_keys: bool = False


async def back_up(office: Office, body: NewBackup) -> Backup:
    """Copy the database to FILE, also while the hub runs, and check the copy."""
    write = functools.partial(backup.write, office.store.data, Path(body.file))
    made = await asyncio.to_thread(write, with_keys=body.with_vault_keys)
    await office.store.audit_log.write(office.actor, "database.back_up", body.file, made.vault_keys)
    return made


OPERATIONS = [Operation("POST", "/admin/api/backup", back_up)]
