"""The last assignments on disk, so that an agent that starts without a manager goes on where the last one stood.

The file is readable by root only, is written whole and then renamed. It may be lost or old: what it says is enough to
keep running what runs, never to remove anything or to make something new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.assembly import Assembler, OutOfOrder
from cluster.assignments import Assignments
from cluster.files import write_private
from cluster.model.task import TaskStatus
from cluster.protocol import Page, paginate

log = logging.getLogger(__name__)

SCHEMA = 1
SETTLE = 1.0
"""Changes are written together, so many seconds after the first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """All that is kept: for which cluster, its managers, the assignments, and what tasks have come to.

    `offline_since` is since when no manager could be reached; None while one was.
    """

    cluster: str
    managers: tuple[str, ...] = ()
    assignments: Assignments = field(default_factory=Assignments)
    outcomes: tuple[TaskStatus, ...] = ()
    offline_since: float | None = None


class _File(msgspec.Struct, frozen=True):
    schema: int
    cluster: str
    managers: tuple[str, ...]
    pages: tuple[Page, ...]
    outcomes: tuple[TaskStatus, ...]
    life: str = ""
    offline_since: float | None = None


def encode(entry: Entry, life: str = "") -> bytes:
    """Write an entry to the bytes of the file, with the life of the cluster that it is from."""
    given = entry.assignments
    pages = paginate(given.epoch, given.revision, tuple(given.items.values()), full=True)
    kept = _File(SCHEMA, entry.cluster, entry.managers, tuple(pages), entry.outcomes, life, entry.offline_since)
    return msgspec.json.encode(kept)


def decode(data: bytes, life: str = "") -> Entry:
    """Read the bytes of the file. Raises ValueError when they are none that this version can read.

    What is from another life of the cluster than `life` is what runs here, and no more: its managers are gone, and its
    epoch and revision say nothing of the new ones.
    """
    file = msgspec.json.decode(data, type=_File)
    if file.schema > SCHEMA:
        raise ValueError(f"it has schema {file.schema}, this agent reads up to {SCHEMA}")
    assignments = None
    if file.pages:
        assembler = Assembler(file.pages[0].epoch, Assignments())
        try:
            for page in file.pages:
                assignments = assembler.feed(page)
        except OutOfOrder as error:
            raise ValueError(error.message) from error
    given = assignments or Assignments()
    if file.life != life:
        return Entry(file.cluster, (), Assignments(items=given.items), file.outcomes)
    return Entry(file.cluster, file.managers, given, file.outcomes, file.offline_since)


class Journal:
    """Keeps the newest entry in a file. A disk that fails is logged and costs nothing but the memory."""

    def __init__(self, path: Path, life: str = "") -> None:
        self._path, self._life = path, life
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        self._entry: Callable[[], Entry] | None = None

    def read(self, cluster: str) -> Entry:
        """Give what the last agent left for this cluster, or an empty entry."""
        try:
            entry = decode(self._path.read_bytes(), self._life)
        except FileNotFoundError:
            return Entry(cluster)
        except (OSError, ValueError) as error:
            log.warning("the journal %s cannot be read, going on without it: %s", self._path, error)
            return Entry(cluster)
        if entry.cluster != cluster:
            log.warning("the journal %s is of another cluster (%s), going on without it", self._path, entry.cluster)
            return Entry(cluster)
        return entry

    def changed(self) -> None:
        """What is to be kept has changed."""
        self._changed.set()

    async def flush(self) -> None:
        """Write now, if anything changed."""
        async with self._lock:
            if not self._changed.is_set() or self._entry is None:
                return
            self._changed.clear()
            try:
                await asyncio.to_thread(self._write, self._entry())
            except OSError as error:
                log.warning("the journal %s cannot be written: %s", self._path, error)

    async def run(self, entry: Callable[[], Entry]) -> None:
        """Write down what `entry` gives, some time after each change, for ever."""
        self._entry = entry
        while True:
            await self._changed.wait()
            await asyncio.sleep(SETTLE)
            await self.flush()

    def _write(self, entry: Entry) -> None:
        data = encode(entry, self._life)  # here, as thousands of items take longer than the event loop can be spared
        write_private(self._path, data, durable=False)
