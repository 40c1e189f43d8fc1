"""The cluster's state as one manager sees it: every record at one revision, with the indexes that deciding needs.

Fed with etcd's changes in etcd's order and read by everybody else in the manager; nobody but `apply` and `replace`
changes it. Records are immutable, so that what was read stays as it was. `manager.invariants` says what must hold.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from cluster.codec import Record, decode, key_for, key_of
from cluster.model.attachment import Attachment
from cluster.model.cluster import Claim, ClockMark, Cluster, Trust
from cluster.model.network import Network
from cluster.model.node import Availability, Manager, Node, NodeState, Session
from cluster.model.oneoff import OneOff
from cluster.model.rebalance import Rebalance, RebalanceWish
from cluster.model.secret import Content, External
from cluster.model.service import ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Task, TaskStatus
from cluster.model.update import Withdrawn
from cluster.model.user import User
from cluster.model.volume import Volume
from manager.roster import Roster
from manager.shown import Shown
from manager.stamps import Stamps

T = TypeVar("T")


class Event(NamedTuple):
    """One change of a key, as etcd tells it; `value` None is a deletion."""

    key: str
    value: bytes | None
    revision: int


class Change(NamedTuple):
    """What an event did to a record; `old` None is a new one, `new` None a deleted one. `revision` is the event's."""

    key: str
    old: Record | None
    new: Record | None
    revision: int = 0


class Snapshot(NamedTuple):
    """All that a picture shows, apart from it: later changes of the picture do not change it."""

    records: dict[str, Record]
    revisions: dict[str, int]
    newest: dict[str, tuple[int, int]]
    revision: int


