"""The file that `stack backup` writes: everything a cluster needs to go on elsewhere, for those with its passphrase.

    STACKYARD-BACKUP 1 <salt, hex>\n
    blocks: length (4 bytes, big-endian), then so many bytes of AES-256-GCM

The key is the scrypt of passphrase and salt. A block's nonce is its number and whether it is the last, and each is
bound to the first line: blocks that were swapped, left out or cut off do not open. What is in them are frames: a
Manifest, the keys that open secrets, pages of etcd's keys and values all as of one revision, and an End that counts.
Between manager and `stack backup` the frames go unsealed, each as a block of its own. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from typing import Protocol

import msgspec

from cluster.errors import Forbidden, Inconsistent, UserError

SCHEMA = 1
MAGIC = "STACKYARD-BACKUP"
PASSPHRASE = "STACKYARD_BACKUP_PASSPHRASE"
"""The variable of the environment that may hold it."""
SALT = 16
LARGEST_BLOCK = 64 * 1024 * 1024
_CHECK = 8
_FIRST_LINE = re.compile(
    rf"{MAGIC} (?P<schema>\d+) (?P<salt>[0-9a-f]{{{2 * SALT}}}) (?P<check>[0-9a-f]{{{2 * _CHECK}}})\n"
)
_LONGEST_LINE = 200


class Manifest(msgspec.Struct, tag="manifest", frozen=True):
    """What the backup is of. `made_at` is wall clock time; `managers` are the URLs of those that ran then."""

    cluster: str
    made_at: float
    revision: int
    program: str
    managers: tuple[str, ...] = ()
    schema: int = SCHEMA


class SealingKeys(msgspec.Struct, tag="sealing-keys", frozen=True):
    """The managers' key file: etcd never sees it, and no secret can be read without it."""

    file: bytes


class Entries(msgspec.Struct, tag="entries", frozen=True):
    """Keys of etcd with their values."""

    items: tuple[tuple[str, bytes], ...]


class End(msgspec.Struct, tag="end", frozen=True):
    """Nothing is missing if there were so many keys."""

    entries: int


Frame = Manifest | SealingKeys | Entries | End
_DECODER = msgspec.msgpack.Decoder(Frame)


class Source(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


def encode(frame: Frame) -> bytes:
    return msgspec.msgpack.encode(frame)


def decode(data: bytes) -> Frame:
    """Read a frame. Raises UserError for what a newer release wrote."""
    try:
        frame: Frame = _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise UserError(
            f"the backup cannot be read: {error}", hint="Use the release that made it, or newer."
        ) from error
    if isinstance(frame, Manifest) and frame.schema > SCHEMA:
        raise _newer(frame.schema)
    return frame


def block(data: bytes) -> bytes:
    """Put its length before a block."""
    return len(data).to_bytes(4, "big") + data


def blocks(source: Source) -> Iterator[bytes]:
    """Read blocks until the source ends. Raises EOFError when it ends within one."""
    while head := source.read(4):
        size = int.from_bytes(head, "big")
        data = source.read(size) if len(head) == 4 and size <= LARGEST_BLOCK else b""
        if not data or len(data) != size:
            raise EOFError
        yield data


class Sealer:
    """Writes one file: first `line`, then what `seal` makes of each frame."""

    def __init__(self, passphrase: str, salt: bytes) -> None:
        self._key, check = _derive(passphrase, salt)
        self.line = f"{MAGIC} {SCHEMA} {salt.hex()} {check.hex()}\n".encode()
        self._number = 0

    def seal(self, frame: Frame) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = _nonce(self._number, last=isinstance(frame, End))
        self._number += 1
        return block(AESGCM(self._key).encrypt(nonce, encode(frame), self.line))


def frames(source: Source, passphrase: str) -> Iterator[Frame]:
    """Read a file, the Manifest first, the End last.

    Raises UserError for what is no backup, was cut off or changed, or is of a newer release, Forbidden for a wrong
    passphrase: with each frame what came before it is as it was written, and only with the End it is all.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    line = source.readline(_LONGEST_LINE)
    first = _FIRST_LINE.fullmatch(line.decode("latin-1"))
    if first is None:
        other = re.match(rf"{MAGIC} (\d+) ".encode(), line)
        if other and int(other[1]) > SCHEMA:
            raise _newer(int(other[1]))
        raise UserError("that file is no backup of a cluster", hint="`stack backup FILE` makes one.")
    if int(first["schema"]) > SCHEMA:
        raise _newer(int(first["schema"]))
    key, check = _derive(passphrase, bytes.fromhex(first["salt"]))
    if not hmac.compare_digest(check.hex(), first["check"]):
        raise Forbidden("that is not the passphrase of this backup", hint="Nothing was changed.")
    number, entries, last = 0, 0, False
    try:
        for number, sealed in enumerate(blocks(source)):
            if last:
                raise _damaged(number)
            try:
                frame = decode(AESGCM(key).decrypt(_nonce(number, last=False), sealed, line))
            except InvalidTag:
                frame = decode(AESGCM(key).decrypt(_nonce(number, last=True), sealed, line))
                last = True
            if (number == 0) != isinstance(frame, Manifest) or last != isinstance(frame, End):
                raise _damaged(number)
            if isinstance(frame, Entries):
                entries += len(frame.items)
            if isinstance(frame, End) and frame.entries != entries:
                raise Inconsistent(f"the backup counts {frame.entries} keys and has {entries}")
            yield frame
    except (InvalidTag, EOFError):
        raise _damaged(number) from None
    if not last:
        raise _damaged(number)


def _derive(passphrase: str, salt: bytes) -> tuple[bytes, bytes]:
    made = hashlib.scrypt(passphrase.encode(), salt=salt, n=2**15, r=8, p=1, maxmem=64 * 1024 * 1024, dklen=32 + _CHECK)
    return made[:32], made[32:]


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _newer(schema: int) -> UserError:
    return UserError(
        f"the backup has schema {schema}, this program reads up to {SCHEMA}",
        hint="Use the release that made it, or newer.",
    )


def _damaged(number: int) -> UserError:
    return UserError(
        f"the backup is damaged or cut off (after block {number})", hint="Take another one, or copy the file again."
    )
