"""How a task that is to end lets go of its clients while others of its service serve.

It is withdrawn first: out of names, virtual addresses and published ports, on every node that could send to it. Those
confirm it (`manager.sessions.withdrawals`), what was on its way by then has its time, and only then it is asked to end.
A node without a session is not waited for, as nothing could be told to it, and one that does not confirm in time is
passed over. Both may still send to the task, so that they are named, but for a node that is down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

from cluster.codec import key_for, key_of
from cluster.model.network import INGRESS
from cluster.model.node import Session
from cluster.model.task import Desired, Task
from manager.picture import ClusterState

PATIENCE = 2.0
"""Seconds that nodes have to confirm."""

LINGER = 0.25
"""Seconds after the last node has confirmed: for connections that were being opened, and look-ups just made.

Whoever confirms in time is left as much also when others do not.
"""


class Wait(NamedTuple):
    """Until when a withdrawn task runs on (None: nothing holds it), the nodes that it waits for, and those that have no
    session to say anything in.
    """

    until: float | None
    laggards: tuple[str, ...] = ()
    mute: tuple[str, ...] = ()


def let_go(state: ClusterState, task: Task, desired: Desired, reason: str, now: float, others: Iterable[Task]) -> Task:
    """Give the record of a task that has a node and is asked to end: withdrawn while that is worth it, else ending.

    `others` are the tasks of its service.
    """
    if task.leaving_at is None:
        if _is_worth_it(state, task, others):
            return dataclasses.replace(task, leaving_at=now, reason=reason)
        return dataclasses.replace(task, desired=desired, reason=reason)
    wait = wait_of(state, task, now)
    if wait.until is not None:
        return task
    reason = task.reason or reason
    if unsaid := (*wait.laggards, *wait.mute):
        names = ", ".join(state.nodes[node].name for node in unsaid if node in state.nodes)
        reason += f" (without word from {names} that it is out of names and ports there)"
    return dataclasses.replace(task, desired=desired, reason=reason)


def wait_of(state: ClusterState, task: Task, now: float) -> Wait:
    """Tell how long a withdrawn task runs on yet."""
    assert task.leaving_at is not None
    if not state.serves(task):
        return Wait(None)
    last = task.leaving_at
    laggards, mute = [], []
    for node in sorted(concerned(state, task)):
        session = state.sessions.get(node)
        if session is None or not state.is_heard(session):
            mute += [] if state.is_lost(node) else [node]
            continue
        at = _confirmed_at(state, task, session)
        if at is None:
            laggards.append(node)
        else:
            last = max(last, at)
    most = task.leaving_at + PATIENCE + LINGER
    if laggards:
        until = most
    elif last > now:
        until = min(last + LINGER, most)  # the clock of another manager is ahead
    else:
        until = last + LINGER  # also of a word that came late, or that this leader heard late
    return Wait(until if now < until else None, tuple(laggards), tuple(mute))


def concerned(state: ClusterState, task: Task) -> set[str]:
    """Name the nodes that could send to a task: those in one of its networks, which for published ports is all."""
    nodes: set[str] = set()
    for endpoint in task.endpoints:
        tasks = (state.tasks[ident] for ident in state.tasks_in.get(endpoint.network, ()))
        nodes.update(other.node for other in tasks if other.node is not None)
        if endpoint.network == INGRESS:
            nodes.update(node for node, verdict in state.node_states.items() if verdict.ingress is not None)
    return nodes


def leaving(tasks: Iterable[Task]) -> list[Task]:
    """Pick the tasks that are withdrawn and not yet asked to end."""
    return [task for task in tasks if task.leaving_at is not None and task.desired is Desired.RUNNING]


def _is_worth_it(state: ClusterState, task: Task, others: Iterable[Task]) -> bool:
    if not task.endpoints or not state.is_ready(task):
        return False
    return any(other.id != task.id and state.is_ready(other) for other in others)


def _confirmed_at(state: ClusterState, task: Task, session: Session) -> float | None:
    """Tell when the agent of a session had let go of a task, by the word of the manager that holds the session.

    A word from before the session was opened says nothing of it.
    """
    word = state.withdrawn.get(session.manager)
    if word is None or state.revision_of(key_of(word)) < state.revision_of(key_for(Session, session.node)):
        return None
    late = word.late.get(task.id)
    if late is None:
        return word.tasks.get(task.id)
    return None if session.node in late.nodes else late.at
