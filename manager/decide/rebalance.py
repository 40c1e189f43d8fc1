"""Which tasks to move for a better spread, a few at a time: over the nodes, over the spread preferences, and by load.

A task is better off elsewhere if that makes the numbers of its service's tasks more even, first over its spread
preferences, then over the nodes; or keeps those and makes the loads of two nodes more even. Each such move lessens the
unevenness, so this comes to an end. Only services that are whole take part, none whose data is bound to a node, and
those of a single task with consent alone. How a task is moved is the updater's affair, as for a drain.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.codec import key_for, key_of
from cluster.model.node import Node, NodeStatus
from cluster.model.rebalance import Rebalance, RebalanceWish
from cluster.model.service import ServiceMode, ServiceState
from cluster.model.stack import Stack
from cluster.model.task import Task
from manager.decide.plan import Draft, Plan
from manager.decide.scheduler import Scheduler
from manager.decide.slots import slots_of
from manager.picture import ClusterState

AT_ONCE = 20
"""Services that are looked at in one step, so that none takes long."""


@dataclass(frozen=True, slots=True)
class Move:
    task: Task
    node: str


def decide(state: ClusterState, now: float) -> Plan:
    """Say what is next in moving tasks for a better spread."""
    draft = Draft(state)
    wish, progress = state.rebalance_wish, state.rebalance
    if wish is None:
        return Plan()
    if progress is None or not progress.active:
        _begin(state, draft, wish, progress, now)
    elif sum(is_under_way(state, state.tasks[ident]) for ident in state.moving) < wish.max_unavailable:
        _go_on(state, draft, wish, progress, now)
    return draft.plan()


def _begin(state: ClusterState, draft: Draft, wish: RebalanceWish, before: Rebalance | None, now: float) -> None:
    asked = bool(wish.id) and (before is None or before.wish != wish.id)
    if not asked and wish.automatic_after is not None:
        verdicts = (verdict for verdict in state.node_states.values() if verdict.status is NodeStatus.READY)
        due = max((verdict.since for verdict in verdicts), default=0.0) + wish.automatic_after
        if due > (wish.asked_at if before is None else before.began_at):
            if now < due:
                draft.wake(due)
            asked = now >= due
    if asked:
        draft.step("rebalance", puts=[Rebalance(wish.id, True, now)], guards=[key_of(wish)])


def _go_on(state: ClusterState, draft: Draft, wish: RebalanceWish, progress: Rebalance, now: float) -> None:
    left = sorted(uid for uid in state.services if uid > progress.after)
    for uid in left[:AT_ONCE]:
        service = state.services[uid]
        move = next(moves(state, service, now, include_single=wish.include_single), None)
        if move is not None:
            task, node = move.task, move.node
            moved = dataclasses.replace(
                progress, moved=progress.moved + 1, moved_in_round=progress.moved_in_round + 1, after=_before(uid)
            )
            draft.step(
                f"move {service.full_name}.{task.slot} from {task.node} to {node}",
                puts=[dataclasses.replace(task, moving=True), moved],
                guards=[key_of(wish), key_of(service), key_for(Stack, service.stack), key_for(Node, node)],
            )
            return
    if len(left) > AT_ONCE:
        after = dataclasses.replace(progress, after=left[AT_ONCE - 1])
    elif any(is_under_way(state, state.tasks[ident]) for ident in state.moving):
        return  # the round ends when the last one has arrived
    elif progress.moved_in_round:
        after = dataclasses.replace(progress, after="", moved_in_round=0)
    else:
        after = dataclasses.replace(progress, active=False, ended_at=now)
    draft.step(f"rebalance: {after.moved} moved", puts=[after], guards=[key_of(wish)])


def _before(uid: str) -> str:
    """Give what sorts just before a uid, so that its service is looked at again."""
    return uid[:-1]


def is_under_way(state: ClusterState, task: Task) -> bool:
    """Tell whether a task that was to move has not arrived: it waits for its turn, or its successor is not ready."""
    if state.is_live(task):
        return True
    after = [t for t in state.all_of(task.service_uid) if t.slot == task.slot and t.n > task.n]
    return bool(after) and all(state.is_live(t) and not state.is_ready(t) for t in after)


def moves(
    state: ClusterState,
    service: ServiceState,
    now: float,
    *,
    include_single: bool = False,
    loads: Counter[str] | None = None,
) -> Iterator[Move]:
    """Give the moves that a service would be better off with, each counted as made for the next.

    `loads` is how much more load nodes have than the picture says; the moves are counted in it.
    """
    wanted, head = state.wanted(service), state.head(service.stack_uid)
    if wanted is None or head is None:
        return
    spec, version = wanted
    tasks = state.all_of(service.uid)
    newest = [slot.tasks[0] for slot in slots_of(tasks)]
    live = [task for task in newest if state.is_live(task)]
    whole = len(live) == spec.replicas and all(
        state.is_ready(task) and task.version == version.version and not task.moving for task in live
    )
    at_work = service.update is not None and service.update.state.at_work
    if spec.mode is not ServiceMode.REPLICATED or not whole or at_work or (len(live) < 2 and not include_single):
        return
    scheduler = Scheduler(state, head, spec, tasks, now, version.version)
    if scheduler.has_volumes:
        return
    loads = Counter() if loads is None else loads
    for task in sorted(live, key=lambda task: -task.slot):
        assert task.node is not None
        better = scheduler.better_than(task.node, loads)
        if better is not None:
            scheduler.move(task.node)
            loads[task.node] -= 1
            loads[better] += 1
            yield Move(task, better)
