"""Which tasks are to leave their nodes though these are fine: the node is drained, is no longer one that the service
asks for, or the spread is to become better.

A task that serves leaves only for a place that there is; until then it stays and says why. When the deadline of a drain
has come, what is left goes at once, wherever that leaves its service. A task that is marked for a better spread and has
no better place any more loses its mark. A node fits no longer when constraints or labels have changed, or when it has
more of the service than max_replicas_per_node allows by now; jobs end where they are.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cluster.model.node import Availability, Node
from cluster.model.service import ServiceSpec
from cluster.model.task import Task
from manager.decide.allocator import NoRoom
from manager.decide.filters import constraint_filter, is_described
from manager.decide.liveness import DOWN_AFTER
from manager.decide.scheduler import Scheduler
from manager.decide.slots import ServicePicture, Slot
from manager.decide.updater import Due
from manager.picture import ClusterState


@dataclass(slots=True)
class Moves:
    """`due` are the slots whose tasks leave, `notes` say why one stays that should; `settled` are marked in vain."""

    due: dict[int, Due] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    wake_at: float | None = None


class _Leaving(NamedTuple):
    """`why` its node is to be left (`is drained`), "" for a better spread."""

    slot: Slot
    node: Node
    why: str


def moves(picture: ServicePicture, slots: Sequence[Slot]) -> Moves:
    """Choose among occupied slots those whose task is to go somewhere else."""
    found = Moves()
    leaving: list[_Leaving] = []
    kept = Counter[str]()
    for slot in slots:
        task = slot.tasks[0]
        node = _node_of(picture, task)
        if node is None:
            continue
        if node.availability is not Availability.DRAIN:
            kept[node.id] += 1
            why = misfit(picture.state, picture.spec, node) or _one_too_many(picture, kept[node.id])
            if why and not picture.state.is_ready(task):
                found.due[slot.number] = Due(False, f"node {node.name} {why}")
            elif why or task.moving:
                leaving.append(_Leaving(slot, node, why))
        elif node.drain_until is not None and node.drain_until <= picture.now:
            found.due[slot.number] = Due(False, f"node {node.name} is drained, and its deadline has come", at_once=True)
        elif picture.spec.mode.is_job or not picture.state.is_ready(task):
            found.due[slot.number] = Due(False, f"node {node.name} is drained")
        else:
            leaving.append(_Leaving(slot, node, "is drained"))
            if node.drain_until is not None:
                found.wake_at = min(node.drain_until, found.wake_at or node.drain_until)
    if leaving:
        _find_places(picture, leaving, found)
    return found


def _node_of(picture: ServicePicture, task: Task) -> Node | None:
    """Give the node of a task that runs there or may, None when that is another's business."""
    state = picture.state
    if task.node is None or task.version != picture.version or state.has_ended(task) or state.is_lost(task.node):
        return None
    return state.nodes[task.node]


def misfit(state: ClusterState, spec: ServiceSpec, node: Node) -> str:
    """Tell why tasks that have run on a node should no longer, "" while it is one that the service asks for."""
    if spec.mode.is_job or spec.mode.is_global or not is_described(state, node):
        return ""
    filters = (constraint_filter(state, constraint) for constraint in spec.constraints)
    return next((test.say([node]) for test in filters if not test.passes(node)), "")


def _one_too_many(picture: ServicePicture, count: int) -> str:
    most = picture.spec.max_replicas_per_node
    if not most or count <= most or picture.spec.mode.is_job:
        return ""
    return f"has more tasks of the service than it may (max_replicas_per_node: {most})"


def _find_places(picture: ServicePicture, leaving: list[_Leaving], found: Moves) -> None:
    """Let those leave for whom there is room elsewhere, in the order of their slots."""
    tasks = list(itertools.chain.from_iterable(slot.tasks for slot in picture.slots))
    scheduler = Scheduler(picture.state, picture.head, picture.spec, tasks, picture.now, picture.version)
    for slot, node, why in leaving:
        try:
            place = scheduler.pick(slot.number)
        except NoRoom as problem:
            if why:
                found.notes[slot.number] = f"node {node.name} {why}; it stays until there is room: {problem}"
            else:
                found.settled.add(slot.number)
            continue
        if why:
            found.due[slot.number] = Due(False, f"node {node.name} {why}")
        elif place != node.id:
            found.due[slot.number] = Due(False, f"moved from node {node.name} for a better spread")
        else:
            found.settled.add(slot.number)


def replace_at(picture: ServicePicture, node: str) -> float | None:
    """Tell from when on a task is replaced whose node is down, None for never (`x-on-disconnect`).

    Silence counts from when the node was last heard of, which is DOWN_AFTER before it was called down at the latest.
    """
    wish = picture.spec.on_disconnect
    verdict = picture.state.node_states.get(node)
    if not wish.replace:
        return None
    if verdict is None:
        return picture.now
    if wish.replace_after is None:
        return verdict.replace_at
    return max(verdict.replace_at, verdict.since - DOWN_AFTER + wish.replace_after)
