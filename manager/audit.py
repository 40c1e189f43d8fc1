"""The audit log: who asked for what change, what it was before and after, and what came of it.

What changes something is written in the transaction that makes the change: neither is there without the other. What was
refused, or changed nothing, comes a moment later and in batches, the same calls as one entry and no more than so many a
second; it has a place of its own in etcd, so that whoever is refused often pushes no change out of the log. Both are
bounded in number and age. No value of a secret, nor any of a request's body, ever is in an entry.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import msgspec

from cluster.errors import Inconsistent, StackyardError
from cluster.people import AuditEntry
from manager.etcd import Etcd, KeyValue, Operation, delete, put

log = logging.getLogger(__name__)

DONE, REFUSED = "/stackyard/audit/done/", "/stackyard/audit/refused/"
SCHEMA = 1
DAY = 86400.0
LONGEST_TEXT = 800
"""Characters of each text in an entry."""

AT_ONCE, A_SECOND = 64, 1.0
"""Entries of refused calls that are written at once, and how many more each second: the rest is counted together."""

PAUSE = 0.2
"""Seconds in which calls that are the same become one entry."""

AGAIN = 2.0
BATCH = 50
LOOK = 600.0
"""Seconds between two looks at what is to go."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How many entries are kept, and for how many seconds."""

    most: int
    age: float


BOUNDS = {DONE: Bound(10_000, 400 * DAY), REFUSED: Bound(2_000, 30 * DAY)}


class _Stored(msgspec.Struct, frozen=True):
    entry: AuditEntry
    schema: int = SCHEMA


class Call:
    """One request on its way; it is for the log once it is `named`."""

    def __init__(self, now: float) -> None:
        self.entry = AuditEntry(f"{int(now * 1e6):020d}-{secrets.token_hex(4)}", now, "", "", "", 200)
        self.written = False
        self.why = ""

    @property
    def is_named(self) -> bool:
        return bool(self.entry.does)


_CALL: ContextVar[Call | None] = ContextVar("call", default=None)


@contextmanager
def calling(now: float) -> Iterator[Call]:
    """Have what is written until the end of the block belong to one request."""
    call = Call(now)
    token = _CALL.set(call)
    try:
        yield call
    finally:
        _CALL.reset(token)


def name(*, kind: str, who: str, does: str, credential: str, address: str, about: str, stack: str) -> None:
    """Say who asks for what, as soon as that is known."""
    if (call := _CALL.get()) is not None:
        call.entry = replace(
            call.entry, kind=kind, who=_cut(who), does=does, credential=credential, address=_cut(address),
            about=_cut(about), stack=_cut(stack),
        )  # fmt: skip


def note(*, about: str | None = None, stack: str | None = None, before: str = "", after: str = "") -> None:
    """Say what the change is about, and what it makes of what."""
    if (call := _CALL.get()) is not None:
        about = call.entry.about if about is None else about
        stack = call.entry.stack if stack is None else stack
        call.entry = replace(
            call.entry, about=_cut(about), stack=_cut(stack), before=_cut(before), after=_cut(after)
        )  # fmt: skip


def told(why: str) -> None:
    """Say what a refused caller was told."""
    if (call := _CALL.get()) is not None:
        call.why = why


def operations() -> list[Operation]:
    """Give the writes that put the present request into the log: for each transaction that changes something by it."""
    call = _CALL.get()
    if call is None or not call.is_named:
        return []
    call.written = True
    return [put(DONE + call.entry.id, _encoded(call.entry))]


