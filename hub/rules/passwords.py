"""Passwords: argon2id with RFC 9106's time and memory for small machines, in one lane.

One lane, so that a comparison takes one processor and leaves the others to answers.
"""

import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from ..errors import InvalidRequest

SHORTEST = 8
LONGEST = 1_000

_hasher = PasswordHasher(parallelism=1)


def check_password(password: str) -> None:
    """Raises InvalidRequest for one that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        message = f"A password has {SHORTEST} to {LONGEST} characters."
        raise InvalidRequest(message, param="password")


def hash_password(password: str) -> str:
    """Takes some 100 ms: not on the event loop. Raises InvalidRequest."""
    check_password(password)
    return _hasher.hash(_bytes(password))


def verify_password(stored: str | None, password: str) -> bool:
    """Whether this is the password. Without a stored one it takes as long, and the answer is no.

    Takes some 100 ms: not on the event loop.
    """
    nobodys = _nobodys()  # always, or the first unknown account would take twice as long
    try:
        _hasher.verify(stored or nobodys, _bytes(password[: LONGEST + 1]))
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def _bytes(password: str) -> bytes:
    """The same however a keyboard composes its letters; any text has some."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


@cache
def _nobodys() -> str:
    """So that an unknown account cannot be told from a wrong password by the clock."""
    return _hasher.hash("nobody has this password")
