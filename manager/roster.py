"""The nodes that take tasks, least loaded first, and what is reserved on each: an index of the picture. Pure.

Kept so that placing one task costs the same in a cluster of ten nodes and of thousands. A node whose records changed is
only marked; it finds its new place when somebody next reads.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cluster.examination import WAY
from cluster.model.node import Availability, Node, NodeStatus, SessionState
from cluster.model.service import Reservations, ServiceSpec
from cluster.model.task import Task
from manager.decide.constraints import reading_of

if TYPE_CHECKING:
    from manager.picture import ClusterState

ENGINE, DISK = "engine", "disk"
"""The conditions of a node whose Docker Engine does not answer, and of one whose disk is nearly full."""

BARRING = frozenset({ENGINE, DISK, "engine-rootless", "engine-userns", "engine-snap", "engine-desktop", "runtime"})
"""The conditions under which a node takes no tasks; others only make it the last choice."""

GROUPINGS_KEPT = 24

NOTHING = Reservations()

Values = tuple[str, ...]


class Place(NamedTuple):
    """Where a node stands among others: untroubled ones first, then those with fewest tasks, then by name."""

    troubled: bool
    load: int
    name: str
    node: str


@dataclass(slots=True)
class Grouping:
    """Nodes that take tasks, by the values of some attributes, and within those by the values of others.

    Values are in lower case. The lists of `groups` are sorted, and not to be changed; they hold until the picture
    changes. `found` tells the values, and `places` the place, of each node in a list.
    """

    values: Callable[[Node], tuple[Values, Values]]
    groups: dict[Values, dict[Values, list[Place]]]
    found: dict[str, tuple[Values, Values]]
    places: dict[str, Place]


class Roster:
    """Reads the picture that owns it, which tells it what to look at again."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._places: dict[str, Place] = {}
        self._groupings: dict[tuple[Values, Values], Grouping] = {}
        self._reserved: dict[str, Reservations] = {}
        self._touched: set[str] = set()

    # What the picture tells

    def touch(self, *nodes: str) -> None:
        """Look at these nodes again: one of their records changed, or one of their tasks."""
        self._touched.update(nodes)

    def count(self, task: Task, by: int) -> None:
        """Take what a task that has not ended reserves on its node into account, or out of it."""
        before = self._reserved.get(task.node or "")
        if before is not None and task.node is not None:
            self._reserved[task.node] = total(((before, 1), (reservations_of(self._state, task), by)))

    def forget_reserved(self) -> None:
        """Count anew what is reserved: services ask for something else."""
        self._reserved.clear()

    # Reading

    def grouped(self, chosen_by: Values, spread_over: Values) -> Grouping:
        """Give the nodes that take tasks by the values of attributes such as `node.labels.zone`."""
        self._refresh()
        kind = (chosen_by, spread_over)
        grouping = self._groupings.pop(kind, None)
        if grouping is None:
            grouping = self._sorted(self._valuer(chosen_by, spread_over))
            while len(self._groupings) >= GROUPINGS_KEPT:
                del self._groupings[next(iter(self._groupings))]
        self._groupings[kind] = grouping
        return grouping

    def reserved(self, node: str) -> Reservations:
        """Sum up what the tasks on a node that have not ended reserve."""
        found = self._reserved.get(node)
        if found is None:
            state = self._state
            found = self._reserved[node] = total(
                (reservations_of(state, task), 1)
                for task in map(state.tasks.__getitem__, state.tasks_on.get(node, ()))
                if not state.has_ended(task)
            )
        return found

    def _refresh(self) -> None:
        if not self._touched:
            return
        again = len(self._touched) * 4 > len(self._places) + 64
        for node in self._touched:
            before, after = self._places.pop(node, None), place_of(self._state, node)
            if after is not None:
                self._places[node] = after
            if not again:
                for grouping in self._groupings.values():
                    self._move(grouping, node, before, after)
        self._touched.clear()
        if again:
            self._groupings = {kind: self._sorted(one.values) for kind, one in self._groupings.items()}

    def _move(self, grouping: Grouping, node: str, before: Place | None, after: Place | None) -> None:
        if before is not None:
            first, second = grouping.found.pop(node)
            places = grouping.groups[first][second]
            del places[bisect_left(places, before)]
            if not places:
                del grouping.groups[first][second]
        if after is not None:
            first, second = grouping.found[node] = grouping.values(self._state.nodes[node])
            insort(grouping.groups.setdefault(first, {}).setdefault(second, []), after)

    def _sorted(self, values: Callable[[Node], tuple[Values, Values]]) -> Grouping:
        grouping = Grouping(values, {}, {}, self._places)
        for place in sorted(self._places.values()):
            first, second = grouping.found[place.node] = values(self._state.nodes[place.node])
            grouping.groups.setdefault(first, {}).setdefault(second, []).append(place)
        return grouping

    def _valuer(self, chosen_by: Values, spread_over: Values) -> Callable[[Node], tuple[Values, Values]]:
        if not chosen_by and not spread_over:
            return lambda node: ((), ())
        first, second = _reader(self._state, chosen_by), _reader(self._state, spread_over)
        return lambda node: (first(node), second(node))


