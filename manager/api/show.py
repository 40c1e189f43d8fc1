"""The picture as people see it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from cluster.alike import did_you_mean
from cluster.errors import NotFound
from cluster.examination import WAY
from cluster.model.node import Manager, Node, NodeStatus, Session
from cluster.model.service import ServiceSpec, ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Task, TaskState, TaskStatus
from cluster.protocol import EXAMINES
from cluster.views import (
    ClusterView,
    ManagerView,
    NodeView,
    RevisionView,
    ServiceView,
    StackView,
    TaskView,
)
from manager.api.changes import changes
from manager.decide.filters import capacity_of
from manager.decide.placement import WAITS
from manager.decide.ports import published
from manager.decide.tally import tally
from manager.picture import ClusterState
from manager.stamps import Stamp

MANAGER, LOCKED = "manager", "its manager is locked: `stack unlock` there opens it"
"""The name of a condition of a node, and what it says."""

_encode = msgspec.json.Encoder().encode

Sees = Callable[[str], bool]
"""Tells whether a stack of a name is the affair of whoever asks; what is not, is not there for them."""


def everything(stack: str) -> bool:
    return True


# Finding what is meant


def find_stack(state: ClusterState, name: str, sees: Sees = everything) -> Stack:
    if name not in state.stacks or not sees(name):
        known = () if sees is everything else filter(sees, state.stacks)  # who asks is told of no other
        hint = did_you_mean(name, known, "`stack ls` lists those that there are.")
        raise NotFound(f"there is no stack {name}", hint=hint)
    return state.stacks[name]


def find_service(state: ClusterState, full_name: str, sees: Sees = everything) -> ServiceState:
    for service in state.services.values():
        if service.full_name == full_name and sees(service.stack):
            return service
    seen = () if sees is everything else (one for one in state.services.values() if sees(one.stack))
    known = (one.full_name for one in seen)
    hint = did_you_mean(full_name, known, "`stack services` lists those that there are.")
    raise NotFound(f"there is no service {full_name}", hint=hint)


def find_node(state: ClusterState, name: str) -> Node:
    """Find a node by its name or id."""
    if name in state.nodes:
        return state.nodes[name]
    for node in state.nodes.values():
        if node.name == name:
            return node
    known = (node.name for node in state.nodes.values())
    raise NotFound(
        f"there is no node {name}", hint=did_you_mean(name, known, "`stack node ls` lists those that there are.")
    )


# Showing it


def cluster(state: ClusterState, leader: str) -> ClusterView:
    assert state.cluster is not None
    verdicts = [state.node_states.get(node) for node in state.nodes]
    return ClusterView(
        id=state.cluster.id,
        created_at=state.cluster.created_at,
        revision=state.revision,
        managers=tuple(_manager(one, leader) for one in sorted(state.managers.values(), key=lambda one: one.name)),
        nodes=len(state.nodes),
        ready_nodes=sum(verdict is not None and verdict.status is NodeStatus.READY for verdict in verdicts),
        stacks=len(state.stacks),
        services=len(state.services.keys() - state.oneoffs.keys()),
        tasks=sum(state.is_live(task) for task in state.tasks.values()),
    )


def _manager(manager: Manager, leader: str) -> ManagerView:
    return ManagerView(manager.id, manager.name, manager.url, manager.id == leader, manager.started_at, manager.locked)


def node(
    state: ClusterState, node: Node, sees: Sees = everything, etcd: Mapping[str, str] = MappingProxyType({})
) -> NodeView:
    """Show a node. `etcd` are the troubles of etcd's members, by the node's id (manager.decide.upkeep)."""
    verdict = state.node_states.get(node.id)
    session = state.sessions.get(node.id)
    description = None if session is None else session.description
    reserved = state.roster.reserved(node.id)
    return NodeView(
        id=node.id,
        name=node.name,
        role=node.role,
        status=NodeStatus.UNKNOWN if verdict is None else verdict.status,
        availability=node.availability,
        address="" if description is None else description.address,
        engine_version="" if description is None else description.engine_version,
        agent_version="" if description is None else description.agent_version,
        tasks=state.load.get(node.id, 0),
        since=node.joined_at if verdict is None else verdict.since,
        reason="" if verdict is None else verdict.reason,
        labels=node.labels,
        conditions={**_conditions(state, node, session), **({"etcd": etcd[node.id]} if node.id in etcd else {})},
        operating_system="" if description is None else description.os,
        architecture="" if description is None else description.architecture,
        cpus=0 if description is None else description.cpus,
        memory=0 if description is None else description.memory,
        reserved_cpus=reserved.nano_cpus / 10**9,
        reserved_memory=reserved.memory,
        resources=capacity_of(node, description).generic,
        reserved_resources=reserved.generic,
        drain_until=node.drain_until,
        joined_at=node.joined_at,
        kernel="" if description is None else description.kernel,
        engine_labels={} if description is None else description.engine_labels,
        volumes=tuple(name for name in sorted(state.volumes_on.get(node.id, ())) if sees_volume(state, name, sees)),
        tunnels_trouble="" if description is None else description.tunnels_trouble,
    )


def sees_volume(state: ClusterState, name: str, sees: Sees) -> bool:
    """Tell whether a volume is of a stack that whoever asks sees; one whose stack is gone is for those who see all."""
    return sees(state.stack_names.get(state.volumes[name].stack_uid, ""))


def _conditions(state: ClusterState, node: Node, session: Session | None) -> dict[str, str]:
    """Give a node's troubles, but for ways to nodes that are not there to answer, or too old to."""
    locked = any(manager.locked and manager.name == node.name for manager in state.managers.values())
    told = {MANAGER: LOCKED} if locked else {}
    for name, text in {}.items() if session is None else session.conditions.items():
        other = state.sessions.get(name.removeprefix(WAY)) if name.startswith(WAY) else session
        verdict = None if other is None else state.node_states.get(other.node)
        ready = verdict is not None and verdict.status is NodeStatus.READY
        if other is session or (other is not None and ready and other.version >= EXAMINES):
            told[name] = text
    return told


