"""What is in secrets and configs: digested with one key, sealed with another, neither of which etcd ever sees.

The keys lie in a file of the manager's that only root can read. etcd knows the id of the key that is sealed with, no
more; a manager that lacks it asks the others. Each sealed text says which key opens it, so that keys can be replaced
while older texts are still there; the digest's key stays, or every content would seem to have changed. A new key is
with every manager that runs before anything is sealed with it: no single one can be lost with it. The key before it is
kept for what was on its way, and thrown away when another one comes.

A digest is a keyed one: whoever reads etcd cannot try out passwords against it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import aiohttp
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cluster.codec import sealed_key
from cluster.errors import Conflict, Inconsistent, Unavailable
from cluster.model.secret import Content
from manager import audit
from manager.etcd import Etcd, Operation, Refused, UnknownOutcome, absent, get, put, unchanged
from manager.files import write_private

log = logging.getLogger(__name__)

SCHEMA = 1
CURRENT_KEY = "/stackyard/sealing/current"
FILE = "contents.key"
LOOK = 2.0
"""Seconds between two looks whether there are keys, until this manager holds them."""
LOOK_AGAIN = 15.0
"""Seconds between two looks whether another key is sealed with: whoever made it has told all that ran."""

_NONCE = 12
_TIMEOUT = aiohttp.ClientTimeout(total=5)


class Keys(msgspec.Struct, frozen=True):
    """The file: the digest's key, and those to seal with by their ids, base64."""

    digest: str
    sealing: dict[str, str]
    current: str
    schema: int = SCHEMA

    def __repr__(self) -> str:
        return f"Keys(current={self.current!r})"


class _Current(msgspec.Struct, frozen=True):
    """What etcd knows: which key is sealed with."""

    id: str
    schema: int = SCHEMA


class _Sealed(msgspec.Struct, frozen=True):
    key: str
    nonce: bytes
    data: bytes
    schema: int = SCHEMA


