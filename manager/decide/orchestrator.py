"""One service: which tasks it has, which end, and which follow them.

Its mode (`replicated`, `global_mode`, `jobs`) says what is to become of each slot; here that is carried out, slot by
slot. The questions of when to restart, which slots to update, what to wait for and where a task runs are asked of the
files of those names.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from cluster.codec import key_of
from cluster.errors import Inconsistent
from cluster.model.node import Availability
from cluster.model.service import ServiceMode, ServiceState
from cluster.model.task import Desired, Task
from manager.decide import dependencies, global_mode, jobs, moves, oneoffs, ports, reaper, replicated, updater
from manager.decide.placement import WAITS, NewTask, Placement
from manager.decide.plan import Deciding, Draft, Plan, drained
from manager.decide.reaper import ORPHANED_AFTER, is_forgotten
from manager.decide.restarts import Rests, Successor, after_end, inherited, policy_for
from manager.decide.slots import Act, Fate, Opening, ServicePicture, Slot, none_wanted, slots_in
from manager.decide.updater import Due, Turn, let_go
from manager.picture import ClusterState

MODES = {
    ServiceMode.REPLICATED: replicated.wanted,
    ServiceMode.GLOBAL: global_mode.wanted,
    ServiceMode.REPLICATED_JOB: jobs.wanted_replicated,
    ServiceMode.GLOBAL_JOB: jobs.wanted_global,
}

HISTORY = 4
"""Ended tasks that a slot keeps, with their containers and logs, besides the newest one."""


def decide(state: ClusterState, service_uid: str, now: float) -> Plan:
    """Say what to do about one service, or one-off."""
    return drained(deciding(state, service_uid, now))


def deciding(state: ClusterState, service_uid: str, now: float) -> Deciding:
    """Say the same piece by piece: of a service of thousands it takes long."""
    if (oneoff := state.oneoffs.get(service_uid)) is not None:
        return oneoffs.decide(state, oneoff, now)
    service = state.services.get(service_uid)
    if service is None:
        return Plan()
    if is_set_aside(state, service, now):
        return Plan(wake_at=service.quarantined_until)
    draft = Draft(state, len(state.rows.get(service.uid, ())))
    wanted = state.wanted(service)
    head = state.head(service.stack_uid)
    # A service that goes does not wait for a node that is down: on its return, the node removes what nobody knows.
    reaper.reap(state, draft, service.uid, now, patience=0.0 if wanted is None else ORPHANED_AFTER)
    if wanted is None or head is None:
        if not dependencies.is_still_used(state, service):
            reaper.dissolve(state, draft, service)
    else:
        yield
        slots = slots_in(state, service.uid)
        picture = ServicePicture(state, service, head, wanted[0], wanted[1].version, now, slots)
        wait = dependencies.wait_of(state, head, *wanted, now)
        yield from _Reconciler(picture, draft, "" if wait is None else wait.reason).run()
    return draft.plan()


def set_aside(state: ClusterState, service: ServiceState, until: float, problem: str) -> ServiceState:
    """Give the record of a service in deciding which a bug was met: it is left alone until an instant."""
    return dataclasses.replace(
        service,
        quarantined_until=until,
        quarantined_revision=_wanted_revision(state, service),
        quarantines=service.quarantines + 1,
        problem=problem,
    )


def is_set_aside(state: ClusterState, service: ServiceState, now: float) -> bool:
    """Tell whether a service is left alone; what has been asked for since then may not meet the bug."""
    if service.quarantined_until is None or now >= service.quarantined_until:
        return False
    return service.quarantined_revision in (None, _wanted_revision(state, service))


def _wanted_revision(state: ClusterState, service: ServiceState) -> int:
    head = state.head(service.stack_uid)
    return 0 if head is None or state.wanted(service) is None else head.n


class _Reconciler:
    """`held` tells what the service waits for before its tasks may start, "" for nothing."""

    def __init__(self, picture: ServicePicture, draft: Draft, held: str) -> None:
        self.picture, self.draft, self.held = picture, draft, held
        self.state, self.now = picture.state, picture.now
        self.placement = Placement(picture, draft, held)
        self.policy = policy_for(picture.head.spec, picture.spec)
        self.changed: dict[str, Task] = {}
        self.dropped: list[Task] = []
        self.new: list[NewTask] = []
        self._calm: dict[str, bool] = {}
        most = picture.spec.max_replicas_per_node
        own = Counter(slot.tasks[0].node for slot in picture.slots if most and slot.occupant is not None)
        self._overfull = {node for node, count in own.items() if count > most}

    def run(self) -> Iterator[None]:
        problem = ports.settle(self.picture, self.draft)
        self.placement.settle_virtual_addresses()
        wanted = (none_wanted if self.picture.spec.stopped else MODES[self.picture.spec.mode])(self.picture)
        kept = [slot for slot in self.picture.slots if wanted.fates[slot.number].act is Act.SETTLE]
        yield
        astir = [slot for slot in kept if not self._is_at_rest(slot)]
        yield
        self.moves = moves.moves(self.picture, astir)
        if self.moves.wake_at is not None:
            self.draft.wake(self.moves.wake_at)
        due = {slot.number: why for slot in astir if (why := self._due(slot)) is not None}
        turn = self._turn(kept, due)
        yield
        if turn.undo is not None:
            self.draft.step(turn.undo.revision.reason, puts=turn.undo, guards=[key_of(self.picture.service)])
            return
        if turn.wake_at is not None:
            self.draft.wake(turn.wake_at)
        for task in turn.over:
            self._end(task, Desired.SHUTDOWN, "its successor is ready")
        at_rest = {slot.number for slot in kept} - {slot.number for slot in astir}
        for slot in self.picture.slots:
            if slot.number in at_rest:
                continue
            fate = wanted.fates[slot.number]
            if fate.act is Act.SETTLE:
                self._settle(slot, due, turn)
            else:
                self._let_be(slot, fate)
        self.new += [NewTask(opening, Successor()) for opening in wanted.openings]
        yield
        yield from self._write(turn.service, problem)

    def _turn(self, kept: Sequence[Slot], due: dict[int, Due]) -> Turn:
        """Ask which slots are replaced now. A job has no turns, and what runs of a service that is held stays."""
        if self.picture.spec.mode.is_job:
            moved = frozenset(number for number, why in due.items() if not why.update)
            over, wakes = updater.over(self.picture)
            return Turn(self.picture.service, moved, over=tuple(over), wake_at=min(wakes, default=None))
        moves = {number: why for number, why in due.items() if not why.update}
        if not self.held or moves == due:
            return updater.turn(self.picture, kept, due)
        turn = updater.turn(self.picture, kept, moves)
        unbound = frozenset(slot.number for slot in kept if slot.number in due and slot.tasks[0].node is None)
        return dataclasses.replace(turn, service=self.picture.service, stop_first=turn.stop_first | unbound)

    # What is to become of the slots

    def _is_at_rest(self, slot: Slot) -> bool:
        """Tell whether a slot that stays needs nothing: of a large service, nearly all of them."""
        task, *older = slot.tasks
        status = self.state.statuses.get(task.id)
        return (
            task.version == self.picture.version
            and task.desired is Desired.RUNNING
            and task.node is not None
            and self._is_calm(task.node)
            and not (task.reason or task.moving or task.yields or task.leaving_at or task.held)
            and (status is None or not status.state.terminal)
            and len(older) <= HISTORY
            and all([before.desired is not Desired.RUNNING for before in older])
            and not self.placement.has_other_networks(task)
        )

    def _is_calm(self, node_id: str) -> bool:
        """Tell whether tasks on a node may stay as they are."""
        calm = self._calm.get(node_id)
        if calm is None:
            calm = not self.state.is_lost(node_id) and node_id not in self._overfull
            calm = calm and self.state.nodes[node_id].availability is not Availability.DRAIN
            calm = calm and not moves.misfit(self.state, self.picture.spec, self.state.nodes[node_id])
            self._calm[node_id] = calm
        return calm

    def _due(self, slot: Slot) -> Due | None:
        task = slot.tasks[0]
        if self.picture.spec.mode.is_global and not self._takes(global_mode.node_of(task)):
            return None  # nothing could run there in its place
        if task.version != self.picture.version:
            return Due(True, f"replaced by version {self.picture.version}")
        if self.state.has_ended(task):
            return None
        if self.placement.has_other_networks(task):
            return Due(True, "its networks were replaced")
        return self.moves.due.get(slot.number)

    def _takes(self, node_id: str) -> bool:
        node = self.state.nodes.get(node_id)
        return node is not None and node.availability is not Availability.PAUSE and not self.state.is_lost(node_id)

    def _let_be(self, slot: Slot, fate: Fate) -> None:
        match fate.act:
            case Act.RENEW if slot.occupant is None:
                self.new.append(NewTask(Opening(slot.number, slot.tasks[0].meant_for), Successor()))
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
            why = due[slot.number]
            successor = Successor() if why.update else inherited(task)
            self.new.append(
                NewTask(Opening(slot.number, task.meant_for), successor, task, dataclasses.replace(task, yields=True))
            )
        elif slot.number in turn.stop_first:
            why = due[slot.number]
            self._replace(task, Successor() if why.update else inherited(task), why.reason)
        elif status is not None and status.state.terminal:
            after = after_end(task, status, self.policy, self.now)
            if isinstance(after, Rests):
                self._note(task, after.reason)
            else:
                self._replace(task, after, task.reason)
        elif task.node is not None:
            self._look_after_node(slot, task, task.node)
        if sum(t.desired is Desired.RUNNING and not t.yields and t.leaving_at is None for t in slot.tasks) > 1:
            raise Inconsistent(f"two tasks of {self.picture.service.full_name}.{slot.number} are wanted at once")
        for old in slot.tasks[1 + HISTORY :]:
            if old.desired is Desired.SHUTDOWN and old.node is not None:
                self._end(old, Desired.REMOVE, old.reason)

    def _look_after_node(self, slot: Slot, task: Task, node_id: str) -> None:
        node = self.state.nodes.get(node_id)
        verdict = self.state.node_states.get(node_id)
        if node is None:
            self._replace(task, inherited(task), f"node {node_id} is no longer in the cluster")
        elif verdict is not None and self.state.is_lost(node_id):
            if self.picture.spec.mode.is_global:
                self._note(task, f"node {node.name} is down")
            elif volume := self.placement.pinned_by(task):
                self._note(task, f"waits for node {node.name}, which is down: volume {volume} is there")
            elif (replace_at := moves.replace_at(self.picture, node_id)) is None:
                self._note(task, f"waits for node {node.name}, which is down (x-on-disconnect)")
            elif self.now < replace_at:
                self.draft.wake(replace_at)
            else:
                self._replace(task, inherited(task), f"node {node.name} is down")
        else:
            if slot.number in self.moves.settled:
                self.changed[task.id] = task = dataclasses.replace(task, moving=False)
            waits = self.placement.waits(slot.tasks[1:]) if task.held else ""
            if task.held and not self.held and not waits:
                self.changed[task.id] = task = dataclasses.replace(task, held=False)
            self._note(task, self.moves.notes.get(slot.number, "" if waits == WAITS else waits))

    def _note(self, task: Task, reason: str) -> None:
        if task.reason != reason:
            self.changed[task.id] = dataclasses.replace(task, reason=reason)

    def _end(self, task: Task, desired: Desired, reason: str) -> None:
        changed = let_go(self.picture, task, desired, reason)
        if changed != task:
            self.changed[task.id] = changed

    def _replace(self, task: Task, successor: Successor, reason: str) -> None:
        replaced = None if task.node is None else let_go(self.picture, task, Desired.SHUTDOWN, reason)
        self.new.append(NewTask(Opening(task.slot, task.meant_for), successor, task, replaced))

    # Steps

    def _write(self, service: ServiceState, problem: str) -> Iterator[None]:
        for task in self.dropped:
            self.draft.step(f"drop task {task.id}", deletes=[key_of(task)])
        for task in self.changed.values():
            self.draft.step(f"task {task.id}: {task.desired}, {task.reason}", puts=[task])
        service = dataclasses.replace(
            service, quarantined_until=None, quarantined_revision=None, quarantines=0, problem=problem
        )
        if service != self.picture.service and not self.new:
            self.draft.step(f"service {service.full_name}: {problem or 'all is well'}", puts=[service])
        going = {task.id for task in self.dropped} | {new.replaces.id for new in self.new if new.replaces is not None}
        for slot in self.picture.slots:
            task = slot.tasks[0]
            if task.node is not None or task.version != self.picture.version:
                continue
            if self.state.is_live(task) and task.id not in going:
                self.placement.bind(task)
                yield
        yield from self.placement.make(self.new, service)