class Audit:
    """One manager's hand in the log. `leads` tells whether it is the one that throws away what is too old."""

    def __init__(self, etcd: Etcd, clock: Callable[[], float], leads: Callable[[], bool]) -> None:
        self._etcd, self._clock, self._leads = etcd, clock, leads
        self._waiting = Waiting()
        self._news = asyncio.Event()

    def end(self, call: Call, status: int) -> None:
        """Take note of what came of a request."""
        refused = status >= 400
        if not call.is_named or (call.written and not refused):
            return
        entry = replace(call.entry, status=status, why=_cut(call.why))
        if call.written:
            self._waiting.add(DONE, entry, apart=True)
        else:
            self._waiting.add(REFUSED if refused else DONE, entry)
        self._news.set()

    async def run(self) -> None:
        """Write what waits, and throw away what is too old, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write_on(), name="writing the audit log")
                group.create_task(self._prune_on(), name="pruning the audit log")
        finally:
            with suppress(StackyardError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._write(self._waiting.take(time.monotonic(), everything=True))

    async def _write_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(PAUSE)
            batch = self._waiting.take(time.monotonic())
            try:
                await self._write(batch)
            except StackyardError as error:
                log.warning("the audit log cannot be written: %s", error.message)
                self._waiting.put_back(batch)
                await asyncio.sleep(AGAIN)
            if self._waiting:
                await asyncio.sleep(1 / A_SECOND)
                self._news.set()

    async def _write(self, batch: dict[Alike, AuditEntry]) -> None:
        puts = [put(prefix + entry.id, _encoded(entry)) for (prefix, _), entry in batch.items()]
        for start in range(0, len(puts), BATCH):
            await self._etcd.txn((), puts[start : start + BATCH])

    async def _prune_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if not self._leads():
                continue
            try:
                for prefix, bound in BOUNDS.items():
                    await self.prune(prefix, bound)
            except StackyardError as error:
                log.warning("old entries of the audit log cannot be thrown away: %s", error.message)

    async def prune(self, prefix: str, bound: Bound) -> None:
        """Throw away what is too old or too much."""
        keys = [item.key for item in (await self._etcd.range(prefix, keys_only=True)).items]
        oldest = self._clock() - bound.age
        old = sum(_instant(key, prefix) < oldest for key in keys)
        gone = keys[: max(old, len(keys) - bound.most)]
        for start in range(0, len(gone), 2 * BATCH):
            await self._etcd.txn((), [delete(key) for key in gone[start : start + 2 * BATCH]])

    async def newest(self, since: float) -> AsyncGenerator[AuditEntry, None]:
        """Give the entries since an instant, newest first; others on the event loop have their turn in between."""
        found: list[tuple[str, KeyValue]] = []
        for prefix in BOUNDS:
            items = (await self._etcd.range(prefix)).items
            found += [(item.key.removeprefix(prefix), item) for item in items if _instant(item.key, prefix) >= since]
        for number, (_, item) in enumerate(sorted(found, reverse=True, key=lambda pair: pair[0])):
            if number % 500 == 499:
                await asyncio.sleep(0)
            yield decoded(item)


Alike = tuple[str, AuditEntry]
"""Where entries go, and what those have in common that are counted as one."""


@dataclass(slots=True)
class Waiting:
    """Entries that are still to be written: the same calls as one, and of refused ones only so many at a time.

    Pure: the time is given.
    """

    _entries: dict[Alike, AuditEntry] = field(default_factory=dict)
    _budget: float = AT_ONCE
    _at: float = 0.0

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, prefix: str, entry: AuditEntry, *, apart: bool = False) -> None:
        """Take an entry in; one that stays `apart` replaces what is written under its id already."""
        alike = prefix, entry if apart else replace(entry, id="", at=0.0, count=1, until=None)
        if prefix == REFUSED and alike not in self._entries and len(self._entries) >= 2 * AT_ONCE:
            alike = prefix, AuditEntry("", 0.0, "", "(several)", "(several)", 0)
            entry = replace(alike[1], id=entry.id, at=entry.at, count=entry.count, until=entry.until)
        self._join(alike, entry)

    def put_back(self, batch: dict[Alike, AuditEntry]) -> None:
        """Take in again what could not be written."""
        newer, self._entries = self._entries, batch
        for alike, entry in newer.items():
            self._join(alike, entry)

    def _join(self, alike: Alike, entry: AuditEntry) -> None:
        if (known := self._entries.get(alike)) is not None:
            entry = replace(known, count=known.count + entry.count, until=entry.until or entry.at)
        self._entries[alike] = entry

    def take(self, now: float, *, everything: bool = False) -> dict[Alike, AuditEntry]:
        """Give what may be written now."""
        self._budget = min(AT_ONCE, self._budget + max(0.0, now - self._at) * A_SECOND)
        self._at = now
        taken = {}
        for alike, entry in tuple(self._entries.items()):
            if alike[0] == REFUSED and not everything:
                if self._budget < 1:
                    continue
                self._budget -= 1
            taken[alike] = entry
            del self._entries[alike]
        return taken


def decoded(item: KeyValue) -> AuditEntry:
    try:
        stored = msgspec.json.decode(item.value, type=_Stored)
    except msgspec.MsgspecError as error:
        raise Inconsistent(f"the entry of the audit log at {item.key} cannot be read: {error}") from error
    if stored.schema > SCHEMA:
        raise Inconsistent(f"the entry of the audit log at {item.key} is of a later version", hint="Upgrade.")
    return stored.entry


def _encoded(entry: AuditEntry) -> bytes:
    return msgspec.json.encode(_Stored(entry))


def _instant(key: str, prefix: str) -> float:
    digits = key.removeprefix(prefix).partition("-")[0]
    return int(digits) / 1e6 if digits.isdigit() else 0.0


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def words(texts: Iterable[str]) -> str:
    """Join short texts into one."""
    return "; ".join(text for text in texts if text)
