"""Clusters for tests of deciding: records with defaults, and a cluster whose leader is asked until it is content."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Iterable
from typing import Any

from cluster.codec import PREFIX, Record, encode, key_of
from cluster.model.cluster import Cluster
from cluster.model.container import ContainerSpec, Mount
from cluster.model.network import NetworkSpec
from cluster.model.node import Availability, Manager, Node, NodeDescription, Session, SessionState
from cluster.model.service import NetworkAttachment, PortSpec, RestartPolicy, ServiceSpec
from cluster.model.stack import Stack, StackRevision, StackSpec
from cluster.model.task import Task, TaskState, TaskStatus
from cluster.model.update import Withdrawn
from cluster.model.volume import VolumeSpec
from cluster.protocol import VERSION
from manager.decide import handover, updater
from manager.decide.agenda import Question
from manager.decide.plan import Plan
from manager.decide.revisions import Resolved, revised
from manager.etcd.records import Delete, Put
from manager.invariants import backwards, broken
from manager.leader import Leader
from manager.picture import Change, ClusterState, Event
from tests.sim.store import Store

NOW = 1_000_000.0


def a_service(
    name: str = "web",
    *,
    replicas: int = 1,
    image: str = "app:1",
    networks: tuple[str, ...] = ("default",),
    ports: tuple[PortSpec, ...] = (),
    volumes: tuple[str, ...] = (),
    constraints: tuple[str, ...] = (),
    restart: RestartPolicy | None = None,
    **fields: Any,
) -> ServiceSpec:
    mounts = tuple(Mount("volume", f"/mnt/{volume}", volume) for volume in volumes)
    return ServiceSpec(
        name=name,
        container=ContainerSpec(image=image, mounts=mounts),
        networks=tuple(NetworkAttachment(network, (name,)) for network in networks),
        ports=ports,
        replicas=replicas,
        constraints=constraints,
        restart=restart or RestartPolicy(),
        **fields,
    )


def a_stack(name: str = "app", *services: ServiceSpec, networks: tuple[NetworkSpec, ...] = ()) -> StackSpec:
    keys = sorted({a.network for service in services for a in service.networks})
    specs = {key: NetworkSpec(key, f"{name}_{key}") for key in keys} | {spec.key: spec for spec in networks}
    volumes = sorted({volume for service in services for volume in service.volume_names})
    return StackSpec(
        name=name,
        services={service.name: service for service in services},
        networks=specs,
        volumes={volume: VolumeSpec(volume, volume) for volume in volumes},
    )


def a_description(name: str) -> NodeDescription:
    return NodeDescription(hostname=name, address=f"10.77.0.{name[1:]}", agent_version="1", boot_id="b")


def next_revision(
    state: ClusterState,
    spec: StackSpec,
    force: Iterable[str] = (),
    back: Iterable[str] = (),
    images: dict[str, Resolved] | None = None,
) -> tuple[Stack, StackRevision]:
    """What the API writes for a deploy: the stack's new head and its revision."""
    stack = state.stacks.get(spec.name)
    head = state.head(stack.uid) if stack else None
    stack = stack or Stack(f"stack-{spec.name}-{state.revision}", spec.name, 0, "")
    n = stack.head + 1
    uid = f"{stack.uid}-{n}-".__add__
    known = state.revisions.get(stack.uid, {})
    revision = revised(head, known, spec, stack.uid, n, uid, forced=set(force), back=set(back), resolved=images)
    revision = dataclasses.replace(revision, author="me", created_at=NOW, operation=f"op{n}")
    return dataclasses.replace(stack, head=n), revision


def a_copy(state: ClusterState, order: random.Random | None = None) -> ClusterState:
    """The same picture, put together from its records in their order or another one."""
    listing = [(key, encode(record), state.revision_of(key)) for key, record in state.records()]
    if order is not None:
        order.shuffle(listing)
    other = ClusterState()
    other.replace(listing, state.revision)
    other.newest = copy.copy(state.newest)
    return other


