"""What must hold when tasks that serve are taken away: nobody still sends to them, and enough others serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.codec import key_for, key_of
from cluster.model.network import INGRESS
from cluster.model.node import NodeState, Session
from cluster.model.service import ServiceState
from cluster.model.task import Desired, Task
from manager.decide.handover import PATIENCE, concerned
from manager.decide.plan import Plan
from manager.decide.progress import config_of
from manager.decide.slots import ServicePicture, slots_of
from manager.picture import Change, ClusterState

if TYPE_CHECKING:
    from tests.sim.world import World


class LetGoFirst:
    """A withdrawn task that serves is asked to end when all agents have let go of it that could, or time is over."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._withdrawn: dict[str, int] = {}

    def note(self, change: Change) -> None:
        truth, old, new = self._world.truth, change.old, change.new
        if not isinstance(new, Task) or new.leaving_at is None:
            return
        if not isinstance(old, Task) or old.leaving_at is None:
            self._withdrawn[new.id] = truth.revision_of(change.key)
        elif old.desired is Desired.RUNNING and new.desired is not Desired.RUNNING and truth.serves(old):
            assert truth.clock is not None
            if truth.wanted(truth.services[new.service_uid]) is None:
                return  # nothing of the service is left that could serve instead
            at = self._withdrawn[new.id]
            known = [key_for(NodeState, new.node or ""), key_for(Session, new.node or "")]
            if truth.clock.now - new.leaving_at >= PATIENCE or any(truth.revision_of(key) > at for key in known):
                return
            late = [agent.name for agent in self._world.agents if self._still_sends(agent.node, old, at)]
            self._world.hold(not late, f"{new.id} is asked to end, and {late} may still send to it")

    def _still_sends(self, node: str, task: Task, at: int) -> bool:
        truth = self._world.truth
        session = truth.sessions.get(node)
        if session is None or not truth.is_heard(session) or truth.revision_of(key_of(session)) > at:
            return False
        [agent] = [agent for agent in self._world.agents if agent.node == node]
        # One that gets its first task in the network by this very plan has never sent to anybody there.
        there = {endpoint.network for held in agent.journal.tasks.values() for endpoint in held.endpoints} | {INGRESS}
        sends = not there.isdisjoint(endpoint.network for endpoint in task.endpoints)
        return sends and node in concerned(truth, task) and agent.programmed < at


def takes_too_many(state: ClusterState, plan: Plan, now: float) -> str:
    """Tell of a plan that takes away a task that serves while more are out of service than update_config allows.

    What is on a drained node whose deadline has come goes at once, and does not count.

    Judged by the picture that it was made on: what happens meanwhile nobody can know.
    """
    written = {record.id: record for step in plan.steps for record in step.puts if isinstance(record, Task)}
    taken = {
        old.service_uid
        for ident, new in written.items()
        if (old := state.tasks.get(ident)) is not None and state.is_ready(old)
        if (new.desired is not Desired.RUNNING or new.leaving_at is not None) and not old.yields
    }
    services = {record.uid: record for step in plan.steps for record in step.puts if isinstance(record, ServiceState)}
    for uid in taken:
        service = services.get(uid, state.services[uid])  # going back, or on, may begin or end with this very plan
        wanted, head = state.wanted(service), state.head(service.stack_uid)
        if wanted is None or head is None or wanted[0].mode.is_job:
            continue
        after = {task.id: task for task in state.all_of(uid)}
        after |= {ident: task for ident, task in written.items() if task.service_uid == uid}
        spec, version = wanted
        picture = ServicePicture(state, service, head, spec, version.version, 0.0, slots_of(after.values()))
        replaced = [slot for slot in picture.slots if slot.occupant is not None and slot.occupant.id not in state.tasks]
        out = [slot for slot in replaced if not any(state.is_ready(t) and t.yields for t in slot.tasks)]
        before = [[state.tasks[task.id] for task in slot.tasks if task.id in state.tasks] for slot in out]
        served = [tasks for tasks in before if any(state.is_ready(t) and not _is_overdue(state, t, now) for t in tasks)]
        allowed = [config_of(picture, update).parallelism for update in (state.services[uid].update, service.update)]
        most = max(allowed)
        if all(allowed) and len(served) > most:
            return f"{len(served)} slots of {service.full_name} that serve are taken away at once, {most} may be"
    return ""


def _is_overdue(state: ClusterState, task: Task, now: float) -> bool:
    node = state.nodes.get(task.node or "")
    return node is not None and node.drain_until is not None and node.drain_until <= now
