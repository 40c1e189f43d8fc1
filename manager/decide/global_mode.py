"""Global services: a slot for each node of the kind that the service asks for.

A node has its slot from when it joins, and loses it when it leaves, is drained or no longer suits. A paused node keeps
what it has. On a node that is down the task stays wanted: nothing could run in its place, and if it is still fine when
the node is back, it is still the one.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.model.node import Availability, Node
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackRevision
from cluster.model.task import Task
from manager.decide.filters import is_described, lasting_filters
from manager.decide.slots import Act, Fate, Opening, ServicePicture, Slot, Wanted
from manager.picture import ClusterState


def wanted(picture: ServicePicture) -> Wanted:
    """Keep the slots of the nodes that the service is for, and open one for each that has none."""
    state, suits = picture.state, suitability(picture.state, picture.head, picture.spec)
    fates: dict[int, Fate] = {}
    served: set[str] = set()
    for slot in picture.slots:
        node = node_of(slot.tasks[0])
        reason = misfit(state, slot, suits)
        if slot.occupant is None or node in served:
            fates[slot.number] = Fate(Act.GIVE_UP, reason or "not wanted any more")
        elif reason:
            fates[slot.number] = Fate(Act.GIVE_UP, reason)
        else:
            fates[slot.number] = Fate(Act.SETTLE)
            served.add(node)
    return Wanted(fates, openings(picture, [node for node in fitting(state, suits) if node.id not in served]))


def suitability(state: ClusterState, head: StackRevision, spec: ServiceSpec) -> Callable[[Node], bool]:
    """Give the test of whether a node is of the kind that a service asks for, whatever state it is in."""
    tests = [test.passes for test in lasting_filters(state, head, spec)]
    return lambda node: all(passes(node) for passes in tests)


def node_of(task: Task) -> str:
    """Give the node that a task of a global service is on or waits for."""
    return task.node or task.meant_for


def fitting(state: ClusterState, suits: Callable[[Node], bool]) -> list[Node]:
    """Give the nodes that are to have a task if they have none, by name."""
    active = (node for node in state.nodes.values() if node.availability is Availability.ACTIVE)
    fit = [node for node in active if suits(node) and not state.is_lost(node.id)]
    return sorted(fit, key=lambda node: (node.name, node.id))


def misfit(state: ClusterState, slot: Slot, suits: Callable[[Node], bool]) -> str:
    """Tell why a node has no slot any more, "" when it keeps it."""
    task = slot.tasks[0]
    node = state.nodes.get(node_of(task))
    if node is None:
        return "its node is no longer in the cluster"
    if node.availability is Availability.DRAIN:
        return f"node {node.name} is drained"
    if not suits(node) and is_described(state, node):
        return f"node {node.name} is no longer one that the service asks for"
    if task.node is None and state.is_lost(node.id):
        return f"node {node.name} is down"
    if task.node is None and node.availability is Availability.PAUSE:
        return f"node {node.name} is paused"
    return ""


def openings(picture: ServicePicture, nodes: list[Node]) -> tuple[Opening, ...]:
    """Give each of some nodes a slot: the one that it had, else the lowest number that is free."""
    had = {node_of(slot.tasks[0]): slot.number for slot in reversed(picture.slots)}
    taken = {slot.number for slot in picture.slots}
    found, number = [], 0
    for node in nodes:
        place = had.get(node.id)
        if place is None:
            number += 1
            while number in taken:
                number += 1
            place = number
        found.append(Opening(place, node.id))
    return tuple(found)
