"""What must hold of services in a history, one class a rule; `world` keeps those of records, hosts and managers.

A rule is told every change of a record in the true state, which shows it already, and says with `world.hold` when that
broke it. To add one, write a class with `note` and put it into RULES.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cluster.model.node import NodeState
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackRevision
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from manager.decide.global_mode import fitting, suitability
from manager.picture import Change, ClusterState
from tests.sim.handovers import LetGoFirst

if TYPE_CHECKING:
    from tests.sim.world import World


FAILURES = {TaskState.FAILED, TaskState.REJECTED, TaskState.COMPLETE}
"""States by which a task of a service that is to run on has failed; it ends the wait for one that is not required."""


class Rule(Protocol):
    def note(self, change: Change) -> None: ...


def _bound(change: Change) -> Task | None:
    """The task that got its node by a change."""
    old, new = change.old, change.new
    if isinstance(new, Task) and new.node is not None and not (isinstance(old, Task) and old.node is not None):
        return new
    return None


class DoneIsDone:
    """What a job has completed is not run again, unless the job is another version or was forced to be."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._done: set[tuple[str, int, int]] = set()

    def note(self, change: Change) -> None:
        truth, record = self._world.truth, change.new
        if isinstance(record, TaskStatus) and record.state is TaskState.COMPLETE and record.task in truth.tasks:
            task = truth.tasks[record.task]
            spec = truth.spec_of(task)
            if spec is not None and spec.mode.is_job:
                self._done.add((task.service_uid, task.slot, task.version))
        if isinstance(record, Task) and change.old is None:
            done = (record.service_uid, record.slot, record.version) in self._done
            again = any(t.slot == record.slot and t.n < record.n for t in truth.all_of(record.service_uid))
            self._world.hold(not (done and again), f"{record.id} repeats what slot {record.slot} has done")


class FewEnoughAtATime:
    """No more tasks of a job are under way than it allows, but for those on nodes that were once lost."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lost: set[str] = set()

    def note(self, change: Change) -> None:
        truth = self._world.truth
        if isinstance(change.new, NodeState) and truth.is_lost(change.new.node):
            self._lost.add(change.new.node)
        task = _bound(change)
        wanted = truth.wanted(truth.services[task.service_uid]) if task is not None else None
        if task is None or wanted is None or not wanted[0].mode.is_job or not wanted[0].max_concurrent:
            return
        known = truth.nodes.keys() - self._lost
        others = (t for t in truth.all_of(task.service_uid) if t.node in known)
        under_way = sum(not truth.has_ended(t) and t.version == task.version for t in others)
        most = wanted[0].max_concurrent
        if most >= self._allowed(task):
            self._world.hold(under_way <= most, f"{under_way} tasks of a job are under way, {most} may be")

    def _allowed(self, task: Task) -> int:
        """Give the most that any revision since the task's own has allowed: what began goes on."""
        revisions = self._world.truth.revisions[task.stack_uid]
        name = self._world.truth.services[task.service_uid].name
        specs = (r.spec.services.get(name) for n, r in revisions.items() if n >= task.version)
        return max((s.max_concurrent or 10**6 for s in specs if s is not None), default=0)


class AfterTheOneBefore:
    """A task may start when those before it in its slot have ended, yield to it, or are on nodes once lost."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lost: set[str] = set()

    def note(self, change: Change) -> None:
        truth, old, new = self._world.truth, change.old, change.new
        if isinstance(new, NodeState) and truth.is_lost(new.node):
            self._lost.add(new.node)
        if not isinstance(new, Task) or not _may_start(new) or (isinstance(old, Task) and _may_start(old)):
            return
        known = truth.nodes.keys() - self._lost
        before = (t for t in truth.all_of(new.service_uid) if t.slot == new.slot and t.n < new.n and t.node in known)
        clash = [t.id for t in before if not t.yields and not truth.has_ended(t)]
        self._world.hold(not clash, f"{new.id} may start, and {clash} of its slot have yet to end")


def _may_start(task: Task) -> bool:
    return task.node is not None and not task.held and task.desired is Desired.RUNNING


class OneANode:
    """A global service has one task on a node at most, and only on nodes that suit it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def note(self, change: Change) -> None:
        truth, task = self._world.truth, _bound(change)
        wanted = truth.wanted(truth.services[task.service_uid]) if task is not None else None
        if task is None or wanted is None or not wanted[0].mode.is_global:
            return
        others = (t for t in truth.all_of(task.service_uid) if t.node == task.node and t.slot != task.slot)
        self._world.hold(task.node == task.meant_for, f"{task.id} was meant for {task.meant_for}")
        self._world.hold(not any(map(truth.is_live, others)), f"{task.id} is the second one on {task.node}")
        head = truth.head(task.stack_uid)
        assert head is not None
        suits = suitability(truth, head, wanted[0])
        self._world.hold(suits(truth.nodes[str(task.node)]), f"{task.id} is on {task.node}, which does not suit it")


class DependedOnFirst:
    """The first task of a version starts when some task of each service that it depends on was as is asked."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reached: dict[tuple[str, int], set[TaskState]] = {}
        self._begun: set[tuple[str, int]] = set()

    def note(self, change: Change) -> None:
        truth, record = self._world.truth, change.new
        if isinstance(record, TaskStatus) and record.task in truth.tasks:
            of = truth.tasks[record.task]
            self._reached.setdefault((of.service_uid, of.version), set()).add(record.state)
        task = _bound(change)
        if task is None or (task.service_uid, task.version) in self._begun:
            return
        self._begun.add((task.service_uid, task.version))
        self._check(task)

    def _check(self, task: Task) -> None:
        truth = self._world.truth
        service = truth.services[task.service_uid]
        head = truth.head(task.stack_uid)
        spec = None if head is None else head.spec.services.get(service.name)
        if head is None or spec is None:
            return
        for name, dependency in spec.depends_on.items():
            other = head.spec.services.get(name)
            if (
                other is None
                or other.replicas == 0
                or (other.mode.is_global and not _fits_somewhere(truth, head, other))
            ):
                continue
            reached = self._reached.get((head.services[name].uid, head.services[name].version), set())
            states = {
                "service_started": {TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE},
                "service_healthy": {TaskState.RUNNING},
                "service_completed_successfully": {TaskState.COMPLETE},
            }[dependency.condition]
            met = bool(reached & states) or (not dependency.required and bool(reached & FAILURES))
            self._world.hold(met, f"{task.id} starts before {name}, which was only {sorted(reached)}")


def _fits_somewhere(truth: ClusterState, head: StackRevision, spec: ServiceSpec) -> bool:
    return bool(fitting(truth, suitability(truth, head, spec)))


RULES: tuple[Callable[[World], Rule], ...] = (
    DoneIsDone,
    FewEnoughAtATime,
    AfterTheOneBefore,
    OneANode,
    DependedOnFirst,
    LetGoFirst,
)
