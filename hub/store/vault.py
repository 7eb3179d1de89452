"""Encryption at rest: AES-256-GCM, under keys from HUB_SECRET_KEY or from a file made at first start.

A sealed text is the id of its key (4 bytes), a nonce (12 bytes) and the ciphertext with its tag. It is bound to the
row that it stands in, so that nobody who can write to the database can pass one text off as another.
"""

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..errors import ContentUnreadable
from ..settings import Settings, SettingsError

FILE = "vault-keys"
KEY_BYTES = 32
ID_BYTES = 4
NONCE_BYTES = 12
SHORTEST_SECRET = 16


class Vault:
    """Seals with the first of its keys, and opens with any."""

    def __init__(self, keys: list[bytes], file: Path | None = None) -> None:
        """`file` is where keys made here are kept; None if the operator keeps them."""
        self._file = file
        self._keys = keys
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}

    @property
    def current(self) -> bytes:
        """The id of the key that seals."""
        return key_id(self._keys[0])

    def knows(self, key: bytes) -> bool:
        """Whether a key of that id is here."""
        return key in self._ciphers

    def seal(self, plain: bytes, row: str) -> bytes:
        """Encrypt a text for a row, which is named the same when it is opened."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        current = self.current
        return current + nonce + self._ciphers[current].encrypt(nonce, plain, row.encode())

    def open(self, sealed: bytes, row: str) -> bytes:
        """Raises ContentUnreadable."""
        key, nonce = sealed[:ID_BYTES], sealed[ID_BYTES : ID_BYTES + NONCE_BYTES]
        cipher = self._ciphers.get(key)
        if cipher is None:
            raise ContentUnreadable(
                f"What is stored here was encrypted under the key {key.hex()}, which this hub does not have. The"
                " operator should bring it back, in HUB_SECRET_KEY or in the data directory's vault-keys."
            )
        try:
            return cipher.decrypt(nonce, sealed[ID_BYTES + NONCE_BYTES :], row.encode())
        except (InvalidTag, ValueError):
            raise ContentUnreadable from None

    def reseal(self, sealed: bytes, row: str) -> bytes:
        """The same under the current key. Raises ContentUnreadable."""
        return sealed if sealed.startswith(self.current) else self.seal(self.open(sealed, row), row)

    def renew(self) -> bool:
        """Seal with a new key from now on; False if the operator keeps the keys, who then names a new one first."""
        if self._file is None:
            return False
        keys = [secrets.token_bytes(KEY_BYTES), *self._keys]
        write_keys(self._file, keys)
        # In this order: other threads seal and open meanwhile.
        self._ciphers[key_id(keys[0])] = AESGCM(keys[0])
        self._keys = keys
        return True

    def keep_only_current(self) -> None:
        """Drop all other keys from the file, when nothing is sealed under them any more.

        Until the process ends they still open: somebody may be reading what was there before.
        """
        if self._file is not None:
            write_keys(self._file, self._keys[:1])
            self._keys = self._keys[:1]


def open_vault(settings: Settings) -> Vault:
    """The vault of this data directory, with a new key if it has none. Raises SettingsError."""
    file = settings.data / FILE
    named = _named(settings)
    kept = read_keys(file)
    if named:
        return Vault([*named, *kept])
    if not kept:
        kept = [secrets.token_bytes(KEY_BYTES)]
        write_keys(file, kept)
    return Vault(kept, file)


def keys_at_hand(settings: Settings) -> list[bytes]:
    """All keys that a vault of this data directory would open with; none are made. Raises SettingsError."""
    return [*_named(settings), *read_keys(settings.data / FILE)]


def key_id(key: bytes) -> bytes:
    """What names a key without telling anything of it."""
    return hashlib.sha256(b"lmarena-bridge vault key id" + key).digest()[:ID_BYTES]


def _named(settings: Settings) -> list[bytes]:
    names = settings.secret_key.split(",")
    return [_derived(secret.strip()) for secret in names if secret.strip()]


def _derived(secret: str) -> bytes:
    if len(secret) < SHORTEST_SECRET:
        raise SettingsError(f"secret_key: each key needs {SHORTEST_SECRET} characters or more")
    derivation = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"lmarena-bridge vault")
    return derivation.derive(secret.encode())


def read_keys(file: Path) -> list[bytes]:
    """A line a key, in hexadecimal; none if there is no file. Raises SettingsError."""
    if not file.exists():
        return []
    try:
        keys = [bytes.fromhex(line) for line in file.read_text("ascii").split()]
    except ValueError:
        raise SettingsError(f"{file}: this is no file of vault keys") from None
    if any(len(key) != KEY_BYTES for key in keys):
        raise SettingsError(f"{file}: a vault key has {KEY_BYTES} bytes")
    return keys


def write_keys(file: Path, keys: list[bytes]) -> None:
    """All or nothing, whenever the machine stops."""
    beside = file.with_suffix(".new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
        new.writelines(f"{key.hex()}\n" for key in keys)
        new.flush()
        os.fsync(new.fileno())
    beside.replace(file)
    if os.name == "posix":  # elsewhere directories cannot be opened
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
