"""The file of the keys to secrets: as it is, or locked with an unlock key that is kept by people alone.

A locked one is the same text, encrypted whole (AES-256-GCM) with the unlock key itself, which is as random as a key can
be. It says which unlock key opens it, so that one that was replaced since is known as such.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cluster.errors import Forbidden, Unavailable
from cluster.unlock import unlock_id, unlock_secret

SCHEMA = 1
NONCE = 12


class Keys(msgspec.Struct, frozen=True):
    """The digest's key, and those to seal with by their ids, base64. `unlock` locks the file; "" where it is not."""

    digest: str
    sealing: dict[str, str]
    current: str
    schema: int = SCHEMA
    unlock: str = ""

    def __repr__(self) -> str:
        return f"Keys(current={self.current!r})"


class Locked(msgspec.Struct, frozen=True, tag="locked", tag_field="type"):
    """What lies on the disk instead; `unlock` is the id of the key that opens it."""

    unlock: str
    nonce: bytes
    data: bytes
    schema: int = SCHEMA

    def opened(self, key: str) -> Keys:
        """Raises Forbidden when another key opens it."""
        try:
            data = AESGCM(unlock_secret(key)).decrypt(self.nonce, self.data, self.unlock.encode())
        except InvalidTag:
            raise Forbidden(
                "that is not the unlock key of this manager",
                hint=f"It was locked with the key whose id is {self.unlock}; that one's is {unlock_id(key)}.",
            ) from None
        return msgspec.json.decode(data, type=Keys)


class _Kind(msgspec.Struct):
    type: str = ""
    schema: int = SCHEMA


def text_of(keys: Keys) -> str:
    """Give what is to lie on the disk."""
    data = msgspec.json.encode(keys)
    if not keys.unlock:
        return data.decode()
    ident, nonce = unlock_id(keys.unlock), secrets.token_bytes(NONCE)
    sealed = AESGCM(unlock_secret(keys.unlock)).encrypt(nonce, data, ident.encode())
    return msgspec.json.encode(Locked(ident, nonce, sealed)).decode()


def read(path: Path) -> Keys | Locked | None:
    """Read the file; None where there is none. Raises Unavailable for one that cannot be read."""
    try:
        data = path.read_bytes()
        kind = msgspec.json.decode(data, type=_Kind)
        if kind.schema > SCHEMA:
            raise Unavailable(
                f"the key file {path} is of schema {kind.schema}, this program reads up to {SCHEMA}",
                hint="Upgrade this manager.",
            )
        return msgspec.json.decode(data, type=Locked) if kind.type == "locked" else msgspec.json.decode(data, type=Keys)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Unavailable(f"the key file {path} cannot be read: {error}") from error
