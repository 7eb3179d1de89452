"""Passwords: argon2id, with the library's own parameters (RFC 9106's for low memory)."""

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..errors import InvalidRequest

SHORTEST = 8
LONGEST = 1_000

_hasher = PasswordHasher()


def check_password(password: str) -> None:
    """Raises InvalidRequest for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        message = f"A password has {SHORTEST} to {LONGEST} characters."
        raise InvalidRequest(message, param="password")


def hash_password(password: str) -> str:
    """Takes some 50 ms: not on the event loop. Raises InvalidRequest."""
    check_password(password)
    return _hasher.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Whether this is the password. Without a stored one it takes as long, and the answer is no.

    Takes some 50 ms: not on the event loop.
    """
    try:
        _hasher.verify(stored or _nobodys(), password[: LONGEST + 1])
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


@cache
def _nobodys() -> str:
    """So that an unknown account cannot be told from a wrong password by the clock."""
    return _hasher.hash("nobody has this password")