class Lab:
    """A cluster with a leader and no agents: tests write what agents would report.

    While it `hands_over`, withdrawn tasks are confirmed, and the short pauses of updates are over, by the time that the
    leader is content. While it `fetches`, nodes have the images of the newest versions by then.
    """

    def __init__(self, *nodes: str, now: float = NOW, **cluster: Any) -> None:
        self.store = Store()
        self.state = ClusterState()
        self.now = now
        self.plans: list[tuple[Question, Plan]] = []
        self.hands_over = True
        self.fetches = True
        self.write(Cluster("c1", NOW, version=VERSION, **cluster), Manager("m1", "m1", "https://m1", NOW))
        for node in nodes:
            self.join(node)
        self.leader = Leader(self.state, self.now)

    # What others than the leader write

    def write(self, *records: Record, delete: tuple[Record, ...] = ()) -> None:
        puts = [Put(key_of(record), encode(record)) for record in records]
        self.store.txn((), [*puts, *(Delete(key_of(record)) for record in delete)])
        self.catch_up()

    def catch_up(self) -> None:
        for revision, events in self.store.since(self.state.revision):
            ours = [(e.key, e.current.value if e.current else None) for e in events if e.key.startswith(PREFIX)]
            changes = self.state.apply([Event(key, value, revision) for key, value in ours], revision)
            for change in changes:
                assert not backwards(change), backwards(change)
            self.heard(changes)

    def heard(self, changes: list[Change]) -> None:
        if hasattr(self, "leader"):
            self.leader.note(changes, self.now)

    def join(self, name: str, **node: Any) -> None:
        self.write(Node(f"id-{name}", name, "worker", NOW, **node))
        self.write(Session(f"id-{name}", 1, "m1", SessionState.OPEN, NOW, a_description(name), version=VERSION))

    def session(self, name: str, **changes: Any) -> None:
        self.write(dataclasses.replace(self.state.sessions[f"id-{name}"], **changes))

    def fall_silent(self, name: str, *, reachable: bool | None = False) -> None:
        self.session(name, state=SessionState.SILENT, since=self.now, reachable=reachable)

    def return_(self, name: str) -> None:
        session = self.state.sessions[f"id-{name}"]
        self.session(name, state=SessionState.OPEN, epoch=session.epoch + 1, since=self.now, reachable=None)

    def node(self, name: str, **changes: Any) -> None:
        self.write(dataclasses.replace(self.state.nodes[f"id-{name}"], **changes))

    def drain(self, name: str) -> None:
        self.node(name, availability=Availability.DRAIN)

    def deploy(self, spec: StackSpec, *, force: Iterable[str] = (), images: dict[str, Resolved] | None = None) -> None:
        self.write(*next_revision(self.state, spec, force, images=images))

    def remove(self, name: str, *, volumes: bool = False) -> None:
        self.write(dataclasses.replace(self.state.stacks[name], removing=True, remove_volumes=volumes))

    def report(self, task: Task, state: TaskState, **fields: Any) -> None:
        fields.setdefault("container", "" if state is TaskState.SHUTDOWN else "c" + task.id)
        self.write(TaskStatus(task.id, state, self.now, **fields))

    # The leader

    def settle(self) -> None:
        """Let the leader decide until it is content with this instant, checking every state on the way."""
        for _ in range(10_000):
            question = self.leader.agenda.take(self.now)
            if question is None:
                if self.fetches and self._fetch():
                    continue
                if self.hands_over and self._hand_over():
                    continue
                return
            plan = self.leader.decide(question, self.now)
            if plan.steps:
                self.plans.append((question, plan))
                self.commit(plan)
        raise AssertionError(f"the leader is never content: {[p.steps[0].why for _, p in self.plans[-6:]]}")

    def confirm(self, *tasks: Task) -> None:
        """All agents have let go of these tasks, and of no others, says their manager."""
        self.write(Withdrawn("m1", {task.id: self.now for task in tasks}))

    def _fetch(self) -> bool:
        newest = (self.state.wanted(service) for service in self.state.services.values())
        there = {f"{wanted[1].uid}/{wanted[1].version}": "" for wanted in newest if wanted is not None}
        updating = any(s.update is not None and s.update.state.at_work for s in self.state.services.values())
        lacking = [s for s in self.state.sessions.values() if s.images != there and self.state.is_heard(s)]
        if updating and lacking:
            self.write(*(dataclasses.replace(session, images=there) for session in lacking))
        return updating and bool(lacking)

    def _hand_over(self) -> bool:
        leaving = list(handover.leaving(self.state.tasks.values()))
        wake = self.leader.agenda.next_wake()
        if leaving:
            self.confirm(*leaving)
            self.now += handover.LINGER
        elif self.state.withdrawn:
            self.write(delete=tuple(self.state.withdrawn.values()))
        updating = any(s.update is not None and s.update.state.at_work for s in self.state.services.values())
        if updating and wake is not None and wake <= self.now + updater.SETTLE:
            self.now = max(self.now, wake)
            return True
        return bool(leaving)

    def commit(self, plan: Plan) -> None:
        commit = self.leader.commit(plan, (), self.now)
        while (transaction := commit.next()) is not None:
            result = self.store.txn(transaction.compares, transaction.operations)
            assert result.succeeded, transaction
            commit.succeeded(result.revision)
            self.catch_up()
            assert not broken(self.state), (transaction.steps, broken(self.state))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def run_all(self, *, until: Callable[[Task], bool] = lambda task: True) -> None:
        """Agents do what they are told, until there is nothing to do: tasks run, and end when they are to end."""
        while True:
            self.settle()
            before = self.state.revision
            for task in sorted(self.state.tasks.values(), key=lambda task: (task.slot, task.n)):
                if task.node is None or not until(task):
                    continue
                self._obey(task)
            leaving = [volume for volume in self.state.volumes.values() if volume.removing]
            if leaving:
                self.write(delete=tuple(leaving))
            if self.state.revision == before:
                return

    def _obey(self, task: Task) -> None:
        status = self.state.statuses.get(task.id)
        state = self.state.reported_state(task)
        if task.desired == "running":
            reached = TaskState.READY if task.held else TaskState.RUNNING
            if state.rank < reached.rank:
                self.report(task, reached)
        elif not state.terminal:
            self.report(task, TaskState.SHUTDOWN, container="c" if task.desired == "shutdown" else "")
        elif task.desired == "remove" and status is not None and status.container:
            self.write(dataclasses.replace(status, container=""))

    # What there is

    def tasks(self, service: str = "", *, live: bool = True) -> list[Task]:
        uids = {uid for uid, s in self.state.services.items() if s.name == service or not service}
        found = [t for t in self.state.tasks.values() if t.service_uid in uids and (self.state.is_live(t) or not live)]
        return sorted(found, key=lambda task: (task.service_uid, task.slot, task.n))

    def task(self, service: str = "") -> Task:
        [task] = self.tasks(service)
        return task

    def places(self, service: str = "") -> dict[str | None, int]:
        """How many live tasks each node has, by its name."""
        counts: dict[str | None, int] = {}
        for task in self.tasks(service):
            name = None if task.node is None else task.node.removeprefix("id-")
            counts[name] = counts.get(name, 0) + 1
        return counts

    def keys(self) -> set[str]:
        """The kinds of records that there are."""
        return {key.removeprefix(PREFIX).partition("/")[0] for key in self.store.keys}
