"""The ends of tasks and services: what they held is freed once they have ended, and they are forgotten in the end."""

from __future__ import annotations

import dataclasses

from cluster.codec import key_for, key_of
from cluster.model.node import Node, NodeState, Session
from cluster.model.service import ServiceState
from cluster.model.stack import Stack
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from manager.decide.plan import Draft
from manager.picture import ClusterState

ORPHANED_AFTER = 24 * 3600.0
"""Seconds that a node may be down until what ran there is taken for gone and its addresses are free."""


def reap(state: ClusterState, draft: Draft, service_uid: str, now: float, patience: float) -> None:
    """Free what ended tasks held, forget those of which nothing is left, give up those whose node is gone."""
    for task in map(state.tasks.__getitem__, sorted(state.unsettled.get(service_uid, ()))):
        if draft.full:
            return
        status = state.statuses.get(task.id)
        claims = sorted(state.claims_of.get(task.id, ()))
        if is_forgotten(state, task):
            deletes = [key_of(task), *claims, *([key_of(status)] if status is not None else [])]
            draft.step(f"forget task {task.id}", deletes=deletes)
        elif state.has_ended(task) and claims:
            status_key = key_for(TaskStatus, task.id)
            draft.step(f"free what task {task.id} held", deletes=claims, guards=[key_of(task), status_key])
        elif task.node is not None and task.desired is not Desired.RUNNING:
            if not state.has_ended(task) or task.desired is Desired.REMOVE:
                _give_up(state, draft, task, task.node, claims, now, patience)


def is_forgotten(state: ClusterState, task: Task) -> bool:
    """Tell whether nothing is left of a task that nobody wants, so that its record goes."""
    if task.desired is Desired.RUNNING:
        return False
    if task.node is None:
        return True
    status = state.statuses.get(task.id)
    return task.desired is Desired.REMOVE and status is not None and status.state.terminal and not status.container


def _give_up(
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
    if state.has_ended(task):
        status = dataclasses.replace(before, container="")  # whatever is left there, a node that is back removes
    else:
        status = dataclasses.replace(before, state=TaskState.ORPHANED, at=now, message=message, container="")
    draft.step(
        f"give up task {task.id}: {message}",
        puts=[status],
        deletes=claims,
        guards=[key_of(task), key_for(Node, node), key_for(NodeState, node), key_for(Session, node)],
    )


def dissolve(state: ClusterState, draft: Draft, service: ServiceState, reason: str = "its service was removed") -> None:
    """Take down a service that nobody wants any more, and forget it with its last task."""
    tasks = state.all_of(service.uid)
    for task in tasks:
        if draft.full:
            return
        if task.desired is not Desired.REMOVE and not is_forgotten(state, task):
            if task.node is None:
                draft.step(f"drop task {task.id}", deletes=[key_of(task)])
            else:
                going = dataclasses.replace(task, desired=Desired.REMOVE, reason=reason)
                draft.step(f"remove task {task.id}", puts=[going])
    if not tasks:
        for key in sorted(state.claims_of.get(service.uid, ())):
            draft.step(f"give up {key}", deletes=[key])
        oneoff = state.oneoffs.get(service.uid)
        deletes = [key_of(service), *([] if oneoff is None else [key_of(oneoff)])]
        draft.step(f"forget service {service.full_name}", deletes=deletes, guards=[key_for(Stack, service.stack)])
