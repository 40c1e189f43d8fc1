"""One service: which tasks it has, which end, and which follow them.

Its mode (`replicated`, ...) says what is to become of each slot; here that is carried out, slot by slot. The questions
of when to restart, which slots to update, and where a task runs are asked of the files of those names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from cluster.codec import key_for, key_of
from cluster.model.cluster import Claim
from cluster.model.node import Availability
from cluster.model.service import PortSpec, ServiceState
from cluster.model.stack import Stack
from cluster.model.task import Desired, Task
from manager.decide import reaper, replicated, updater
from manager.decide.placement import NewTask, Placement
from manager.decide.plan import Draft, Plan
from manager.decide.reaper import ORPHANED_AFTER, is_forgotten
from manager.decide.restarts import Rests, Successor, after_end, inherited
from manager.decide.slots import Act, Fate, Opening, ServicePicture, Slot, slots_of
from manager.decide.updater import Due, let_go
from manager.picture import ClusterState, claim_key

HISTORY = 4
"""Ended tasks that a slot keeps, with their containers and logs, besides the newest one."""


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
    reaper.reap(state, draft, service, now, patience=0.0 if wanted is None else ORPHANED_AFTER)
    if wanted is None or head is None:
        reaper.dissolve(state, draft, service)
    else:
        slots = slots_of(state.all_of(service.uid))
        picture = ServicePicture(state, service, head, wanted[0], wanted[1].version, now, slots)
        _Reconciler(picture, draft).run()
    return draft.plan()


class _Reconciler:
    def __init__(self, picture: ServicePicture, draft: Draft) -> None:
        self.picture, self.draft = picture, draft
        self.state, self.now = picture.state, picture.now
        self.placement = Placement(picture, draft)
        self.changed: dict[str, Task] = {}
        self.dropped: list[Task] = []
        self.new: list[NewTask] = []

    def run(self) -> None:
        problem = _claim_ports(self.picture, self.draft)
        self.placement.settle_virtual_addresses()
        wanted = replicated.wanted(self.picture)
        kept = [slot for slot in self.picture.slots if wanted.fates[slot.number].act is Act.SETTLE]
        due = {slot.number: why for slot in kept if (why := self._due(slot.tasks[0])) is not None}
        turn = updater.turn(self.picture, kept, due)
        if turn.wake_at is not None:
            self.draft.wake(turn.wake_at)
        for task in turn.over:
            self._end(task, Desired.SHUTDOWN, "its successor is ready")
        for slot in self.picture.slots:
            fate = wanted.fates[slot.number]
            if fate.act is Act.SETTLE:
                self._settle(slot, due, turn)
            else:
                self._let_be(slot, fate)
        self.new += [NewTask(opening, Successor()) for opening in wanted.openings]
        self._write(turn.service, problem)

    # What is to become of the slots

    def _due(self, task: Task) -> Due | None:
        if task.version != self.picture.version:
            return Due(True, f"replaced by version {self.picture.version}")
        if self.state.has_ended(task):
            return None
        if self.placement.has_other_networks(task):
            return Due(True, "its networks were replaced")
        if task.node is None or self.state.is_lost(task.node):
            return None
        node = self.state.nodes[task.node]
        if node.availability is Availability.DRAIN:
            return Due(False, f"node {node.name} is drained")
        return None

    def _let_be(self, slot: Slot, fate: Fate) -> None:
        match fate.act:
            case Act.RENEW:
                self._replace(slot.tasks[0], Successor(), fate.reason)
            case Act.REST:
                for task in slot.tasks:
                    if task.node is None and not is_forgotten(self.state, task):
                        self.dropped.append(task)
                    elif self.state.is_live(task):
                        self._end(task, Desired.SHUTDOWN, fate.reason)
            case Act.GIVE_UP:
                for task in slot.tasks:
                    if is_forgotten(self.state, task):
                        continue
                    if task.node is None:
                        self.dropped.append(task)
                    elif task.desired is not Desired.REMOVE:
                        self._end(task, Desired.REMOVE, task.reason or fate.reason)

    def _settle(self, slot: Slot, due: Mapping[int, Due], turn: updater.Turn) -> None:
        """Decide about the task in a slot, and let go of those before it."""
        task = slot.tasks[0]
        status = self.state.statuses.get(task.id)
        if slot.number in turn.start_first:
            self.new.append(NewTask(Opening(slot.number), Successor(), task))
        elif slot.number in turn.stop_first:
            why = due[slot.number]
            self._replace(task, Successor() if why.update else inherited(task), why.reason)
        elif status is not None and status.state.terminal:
            after = after_end(task, status, self.picture.spec.restart, self.now)
            if isinstance(after, Rests):
                self._note(task, after.reason)
            else:
                self._replace(task, after, task.reason)
        elif task.node is not None:
            self._look_after_node(task, task.node)
        for old in slot.tasks[1 + HISTORY :]:
            if old.desired is Desired.SHUTDOWN and old.node is not None:
                self._end(old, Desired.REMOVE, old.reason)

    def _look_after_node(self, task: Task, node_id: str) -> None:
        node = self.state.nodes.get(node_id)
        verdict = self.state.node_states.get(node_id)
        if node is None:
            self._replace(task, inherited(task), f"node {node_id} is no longer in the cluster")
        elif verdict is not None and self.state.is_lost(node_id):
            if volume := self.placement.pinned_by(task):
                self._note(task, f"waits for node {node.name}, which is down: volume {volume} is there")
            elif self.now < verdict.replace_at:
                self.draft.wake(verdict.replace_at)
            else:
                self._replace(task, inherited(task), f"node {node.name} is down")
        else:
            self._note(task, "")

    def _note(self, task: Task, reason: str) -> None:
        if task.reason != reason:
            self.changed[task.id] = dataclasses.replace(task, reason=reason)

    def _end(self, task: Task, desired: Desired, reason: str) -> None:
        self.changed[task.id] = let_go(self.picture, task, desired, reason)

    def _replace(self, task: Task, successor: Successor, reason: str) -> None:
        replaced = None if task.node is None else let_go(self.picture, task, Desired.SHUTDOWN, reason)
        self.new.append(NewTask(Opening(task.slot), successor, task, replaced))

    # Steps

    def _write(self, service: ServiceState, problem: str) -> None:
        for task in self.dropped:
            self.draft.step(f"drop task {task.id}", deletes=[key_of(task)])
        for task in self.changed.values():
            self.draft.step(f"task {task.id}: {task.desired}, {task.reason}", puts=[task])
        service = dataclasses.replace(service, quarantined_until=None, quarantines=0, problem=problem)
        if service != self.picture.service and not self.new:
            self.draft.step(f"service {service.full_name}: {problem or 'all is well'}", puts=[service])
        going = {task.id for task in self.dropped} | {new.replaces.id for new in self.new if new.replaces is not None}
        for slot in self.picture.slots:
            task = slot.tasks[0]
            if task.node is None and task.desired is Desired.RUNNING and task.id not in going:
                self.placement.bind(task)
        self.placement.make(self.new, service)


def _claim_ports(picture: ServicePicture, draft: Draft) -> str:
    """Hold the ports that a service publishes, let go of others; tell who has one that it cannot get."""
    state, service = picture.state, picture.service
    wanted = {_name(port) for port in picture.spec.ports if port.mode == "ingress"}
    problems = []
    for name in sorted(wanted):
        holder = state.claims.get(claim_key("port", name))
        if holder is None:
            claim = Claim("port", name, service.uid)
            draft.step(f"publish port {name}", puts=[claim], guards=[key_for(Stack, service.stack)])
        elif holder.owner != service.uid:
            other = state.services.get(holder.owner)
            problems.append(f"port {name} is published by {other.full_name if other else holder.owner}")
    for key in sorted(state.claims_of.get(service.uid, ())):
        if state.claims[key].kind == "port" and state.claims[key].name not in wanted:
            draft.step(f"give up {key}", deletes=[key], guards=[key_for(Stack, service.stack)])
    return "; ".join(problems)


def _name(port: PortSpec) -> str:
    return f"{port.protocol}/{port.published}"
