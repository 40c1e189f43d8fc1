"""A toy manager round the real leader: its own lagging picture, clock and lease, the sessions of agents, and commits
that go out a transaction at a time, over a wire on which requests and answers get lost or come late.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from cluster.assignments import ServiceItem
from cluster.codec import PREFIX, decode, encode, key_for, key_of
from cluster.model.node import Manager as ManagerRecord
from cluster.model.node import NodeDescription, Session, SessionState
from cluster.model.task import Task, TaskStatus
from cluster.model.update import Withdrawn
from cluster.model.volume import Volume
from cluster.protocol import FETCHES
from manager.clock import ClusterClock
from manager.commit import Commit, Transaction
from manager.decide.volumes import volumes_of
from manager.etcd.records import Compare, Put, absent, created_at, delete, exists, put, unchanged
from manager.leader import Leader
from manager.picture import Change, ClusterState, Event
from manager.sessions.assignments import own
from manager.sessions.ledger import merge
from manager.sessions.withdrawals import Withdrawals
from tests.sim.agent import Agent, Assignment
from tests.sim.handovers import takes_too_many
from tests.sim.store import Compacted

if TYPE_CHECKING:
    from tests.sim.world import World

ELECTION = "/stackyard/leader/"


class Manager:
    """One incarnation of a manager program; a restart makes another one."""

    def __init__(self, world: World, ident: str, lease: int, skew: float) -> None:
        self.world, self.id, self.lease, self.skew = world, ident, lease, skew
        self.alive = True
        self.paused = False
        self.cut = False
        self.state = ClusterState()
        self.clock = ClusterClock(world.time + skew, world.time)
        self.leader: Leader | None = None
        self.fence: tuple[Compare, ...] = ()
        self.commit: Commit | None = None
        self.awaited = 0
        self.sessions: dict[str, int] = {}  # by node: the revision of its record, as this manager wrote it
        self.opened: dict[str, tuple[int, int]] = {}  # by node: epoch and the revision that opened it
        # Only what it knows is of use here; the real one writes in its own time.
        self.withdrawals = Withdrawals(None, self.state, ident, self.now, lambda: lease)  # type: ignore[arg-type]
        self.relist()
        record = ManagerRecord(ident, ident, f"https://{ident}", self.now())
        world.txn((), [Put(key_of(record), encode(record), lease)])

    @property
    def working(self) -> bool:
        return self.alive and not self.paused

    @property
    def connected(self) -> bool:
        return self.working and not self.cut

    def now(self) -> float:
        return self.clock.now(self.world.time + self.skew, self.world.time)

    # The picture

    def relist(self) -> None:
        listing = [(item.key, item.value, item.mod_revision) for item in self.world.store.listing(PREFIX)]
        changes = self.state.replace(listing, self.world.store.revision)
        self._learn(changes)

    def receive(self, most: int, rng: random.Random) -> None:
        """Take in up to so many revisions; sometimes some of them once more, as old servers send them."""
        try:
            batches = self.world.store.since(self.state.revision)
        except Compacted:
            self.relist()
            return
        if rng.random() < 0.1 and self.state.revision - 3 > self.world.store.compacted:
            batches = self.world.store.since(self.state.revision - 3)[: most + 3]
        for revision, events in batches[:most]:
            ours = [
                Event(e.key, e.current.value if e.current else None, e.revision)
                for e in events
                if e.key.startswith(PREFIX)
            ]
            self._learn(self.state.apply(ours, revision))

    def _learn(self, changes: list[Change]) -> None:
        if self.state.clock is not None:
            self.clock.learn(self.state.clock.now, self.world.time)
        self.withdrawals.changed(changes)
        if self.leader is not None:
            self.leader.note(changes, self.now())

    # Leading

    def campaign(self) -> None:
        """Stand for election, or find that the election is won; it may be lost again without this manager knowing."""
        key = f"{ELECTION}{self.lease}"
        store = self.world.store
        if key not in store.keys:
            if self.lease in self.world.leases:
                self.world.txn((absent(key),), [Put(key, self.id.encode(), self.lease)])
            return
        candidates = store.listing(ELECTION)
        if min(candidates, key=lambda item: item.create_revision).key == key and self.leader is None:
            self.leader = Leader(self.state, self.now())
            self.fence = (created_at(key, store.keys[key].create_revision),)
            self.commit = None
            self.awaited = 0

    def resign(self) -> None:
        """Find out that the lease is lost."""
        self.leader, self.commit = None, None

    def lead(self, rng: random.Random, most: int) -> None:
        """Decide and commit, until there is nothing to do, the picture is awaited, or a plan is cut off here."""
        if self.connected:
            self._vouch(rng)
        for _ in range(most):
            if self.leader is None or not self.connected or self.state.revision < self.awaited:
                return
            if self.commit is None:
                now = self.now()
                question = self.leader.agenda.take(now)
                if question is None:
                    return
                plan = self.leader.decide(question, now)
                self.world.hold(not (why := takes_too_many(self.state, plan, now)), why)
                self.world.tell(f"{self.id} {question.about.name} {question.ident}: {[s.why for s in plan.steps]}")
                if not plan.steps:
                    continue
                self.question = question
                self.commit = self.leader.commit(plan, self.fence, now)
            transaction = self.commit.next()
            if transaction is None:
                self.commit = None
                continue
            self._send(transaction, rng)
            if rng.random() < self.world.trouble:
                return

    def _send(self, transaction: Transaction, rng: random.Random) -> None:
        assert self.commit is not None and self.leader is not None
        result = self.world.unreliable_txn(transaction.compares, transaction.operations, rng)
        if result is not None and result.succeeded:
            self.commit.succeeded(result.revision)
            self.awaited = result.revision
            return
        self.commit = None
        self.leader.agenda.wake(self.question, self.now() + 0.1)

    # Sessions

    def open(self, agent: Agent) -> None:
        """Open a session: raise the epoch, and with that end every older session."""
        store = self.world.store
        key = key_for(Session, agent.node)
        stored = store.keys.get(key)
        before = decode(key, stored.value) if stored else None
        assert before is None or isinstance(before, Session)
        epoch = before.epoch + 1 if before else 1
        description = NodeDescription(agent.name, "10.77.0.9", "1", "b", cpus=2, resources={"gpu": 1})
        record = Session(agent.node, epoch, self.id, SessionState.OPEN, self.now(), description, version=agent.version)
        result = self.world.txn(
            (unchanged(key, stored.mod_revision if stored else 0), exists(key_of_node(agent.node))),
            [put(key, encode(record))],
        )
        if result.succeeded:
            self.sessions[agent.node] = result.revision
            self.opened[agent.node] = (epoch, result.revision)
            agent.forget_session()
            agent.session = (self.id, epoch)
            agent.alone_since = None

    def assignment(self, agent: Agent) -> Assignment | None:
        """Give the set to send; none before the picture shows the session."""
        opened = self.opened.get(agent.node)
        if opened is None or self.state.revision < opened[1]:
            return None
        tasks = {ident: self.state.tasks[ident] for ident in sorted(self.state.tasks_on.get(agent.node, ()))}
        specs = {ident: self.state.spec_of(task) for ident, task in tasks.items()}
        mounts = {
            ident: volumes_of(self.state, tasks[ident]) or spec.volume_names
            for ident, spec in specs.items()
            if spec is not None
        }
        leaving = frozenset(self.state.volumes_leaving.get(agent.node, ()))
        stops = {
            ident: spec.on_disconnect.stop_after
            for ident, spec in specs.items()
            if spec is not None and spec.on_disconnect.stop_after is not None
        }
        items = own(self.state, agent.node).values()
        images = frozenset(item.name for item in items if isinstance(item, ServiceItem) and item.coming)
        return Assignment(opened[0], self.state.revision, tasks, mounts, leaving, stops, images)

    def _vouch(self, rng: random.Random) -> None:
        """Store which tasks all agents here have let go of."""
        key, word = key_for(Withdrawn, self.id), self.withdrawals.word()
        stored = self.world.store.keys.get(key)
        if word is None and stored is not None:
            self.world.unreliable_txn((), [delete(key)], rng)
        elif word is not None and (stored is None or stored.value != encode(word)) and self.lease in self.world.leases:
            self.world.unreliable_txn((), [put(key, encode(word), self.lease)], rng)

    def change_session(self, node: str, **changes: object) -> None:
        key = key_for(Session, node)
        stored = self.world.store.keys.get(key)
        if stored is None or stored.mod_revision != self.sessions.get(node):
            self.sessions.pop(node, None)
            return
        record = decode(key, stored.value)
        assert isinstance(record, Session)
        changed = dataclasses.replace(record, **changes)  # type: ignore[arg-type]
        if changed != record:
            result = self.world.txn((unchanged(key, stored.mod_revision),), [put(key, encode(changed))])
            self.sessions[node] = result.revision

    def record(self, agent: Agent, rng: random.Random) -> None:
        """Store what an agent reports, never a state back, only under the newest session and for tasks still there.

        Volumes that it has removed are forgotten, as they were when it was asked.
        """
        key = key_for(Session, agent.node)
        if agent.heard_in_session and agent.version >= FETCHES and agent.journal.ahead:
            why = "no such image" if rng.random() < 0.05 else ""
            known = self.state.sessions[agent.node].images if agent.node in self.state.sessions else {}
            self.change_session(agent.node, images={name: known.get(name, why) for name in sorted(agent.journal.ahead)})
        if agent.heard_in_session and agent.session is not None and rng.random() > self.world.trouble:
            self.withdrawals.programmed(agent.node, agent.session[1], agent.programmed)
        for name in sorted(agent.removed & self.state.volumes_leaving.get(agent.node, set())):
            volume = key_for(Volume, name)
            as_asked = unchanged(volume, self.state.revision_of(volume))
            self.world.unreliable_txn(
                (unchanged(key, self.sessions.get(agent.node, -1)), as_asked), [delete(volume)], rng
            )
        for ident, status in list(agent.unreported.items()):
            task_key, status_key = key_for(Task, ident), key_for(TaskStatus, ident)
            stored = self.world.store.keys.get(status_key)
            before = decode(status_key, stored.value) if stored else None
            assert before is None or isinstance(before, TaskStatus)
            merged = merge(before, status)
            if merged is None or task_key not in self.world.store.keys:
                agent.unreported.pop(ident)
                continue
            guards = (
                unchanged(key, self.sessions.get(agent.node, -1)),
                exists(task_key),
                unchanged(status_key, stored.mod_revision if stored else 0),
            )
            result = self.world.unreliable_txn(guards, [put(status_key, encode(merged))], rng)
            if result is not None and result.succeeded:
                agent.unreported.pop(ident)


def key_of_node(node: str) -> str:
    return f"{PREFIX}node/{node}"
