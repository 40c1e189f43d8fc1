"""All that is written under one session: its own record, and the statuses of its node's tasks.

Each write is one transaction that holds only while the session's record is as this session left it. Opening a newer
session of the node raises the epoch in that record, and from then on nothing of the older one is written any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cluster import codec
from cluster.errors import NotFound
from cluster.model.node import Node, NodeDescription, Session, SessionState
from cluster.model.task import Task, TaskStatus
from manager.etcd import Etcd, KeyValue, UnknownOutcome, exists, get, put, unchanged
from manager.picture import ClusterState

log = logging.getLogger(__name__)

BATCH = 48
"""Statuses in one transaction: each takes two comparisons, a put and, should it fail, two gets."""


class Fenced(Exception):
    """A newer session of the node was opened, or its record was removed: this one writes nothing more."""


class Ledger:
    """The right to write under a session, from `open_session` until another one is opened."""

    def __init__(self, etcd: Etcd, state: ClusterState, record: Session, mod_revision: int) -> None:
        self.record = record
        self._etcd = etcd
        self._state = state
        self._key = codec.key_of(record)
        self._mod_revision = mod_revision
        self._doubtful = False
        self._written: dict[str, int] = {}

    @property
    def opened_at(self) -> int:
        """The revision of the last write to the session's record, that of its opening at first."""
        return self._mod_revision

    async def write(self, record: Session, statuses: Sequence[TaskStatus]) -> None:
        """Store the session's record and at most BATCH statuses, of tasks that are still there, never a state back.

        Raises Fenced, and EtcdUnavailable. An unknown outcome is settled here: the session's record is written once
        more, whereupon the doubtful transaction, should it still be on its way, cannot hold any more.
        """
        while True:
            tasks = [codec.key_for(Task, status.task) for status in statuses]
            keys = [codec.key_of(status) for status in statuses]
            puts = [put(key, codec.encode(status)) for key, status in zip(keys, statuses, strict=True)]
            rewrites = record != self.record or self._doubtful
            if rewrites:
                puts.append(put(self._key, codec.encode(record)))
            if not puts:
                return
            guards = [unchanged(self._key, self._mod_revision), *map(exists, tasks)]
            guards += [unchanged(key, self._revision_of(key)) for key in keys]
            try:
                result = await self._etcd.txn(guards, puts, [get(self._key), *map(get, tasks), *map(get, keys)])
            except UnknownOutcome as error:
                log.info("writing again under session %d of node %s: %s", record.epoch, record.node, error.message)
                self._adopt(await self._etcd.get(self._key))
                self._doubtful = True
                continue
            if result.succeeded:
                if rewrites:
                    self.record, self._mod_revision, self._doubtful = record, result.revision, False
                self._written.update(dict.fromkeys(keys, result.revision))
                self._forget()
                return
            self._adopt(result.responses[0])
            found = result.responses[1:]
            statuses = self._still_to_write(statuses, found[: len(tasks)], found[len(tasks) :])

    def _still_to_write(
        self, statuses: Sequence[TaskStatus], tasks: Sequence[Any], stored: Sequence[Any]
    ) -> Sequence[TaskStatus]:
        """Look at what is there instead of what was expected: a task may be gone, or the leader has given it up."""
        left = []
        for status, task, before in zip(statuses, tasks, stored, strict=True):
            if task is None:
                continue
            known: Any = None
            if before is not None:
                known = codec.decode(before.key, before.value)
                self._written[before.key] = before.mod_revision
            merged = merge(known, status)
            if merged is not None:
                left.append(merged)
        return left

    def _revision_of(self, key: str) -> int:
        return max(self._state.revision_of(key), self._written.get(key, 0))

    def _forget(self) -> None:
        """Drop what the picture knows by now."""
        self._written = {key: at for key, at in self._written.items() if at > self._state.revision}

    def _adopt(self, stored: Any) -> None:
        """Go on from the record as it is stored, if it is still that of this session."""
        if not isinstance(stored, KeyValue):
            raise Fenced
        record: Any = codec.decode(stored.key, stored.value)
        if (record.epoch, record.manager) != (self.record.epoch, self.record.manager):
            raise Fenced
        self.record, self._mod_revision = record, stored.mod_revision


async def open_session(
    etcd: Etcd,
    state: ClusterState,
    node: str,
    manager: str,
    description: NodeDescription,
    clock: Callable[[], float],
) -> Ledger:
    """Open a session of a node, and with that end every older one. Raises NotFound when there is no such node."""
    node_key, key = codec.key_for(Node, node), codec.key_for(Session, node)
    while True:
        stored = await etcd.get(key)
        before: Any = None if stored is None else codec.decode(key, stored.value)
        epoch = 1 if before is None else before.epoch + 1
        record = Session(node, epoch, manager, SessionState.OPEN, clock(), description)
        guards = [unchanged(key, 0 if stored is None else stored.mod_revision), exists(node_key)]
        try:
            result = await etcd.txn(guards, [put(key, codec.encode(record))], [get(node_key)])
        except UnknownOutcome as error:
            log.info("opening a session of node %s again: %s", node, error.message)
            continue  # whichever of the two transactions comes second finds the record changed, and does nothing
        if result.succeeded:
            return Ledger(etcd, state, record, result.revision)
        if result.responses[0] is None:
            raise NotFound(
                f"node {node} is not, or not any more, a member of this cluster",
                hint="Remove the agent's data directory and join again with a fresh token.",
            )


def merge(before: TaskStatus | None, after: TaskStatus) -> TaskStatus | None:
    """Give what to store when `after` is reported and `before` is stored; None when nothing is to be written.

    A state never goes back, and of two ends the first one holds: what follows it can only tell what is left of the
    task on its node.
    """
    if before is None:
        return after
    if before.state.terminal and after.state.terminal:
        merged = replace(before, container=after.container)
    elif after.state.rank < before.state.rank:
        return None
    else:
        merged = after
    return None if merged == before else merged
