"""Everything that an administrator may do, as one table, for scripts and for the command line alike."""

from collections.abc import Callable
from typing import Any

from . import invitations, keeping, keys, logs, site_profile, tiers, users, worker_tokens
from .operation import Operation

OPERATIONS = [
    *users.OPERATIONS,
    *invitations.OPERATIONS,
    *keys.OPERATIONS,
    *worker_tokens.OPERATIONS,
    *tiers.OPERATIONS,
    *site_profile.OPERATIONS,
    *keeping.OPERATIONS,
    *logs.OPERATIONS,
]


def operation_of(run: Callable[..., Any]) -> Operation:
    """The operation that a function is."""
    return next(operation for operation in OPERATIONS if operation.run is run)