class ClusterState(Shown):
    """All records at `revision`.

    `roster` has the nodes that take tasks, in order. `stamps` tells whether a service's tasks are as they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster(self)
        self.stamps = Stamps()
        self._index: dict[type[Any], Callable[[Any, Any], None]] = {
            Cluster: self._put_cluster,
            ClockMark: self._put_clock,
            Stack: self._put_stack,
            StackRevision: self._put_revision,
            ServiceState: self._put_service,
            Network: self._put_network,
            Volume: self._put_volume,
            Task: self._put_task,
            TaskStatus: self._put_status,
            Node: self._put_node,
            NodeState: self._put_node_state,
            Session: self._put_session,
            Manager: self._put_manager,
            Claim: self._put_claim,
            RebalanceWish: self._put_wish,
            Rebalance: self._put_rebalance,
            Content: self._put_content,
            External: lambda old, new: _replace(self.externals, lambda r: r.owner, old, new),
            Withdrawn: lambda old, new: _replace(self.withdrawn, lambda r: r.manager, old, new),
            User: self._put_user,
            Attachment: self._put_attachment,
            OneOff: lambda old, new: _replace(self.oneoffs, lambda r: r.id, old, new),
            Trust: self._put_trust,
        }

    # Feeding

    def apply(self, events: Iterable[Event], revision: int) -> list[Change]:
        """Go on to `revision`. Events that are known already, by their revision, change nothing."""
        changes: list[Change] = []
        for event in events:
            if event.revision > self.revision:
                self._apply(event, changes)
        self.revision = max(self.revision, revision)
        return changes

    def replace(self, snapshot: Iterable[tuple[str, bytes, int]], revision: int) -> list[Change]:
        """Become what a full listing at `revision` says, and tell what differs from before.

        A listing older than the picture is passed over.
        """
        changes: list[Change] = []
        if revision < self.revision:
            return changes
        missing = set(self._records)
        for key, value, at in snapshot:
            missing.discard(key)
            if self._revisions.get(key) != at:
                self._apply(Event(key, value, at), changes)
        for key in sorted(missing):
            self._apply(Event(key, None, revision), changes)
        self.revision = revision
        return changes

    def _apply(self, event: Event, changes: list[Change]) -> None:
        key = event.key
        old = self._records.get(key)
        if event.value is None:
            new = None
            if old is None:
                return
            del self._records[key], self._revisions[key]
        else:
            new = decode(key, event.value)
            self._records[key] = new
            self._revisions[key] = event.revision
        self._index[type(old if new is None else new)](old, new)
        changes.append(Change(key, old, new, event.revision))

    # Copying

    def snapshot(self) -> Snapshot:
        return Snapshot(dict(self._records), dict(self._revisions), dict(self.newest), self.revision)

    @classmethod
    def of(cls, snapshot: Snapshot) -> ClusterState:
        """Make a picture of its own, to try things on; of a large cluster that takes a while."""
        state = cls()
        state._records, state._revisions = dict(snapshot.records), dict(snapshot.revisions)
        for record in snapshot.records.values():
            state._index[type(record)](None, record)
        state.newest, state.revision = dict(snapshot.newest), snapshot.revision
        return state

    # Indexes, one method a type; `old` or `new` is None when the record is made or deleted.

    def _put_cluster(self, old: Cluster | None, new: Cluster | None) -> None:
        self.cluster = new

    def _put_clock(self, old: ClockMark | None, new: ClockMark | None) -> None:
        self.clock = new

    def _put_wish(self, old: RebalanceWish | None, new: RebalanceWish | None) -> None:
        self.rebalance_wish = new

    def _put_rebalance(self, old: Rebalance | None, new: Rebalance | None) -> None:
        self.rebalance = new

    def _put_trust(self, old: Trust | None, new: Trust | None) -> None:
        self.trust = new

    def _put_stack(self, old: Stack | None, new: Stack | None) -> None:
        _replace(self.stacks, lambda r: r.name, old, new)
        self.roster.forget_reserved()
        if old is not None:
            self.stack_names.pop(old.uid, None)
        if new is not None:
            self.stack_names[new.uid] = new.name

    def _put_revision(self, old: StackRevision | None, new: StackRevision | None) -> None:
        if old is not None:
            numbers = self.revisions[old.stack_uid]
            del numbers[old.n]
            if not numbers:
                del self.revisions[old.stack_uid]
        if new is not None:
            self.revisions.setdefault(new.stack_uid, {})[new.n] = new
        self.roster.forget_reserved()

    def _put_service(self, old: ServiceState | None, new: ServiceState | None) -> None:
        _replace(self.services, lambda r: r.uid, old, new)
        if old is None or new is None:
            self.roster.forget_reserved()
        if old is not None and new is None:
            self.stamps.forget(old.uid)
        if old is not None:
            _discard(self.services_of, old.stack_uid, old.uid)
        if new is not None:
            self.services_of.setdefault(new.stack_uid, set()).add(new.uid)

    def _put_network(self, old: Network | None, new: Network | None) -> None:
        _replace(self.networks, lambda r: r.id, old, new)
        if old is not None:
            _discard(self.networks_of, old.stack_uid, old.id)
            _discard(self.networks_named, old.name, old.id)
        if new is not None:
            self.networks_of.setdefault(new.stack_uid, set()).add(new.id)
            self.networks_named.setdefault(new.name, set()).add(new.id)

    def _put_volume(self, old: Volume | None, new: Volume | None) -> None:
        _replace(self.volumes, lambda r: r.name, old, new)
        if old is not None:
            _discard(self.volumes_on, old.node, old.name)
        if new is not None:
            self.volumes_on.setdefault(new.node, set()).add(new.name)
        if old is not None and old.removing:
            _discard(self.volumes_leaving, old.node, old.name)
        if new is not None and new.removing:
            self.volumes_leaving.setdefault(new.node, set()).add(new.name)

    def _put_task(self, old: Task | None, new: Task | None) -> None:
        if old is not None:
            self._count(old, -1)
            self._put_in_row(old, None)
            _discard(self.tasks_of, old.service_uid, old.id)
            versions = self.versions_used[old.stack_uid]
            _discard(versions, old.version, old.id)
            if not versions:
                del self.versions_used[old.stack_uid]
        _replace(self.tasks, lambda r: r.id, old, new)
        if old is not None:
            self.moving.discard(old.id)
        if new is not None and new.moving:
            self.moving.add(new.id)
        if new is not None:
            self.tasks_of.setdefault(new.service_uid, set()).add(new.id)
            self._put_in_row(new, new)
            self.versions_used.setdefault(new.stack_uid, {}).setdefault(new.version, set()).add(new.id)
            self._count(new, +1)

    def _put_in_row(self, task: Task, new: Task | None) -> None:
        rows = self.rows.setdefault(task.service_uid, {})
        row = [one for one in rows.pop(task.slot, ()) if one.id != task.id]
        if new is not None:
            row.append(new)
            row.sort(key=lambda one: -one.n)
        if row:
            rows[task.slot] = tuple(row)
        elif not rows:
            del self.rows[task.service_uid]

    def _put_status(self, old: TaskStatus | None, new: TaskStatus | None) -> None:
        either = new or old
        assert either is not None
        task = self.tasks.get(either.task)
        if task is not None:
            self._count(task, -1)
        _replace(self.statuses, lambda r: r.task, old, new)
        if task is not None:
            self._count(task, +1)

    def _count(self, task: Task, by: int) -> None:
        """Take a task into, or out of, the indexes that depend on its state as well as on its record."""
        self.stamps.note_service(task.service_uid)
        live = self.is_live(task)
        if not self.is_settled(task):
            _toggle(self.unsettled, task.service_uid, task.id, by)
        if task.node is None:
            if live:
                _toggle(self.unbound, task.service_uid, task.id, by)
            return
        _toggle(self.tasks_on, task.node, task.id, by)
        self.roster.touch(task.node)
        if live and task.reason:
            _toggle(self.noted, task.service_uid, task.id, by)
        if live:
            self.load[task.node] = self.load.get(task.node, 0) + by
            if not self.load[task.node]:
                del self.load[task.node]
        if not self.has_ended(task):
            self.roster.count(task, by)
            for endpoint in task.endpoints:
                _toggle(self.tasks_in, endpoint.network, task.id, by)

    def _put_node(self, old: Node | None, new: Node | None) -> None:
        self.stamps.note_nodes()
        _replace(self.nodes, lambda r: r.id, old, new)
        if old is not None:
            self.drained.discard(old.id)
        if new is not None and new.availability is Availability.DRAIN:
            self.drained.add(new.id)
        self.roster.touch(*(record.id for record in (old, new) if record is not None))

    def _put_node_state(self, old: NodeState | None, new: NodeState | None) -> None:
        self.stamps.note_nodes()
        _replace(self.node_states, lambda r: r.node, old, new)
        self.roster.touch(*(record.node for record in (old, new) if record is not None))

    def _put_manager(self, old: Manager | None, new: Manager | None) -> None:
        self.stamps.note_nodes()
        _replace(self.managers, lambda r: r.id, old, new)
        self.roster.touch(*(n for record in (old, new) if record for n in self.sessions_at.get(record.id, ())))

    def _put_session(self, old: Session | None, new: Session | None) -> None:
        self.stamps.note_nodes()
        _replace(self.sessions, lambda r: r.node, old, new)
        self.roster.touch(*(record.node for record in (old, new) if record is not None))
        if old is not None:
            _discard(self.sessions_at, old.manager, old.node)
        if new is not None:
            self.sessions_at.setdefault(new.manager, set()).add(new.node)

    def _put_content(self, old: Content | None, new: Content | None) -> None:
        if old is not None:
            digests = self.contents[old.owner]
            del digests[old.digest]
            if not digests:
                del self.contents[old.owner]
        if new is not None:
            self.contents.setdefault(new.owner, {})[new.digest] = new

    def _put_user(self, old: User | None, new: User | None) -> None:
        _replace(self.users, lambda r: r.name, old, new)
        for credential in old.credentials if old is not None else ():
            del self.credentials[credential.id]
        if new is not None:
            self.credentials |= {credential.id: new.name for credential in new.credentials}

    def _put_attachment(self, old: Attachment | None, new: Attachment | None) -> None:
        _replace(self.attachments, lambda r: r.id, old, new)
        if old is not None:
            _discard(self.attachments_on, old.node, old.id)
            _discard(self.attachments_in, old.network, old.id)
        if new is not None:
            self.attachments_on.setdefault(new.node, set()).add(new.id)
            self.attachments_in.setdefault(new.network, set()).add(new.id)

    def _put_claim(self, old: Claim | None, new: Claim | None) -> None:
        for claim, by in ((old, -1), (new, +1)):
            if claim is None:
                continue
            key = key_of(claim)
            if by > 0:
                self.claims[key] = claim
            else:
                del self.claims[key]
            _toggle(self.claims_of, claim.owner, key, by)
            owner = self.tasks.get(claim.owner)
            if owner is not None:
                _toggle(self.unsettled, owner.service_uid, owner.id, -1 if self.is_settled(owner) else +1)
            if claim.kind == "address":
                network, _, text = claim.name.rpartition("/")
                address = ipaddress.ip_address(text)
                _toggle(self.occupied, network, int(address), by)
                _toggle(self.holders, network, (claim.owner, text), by)
                self._note_newest(f"{network}/{address.version}", key, int(address))
            elif claim.kind == "vni":
                (self.vnis.add if by > 0 else self.vnis.discard)(int(claim.name))
                self._note_newest("vni", key, int(claim.name))
            elif claim.kind == "port" and claim.target:
                protocol, _, text = claim.name.partition("/")
                self._note_newest(f"port/{protocol}", key, int(text))
            elif claim.kind == "subnet":
                subnet = ipaddress.ip_network(claim.name)
                self._note_newest(f"subnet/{subnet.version}", key, int(subnet.network_address))

    def _note_newest(self, series: str, key: str, number: int) -> None:
        newest = (self._revisions.get(key, 0), number)
        self.newest[series] = max(newest, self.newest.get(series, newest))


def claim_key(kind: str, name: str) -> str:
    """Give the key of the claim on one thing, whoever holds it."""
    return key_for(Claim, f"{kind}/{name}")


def _replace(index: dict[str, T], ident: Callable[[T], str], old: T | None, new: T | None) -> None:
    if old is not None:
        index.pop(ident(old), None)
    if new is not None:
        index[ident(new)] = new


K = TypeVar("K")
V = TypeVar("V")


def _discard(index: dict[K, set[V]], key: K, item: V) -> None:
    items = index.get(key)
    if items is not None:
        items.discard(item)
        if not items:
            del index[key]


def _toggle(index: dict[K, set[V]], key: K, item: V, by: int) -> None:
    if by > 0:
        index.setdefault(key, set()).add(item)
    else:
        _discard(index, key, item)
