"""Operations on what is kept: how long, and under which key."""

from msgspec import Struct

from ...live.upkeep import Swept, sweep
from .operation import Nothing, Office, Operation


class VaultStatus(Struct):
    """The vault's keys, by their ids, and how many sealed texts there are under each."""

    current: str
    texts: dict[str, int]
    missing: list[str]
    """Keys that something is sealed under and this hub does not have."""


class Rotated(Struct):
    """What a rotation did."""

    current: str
    resealed: int
    unreadable: int


async def cleanup(office: Office, body: Nothing) -> Swept:
    """Remove what was kept for long enough; a running hub does it every hour by itself."""
    return await sweep(office.store)


async def vault_status(office: Office, body: Nothing) -> VaultStatus:
    """Which keys of the vault are in use."""
    content = office.store.content
    texts = await content.status()
    missing = [key for key in texts if not content.vault.knows(bytes.fromhex(key))]
    return VaultStatus(content.vault.current.hex(), texts, missing)


async def rotate_vault(office: Office, body: Nothing) -> Rotated:
    """Make a new key, encrypt everything anew under it, and drop the old ones.

    With `secret_key` set nothing is made: everything comes under the first of those.
    """
    resealed = await office.store.content.rotate(office.actor)
    current = office.store.content.vault.current.hex()
    return Rotated(current, resealed.rows, resealed.unreadable)


OPERATIONS = [
    Operation("POST", "/admin/api/cleanup", cleanup),
    Operation("GET", "/admin/api/vault", vault_status),
    Operation("POST", "/admin/api/vault/rotate", rotate_vault),
]
