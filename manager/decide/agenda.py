"""Which questions are open: what a change makes worth asking again, and which instants do.

A question is open once, however often it was marked. A change marks what it can make a difference to and no more, so
that the cost of deciding follows what changed; marking everything from time to time mends what this file forgets.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

from cluster.codec import Record
from cluster.model.attachment import Attachment
from cluster.model.cluster import Claim, Cluster
from cluster.model.network import INGRESS, Network
from cluster.model.node import Manager, Node, NodeState, Session
from cluster.model.oneoff import OneOff
from cluster.model.rebalance import Rebalance, RebalanceWish
from cluster.model.service import ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.model.update import Withdrawn
from cluster.model.volume import Volume
from manager.decide.allocator import given_out
from manager.decide.dependencies import depended_on, dependents
from manager.decide.stacks import wants_ingress
from manager.picture import Change, ClusterState


class About(IntEnum):
    """What a question is about, in the order in which they are asked."""

    NODE = 0
    STACK = 1
    INGRESS = 2
    SERVICE = 3
    REBALANCE = 4
    ATTACHMENT = 5


class Question(NamedTuple):
    """`ident` is the id or uid of the node, stack, service (or one-off) or attachment."""

    about: About
    ident: str = ""


_MOVERS = (RebalanceWish, Rebalance, Task, TaskStatus, NodeState)
"""What can make a difference to moving tasks for a better spread; while nobody wants that, the answer is quick."""


class Agenda:
    """The open questions and the stored instants, against one picture."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self._open: dict[About, dict[str, None]] = {about: {} for about in About}
        self._wakes: dict[Question, float] = {}
        self._heap: list[tuple[float, Question]] = []
        self._global: set[str] | None = None

    def mark(self, about: About, *idents: str) -> None:
        for ident in sorted(idents):  # many come from sets, and the same history is to be decided in the same order
            self._open[about][ident] = None

    def mark_all(self) -> None:
        """Ask everything again."""
        state = self._state
        self.mark(About.NODE, *state.nodes, *state.node_states)
        self.mark(About.STACK, *state.stack_names)
        self.mark(About.INGRESS, "")
        self.mark(About.SERVICE, *state.services, *state.oneoffs)
        self.mark(About.REBALANCE, "")
        self.mark(About.ATTACHMENT, *state.attachments)

    def take(self, now: float) -> Question | None:
        """Give the next open question, closing it; those whose instant has come are open too."""
        while self._heap and self._heap[0][0] <= now:
            at, question = heapq.heappop(self._heap)
            if self._wakes.get(question) == at:
                del self._wakes[question]
                self.mark(question.about, question.ident)
        for about, idents in self._open.items():
            if idents:
                ident = next(iter(idents))
                del idents[ident]
                return Question(about, ident)
        return None

    def presses(self, question: Question, now: float) -> bool:
        """Tell whether a question is open, or its instant has come, that is asked before all of this kind."""
        due = (other.about for other, at in self._wakes.items() if at <= now)
        opened = (about for about, idents in self._open.items() if idents)
        return any(about < question.about for about in chain(due, opened))

    def wake(self, question: Question, at: float | None) -> None:
        """Ask a question again at an instant, in place of an earlier wish."""
        if at is None:
            self._wakes.pop(question, None)
        elif self._wakes.get(question) != at:
            self._wakes[question] = at
            heapq.heappush(self._heap, (at, question))

    def next_wake(self) -> float | None:
        """Give the next stored instant."""
        while self._heap and self._wakes.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    # What a change makes worth asking

    def note(self, changes: Iterable[Change]) -> None:
        """Mark what changes, which the picture shows already, can make a difference to."""
        changes = list(changes)
        if any(isinstance(change.new or change.old, _MOVERS) for change in changes):
            self.mark(About.REBALANCE, "")
        if any(_asks_anew(change) for change in changes):
            self._global = None
        freed: Counter[str] = Counter()
        for change in changes:
            for record in (change.old, change.new):
                if record is not None:
                    self._note(record, change)
            if change.new is None and isinstance(change.old, Claim) and change.old.kind == "address":
                freed[change.old.name.rpartition("/")[0]] += 1
        self._note_room(freed)
        if any(isinstance(change.new or change.old, Node | NodeState | Session) for change in changes):
            self._everywhere()
        if self._open[About.INGRESS] and INGRESS in self._state.networks:
            wanted = wants_ingress(self._state)
            verdicts = self._state.node_states.items()
            self.mark(About.NODE, *(node for node, verdict in verdicts if (verdict.ingress is not None) != wanted))

    def _note(self, record: Record, change: Change) -> None:
        state = self._state
        match record:
            case Task():
                self.mark(About.SERVICE, record.service_uid)
                self._tied(record)
                if change.new is None:
                    self.mark(About.STACK, record.stack_uid)
                    self._left(record)
            case TaskStatus():
                self._note_status(record)
            case ServiceState():
                self.mark(About.SERVICE, record.uid)
                if change.old is None or change.new is None:
                    self.mark(About.STACK, record.stack_uid)
            case OneOff():
                self.mark(About.SERVICE, record.id)
            case Stack():
                self.mark(About.STACK, record.uid)
                self.mark(About.SERVICE, *state.services_of.get(record.uid, ()))
                self.mark(About.SERVICE, *(one.id for one in state.oneoffs.values() if one.stack_uid == record.uid))
                self.mark(About.INGRESS, "")
            case StackRevision():
                self.mark(About.STACK, record.stack_uid)
            case Node() | NodeState():
                node = record.id if isinstance(record, Node) else record.node
                self.mark(About.NODE, node)
                self._on(node)
                self.mark(About.ATTACHMENT, *state.attachments_on.get(node, ()))
                self.mark(About.STACK, *{state.volumes[v].stack_uid for v in state.volumes_leaving.get(node, ())})
                self._waiting()
            case Session():
                self.mark(About.NODE, record.node)
                self.mark(About.ATTACHMENT, *state.attachments_on.get(record.node, ()))
                self.mark(About.SERVICE, *{name.partition("/")[0] for name in record.images} & state.services.keys())
                if _is_another(change):
                    self._on(record.node)
                self._waiting()
            case Manager():
                self.mark(About.NODE, *state.sessions_at.get(record.id, ()))
                self.mark(About.SERVICE, *(one.id for one in state.oneoffs.values() if one.manager == record.id))
                self._waiting()
            case Network():
                if record.id == INGRESS:
                    self.mark(About.INGRESS, "")
                    self.mark(About.NODE, *state.nodes)
                # A network that goes may leave room for one that another stack lacks.
                self.mark(About.STACK, *(state.stack_names if change.new is None else filter(None, [record.stack_uid])))
                self.mark(About.SERVICE, *self._attached(record))
                self.mark(About.ATTACHMENT, *state.attachments_in.get(record.id, ()))
            case Attachment():
                self.mark(About.ATTACHMENT, record.id)
            case Volume():
                self.mark(About.STACK, record.stack_uid)
                self._waiting()
            case Claim():
                self._note_claim(record, change)
            case Withdrawn():
                told = record.tasks.keys() | record.late.keys()
                self.mark(About.SERVICE, *{state.tasks[t].service_uid for t in told if t in state.tasks})
            case Cluster():
                self.mark_all()

    def _note_status(self, status: TaskStatus) -> None:
        task = self._state.tasks.get(status.task)
        if task is None:
            return
        if status.state.terminal:
            self._left(task)
            self._waiting()
        if status.state.terminal or status.state is TaskState.RUNNING or task.desired is not Desired.RUNNING:
            self.mark(About.SERVICE, task.service_uid)
        if status.state.rank >= TaskState.STARTING.rank:
            self._tied(task)

    def _tied(self, task: Task) -> None:
        """Mark the services that wait for a task to start, and, of a stack that goes, those that wait for its end."""
        service = self._state.services.get(task.service_uid)
        if service is not None:
            self.mark(About.SERVICE, *dependents(self._state, service))
            stack = self._state.stacks.get(service.stack)
            if stack is not None and stack.removing:
                self.mark(About.SERVICE, *depended_on(self._state, service))

    def _on(self, node: str) -> None:
        """Mark the services with tasks on a node."""
        tasks = self._state.tasks
        self.mark(About.SERVICE, *{tasks[task].service_uid for task in self._state.tasks_on.get(node, ())})

    def _everywhere(self) -> None:
        """Mark the services that have a task on each node; they are looked for again when other services are wanted."""
        if self._global is None:
            wanted = ((uid, self._state.wanted(service)) for uid, service in self._state.services.items())
            self._global = {uid for uid, found in wanted if found is not None and found[0].mode.is_global}
        self.mark(About.SERVICE, *self._global)

    def _left(self, task: Task) -> None:
        """Mark the network of published ports when a task that ended or was deleted used it."""
        if any(endpoint.network == INGRESS for endpoint in task.endpoints):
            self.mark(About.INGRESS, "")

    def _note_claim(self, claim: Claim, change: Change) -> None:
        state = self._state
        if claim.kind == "port":
            self.mark(About.SERVICE, *(s for s in (claim.owner,) if s in state.services))
            self.mark(About.SERVICE, *(uid for uid, service in state.services.items() if service.problem))
        elif change.new is None:
            self._waiting()
            self.mark(About.ATTACHMENT, *state.attachments_in.get(claim.name.rpartition("/")[0], ()))
            network = state.networks.get(claim.name.rpartition("/")[0])
            if claim.kind == "address" and network is not None and not state.occupied.get(network.id):
                if network.id == INGRESS:
                    self.mark(About.INGRESS, "")
                else:
                    self.mark(About.STACK, network.stack_uid)

    def _note_room(self, freed: Counter[str]) -> None:
        """Mark who may lack an address of its own in networks that had no room before so many addresses came free."""
        for network in filter(None, map(self._state.networks.get, freed)):
            bounds = (given_out(network, ipaddress.ip_network(subnet)) for subnet in network.subnets)
            kept = len(network.gateways) + len(network.reserved)
            room = min(last - first + 1 for first, last in bounds) - kept
            held = len(self._state.occupied.get(network.id, ())) + freed[network.id]
            if held >= room * len(network.subnets):
                self.mark(About.SERVICE, *self._attached(network))

    def _waiting(self) -> None:
        """Mark the services with tasks that wait for a node, and their stacks, which may lack a network.

        Tasks on drained nodes wait too, and others that are to leave theirs: for a place to go to.
        """
        state = self._state
        drained = (task for node in state.drained for task in state.tasks_on.get(node, ()))
        self.mark(About.SERVICE, *{state.tasks[task].service_uid for task in drained}, *state.unbound, *state.noted)
        unbound = filter(None, map(state.services.get, state.unbound))
        self.mark(About.STACK, *{service.stack_uid for service in unbound})

    def _attached(self, network: Network) -> set[str]:
        """Give the services whose tasks are in a network, or in another of its name, or mean it without being there."""
        state = self._state
        alike = {network.id, *state.networks_named.get(network.name, ())}
        attached = {state.tasks[t].service_uid for ident in alike for t in state.tasks_in.get(ident, ())}
        for uid in state.stack_names:
            head = state.head(uid)
            if head is not None and any(n.external and n.name == network.name for n in head.spec.networks.values()):
                attached |= state.services_of.get(uid, set())
        return attached | set(state.unbound) | state.services_of.get(network.stack_uid, set())


def _asks_anew(change: Change) -> bool:
    """Tell whether another service may be wanted, or another way, from now on."""
    record = change.new or change.old
    if isinstance(record, ServiceState):
        return change.old is None or change.new is None
    return isinstance(record, Stack | StackRevision)


def _is_another(change: Change) -> bool:
    """Tell whether an agent says something else of its node, which may no longer be one that its services ask for."""
    old, new = change.old, change.new
    if not isinstance(old, Session) or not isinstance(new, Session):
        return False
    return (old.description, old.conditions) != (new.description, new.conditions)