def stack(state: ClusterState, stack: Stack, now: float) -> StackView:
    head = state.revisions[stack.uid][stack.head]
    first = min(state.revisions[stack.uid].values(), key=lambda revision: revision.n)
    tallies = [tally(state, head, spec, head.services[name], now) for name, spec in head.spec.services.items()]
    uids = [version.uid for version in head.services.values()]
    updates = [state.services[uid].update for uid in uids if uid in state.services]
    ready = sum(state.is_ready(task) for uid in uids for task in state.all_of(uid))
    wanted = sum(count.wanted for count in tallies)
    running = sum(count.done for count in tallies)
    return StackView(
        name=stack.name,
        uid=stack.uid,
        revision=stack.head,
        phase="removing" if stack.removing else "running" if running >= wanted else "converging",
        services=len(head.services),
        wanted=0 if stack.removing else wanted,
        running=running,
        created_at=first.created_at,
        updated_at=head.created_at,
        author=head.author,
        reason=head.reason,
        up=ready + sum(count.completed for count in tallies),
        paused=sum(update is not None and update.state.paused for update in updates),
        stopped=sum(spec.stopped for spec in head.spec.services.values()),
    )


def revisions(state: ClusterState, stack: Stack) -> list[RevisionView]:
    """List the revisions that are kept, newest first."""
    views: list[RevisionView] = []
    before: StackRevision | None = None
    for _, revision in sorted(state.revisions[stack.uid].items()):
        views.insert(
            0,
            RevisionView(
                stack=stack.name,
                n=revision.n,
                author=revision.author,
                reason=revision.reason,
                created_at=revision.created_at,
                images={name: spec.container.image for name, spec in revision.spec.services.items()},
                replicas={name: spec.replicas for name, spec in revision.spec.services.items()},
                current=revision.n == stack.head,
                changes=() if before is None else changes(before, revision),
                atomic=revision.atomic,
                digests=revision.image_digests,
            ),
        )
        before = revision
    return views


