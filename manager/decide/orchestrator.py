"""One replicated service: which tasks it has, which end, and which follow them.

Reads the service's slots against what the stack's head wants and settles, slot by slot, what is next. The questions
of when to restart, which slots to update, and where a task runs are asked of the files of those names.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.codec import key_for, key_of
from cluster.errors import Inconsistent
from cluster.model.cluster import Claim
from cluster.model.network import Endpoint, Network
from cluster.model.node import Availability, Node, NodeState, Session
from cluster.model.service import ServiceSpec, ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Desired, Task, TaskState, TaskStatus, task_id
from cluster.model.volume import Volume
from manager.decide.allocator import AddressAllocator, NoRoom, attachments
from manager.decide.plan import Draft, Plan
from manager.decide.restarts import Rests, Successor, after_end, inherited
from manager.decide.scheduler import Scheduler, host_port_claim
from manager.decide.slots import Slot, slots_of
from manager.decide.updater import next_batch
from manager.picture import ClusterState, claim_key

HISTORY = 4
"""Ended tasks that a slot keeps, with their containers and logs, besides the newest one."""

ORPHANED_AFTER = 24 * 3600.0
"""Seconds that a node may be down until what ran there is taken for gone and its addresses are free."""


def decide(state: ClusterState, service_uid: str, now: float) -> Plan:
    """Say what to do about one service."""
    service = state.services.get(service_uid)
    if service is None:
        return Plan()
    if service.quarantined_until is not None and now < service.quarantined_until:
        return Plan(wake_at=service.quarantined_until)
    draft = Draft(state)
    wanted = state.wanted(service)
    head = state.head(service.stack_uid)
    # A service that goes does not wait for a node that is down: on its return, the node removes what nobody knows.
    _reap(state, draft, service, now, patience=0.0 if wanted is None else ORPHANED_AFTER)
    if wanted is None or head is None:
        _dissolve(state, draft, service)
    else:
        _Reconciler(state, draft, service, head, wanted[0], wanted[1].version, now).run()
    return draft.plan()


def tasks_of(state: ClusterState, service_uid: str) -> list[Task]:
    return [state.tasks[ident] for ident in sorted(state.tasks_of.get(service_uid, ()))]


# Ends


def _reap(state: ClusterState, draft: Draft, service: ServiceState, now: float, patience: float) -> None:
    """Free what ended tasks held, forget those of which nothing is left, give up those whose node is gone."""
    for task in tasks_of(state, service.uid):
        if draft.full:
            return
        status = state.statuses.get(task.id)
        claims = sorted(state.claims_of.get(task.id, ()))
        if _is_forgotten(task, status):
            deletes = [key_of(task), *claims, *([key_of(status)] if status is not None else [])]
            draft.step(f"forget task {task.id}", deletes=deletes)
        elif state.has_ended(task):
            if claims:
                status_key = key_for(TaskStatus, task.id)
                draft.step(f"free what task {task.id} held", deletes=claims, guards=[key_of(task), status_key])
        elif task.node is not None and task.desired is not Desired.RUNNING:
            _orphan(state, draft, task, task.node, claims, now, patience)


def _is_forgotten(task: Task, status: TaskStatus | None) -> bool:
    if task.desired is Desired.RUNNING:
        return False
    if task.node is None:
        return True
    return task.desired is Desired.REMOVE and status is not None and status.state.terminal and not status.container


def _orphan(
    state: ClusterState, draft: Draft, task: Task, node: str, claims: list[str], now: float, patience: float
) -> None:
    if node in state.nodes:
        verdict = state.node_states.get(node)
        session = state.sessions.get(node)
        if verdict is None or session is None or not state.is_lost(node):
            return
        until = max(verdict.since, session.since) + patience if patience else now
        if now < until:
            draft.wake(until)
            return
        message = f"node {state.nodes[node].name} is down"
    else:
        message = f"node {node} is no longer in the cluster"
    before = state.statuses.get(task.id, TaskStatus(task.id, TaskState.ASSIGNED, now))
    status = dataclasses.replace(before, state=TaskState.ORPHANED, at=now, message=message, container="")
    draft.step(
        f"give up task {task.id}: {message}",
        puts=[status],
        deletes=claims,
        guards=[key_of(task), key_for(Node, node), key_for(NodeState, node), key_for(Session, node)],
    )


def _dissolve(state: ClusterState, draft: Draft, service: ServiceState) -> None:
    """Take down a service that nobody wants any more, and forget it with its last task."""
    tasks = tasks_of(state, service.uid)
    for task in tasks:
        if draft.full:
            return
        if task.desired is not Desired.REMOVE and not _is_forgotten(task, state.statuses.get(task.id)):
            if task.node is None:
                draft.step(f"drop task {task.id}", deletes=[key_of(task)])
            else:
                reason = "its service was removed"
                draft.step(
                    f"remove task {task.id}",
                    puts=[dataclasses.replace(task, desired=Desired.REMOVE, reason=reason)],
                )
    if not tasks:
        for key in sorted(state.claims_of.get(service.uid, ())):
            draft.step(f"give up {key}", deletes=[key])
        draft.step(
            f"forget service {service.full_name}", deletes=[key_of(service)], guards=[key_for(Stack, service.stack)]
        )


# The slots of a service that is wanted


@dataclass(slots=True)
class _New:
    """A task to be made, and the task whose place it takes."""

    slot: int
    successor: Successor
    replaces: Task | None = None
    replaced: Task | None = None
    """`replaces` as it is to be stored; None to drop a task that never had a node."""


class _Reconciler:
    def __init__(
        self,
        state: ClusterState,
        draft: Draft,
        service: ServiceState,
        head: StackRevision,
        spec: ServiceSpec,
        version: int,
        now: float,
    ) -> None:
        self.state, self.draft, self.now = state, draft, now
        self.service, self.head, self.spec, self.version = service, head, spec, version
        tasks = tasks_of(state, service.uid)
        self.slots = slots_of(tasks)
        self.scheduler = Scheduler(state, head.spec, spec, tasks)
        self.addresses = AddressAllocator(state)
        self.networks: list[tuple[Network, tuple[str, ...]]] | None = None
        self.network_problem = ""
        try:
            self.networks = attachments(state, head, spec)
        except NoRoom as problem:
            self.network_problem = str(problem)
        self.changed: dict[str, Task] = {}
        self.dropped: list[Task] = []
        self.new: list[_New] = []

    def run(self) -> None:
        problem = self._claim_ports()
        occupied = [slot for slot in self.slots if slot.occupant is not None]
        victims = self._victims(occupied)
        kept = [slot for slot in occupied if slot.number not in victims]
        for slot in self.slots:
            if slot.number in victims or slot.occupant is None:
                self._give_up(slot)
        stale = {slot.number for slot in next_batch(self.state, kept, self._is_outdated)}
        for slot in kept:
            self._settle(slot, stale=slot.number in stale)
        self._fill(kept)
        self._write(kept, problem)

    # What is to become of the slots

    def _victims(self, occupied: list[Slot]) -> set[int]:
        """Choose what to scale down: first what does not run, then on the nodes with most, then the highest slot."""
        spare = len(occupied) - self.spec.replicas
        if spare <= 0:
            return set()
        idle = [slot for slot in occupied if not self.state.is_ready(slot.tasks[0])]
        busy = [slot for slot in occupied if self.state.is_ready(slot.tasks[0])]
        idle.sort(key=lambda slot: (self.state.reported_state(slot.tasks[0]).rank, -slot.number))
        victims = [slot.number for slot in idle[:spare]]
        on = Counter(slot.tasks[0].node for slot in busy)
        while len(victims) < spare:
            worst = max(busy, key=lambda slot: (on[slot.tasks[0].node], slot.number))
            busy.remove(worst)
            on[worst.tasks[0].node] -= 1
            victims.append(worst.number)
        return set(victims)

    def _give_up(self, slot: Slot) -> None:
        for task in slot.tasks:
            if _is_forgotten(task, self.state.statuses.get(task.id)):
                continue
            if task.node is None:
                self.dropped.append(task)
            elif task.desired is not Desired.REMOVE:
                reason = task.reason or "scaled down"
                self.changed[task.id] = dataclasses.replace(task, desired=Desired.REMOVE, reason=reason)

    def _is_outdated(self, task: Task) -> bool:
        if task.version != self.version:
            return True
        if task.node is None or self.networks is None or self.state.has_ended(task):
            return False
        return {endpoint.network for endpoint in task.endpoints} != {network.id for network, _ in self.networks}

    def _settle(self, slot: Slot, *, stale: bool) -> None:
        """Decide about the task in a slot, and let go of those before it."""
        task = slot.tasks[0]
        status = self.state.statuses.get(task.id)
        if stale:
            self._replace(task, Successor(), f"replaced by version {self.version}")
        elif status is not None and status.state.terminal:
            after = after_end(task, status, self.spec.restart, self.now)
            if isinstance(after, Rests):
                self._note(task, after.reason)
            else:
                self._replace(task, after, task.reason)
        elif task.node is not None:
            self._look_after_node(task, task.node)
        for old in slot.tasks[1:]:
            if old.desired is Desired.RUNNING:
                raise Inconsistent(f"two tasks of {self.service.full_name}.{slot.number} are wanted at once")
        for old in slot.tasks[1 + HISTORY :]:
            if old.desired is not Desired.REMOVE and old.node is not None:
                self.changed[old.id] = dataclasses.replace(old, desired=Desired.REMOVE)

    def _look_after_node(self, task: Task, node_id: str) -> None:
        node = self.state.nodes.get(node_id)
        verdict = self.state.node_states.get(node_id)
        if node is None:
            self._replace(task, inherited(task), f"node {node_id} is no longer in the cluster")
        elif verdict is not None and self.state.is_lost(node_id):
            if self._is_pinned(task):
                volume = next(v for v in self.scheduler.volumes if self.state.volumes[v].node == node_id)
                self._note(task, f"waits for node {node.name}, which is down: volume {volume} is there")
            elif self.now < verdict.replace_at:
                self.draft.wake(verdict.replace_at)
            else:
                self._replace(task, inherited(task), f"node {node.name} is down")
        elif node.availability is Availability.DRAIN:
            self._replace(task, inherited(task), f"node {node.name} is drained")
        else:
            self._note(task, "")

    def _is_pinned(self, task: Task) -> bool:
        bound = (self.state.volumes.get(name) for name in self.scheduler.volumes)
        return any(volume is not None and volume.node == task.node for volume in bound)

    def _note(self, task: Task, reason: str) -> None:
        if task.reason != reason:
            self.changed[task.id] = dataclasses.replace(task, reason=reason)

    def _replace(self, task: Task, successor: Successor, reason: str) -> None:
        replaced = None
        if task.node is not None:
            replaced = dataclasses.replace(task, desired=Desired.SHUTDOWN, reason=reason)
        self.new.append(_New(task.slot, successor, task, replaced))

    def _fill(self, kept: list[Slot]) -> None:
        """Make the slots that are missing: the lowest numbers of which nothing runs any more."""
        taken = {slot.number for slot in kept}
        taken |= {s.number for s in self.slots if not all(self.state.has_ended(t) for t in s.tasks if t.node)}
        number = 0
        for _ in range(self.spec.replicas - len(kept)):
            number += 1
            while number in taken:
                number += 1
            self.new.append(_New(number, Successor()))

    # Steps

    def _write(self, kept: list[Slot], problem: str) -> None:
        for task in self.dropped:
            self.draft.step(f"drop task {task.id}", deletes=[key_of(task)])
        for task in self.changed.values():
            self.draft.step(f"task {task.id}: {task.desired}, {task.reason}", puts=[task])
        service = dataclasses.replace(
            self.service,
            tasks_made=self.service.tasks_made + len(self.new),
            quarantined_until=None,
            quarantines=0,
            problem=problem,
        )
        if service != self.service and not self.new:
            self.draft.step(f"service {service.full_name}: {problem or 'all is well'}", puts=[service])
        replaced = {new.replaces.id for new in self.new if new.replaces is not None}
        rows = {slot.number: slot.tasks for slot in self.slots}
        for slot in kept:
            task = slot.tasks[0]
            if task.node is None and task.id not in replaced:
                self._bind(task, slot.tasks[1:], stored=task)
        for n, new in enumerate(self.new, self.service.tasks_made + 1):
            task = Task(
                id=task_id(self.service.uid, new.slot, n),
                stack_uid=self.service.stack_uid,
                service_uid=self.service.uid,
                slot=new.slot,
                n=n,
                version=self.version,
                created_at=self.now,
                not_before=new.successor.not_before,
                failures=new.successor.failures,
                first_failure_at=new.successor.first_failure_at,
                reason=new.successor.reason,
            )
            self._bind(task, rows.get(new.slot, ()), new=new, service=service)

    def _bind(
        self,
        task: Task,
        before: Iterable[Task],
        *,
        stored: Task | None = None,
        new: _New | None = None,
        service: ServiceState | None = None,
    ) -> None:
        """Give a task its node and addresses if it can have them now, else the reason why it waits; write it."""
        if self.draft.full:
            return
        volumes: list[Volume] = []
        claims: list[Claim] = []
        guards: list[str] = [key_for(Stack, self.service.stack), key_of(self.service)]
        if self.now < task.not_before:
            self.draft.wake(task.not_before)
        elif self._must_wait(task, before):
            task = dataclasses.replace(task, reason="waits until the task before it has ended")
        else:
            try:
                task, claims = self._place(task)
            except NoRoom as problem:
                task = dataclasses.replace(task, reason=str(problem))
            else:
                assert task.node is not None
                volumes = self.scheduler.bindings(task.node, task.stack_uid, self.now)
                guards += [key_for(Node, task.node), *(key_for(Volume, name) for name in self.scheduler.volumes)]
                guards += [key_for(Network, endpoint.network) for endpoint in task.endpoints]
        if stored == task:
            return
        puts: list[ServiceState | Task | Volume | Claim] = [task, *volumes, *claims]
        deletes: list[str] = []
        if new is not None and new.replaced is not None:
            puts.append(new.replaced)
        elif new is not None and new.replaces is not None:
            deletes.append(key_of(new.replaces))
        if service is not None and new is self.new[0]:
            puts.append(service)
        where = f"on {task.node}" if task.node else f"waiting: {task.reason}"
        self.draft.step(
            f"task {self.service.full_name}.{task.slot} {task.id} {where}", puts=puts, deletes=deletes, guards=guards
        )

    def _must_wait(self, task: Task, before: Iterable[Task]) -> bool:
        """Tell whether a task of its slot must end first: for a new version, and for the sake of a shared volume."""
        for old in before:
            if old.node is None or self.state.has_ended(old) or self.state.is_lost(old.node):
                continue
            if old.version != task.version or self.scheduler.volumes:
                return True
        return False

    def _place(self, task: Task) -> tuple[Task, list[Claim]]:
        if self.networks is None:
            raise NoRoom(self.network_problem)
        node = self.scheduler.pick()
        endpoints: list[Endpoint] = []
        claims: list[Claim] = []
        for network, aliases in self.networks:
            endpoint, claimed = self.addresses.endpoint(network, task.id, aliases)
            endpoints.append(endpoint)
            claims += claimed
        claims += [host_port_claim(port, node, task.id) for port in self.spec.ports if port.mode == "host"]
        return dataclasses.replace(task, node=node, endpoints=tuple(endpoints), reason=""), claims

    # Published ports

    def _claim_ports(self) -> str:
        """Hold the ports that the service publishes, let go of others; tell who has one that it cannot get."""
        wanted = {f"{port.protocol}/{port.published}" for port in self.spec.ports if port.mode == "ingress"}
        problems = []
        for name in sorted(wanted):
            holder = self.state.claims.get(claim_key("port", name))
            if holder is None:
                claim = Claim("port", name, self.service.uid)
                self.draft.step(f"publish port {name}", puts=[claim], guards=[key_for(Stack, self.service.stack)])
            elif holder.owner != self.service.uid:
                other = self.state.services.get(holder.owner)
                problems.append(f"port {name} is published by {other.full_name if other else holder.owner}")
        for key in sorted(self.state.claims_of.get(self.service.uid, ())):
            if self.state.claims[key].name not in wanted:
                self.draft.step(f"give up {key}", deletes=[key], guards=[key_for(Stack, self.service.stack)])
        return "; ".join(problems)
