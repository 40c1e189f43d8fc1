"""All that is written under one session: its own record, and the statuses of its node's tasks.

Each write is one transaction that holds only while the session's record is as this session left it. Opening a newer
session of the node raises the epoch in that record, and from then on nothing of the older one is written any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cluster import codec
from cluster.errors import NotFound
from cluster.model.attachment import AttachmentState
from cluster.model.node import Node, NodeDescription, Session, SessionState
from cluster.model.task import Task, TaskState, TaskStatus
from manager.etcd import Etcd, KeyValue, UnknownOutcome, delete, exists, get, put, unchanged
from manager.picture import ClusterState

log = logging.getLogger(__name__)

BATCH = 48
"""Statuses in one transaction: each takes two comparisons, a put and, should it fail, two gets."""


class Fenced(Exception):
    """A newer session of the node was opened, or its record was removed: this one writes nothing more."""


class _Known(NamedTuple):
    """What is known of a stored status as of revision `at`; `mod_revision` 0 and no status when there is none."""

    at: int
    mod_revision: int
    status: TaskStatus | None


class Ledger:
    """The right to write under a session, from `open_session` until another one is opened."""

    def __init__(self, etcd: Etcd, state: ClusterState, record: Session, mod_revision: int) -> None:
        self.record = record
        self._etcd = etcd
        self._state = state
        self._key = codec.key_of(record)
        self._mod_revision = mod_revision
        self._doubtful = False
        self._newer: dict[str, _Known] = {}

    @property
    def opened_at(self) -> int:
        """The revision of the last write to the session's record, that of its opening at first."""
        return self._mod_revision

    async def write(self, record: Session, statuses: Sequence[TaskStatus]) -> None:
        """Store the session's record and at most BATCH statuses, of tasks that are still there, never a state back.

        Raises Fenced, and EtcdUnavailable. An unknown outcome is settled here: the session's record is written once
        more, whereupon the doubtful transaction, should it still be on its way, cannot hold any more.
        """
        left = {codec.key_of(status): status for status in statuses}
        while True:
            # What is merged with and what is guarded must be the same, or something newer would be overwritten.
            self._newer = {key: known for key, known in self._newer.items() if known.at > self._state.revision}
            known = {key: self._known(key) for key in left}
            merged = {key: merge(known[key].status, status) for key, status in left.items()}
            left = {key: status for key, status in merged.items() if status is not None}
            puts = [put(key, codec.encode(status)) for key, status in left.items()]
            rewrites = record != self.record or self._doubtful
            if rewrites:
                puts.append(put(self._key, codec.encode(record)))
            if not puts:
                return
            tasks = [codec.key_for(Task, status.task) for status in left.values()]
            guards = [unchanged(self._key, self._mod_revision), *map(exists, tasks)]
            guards += [unchanged(key, known[key].mod_revision) for key in left]
            try:
                result = await self._etcd.txn(guards, puts, [get(self._key), *map(get, tasks), *map(get, left)])
            except UnknownOutcome as error:
                log.info("writing again under session %d of node %s: %s", record.epoch, record.node, error.message)
                self._adopt(await self._etcd.get(self._key))
                self._doubtful = True
                continue
            if result.succeeded:
                if rewrites:
                    self.record, self._mod_revision, self._doubtful = record, result.revision, False
                for key, status in left.items():
                    self._newer[key] = _Known(result.revision, result.revision, status)
                return
            self._adopt(result.responses[0])
            found = result.responses[1:]
            self._learn(result.revision, zip(left, found[len(tasks) :], strict=True))
            left = {key: left[key] for key, task in zip(tuple(left), found[: len(tasks)], strict=True) if task}

    async def forget(self, records: Mapping[str, int]) -> None:
        """Delete these records, by key, unless they have changed since the revision given with each.

        Raises Fenced, and EtcdUnavailable.
        """
        for key, revision in records.items():
            while True:
                guards = [unchanged(self._key, self._mod_revision), unchanged(key, revision)]
                try:
                    result = await self._etcd.txn(guards, [delete(key)], [get(self._key), get(key)])
                except UnknownOutcome as error:
                    log.info("deleting %s once more: %s", key, error.message)
                    continue  # if it was done, or is done later, the record is gone: nothing else can follow
                if result.succeeded:
                    break
                self._adopt(result.responses[0])
                stored = result.responses[1]
                if not isinstance(stored, KeyValue) or stored.mod_revision != revision:
                    break

    def _known(self, key: str) -> _Known:
        """Give what the picture shows, or what was seen in etcd after that."""
        if key in self._newer:
            return self._newer[key]
        status: Any = self._state.get(key)
        return _Known(self._state.revision, self._state.revision_of(key), status)

    def _learn(self, revision: int, found: Iterable[tuple[str, Any]]) -> None:
        """Take in what was there instead of what was expected: the leader may have given a task up."""
        for key, stored in found:
            if stored is None:
                self._newer[key] = _Known(revision, 0, None)
            else:
                status: Any = codec.decode(key, stored.value)
                self._newer[key] = _Known(revision, stored.mod_revision, status)

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
    version: int,
) -> Ledger:
    """Open a session of a node that speaks this version of the protocol, and with that end every older one.

    Raises NotFound when there is no such node.
    """
    node_key, key = codec.key_for(Node, node), codec.key_for(Session, node)
    while True:
        stored = await etcd.get(key)
        before: Any = None if stored is None else codec.decode(key, stored.value)
        epoch = 1 if before is None else before.epoch + 1
        record = Session(node, epoch, manager, SessionState.OPEN, clock(), description, version=version)
        if before is not None:
            attached = {i: told for i, told in before.attachments.items() if told.state is AttachmentState.ATTACHED}
            record = replace(
                record,
                routes=before.routes,
                listening=before.listening,
                attachments=attached,
                roots=before.roots,
                signer=before.signer,
            )
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
    task on its node. When it first ran stays with it.
    """
    if after.state is TaskState.RUNNING and after.running_at is None:
        after = replace(after, running_at=after.at)
    if before is None:
        return after
    after = replace(after, running_at=before.running_at or after.running_at)
    if before.state.terminal and after.state.terminal:
        merged = replace(before, container=after.container)
    elif after.state.rank < before.state.rank:
        return None
    elif (after.state, after.restarts) == (before.state, before.restarts):
        merged = replace(after, at=before.at)  # an agent that found a task again does not make it younger
    else:
        merged = after
    return None if merged == before else merged
