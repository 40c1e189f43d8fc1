"""What is in secrets and configs: digested with one key, sealed with another, neither of which etcd ever sees.

The keys lie in a file of the manager's that only root can read, and that may be locked: then a manager that starts can
do nothing before a person has given the unlock key, which is in its memory from then on and on no disk. etcd knows the
ids of the key that is sealed with and of the unlock key, no more; a manager that lacks one asks the others.

Each sealed text says which key opens it, so that keys can be replaced while older texts are still there; the digest's
key stays, or every content would seem to have changed. A new key is with every manager that runs before anything is
sealed with it: no single one can be lost with it. The key before it is kept for what was on its way, and thrown away
when another one comes.

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
from cluster.errors import Conflict, Forbidden, Inconsistent, Unavailable
from cluster.files import write_private
from cluster.model.secret import Content
from cluster.unlock import unlock_id
from manager import audit, key_file
from manager.etcd import Etcd, Operation, Refused, UnknownOutcome, absent, get, put, unchanged
from manager.key_file import NONCE, Keys, Locked
from manager.tls import Others

log = logging.getLogger(__name__)

SCHEMA = 1
CURRENT_KEY = "/stackyard/sealing/current"
FILE = "contents.key"
LOOK = 2.0
"""Seconds between two looks whether there are keys, until this manager holds them."""
LOOK_AGAIN = 15.0
"""Seconds between two looks whether another key is sealed with: whoever made it has told all that ran."""

_TIMEOUT = aiohttp.ClientTimeout(total=5)


class _Current(msgspec.Struct, frozen=True):
    """What etcd knows: which key is sealed with, and the id of the unlock key, "" where files are not locked."""

    id: str
    schema: int = SCHEMA
    unlock: str = ""


class _Sealed(msgspec.Struct, frozen=True):
    key: str
    nonce: bytes
    data: bytes
    schema: int = SCHEMA


class Vault:
    """One manager's hold on the keys. `others` gives the URLs of the managers that may have them too.

    `unlocked` is set from the beginning unless the key file is locked.
    """

    def __init__(self, directory: Path, etcd: Etcd, http: Others, others: Callable[[], Iterable[str]]) -> None:
        self._path = directory / FILE
        self._etcd, self._http, self._others = etcd, http, others
        self._keys: Keys | None = None
        self._lock = asyncio.Lock()
        self._locked = _locked(self._path)
        self.unlocked = asyncio.Event()
        if self._locked is None:
            self.unlocked.set()

    def require(self) -> None:
        """Raise Unavailable while this manager is locked."""
        if self._locked is not None:
            raise Unavailable(
                "this manager is locked: since it started nobody has given the unlock key",
                hint="`stack unlock` on its host, as root, opens it.",
            )

    async def unlock(self, key: str) -> None:
        """Open the key file, if it is locked. Raises Forbidden for another key than that with which it is."""
        async with self._lock:
            if self._locked is None:
                return
            try:
                keys = self._locked.opened(key)
            except Forbidden as wrong:
                # a key that was made while this manager was off is known by those that were not
                _, current = await self._current()
                if unlock_id(key) != current.unlock:
                    raise
                theirs = await self._fetched(lambda keys: hmac.compare_digest(keys.unlock, key))
                if theirs is None:
                    raise wrong from None
                keys = theirs
            await self._opened(keys)
        log.info("this manager is unlocked")
        try:
            await self.look()
        except Unavailable as error:
            log.warning("this manager goes on with the keys that it had: %s", error.message)

    async def relock(self, key: str) -> None:
        """Have the key files of all managers locked with that key from now on; with none if it is ""."""
        async with self._lock:
            known = self._keys or await self._found()
            revision, current = await self._current()
            if current.id not in known.sealing:
                raise Conflict("another manager has just made a new key", hint="Ask again.")
            if current.unlock != unlock_id(key):
                wanted = put(CURRENT_KEY, msgspec.json.encode(msgspec.structs.replace(current, unlock=unlock_id(key))))
                try:
                    writes = (wanted, *audit.operations())
                    done = (await self._etcd.txn((unchanged(CURRENT_KEY, revision),), writes)).succeeded
                except UnknownOutcome:
                    done = (await self._current())[1].unlock == unlock_id(key)
                if not done:
                    raise Conflict("somebody else has just changed it", hint="Ask again.")
            await self._keep(msgspec.structs.replace(known, unlock=key))
        log.info("key files are %s from now on", f"locked with the key {unlock_id(key)}" if key else "not locked")
        try:
            await self._tell(current.id)
        except Unavailable as error:
            log.info("another manager comes to know of it within a while: %s", error.message)

    async def unlock_key(self) -> str:
        """Give the unlock key; "" if there is none."""
        return (await self.look()).unlock if (await self._current())[1].unlock else ""

    def digest(self, data: bytes, keys: Keys) -> str:
        """Name a content by what it is, for those who have the key."""
        return hmac.new(base64.b64decode(keys.digest), data, hashlib.sha256).hexdigest()

    def seal(self, owner: str, data: bytes, now: float, keys: Keys) -> tuple[Content, Operation]:
        """Give the record of a content and the write of its sealed text, which opens in that very place only."""
        digest, nonce = self.digest(data, keys), secrets.token_bytes(NONCE)
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
                _, current = await self._current()
                if self._locked is not None:
                    pause = LOOK_AGAIN
                    await self._look_whether_still_locked(current)
                elif current.id:
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
        async with self._lock:
            known = self._keys or await self._found()
            kept = {ident: key for ident, key in known.sealing.items() if ident in used or ident == known.current}
            ident, fresh = _new_key()
            both = msgspec.structs.replace(known, sealing=kept | {ident: fresh})
            await self._keep(both)
            await self._tell(ident)
            revision, before = await self._current()
            if before.id != known.current:
                raise Conflict("another manager has just made a new key", hint="Ask again, if one more is wanted.")
            written = put(CURRENT_KEY, msgspec.json.encode(msgspec.structs.replace(before, id=ident)))
            writes = (written, *audit.operations())
            if not (await self._etcd.txn((unchanged(CURRENT_KEY, revision),), writes)).succeeded:
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
        """Get the key that is sealed with, another one of that id, and the unlock key, if this manager lacks them."""
        async with self._lock:
            # read with the lock held: what was read before this manager made a new key would undo that
            _, current = await self._current()
            known = self._keys or self._read()
            for wanted in filter(None, (current.id, ident)):
                if known is None or wanted not in known.sealing:
                    theirs = await self._with(wanted)
                    known = theirs if known is None else msgspec.structs.replace(theirs, unlock=known.unlock)
            if known is None:
                raise Unavailable("it is not known which key to seal with", hint="Ask again.")
            if current.id in known.sealing:
                known = msgspec.structs.replace(known, current=current.id)
            if known != self._keys:
                await self._keep(known)
            if current.id and unlock_id(known.unlock) != current.unlock:
                known = msgspec.structs.replace(known, unlock=await self._unlock_key(current.unlock))
                await self._keep(known)
            return known

    async def _look_whether_still_locked(self, current: _Current) -> None:
        """Open the file though nobody has given a key, when files were unlocked for good while this manager was off."""
        theirs = None if current.unlock else await self._fetched(lambda keys: current.id in keys.sealing)
        async with self._lock:
            if theirs is not None and self._locked is not None:
                await self._opened(msgspec.structs.replace(theirs, unlock=""))

    async def _opened(self, keys: Keys) -> None:
        await self._keep(keys)
        self._locked = None
        self.unlocked.set()

    async def _current(self) -> tuple[int, _Current]:
        """Read what is sealed and locked with, and at which revision that was written; 0 if it never was."""
        stored = await self._etcd.get(CURRENT_KEY)
        if stored is None:
            return 0, _Current("")
        return stored.mod_revision, msgspec.json.decode(stored.value, type=_Current)

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
        await self._write(keys)
        self._keys = keys

    async def _write(self, keys: Keys) -> None:
        await asyncio.to_thread(write_private, self._path, key_file.text_of(keys))

    def held(self) -> Keys | None:
        """Give the keys to another manager that asks; None when this one does not have them."""
        return self._keys or self._read()

    async def _found(self) -> Keys:
        mine = self._read()
        _, current = await self._current()
        if not current.id:
            made = mine or _new_keys()
            await self._write(made)
            try:
                written = put(CURRENT_KEY, msgspec.json.encode(_Current(made.current, unlock=unlock_id(made.unlock))))
                result = await self._etcd.txn((absent(CURRENT_KEY),), (written,), (get(CURRENT_KEY),))
            except UnknownOutcome as error:
                raise Unavailable(f"it is not known which key to seal with: {error.message}") from error
            if result.succeeded:
                log.info("made the key %s to seal contents with, in %s", made.current, self._path)
                return made
            mine, (_, current) = None, await self._current()
        if not current.id:
            raise Unavailable("it is not known which key to seal with", hint="Ask again.")
        found = mine if mine is not None and current.id in mine.sealing else await self._with(current.id)
        await self._keep(found)  # which locks one that came out of a backup
        return found

    async def _with(self, wanted: str) -> Keys:
        """Ask the other managers for the keys that have this one to seal with."""
        found = await self._fetched(lambda keys: wanted in keys.sealing)
        if found is None:
            raise Unavailable(
                f"contents are sealed with the key {wanted}, which neither this manager nor another in reach has",
                hint=f"Start a manager that has it, or copy its {FILE} to {self._path}.",
            )
        return found

    async def _unlock_key(self, ident: str) -> str:
        """Ask the other managers for the unlock key of that id; "" is that of none."""
        found = await self._fetched(lambda keys: unlock_id(keys.unlock) == ident) if ident else None
        if ident and found is None:
            raise Unavailable(
                f"key files are to be locked with the key {ident}, which no manager in reach has",
                hint="`stack unlock-key --rotate` makes another one.",
            )
        return "" if found is None else found.unlock

    async def _fetched(self, fits: Callable[[Keys], bool]) -> Keys | None:
        """Ask the other managers for their keys, until some fit."""
        for url in self._others():
            try:
                async with self._http.get(f"{url}/v1/sealing-keys", timeout=_TIMEOUT) as answer:
                    body = await answer.read()
                if answer.status == 200 and fits(keys := msgspec.json.decode(body, type=Keys)):
                    log.info("the manager at %s gave the key %s", url, keys.current)
                    return keys
            except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
                log.warning("the manager at %s gives no keys: %s", url, error)
        return None

    def _read(self) -> Keys | None:
        self.require()
        found = key_file.read(self._path)
        assert not isinstance(found, Locked), "it was when this program started, or was written by it"
        return found


def _locked(path: Path) -> Locked | None:
    """Read a file that is locked; one that cannot be read at all is told of where its keys are needed."""
    try:
        found = key_file.read(path)
    except Unavailable:
        return None
    return found if isinstance(found, Locked) else None


def _new_keys() -> Keys:
    ident, fresh = _new_key()
    return Keys(base64.b64encode(secrets.token_bytes(32)).decode(), {ident: fresh}, ident)


def _new_key() -> tuple[str, str]:
    """Make a key to seal with, and its id."""
    return secrets.token_hex(4), base64.b64encode(secrets.token_bytes(32)).decode()


def _place(owner: str, digest: str) -> bytes:
    return f"{owner}/{digest}".encode()
