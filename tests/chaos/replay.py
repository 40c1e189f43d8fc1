"""Every revision of etcd, one after another: what must hold in each, and which revisions of stacks were written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any

from cluster.codec import PREFIX, decode, key_for, type_of
from cluster.model.cluster import ClockMark
from cluster.model.network import Network
from cluster.model.node import NodeState
from cluster.model.service import ServiceState
from cluster.model.stack import StackRevision
from cluster.model.task import Task
from manager.etcd import Etcd
from manager.etcd import Event as Stored
from manager.invariants import backwards, broken
from manager.picture import ClusterState, Event
from manager.presence import ELECTION
from tests.chaos import history

EVERYTHING = "/stackyard/"
CLOCK = key_for(ClockMark, "this")
OF_THE_LEADER = (Task, ServiceState, NodeState, Network)
"""Written by nobody else, and never but together with the mark of time, which chains the leaders' writes."""

PATIENCE = 180.0


class Replay:
    """Goes on from what etcd held at the first call. `faults` has what may not be, `stored` what clients wrote."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._endpoints = tuple(endpoints)
        self._state = ClusterState()
        self._candidates: dict[str, int] = {}  # keys of the election, by when they were made
        self._made: set[str] = set()
        self.faults: list[str] = []
        self.stored: list[history.Stored] = []
        self.revision = 0

    def catch_up(self) -> None:
        """Read and judge all that happened up to now."""
        asyncio.run(self._catch_up())

    async def _catch_up(self) -> None:
        async with Etcd.connect(self._endpoints) as etcd, asyncio.timeout(PATIENCE):
            listed = await etcd.range(EVERYTHING)
            if not self.revision:
                items = [item for item in listed.items if item.key.startswith(PREFIX)]
                self._state.replace([(i.key, i.value, i.mod_revision) for i in items], listed.revision)
                self._made = set(self._state.tasks)
                self._candidates = {i.key: i.create_revision for i in listed.items if i.key.startswith(ELECTION)}
                self.revision = listed.revision
                return
            # deletions alone may have come after that: they are judged next time
            newest = max((item.mod_revision for item in listed.items), default=0)
            if newest <= self.revision:
                return
            async with aclosing(etcd.watch(EVERYTHING, self.revision + 1)) as batches:
                async for batch in batches:
                    for revision, events in groupby(batch.events, key=lambda event: event.revision):
                        self._judge(revision, list(events))
                    if self.revision >= newest:
                        return

    def _judge(self, revision: int, events: list[Stored]) -> None:
        self.revision = revision
        self._faults(revision, self._broken(revision, events))

    def _faults(self, revision: int, found: Iterator[str]) -> None:
        self.faults += [f"etcd revision {revision}: {fault}" for fault in found]

    def _broken(self, revision: int, events: list[Stored]) -> Iterator[str]:
        led = bool(self._candidates)
        for event in events:
            if event.key.startswith(ELECTION):
                if event.current is None:
                    self._candidates.pop(event.key, None)
                else:
                    self._candidates[event.key] = revision
        records = [event for event in events if event.key.startswith(PREFIX)]
        kinds = {type_of(event.key) for event in records}
        if kinds.intersection(OF_THE_LEADER) and CLOCK not in {event.key for event in records}:
            yield f"{[event.key for event in records]} were written outside of the chain of leaders"
        if CLOCK in {event.key for event in records} and not led:
            yield "a leader wrote while nobody was elected"
        for event in records:
            yield from self._once(revision, event)
        changes = self._state.apply(
            [Event(e.key, e.current.value if e.current else None, e.revision) for e in records], revision
        )
        yield from filter(None, map(backwards, changes))
        yield from broken(self._state)

    def _once(self, revision: int, event: Stored) -> Iterator[str]:
        if event.current is None:
            return
        record: Any = decode(event.key, event.current.value)
        if isinstance(record, Task) and self._state.revision_of(event.key) == 0:
            if record.id in self._made:
                yield f"task {record.id} was made twice"
            self._made.add(record.id)
        if isinstance(record, StackRevision):
            if self._state.revision_of(event.key):
                yield f"{event.key} was written again"
            else:
                self.stored.append(history.Stored(record.spec.name, record.n, record.reason, revision))
