"""Which node a task runs on: filters that can say why a node does not fit, then the least used of those that fit.

Least used is: fewest tasks of the same service, then fewest tasks, then by name. A named local volume lives on one
node, the first that got it, and its tasks go there or wait.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cluster.codec import key_of
from cluster.model.cluster import Claim
from cluster.model.node import Availability, Node, NodeStatus, SessionState
from cluster.model.service import PortSpec, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import Task, TaskState
from cluster.model.volume import Volume, VolumeSpec
from manager.decide.allocator import NoRoom
from manager.decide.constraints import test_for
from manager.picture import ClusterState

ENGINE = "engine"
"""The condition of a node whose Docker Engine does not answer."""

SHARED_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs"})


@dataclass(frozen=True, slots=True)
class Filter:
    """`passes` tells whether a node fits; `one` and `many` say of nodes that they do not."""

    passes: Callable[[Node], bool]
    one: str
    many: str


class Scheduler:
    """Picks nodes for the tasks of one service within one plan."""

    def __init__(self, state: ClusterState, stack: StackSpec, spec: ServiceSpec, tasks: Iterable[Task]) -> None:
        self._state = state
        self._own = Counter[str]()
        self._rejected = Counter[str]()
        for task in tasks:
            if task.node is not None and state.is_live(task):
                self._own[task.node] += 1
            elif task.node is not None and state.reported_state(task) is TaskState.REJECTED:
                self._rejected[task.node] += 1
        self._special = _special_filters(state, spec)
        self._filters = [*_general_filters(state), *self._special]
        self._once_a_node = any(port.mode == "host" for port in spec.ports)
        self.volumes = local_volumes(stack, spec)
        self._bound = {name: state.volumes[name].node for name in self.volumes if name in state.volumes}
        self._unbound = tuple(name for name in self.volumes if name not in state.volumes)
        self._used: set[str] = set()
        self._heap: list[tuple[bool, int, int, int, str, str]] = []
        self._refusal = ""

    def pick(self) -> str:
        """Give the node for one more task, counting it there. Raises NoRoom with the reason for people."""
        if self._bound:
            return self._pick_bound()
        if not self._heap and not self._refusal:
            self._fill()
        if not self._heap:
            raise NoRoom(self._refusal)
        troubled, rejected, own, total, name, node = self._heap[0]
        if self._once_a_node:
            heapq.heappop(self._heap)
            self._refusal = "no suitable node is left: the service's host port can be published once on each"
        else:
            heapq.heapreplace(self._heap, (troubled, rejected, own + 1, total + 1, name, node))
        self._bound = dict.fromkeys(self.volumes, node)
        self._used.add(node)
        return node

    def bindings(self, node: str, stack_uid: str, now: float) -> list[Volume]:
        """Give the records of the volumes that exist nowhere yet, for the first task that gets them."""
        made = [Volume(name, node, stack_uid, now) for name in self._unbound]
        self._unbound = ()
        return made

    def _pick_bound(self) -> str:
        places = sorted((volume, self._name(node)) for volume, node in self._bound.items())
        volume, name = places[0]
        for going in self.volumes:
            if going in self._state.volumes and self._state.volumes[going].removing:
                raise NoRoom(f"volume {going} is being removed on node {self._name(self._bound[going])}")
        if len(set(self._bound.values())) > 1:
            where = ", ".join(f"{volume} on {name}" for volume, name in places)
            raise NoRoom(f"its volumes are on different nodes: {where}")
        ident = self._bound[volume]
        node = self._state.nodes.get(ident)
        if node is None:
            raise NoRoom(f"volume {volume} is on node {ident}, which is no longer in the cluster")
        refused = next((test for test in self._filters if not test.passes(node)), None)
        if refused is not None:
            raise NoRoom(f"volume {volume} is on node {name}, which {refused.one}")
        if self._once_a_node and ident in self._used:
            raise NoRoom(f"volume {volume} is on node {name}, which has the service's host port in use")
        self._used.add(ident)
        return ident

    def _name(self, node: str) -> str:
        return self._state.nodes[node].name if node in self._state.nodes else node

    def _fill(self) -> None:
        state, failed = self._state, Counter[int]()
        special = [test.passes for test in self._special]
        for node in state.nodes.values():
            if not _takes_tasks(state, node) or not all(passes(node) for passes in special):
                failed[next(i for i, test in enumerate(self._filters) if not test.passes(node))] += 1
                continue
            troubled = bool(state.sessions[node.id].conditions)
            rejected, own = self._rejected[node.id], self._own[node.id]
            self._heap.append((troubled, rejected, own, state.load.get(node.id, 0), node.name, node.id))
        heapq.heapify(self._heap)
        tests = self._filters
        reasons = [f"{n} {tests[i].one if n == 1 else tests[i].many}" for i, n in sorted(failed.items())]
        self._refusal = f"no suitable node ({', '.join(reasons) or 'the cluster has none'})"


def host_port_claim(port: PortSpec, node: str, task: str) -> Claim:
    """Give the claim of a task on a port of its own node."""
    return Claim("host-port", f"{node}/{port.protocol}/{port.published}", task)


def local_volumes(stack: StackSpec, spec: ServiceSpec) -> tuple[str, ...]:
    """Give the full names of the volumes of a service that lie on one node's disk."""
    by_name = {volume.name: volume for volume in stack.volumes.values()}
    return tuple(sorted({name for name in spec.volume_names if _is_local(by_name.get(name))}))


