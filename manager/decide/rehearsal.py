"""What would follow from a change of one stack: the deciding itself, on a picture of its own, with agents that obey.

Each agent does at once what it is told, every new task comes up, and time goes on to the next stored instant. Other
stacks stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from cluster.codec import Record, encode, key_of
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.model.update import Withdrawn
from manager.decide import handover, moves, orchestrator, stacks
from manager.decide.agenda import About, Agenda
from manager.decide.plan import Plan
from manager.picture import Change, ClusterState, Event

MOST_ROUNDS = 400
"""Rounds of deciding and obeying that are looked at: each costs what the services have tasks."""

HORIZON = 86_400.0
"""Seconds of the time to come that are looked at."""


class Act(NamedTuple):
    """One task that starts or stops; those of one `step` do so together."""

    step: int
    verb: Literal["start", "stop"]
    task: Task


class Story(NamedTuple):
    """What tasks did; not `whole` when it goes on longer than is looked at."""

    acts: tuple[Act, ...]
    whole: bool


def rehearse(state: ClusterState, stack_uid: str, now: float) -> Story:
    """Live through what follows, in `state`, which is changed by it, and tell what tasks did meanwhile."""
    rehearsal = _Rehearsal(state, stack_uid, now)
    acts = tuple(rehearsal.run())
    return Story(acts, rehearsal.over)


class _Rehearsal:
    def __init__(self, state: ClusterState, stack_uid: str, now: float) -> None:
        self.state, self.stack, self.now = state, stack_uid, now
        self.agenda = Agenda(state)
        self.agenda.mark(About.STACK, stack_uid)
        self.agenda.mark(About.INGRESS, "")
        self.agenda.mark(About.SERVICE, *self._services())
        self.over = False
        self.bound = {task.id for task in self._tasks() if task.node is not None}

    def run(self) -> Iterator[Act]:
        end, step = self.now + HORIZON, 1
        for _ in range(MOST_ROUNDS):
            self._settle()
            acts, news = self._obey(step)
            yield from acts
            step += bool(acts)
            if news:
                continue
            wake = self.agenda.next_wake()
            if wake is None or wake > end or not self._is_under_way():
                self.over = True
                return
            self.now = max(self.now, wake)

    def _services(self) -> set[str]:
        """Name the stack's services by uid: what somebody runs once goes on, whatever becomes of them."""
        return self.state.services_of.get(self.stack, set()) - self.state.oneoffs.keys()

    def _tasks(self) -> list[Task]:
        uids = sorted(self._services(), key=lambda uid: self.state.services[uid].name)
        return [task for uid in uids for task in sorted(self.state.all_of(uid), key=lambda task: (task.slot, task.n))]

    def _is_under_way(self) -> bool:
        """Tell whether some task has yet to be replaced, to start or to end."""
        head = self.state.head(self.stack)
        versions = {} if head is None else {version.uid: version.version for version in head.services.values()}
        for task in self._tasks():
            if self.state.has_ended(task):
                continue
            if task.desired is not Desired.RUNNING or task.leaving_at is not None:
                return True
            if task.version != versions.get(task.service_uid) or self._is_misplaced(task):
                return True
            if task.node is not None and self.state.reported_state(task) is not TaskState.RUNNING:
                return True
        wanted = (self.state.services.get(uid) for uid in versions)
        return any(one is None or (one.update is not None and one.update.state.at_work) for one in wanted)

    def _is_misplaced(self, task: Task) -> bool:
        """Tell whether a task is on a node on which it is not to be; where there is no other, nothing comes of it."""
        node, wanted = self.state.nodes.get(task.node or ""), self.state.wanted(self.state.services[task.service_uid])
        return node is not None and wanted is not None and moves.misfit(self.state, wanted[0], node) != ""

    # The leader

    def _settle(self) -> None:
        while (question := self.agenda.take(self.now)) is not None:
            plan = Plan()
            if question.about is About.STACK and question.ident == self.stack:
                plan = stacks.decide(self.state, question.ident, self.now)
            elif question.about is About.INGRESS:
                plan = stacks.decide_ingress(self.state, self.now)
            elif question.about is About.SERVICE and self._is_ours(question.ident):
                plan = orchestrator.decide(self.state, question.ident, self.now)
            self.agenda.wake(question, plan.wake_at)
            for step in plan.steps:
                self._write(step.puts, step.deletes)

    def _is_ours(self, service_uid: str) -> bool:
        return service_uid in self._services()

    def _write(self, puts: Iterable[Record], deletes: Iterable[str] = ()) -> None:
        self.agenda.note(write(self.state, puts, deletes))

    # The agents

    def _obey(self, step: int) -> tuple[list[Act], bool]:
        """Have all agents do what they are told; gives what came of it, and whether anything did."""
        acts: list[Act] = []
        statuses: list[TaskStatus] = []
        tasks = self._tasks()
        for task in tasks:
            status = self._next_status(task)
            if status is None:
                continue
            before, changed = self.state.reported_state(task), status.state
            if changed is TaskState.SHUTDOWN and before.rank >= TaskState.STARTING.rank and not before.terminal:
                acts.append(Act(step, "stop", task))
            elif changed in (TaskState.RUNNING, TaskState.COMPLETE) and task.id not in self.bound:
                acts.append(Act(step, "start", task))
            statuses.append(status)
        self._write(statuses)
        leaving = [task.id for task in handover.leaving(self._tasks())]
        if leaving:
            words = [self.state.withdrawn.get(ident, Withdrawn(ident, {})) for ident in sorted(self.state.managers)]
            told = [replaced for word in words if (replaced := _with(word, leaving, self.now)) != word]
            self._write(told)
            self.now += handover.LINGER if told else 0.0
        return acts, bool(statuses)

    def _next_status(self, task: Task) -> TaskStatus | None:
        if task.node is None or self.state.is_lost(task.node):
            return None
        status = self.state.statuses.get(task.id)
        state = self.state.reported_state(task)
        if task.desired is Desired.RUNNING:
            reached = TaskState.READY if task.held else self._end_of(task)
            if state.rank >= reached.rank or state.terminal:
                return None
            return TaskStatus(task.id, reached, self.now, "", "c", running_at=self.now)
        if not state.terminal:
            container = "c" if task.desired is Desired.SHUTDOWN else ""
            return TaskStatus(task.id, TaskState.SHUTDOWN, self.now, "", container)
        if task.desired is Desired.REMOVE and status is not None and status.container:
            return dataclasses.replace(status, container="")
        return None

    def _end_of(self, task: Task) -> TaskState:
        spec = self.state.spec_of(task)
        return TaskState.COMPLETE if spec is not None and spec.mode.is_job else TaskState.RUNNING


def write(state: ClusterState, puts: Iterable[Record], deletes: Iterable[str] = ()) -> list[Change]:
    """Write into a picture of one's own as if etcd had told it."""
    revision = state.revision + 1
    events = [Event(key_of(record), encode(record), revision) for record in puts]
    return state.apply([*events, *(Event(key, None, revision) for key in deletes)], revision)


def _with(word: Withdrawn, tasks: Iterable[str], now: float) -> Withdrawn:
    return dataclasses.replace(word, tasks={task: now for task in tasks if task not in word.tasks} | word.tasks)