def services(state: ClusterState, stack: Stack, now: float) -> Iterator[ServiceView]:
    """List a stack's services: those of its newest revision, and those that are on their way out."""
    head = state.revisions[stack.uid][stack.head]
    for spec in head.spec.services.values():
        yield _service(state, stack, head, spec, now)
    wanted = {version.uid for version in head.services.values()}
    for uid in state.services_of.get(stack.uid, set()) - wanted - state.oneoffs.keys():
        yield _leaving(state, state.services[uid])


def _service(state: ClusterState, stack: Stack, head: StackRevision, spec: ServiceSpec, now: float) -> ServiceView:
    version = head.services[spec.name]
    count = tally(state, head, spec, version, now)
    return ServiceView(
        name=f"{stack.name}_{spec.name}",
        stack=stack.name,
        service=spec.name,
        uid=version.uid,
        version=version.version,
        image=spec.container.image,
        digest=head.image_digests.get(spec.name, ""),
        wanted=0 if stack.removing else count.wanted,
        running=sum(state.is_ready(task) for task in state.all_of(version.uid)),
        updated=count.ready,
        ports=published(state, version.uid, spec),
        problem=_trouble(state, stack, spec, version.uid, whole=count.done >= count.wanted),
        mode=spec.mode,
        completed=count.completed,
        update=state.services[version.uid].update if version.uid in state.services else None,
    )


def _trouble(state: ClusterState, stack: Stack, spec: ServiceSpec, uid: str, *, whole: bool) -> str:
    if stack.removing:
        return ""
    if spec.stopped:
        return f"it was stopped: `stack start {stack.name}_{spec.name}` starts it"
    return "" if whole else problem(state, uid)


def _leaving(state: ClusterState, service: ServiceState) -> ServiceView:
    tasks = [state.tasks[task] for task in state.tasks_of.get(service.uid, ())]
    newest = max(tasks, key=lambda task: task.version, default=None)
    spec = None if newest is None else state.spec_of(newest)
    return ServiceView(
        name=service.full_name,
        stack=service.stack,
        service=service.name,
        uid=service.uid,
        version=0 if newest is None else newest.version,
        image="" if spec is None else spec.container.image,
        wanted=0,
        running=sum(state.reported_state(task) is TaskState.RUNNING for task in tasks),
        updated=0,
        problem="is being removed",
    )


def problem(state: ClusterState, service_uid: str) -> str:
    """Give the trouble of a service: what the leader met, a paused update, why a task waits, or how one ended.

    That each waits for the one before it is how an update goes on.
    """
    service = state.services.get(service_uid)
    if service is not None and service.problem:
        return service.problem
    if service is not None and service.update is not None and service.update.state.paused:
        return f"its update is paused: {service.update.message}"
    told: list[tuple[float, str]] = []
    for task in state.all_of(service_uid):
        status = state.statuses.get(task.id)
        if state.is_live(task) and task.leaving_at is None and task.reason not in ("", WAITS):
            told.append((task.created_at, task.reason))
        if not _is_newest(state, task):
            continue  # how an older version failed is in its update's record
        if status is not None and status.state in (TaskState.FAILED, TaskState.REJECTED):
            told.append((status.at, status.message or f"task {task.slot} ended with exit code {status.exit_code}"))
    return max(told, default=(0.0, ""))[1]


def last_words(state: ClusterState, service_uid: str) -> tuple[str, ...]:
    """Give the last lines of the task of a service's newest version that failed last."""
    ended = (state.statuses.get(task.id) for task in state.all_of(service_uid) if _is_newest(state, task))
    told = [(status.at, status.log) for status in ended if status is not None and status.log]
    return max(told, default=(0.0, ()))[1]


def _is_newest(state: ClusterState, task: Task) -> bool:
    """Tell whether a task is of the version that its service is to be at; of one that goes, all are."""
    wanted = state.wanted(state.services[task.service_uid]) if task.service_uid in state.services else None
    return wanted is None or task.version == wanted[1].version