def _is_local(volume: VolumeSpec | None) -> bool:
    if volume is None:
        return True
    return volume.driver in ("", "local") and volume.driver_options.get("type") not in SHARED_FILE_SYSTEMS


def _takes_tasks(state: ClusterState, node: Node) -> bool:
    """Tell at once what the general filters tell one by one: on a thousand nodes that is the most of the work."""
    session = state.sessions.get(node.id)
    verdict = state.node_states.get(node.id)
    return (
        session is not None
        and verdict is not None
        and verdict.status is NodeStatus.READY
        and node.availability is Availability.ACTIVE
        and session.state is SessionState.OPEN
        and session.manager in state.managers
        and ENGINE not in session.conditions
    )


def _general_filters(state: ClusterState) -> list[Filter]:
    """Give the filters that are the same for all services, in the order in which a node's first reason is told."""

    def is_up(node: Node) -> bool:
        verdict = state.node_states.get(node.id)
        return verdict is None or verdict.status is not NodeStatus.DOWN

    def is_ready(node: Node) -> bool:
        verdict = state.node_states.get(node.id)
        ready = verdict is not None and verdict.status is NodeStatus.READY
        return ready and state.is_heard(state.sessions.get(node.id))

    def has_engine(node: Node) -> bool:
        return ENGINE not in state.sessions[node.id].conditions

    def is_not(availability: Availability) -> Callable[[Node], bool]:
        return lambda node: node.availability is not availability

    return [
        Filter(is_up, "is down", "are down"),
        Filter(is_ready, "has no agent that answers", "have no agent that answers"),
        Filter(has_engine, "has a Docker Engine that does not answer", "have a Docker Engine that does not answer"),
        Filter(is_not(Availability.DRAIN), "is drained", "are drained"),
        Filter(is_not(Availability.PAUSE), "is paused", "are paused"),
    ]


def _special_filters(state: ClusterState, spec: ServiceSpec) -> list[Filter]:
    """Give the filters that a service brings along."""
    return [
        *(_constraint(state, constraint) for constraint in spec.constraints),
        *(_host_port(state, port) for port in spec.ports if port.mode == "host"),
    ]


def _constraint(state: ClusterState, constraint: str) -> Filter:
    meets = test_for(constraint)

    def passes(node: Node) -> bool:
        session = state.sessions.get(node.id)
        return meets(node, None if session is None else session.description)

    return Filter(passes, f"does not match {constraint}", f"do not match {constraint}")


def _host_port(state: ClusterState, port: PortSpec) -> Filter:
    def passes(node: Node) -> bool:
        return key_of(host_port_claim(port, node.id, "")) not in state.claims

    text = f"port {port.published}/{port.protocol} in use"
    return Filter(passes, f"has {text}", f"have {text}")
