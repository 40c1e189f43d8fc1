"""One-off tasks: made once, never replaced whatever becomes of them, and forgotten with their end or their audience.

Each has a service record of its own beside the stack's services, so that it is placed, wired, shown and reached as any
task is. But nobody knows whether what it does may be done twice: so it has one task, which is not moved either.
"""

from __future__ import annotations

from dataclasses import replace

from cluster.codec import key_for, key_of
from cluster.model.node import Availability
from cluster.model.oneoff import OneOff
from cluster.model.service import ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Desired, Task
from manager.decide import reaper
from manager.decide.placement import NewTask, Placement
from manager.decide.plan import Draft, Plan
from manager.decide.restarts import Successor
from manager.decide.slots import Opening, ServicePicture, slots_in
from manager.picture import ClusterState

KEPT = 3600.0
"""Seconds for which one that ended is kept, with its log, if that was asked for."""

ALONE = 60.0
"""Seconds that one which goes with its terminal has nobody: to come, or for a manager that was cut off to be back."""


def decide(state: ClusterState, oneoff: OneOff, now: float) -> Plan:
    """Say what to do about one of them."""
    draft = Draft(state)
    service, revision = state.services.get(oneoff.id), _revision(state, oneoff)
    why = "its stack is removed" if revision is None else _over(state, draft, oneoff, now)
    if service is None and why:
        draft.step(f"forget one-off {oneoff.name}: {why}", deletes=[key_of(oneoff)])
    elif service is None:
        made = ServiceState(oneoff.id, oneoff.stack_uid, oneoff.stack, oneoff.name)
        guards = [key_of(oneoff), key_for(Stack, oneoff.stack)]
        draft.step(f"make service {made.full_name} for a one-off", puts=[made], guards=guards)
    elif revision is None or why:
        reaper.reap(state, draft, oneoff.id, now, patience=0.0)
        reaper.dissolve(state, draft, service, why)
    else:
        reaper.reap(state, draft, oneoff.id, now, patience=reaper.ORPHANED_AFTER)
        slots = slots_in(state, oneoff.id)
        _keep(ServicePicture(state, service, revision, oneoff.spec, oneoff.version, now, slots), draft, oneoff)
    return draft.plan()


def _revision(state: ClusterState, oneoff: OneOff) -> StackRevision | None:
    """Give the revision by which it runs, None when its stack goes or has gone."""
    stack = state.stacks.get(oneoff.stack)
    if stack is None or stack.uid != oneoff.stack_uid or stack.removing:
        return None
    return state.revisions.get(oneoff.stack_uid, {}).get(oneoff.version)


def _over(state: ClusterState, draft: Draft, oneoff: OneOff, now: float) -> str:
    """Tell why nothing of it is to be there any more, "" while something is."""
    if oneoff.removing:
        return "it is over, or was removed"
    if oneoff.attended:
        return _left_alone(state, draft, oneoff, now)
    tasks, service = state.all_of(oneoff.id), state.services.get(oneoff.id)
    if not tasks and service is not None and service.tasks_made:
        return "it is gone with its node"
    ended = [state.statuses[task.id] for task in tasks if state.has_ended(task)]
    if not ended:
        return ""
    until = max(min(status.at, now) for status in ended) + (KEPT if oneoff.kept else 0.0)  # an agent's clock may be off
    if now < until:
        draft.wake(until)
        return ""
    return "it has ended"


def _left_alone(state: ClusterState, draft: Draft, oneoff: OneOff, now: float) -> str:
    """Keep the instant from which on nobody sees it run; the manager that holds the terminal may only be cut off."""
    if oneoff.manager in state.managers:
        if oneoff.alone_since is not None:
            draft.step(f"somebody sees {oneoff.name} again", puts=[replace(oneoff, alone_since=None)])
        return ""
    if oneoff.alone_since is None:
        draft.step(f"nobody sees {oneoff.name} run", puts=[replace(oneoff, alone_since=now)])
        return ""
    if now < oneoff.alone_since + ALONE:
        draft.wake(oneoff.alone_since + ALONE)
        return ""
    return "nobody sees it run any more"


def _keep(picture: ServicePicture, draft: Draft, oneoff: OneOff) -> None:
    """See to its task: made once, given a node, let go when somebody is there, ended where it cannot stay."""
    placement = Placement(picture, draft, "", prepares=oneoff.is_held)
    if not picture.slots:
        if not picture.service.tasks_made:
            for _ in placement.make([NewTask(Opening(1), Successor())], picture.service):
                continue  # it is but one
        return
    task = picture.slots[0].tasks[0]
    if picture.state.has_ended(task) or task.desired is not Desired.RUNNING:
        return
    if task.node is None:
        placement.bind(task)
        return
    changed = replace(_where_it_is(picture, draft, task, task.node), held=task.held and oneoff.is_held)
    if changed != task:
        draft.step(f"task {task.id}: {changed.desired}, {changed.reason}", puts=[changed], guards=[key_of(oneoff)])


def _where_it_is(picture: ServicePicture, draft: Draft, task: Task, node_id: str) -> Task:
    state = picture.state
    node = state.nodes.get(node_id)
    if node is None:
        return replace(task, desired=Desired.REMOVE, reason="its node is no longer in the cluster")
    if state.is_lost(node_id):
        return replace(task, reason=f"node {node.name} is down")
    if node.availability is not Availability.DRAIN:
        return replace(task, reason="")
    if node.drain_until is not None and picture.now < node.drain_until:
        draft.wake(node.drain_until)
        return replace(task, reason=f"node {node.name} is drained")
    return replace(task, desired=Desired.SHUTDOWN, reason=f"node {node.name} is drained")