def find_services(state: ClusterState, stack: str | None, service: str | None, sees: Sees) -> list[ServiceState]:
    """Find services, by name; a filter that names nothing raises NotFound."""
    if service is not None:
        return [find_service(state, service, sees)]
    if stack is not None:
        services = [state.services[uid] for uid in state.services_of.get(find_stack(state, stack, sees).uid, ())]
    else:
        services = [one for one in state.services.values() if sees(one.stack)]
    return sorted(services, key=lambda one: one.full_name)


def tasks_of(state: ClusterState, service_uid: str, node: Node | None = None) -> list[Task]:
    """Give the tasks of a service, or those of them on a node, by slot, newest first in each."""
    found = state.tasks_of.get(service_uid, set())
    if node is not None:
        found = found & state.tasks_on.get(node.id, set())
    return sorted((state.tasks[ident] for ident in found), key=lambda task: (task.slot, -task.n))


def task_name(state: ClusterState, task: Task) -> str:
    return _task_name(state.services.get(task.service_uid), task)


def _task_name(service: ServiceState | None, task: Task) -> str:
    return f"{task.service_uid if service is None else service.full_name}.{task.slot}"


def task(state: ClusterState, task: Task) -> TaskView:
    return TaskView(**_row(state, task, state.state_of(task)))


def _row(state: ClusterState, task: Task, stands: TaskState) -> dict[str, Any]:
    """Give the fields of a task's view, in their order; to make views of a great many tasks takes twice as long."""
    status = state.statuses.get(task.id)
    service = state.services.get(task.service_uid)
    spec = state.spec_of(task)
    node = state.nodes.get(task.node or "")
    told = dict.fromkeys(text for text in (task.reason, "" if status is None else status.message) if text)
    return {
        "id": task.id,
        "name": _task_name(service, task),
        "stack": "" if service is None else service.stack,
        "service": "" if service is None else service.name,
        "slot": task.slot,
        "image": "" if spec is None else spec.container.image,
        "node": node.name if node is not None else task.node or "",
        "desired": task.desired,
        "state": stands,
        "since": task.created_at if status is None else status.at,
        "message": "; ".join(told) if told else "",
        "exit_code": None if status is None else status.exit_code,
        "restarts": 0 if status is None else status.restarts,
        "container": "" if status is None else status.container,
        "version": task.version,
        "created_at": task.created_at,
        "log": () if status is None else status.log,
        "failures": task.failures,
        "digest": state.digest_of(task),
    }


class TaskRows:
    """Tasks as they are answered, encoded: a row is made once, and again when something that it tells has changed.

    The rows of a service are kept in one piece for as long as they stand: to list all tasks of a large cluster costs as
    much as there are services then.
    """

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Task, TaskStatus | None, TaskState, bytes]] = {}
        self._pieces: dict[str, tuple[Stamp, bytes]] = {}

    def of(self, state: ClusterState, one: Task) -> bytes:
        status, stands = state.statuses.get(one.id), state.state_of(one)
        known = self._rows.get(one.id)
        if known is not None and known[0] is one and known[1] is status and known[2] is stands:
            return known[3]
        row = _encode(_row(state, one, stands))
        if len(self._rows) > 2 * len(state.tasks) + 1000:
            self._rows = {ident: kept for ident, kept in self._rows.items() if ident in state.tasks}
        self._rows[one.id] = (one, status, stands, row)
        return row

    def of_service(self, state: ClusterState, uid: str) -> Iterator[bytes]:
        """Give the rows of a service in order, all joined with commas or one by one.

        The picture may go on between two of them; such rows are not kept as one piece.
        """
        stamp = state.stamps.of(uid)
        known = self._pieces.get(uid)
        if known is not None and known[0] == stamp:
            yield known[1]
            return
        rows = []
        for one in tasks_of(state, uid):
            rows.append(self.of(state, one))
            yield rows[-1]
        if rows and state.stamps.of(uid) == stamp:
            if len(self._pieces) > 2 * len(state.services) + 100:
                self._pieces = {uid: kept for uid, kept in self._pieces.items() if uid in state.services}
            self._pieces[uid] = stamp, b",".join(rows)
