"""Everything that an administrator may do, as one table, for scripts and for the command line alike."""

from collections.abc import Callable
from typing import Any

from . import (
    database,
    invitations,
    keeping,
    keys,
    logs,
    routing,
    site_profile,
    tiers,
    users,
    worker_tokens,
    workers,
)
from .operation import Operation

OPERATIONS = [
    *users.OPERATIONS,
    *invitations.OPERATIONS,
    *keys.OPERATIONS,
    *worker_tokens.OPERATIONS,
    *workers.OPERATIONS,
    *tiers.OPERATIONS,
    *routing.OPERATIONS,
    *site_profile.OPERATIONS,
    *keeping.OPERATIONS,
    *logs.OPERATIONS,
]
LOCAL = database.OPERATIONS
"""What only the operator of the hub's machine may do, by command line."""


def operation_of(run: Callable[..., Any]) -> Operation:
    """The operation that a function is."""
    return next(operation for operation in (*OPERATIONS, *LOCAL) if operation.run is run)