def place_of(state: ClusterState, ident: str) -> Place | None:
    """Give where a node stands, None for one that takes no tasks."""
    node = state.nodes.get(ident)
    verdict = state.node_states.get(ident)
    session = state.sessions.get(ident)
    if (
        node is None
        or verdict is None
        or session is None
        or verdict.status is not NodeStatus.READY
        or node.availability is not Availability.ACTIVE
        or session.state is not SessionState.OPEN
        or session.manager not in state.managers
        or not BARRING.isdisjoint(session.conditions)
    ):
        return None
    troubled = any(not name.startswith(WAY) for name in session.conditions)  # of a way, two nodes are told alike
    return Place(troubled, state.load.get(ident, 0), node.name, ident)


def reservations_of(state: ClusterState, task: Task) -> Reservations:
    """Give what a task reserves: for one of its service's newest version, what the service now asks for."""
    service = state.services.get(task.service_uid)
    wanted = None if service is None else state.wanted(service)
    if wanted is not None and wanted[1].version == task.version:
        return needs_of(wanted[0])
    spec = state.spec_of(task)
    return NOTHING if spec is None else needs_of(spec)


def needs_of(spec: ServiceSpec) -> Reservations:
    """Give what a task of a service reserves.

    Names are in lower case. Devices that a driver of the engine gives, such as GPUs, count as resources of that name,
    unless that is reserved too; all of them count as one.
    """
    reservations, requests = spec.reservations, spec.container.device_requests
    if not requests and not reservations.generic:
        return reservations
    generic = {name.lower(): count for name, count in reservations.generic.items()}
    reserved = frozenset(generic)
    for request in requests:
        kind = "gpu" if "gpu" in request.capabilities else next(iter(request.capabilities), request.driver)
        kind = kind.lower()
        if kind and kind not in reserved:
            generic[kind] = generic.get(kind, 0) + max(1, len(request.device_ids), request.count)
    return Reservations(reservations.nano_cpus, reservations.memory, generic)


def total(reservations: Iterable[tuple[Reservations, int]]) -> Reservations:
    """Sum up reservations, each so many times."""
    nano_cpus = memory = 0
    generic: dict[str, int] = {}
    for one, times in reservations:
        nano_cpus += one.nano_cpus * times
        memory += one.memory * times
        for name, count in one.generic.items():
            generic[name] = generic.get(name, 0) + count * times
    return Reservations(nano_cpus, memory, generic)


def _reader(state: ClusterState, attributes: Values) -> Callable[[Node], Values]:
    readings = [reading_of(attribute) for attribute in attributes]

    def read(node: Node) -> Values:
        session = state.sessions.get(node.id)
        description = None if session is None else session.description
        return tuple(reading(node, description).casefold() if reading else "" for reading in readings)

    return read