class Vault:
    """One manager's hold on the keys. `others` gives the URLs of the managers that may have them too."""

    def __init__(
        self, directory: Path, etcd: Etcd, http: aiohttp.ClientSession, others: Callable[[], Iterable[str]]
    ) -> None:
        self._path = directory / FILE
        self._etcd, self._http, self._others = etcd, http, others
        self._keys: Keys | None = None
        self._lock = asyncio.Lock()

    def digest(self, data: bytes, keys: Keys) -> str:
        """Name a content by what it is, for those who have the key."""
        return hmac.new(base64.b64decode(keys.digest), data, hashlib.sha256).hexdigest()

    def seal(self, owner: str, data: bytes, now: float, keys: Keys) -> tuple[Content, Operation]:
        """Give the record of a content and the write of its sealed text, which opens in that very place only."""
        digest, nonce = self.digest(data, keys), secrets.token_bytes(_NONCE)
        key = AESGCM(base64.b64decode(keys.sealing[keys.current]))
        sealed = _Sealed(keys.current, nonce, key.encrypt(nonce, data, _place(owner, digest)))
        content = Content(owner, digest, len(data), keys.current, now)
        return content, put(sealed_key(owner, digest), msgspec.json.encode(sealed))

    async def open(self, owner: str, digest: str) -> bytes:
        """Give a content. Raises Inconsistent if it is not there or was tampered with, Unavailable without the key."""
        place = sealed_key(owner, digest)
        stored = await self._etcd.get(place)
        if stored is None:
            raise Inconsistent(f"etcd has no {place}, of which a record tells")
        try:
            sealed = msgspec.json.decode(stored.value, type=_Sealed)
        except msgspec.MsgspecError as error:
            raise Inconsistent(f"{place} cannot be read: {error}") from error
        keys = await self.keys()
        if sealed.key not in keys.sealing:
            keys = await self.look(sealed.key)
        if sealed.schema > SCHEMA:
            raise Unavailable(
                f"{place} is of schema {sealed.schema}, this program reads up to {SCHEMA}", hint="Upgrade this manager."
            )
        try:
            return AESGCM(base64.b64decode(keys.sealing[sealed.key])).decrypt(
                sealed.nonce, sealed.data, _place(owner, digest)
            )
        except InvalidTag:
            raise Inconsistent(f"{place} was changed by somebody who does not have its key") from None

    async def keys(self) -> Keys:
        """Give the keys; the first to ask in a cluster makes them. Raises Unavailable if none in reach has them."""
        async with self._lock:
            if self._keys is None:
                self._keys = await self._found()
            return self._keys

    async def hold(self) -> None:
        """Get the keys as soon as there are some: whoever made them may be lost the next moment, and they with it."""
        while True:
            pause = LOOK
            try:
                if await self._etcd.get(CURRENT_KEY) is not None:
                    await self.keys()
                    await self.look()
                    pause = LOOK_AGAIN
            except (Unavailable, Refused) as error:
                log.warning("this manager lacks a key to open contents with: %s", error.message)
            await asyncio.sleep(pause)

    async def rotate(self, used: Collection[str]) -> Keys:
        """Seal with a new key from now on; `used` are those with which something is sealed.

        Raises Unavailable when not all managers that run can be given it: nothing has changed then.
        """
        known = await self.keys()
        async with self._lock:
            kept = {ident: key for ident, key in known.sealing.items() if ident in used or ident == known.current}
            ident, fresh = _new_key()
            both = Keys(known.digest, kept | {ident: fresh}, known.current)
            await self._keep(both)
            await self._tell(ident)
            before = await self._etcd.get(CURRENT_KEY)
            if before is None or msgspec.json.decode(before.value, type=_Current).id != known.current:
                raise Conflict("another manager has just made a new key", hint="Ask again, if one more is wanted.")
            written = put(CURRENT_KEY, msgspec.json.encode(_Current(ident)))
            writes = (written, *audit.operations())
            if not (await self._etcd.txn((unchanged(CURRENT_KEY, before.mod_revision),), writes)).succeeded:
                raise Conflict("another manager has just made a new key", hint="Ask again, if one more is wanted.")
            rotated = msgspec.structs.replace(both, current=ident)
            await self._keep(rotated)
        log.info("contents are sealed with the key %s from now on", ident)
        try:
            await self._tell(ident)
        except Unavailable as error:
            log.info("another manager goes on sealing with the key before for a while: %s", error.message)
        return rotated

    async def look(self, ident: str = "") -> Keys:
        """Get the key that is sealed with, and another one of that id, if this manager lacks them."""
        async with self._lock:
            # read with the lock held: what was read before this manager made a new key would undo that
            stored = await self._etcd.get(CURRENT_KEY)
            current = "" if stored is None else msgspec.json.decode(stored.value, type=_Current).id
            known = self._keys or self._read()
            for wanted in filter(None, (current, ident)):
                if known is None or wanted not in known.sealing:
                    known = await self._fetched(wanted)
            if known is None:
                raise Unavailable("it is not known which key to seal with", hint="Ask again.")
            if current in known.sealing:
                known = msgspec.structs.replace(known, current=current)
            if known != self._keys:
                await self._keep(known)
            return known

    async def _tell(self, ident: str) -> None:
        """Have all other managers that run get a key. Raises Unavailable when one does not."""
        for url in self._others():
            try:
                async with self._http.post(f"{url}/v1/sealing-keys/{ident}", timeout=_TIMEOUT) as answer:
                    problem = "" if answer.status == 204 else f"it answers with status {answer.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = str(error) or "it took too long"
            if problem:
                raise Unavailable(
                    f"the manager at {url} cannot be given a new key: {problem}",
                    hint="Ask again when all managers answer, or take that one out.",
                )

    async def _keep(self, keys: Keys) -> None:
        await asyncio.to_thread(write_private, self._path, msgspec.json.encode(keys).decode())
        self._keys = keys

    def held(self) -> Keys | None:
        """Give the keys to another manager that asks; None when this one does not have them."""
        return self._keys or self._read()

    async def _found(self) -> Keys:
        mine = self._read()
        stored = await self._etcd.get(CURRENT_KEY)
        if stored is None:
            made = mine or _new_keys()
            if mine is None:
                await asyncio.to_thread(write_private, self._path, msgspec.json.encode(made).decode())
            try:
                result = await self._etcd.txn(
                    (absent(CURRENT_KEY),),
                    (put(CURRENT_KEY, msgspec.json.encode(_Current(made.current))),),
                    (get(CURRENT_KEY),),
                )
            except UnknownOutcome as error:
                raise Unavailable(f"it is not known which key to seal with: {error.message}") from error
            if result.succeeded:
                log.info("made the key %s to seal contents with, in %s", made.current, self._path)
                return made
            mine, stored = None, await self._etcd.get(CURRENT_KEY)
        if stored is None:
            raise Unavailable("it is not known which key to seal with", hint="Ask again.")
        wanted = msgspec.json.decode(stored.value, type=_Current).id
        if mine is not None and wanted in mine.sealing:
            return mine
        return await self._fetched(wanted)

    async def _fetched(self, wanted: str) -> Keys:
        """Ask the other managers for the keys, and keep them."""
        for url in self._others():
            try:
                async with self._http.get(f"{url}/v1/sealing-keys", timeout=_TIMEOUT) as answer:
                    body = await answer.read()
                if answer.status == 200 and wanted in (keys := msgspec.json.decode(body, type=Keys)).sealing:
                    await asyncio.to_thread(write_private, self._path, body.decode())
                    log.info("the manager at %s gave the key %s", url, wanted)
                    return keys
            except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
                log.warning("the manager at %s gives no keys: %s", url, error)
        raise Unavailable(
            f"contents are sealed with the key {wanted}, which neither this manager nor another in reach has",
            hint=f"Start a manager that has it, or copy its {FILE} to {self._path}.",
        )

    def _read(self) -> Keys | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Keys)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise Unavailable(f"the key file {self._path} cannot be read: {error}") from error


def _new_keys() -> Keys:
    ident, fresh = _new_key()
    return Keys(base64.b64encode(secrets.token_bytes(32)).decode(), {ident: fresh}, ident)


def _new_key() -> tuple[str, str]:
    """Make a key to seal with, and its id."""
    return secrets.token_hex(4), base64.b64encode(secrets.token_bytes(32)).decode()


def _place(owner: str, digest: str) -> bytes:
    return f"{owner}/{digest}".encode()
