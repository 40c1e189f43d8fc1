"""Which node a task runs on: the first, in the order of `ranking`, that passes the `filters`; or why there is none.

A named local volume lives on one node, the first that got it, and its tasks go there or wait (`volumes`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import zip_longest

from cluster.model.node import Node
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackRevision
from cluster.model.task import Desired, Task, TaskState
from cluster.model.volume import Volume
from manager.decide.allocator import NoRoom
from manager.decide.constraints import parsed, reading_of
from manager.decide.filters import Filter, Use, general_filters, lasting_filters, room_filters
from manager.decide.ranking import FAULTY, LATELY, Branch, Leaf, Rank, tree
from manager.decide.volumes import names_of
from manager.picture import ClusterState
from manager.roster import Grouping, Place, Values, place_of


class Scheduler:
    """Picks nodes for the tasks of one service within one plan.

    `tasks` are those that the service has. Failures count for `version` alone (None: all), and only those of lately.
    Nodes that `has_image` names got its image ahead.
    """

    def __init__(
        self,
        state: ClusterState,
        head: StackRevision,
        spec: ServiceSpec,
        tasks: Iterable[Task],
        now: float = 0.0,
        version: int | None = None,
        has_image: Collection[str] = (),
    ) -> None:
        self._state, self._spec = state, spec
        self._has_image = frozenset(has_image)
        self._own = Counter[str]()
        self._leaving = Counter[str]()
        self._rejected = Counter[str]()
        self._failed = Counter[str]()
        self._planned = Counter[str]()
        for task in tasks:
            if task.node is not None:
                self._count(task, task.node, now, version)
        use = Use(lambda node: self._own[node] + self._leaving[node], self._planned.__getitem__)
        self._lasting, self._room = lasting_filters(state, head, spec), room_filters(state, spec, use)
        self._names = names_of(state, head, spec, head.services[spec.name].version if version is None else version)
        self._bound: dict[str, str] = {}
        self._made: set[str] = set()
        self._order: Branch | Leaf | None = None
        self._spread_of: Callable[[Node], Values] | None = None
        self._spread_counts = Counter[Values]()
        self._refusal = ""

    @property
    def has_volumes(self) -> bool:
        """Tell whether the service has volumes on one node's disk."""
        return bool(self._names.written)

    def pick(self, slot: int = 0) -> str:
        """Give the node for one more task, of a slot if any, counting it there. Raises NoRoom with the reason."""
        if bound := self._bound_to(slot):
            node: str | None = self._pick_bound(bound)
        else:
            self._order = self._order or self._ordered()
            node = self._order.take()
        if node is None:
            self._refusal = self._refusal or self._why_none()
            raise NoRoom(self._refusal)
        self._plan(node, slot)
        return node

    def better_than(self, node: str, loads: Mapping[str, int]) -> str | None:
        """Give the node that is next for a task of the service if the spread is more even with it there than on `node`.

        `loads` is how much more load nodes have than the picture says.
        """
        self._order = self._order or self._ordered()
        best = self._order.best()
        here = self._state.nodes.get(node)
        if best is None or here is None or best.node == node or best.troubled or best.faulty or best.rejected:
            return None
        there, gain = best.node, self._own[node] - best.own
        between = self._spread_gain(here, self._state.nodes[there])
        if between:
            return there if between > 1 else None
        if gain == 1:
            load = self._state.load
            gain += (load.get(node, 0) + loads.get(node, 0)) - (load.get(there, 0) + loads.get(there, 0)) - 1
        return there if gain >= 2 else None

    def move(self, node: str) -> None:
        """Count a task as moved from a node to the one that is next."""
        there = self.pick()
        self._own[node] -= 1
        if self._spread_of is not None:
            for at, by in ((node, -1), (there, 1)):
                values = self._spread_of(self._state.nodes[at])
                for level in range(1, len(values) + 1):
                    self._spread_counts[values[:level]] += by

    def _spread_gain(self, here: Node, there: Node) -> int:
        """Tell by how many more of the service's tasks the first group that two nodes do not share has than the other.

        One more or less makes no difference: 0.
        """
        if self._spread_of is None:
            return 0
        one, other = self._spread_of(here), self._spread_of(there)
        for level in range(1, len(one) + 1):
            if one[:level] != other[:level]:
                more = self._spread_counts[one[:level]] - self._spread_counts[other[:level]]
                return 0 if more == 1 else more if more > 1 else 1
        return 0

    def pick_on(self, node: str) -> None:
        """Count one more task on this very node. Raises NoRoom with the reason when it does not fit."""
        why = self.why_not(node)
        if why:
            raise NoRoom(f"node {self._name(node)} {why}")
        self._plan(node, 0)

    def why_not(self, node: str) -> str:
        """Tell why a task does not fit a node, "" when it does: `is drained`."""
        if node not in self._state.nodes:
            return "is no longer in the cluster"
        refused = self.refusals(self._state.nodes[node])
        return refused[0].say([self._state.nodes[node]]) if refused else ""

    def no_room(self, slot: int = 0) -> str:
        """Tell why one more task would find no node, "" when it would find one."""
        if bound := self._bound_to(slot):
            try:
                self._pick_bound(bound)
            except NoRoom as problem:
                return str(problem)
            return ""
        self._order = self._order or self._ordered()
        return "" if self._order.best() is not None else self._why_none()

    def suits(self, node: str) -> bool:
        """Tell whether a node is of the kind that the service asks for, whatever state it is in."""
        return all(test.passes(self._state.nodes[node]) for test in self._lasting)

    def volumes_of(self, task: Task, node: str) -> tuple[str, ...]:
        """Name the volumes that a task has on a node. Raises NoRoom when one of that name is on another."""
        names = self._names.of_task(self._state, task, self._state.nodes[node])
        for name in names:
            there = self._state.volumes.get(name)
            if there is not None and there.node != node:
                raise NoRoom(
                    f"volume {name} is on node {self._name(there.node)}, the task would be on {self._name(node)}"
                )
        return names

    def bindings(self, names: Iterable[str], node: str, stack_uid: str, now: float) -> list[Volume]:
        """Give the records of the volumes that exist nowhere yet, for the first task that gets them."""
        new = [name for name in names if name not in self._state.volumes and name not in self._made]
        self._made.update(new)
        return [Volume(name, node, stack_uid, now) for name in new]

    def holds(self, slot: int, node: str) -> str:
        """Give a volume that ties a slot to a node, "" for none."""
        return next((name for name, place in self._bound_to(slot).items() if place == node), "")

    def refusals(self, node: Node, slot: int = 0) -> list[Filter]:
        """Give all filters that a node does not pass."""
        return [test for test in (*self._elsewhere(slot), *self._all()) if not test.passes(node)]

    def _bound_to(self, slot: int) -> dict[str, str]:
        """Give the nodes of the volumes that exist of those that a slot has wherever its task runs."""
        stored, found = self._state.volumes, {}
        for name in self._names.of_slot(slot):
            if name in stored:
                found[name] = stored[name].node
            elif name in self._bound:
                found[name] = self._bound[name]
        return found

    def _all(self) -> list[Filter]:
        return [*general_filters(self._state), *self._lasting, *self._room]

    def _elsewhere(self, slot: int) -> list[Filter]:
        """Give filters for where the volumes are."""

        def filter_for(volume: str, place: str) -> Filter:
            text = f"have volume {volume}, which is on node {self._name(place)}"
            remedy = f"run the service on {self._name(place)}, or use a volume that all nodes reach"
            return Filter(lambda node: node.id == place, f"does not {text}", f"do not {text}", lambda node: remedy)

        return [filter_for(volume, place) for volume, place in sorted(self._bound_to(slot).items())]

    def _count(self, task: Task, node: str, now: float, version: int | None) -> None:
        status = self._state.statuses.get(task.id)
        if status is None or not status.state.terminal:
            if task.desired is Desired.RUNNING:
                # One that leaves takes room to its end, but the spread is that of those which stay.
                (self._own if task.leaving_at is None else self._leaving)[node] += 1
            return
        if status.state not in (TaskState.FAILED, TaskState.REJECTED):
            return
        if now - status.at < LATELY and version in (None, task.version):
            self._failed[node] += 1
            self._rejected[node] += status.state is TaskState.REJECTED

    def _plan(self, node: str, slot: int) -> None:
        self._own[node] += 1
        self._planned[node] += 1
        self._refusal = ""
        self._bound.update(dict.fromkeys(self._names.of_slot(slot), node))

    # The order of nodes

    def _ordered(self) -> Branch | Leaf:
        chosen: dict[str, str] = {}
        tests = []
        for written, test in zip_longest(self._spec.constraints, self._lasting):
            constraint = None if written is None else parsed(written)
            if constraint is not None and constraint.groups and constraint.attribute not in chosen:
                chosen[constraint.attribute] = constraint.value
            else:
                tests.append(test)
        spread = tuple(attribute for attribute in self._spec.spread if reading_of(attribute) is not None)
        grouping = self._state.roster.grouped(tuple(chosen), spread)
        groups = grouping.groups.get(tuple(chosen.values()), {})
        known = self._known(grouping)
        fits = self._fits([*tests, *self._room])

        def leaf(values: Values, places: list[Place]) -> Leaf:
            here = (tuple(chosen.values()), values)
            return Leaf(places, [rank for rank in known if grouping.found[rank.node] == here], fits)

        if spread:
            self._spread_of = lambda node: grouping.values(node)[1]
            self._count_spread(grouping, len(spread))
        return tree(groups, self._spread_counts, leaf, len(spread))

    def _fits(self, tests: list[Filter]) -> Callable[[str], bool]:
        nodes, passes = self._state.nodes, [test.passes for test in tests]
        if not passes:
            return lambda node: True
        return lambda node: all(test(nodes[node]) for test in passes)

    def _known(self, grouping: Grouping) -> list[Rank]:
        """Rank the nodes on which tasks of the service run or failed."""
        ranks = []
        for node in {*self._own, *self._failed, *self._has_image}:
            place = grouping.places.get(node)
            if place is not None:
                faulty = self._failed[node] >= FAULTY
                troubled, load, name, _ = place
                lacks = node not in self._has_image
                ranks.append(Rank(troubled, faulty, self._rejected[node], self._own[node], lacks, load, name, node))
        return ranks

    def _count_spread(self, grouping: Grouping, depth: int) -> None:
        for node, own in self._own.items():
            record = self._state.nodes.get(node)
            if record is not None:
                values = grouping.values(record)[1]
                for level in range(1, depth + 1):
                    self._spread_counts[values[:level]] += own

    def _why_none(self) -> str:
        """Say for each reason how many nodes it keeps from fitting."""
        refusing: dict[str, tuple[int, Filter, list[Node]]] = {}
        tests = self._all()
        for node in self._state.nodes.values():
            place = next((i for i, test in enumerate(tests) if not test.passes(node)), None)
            if place is not None:
                refusing.setdefault(tests[place].one, (place, tests[place], []))[2].append(node)
        if not refusing:
            return "no node fits: the cluster has none"
        told = [f"{len(nodes)} {test.say(nodes)}" for _, test, nodes in sorted(refusing.values(), key=lambda r: r[0])]
        count = len(self._state.nodes)
        first, _, rest = told[0].partition(" ")
        return ", ".join([f"no node fits: {first} of {count} {rest}", *told[1:]])

    # Volumes

    def _pick_bound(self, bound: Mapping[str, str]) -> str:
        places = sorted((volume, self._name(node)) for volume, node in bound.items())
        volume, name = places[0]
        for going, place in places:
            if going in self._state.volumes and self._state.volumes[going].removing:
                raise NoRoom(f"volume {going} is being removed on node {place}")
        if len(set(bound.values())) > 1:
            where = ", ".join(f"{volume} on {name}" for volume, name in places)
            raise NoRoom(f"its volumes are on different nodes: {where}")
        ident = bound[volume]
        node = self._state.nodes.get(ident)
        if node is None:
            raise NoRoom(f"volume {volume} is on node {ident}, which is no longer in the cluster")
        if place_of(self._state, ident) is not None:
            tests = [*self._lasting, *self._room]
        else:
            tests = self._all()
        refused = next((test for test in tests if not test.passes(node)), None)
        if refused is not None:
            raise NoRoom(f"volume {volume} is on node {name}, which {refused.say([node])}", refused.remedy(node))
        return ident

    def _name(self, node: str) -> str:
        return self._state.nodes[node].name if node in self._state.nodes else node
