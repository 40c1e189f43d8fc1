"""A toy agent and its host: it holds containers, works from the last set that it acted on, and reports.

Obeys what the design asks of agents: it acts on no set older than one that it acted on, removes nothing before it has
a set of this session, restarts a task whose host restarted under the same id, and starts no task that has ended. Its
sets and containers outlive it; a host that loses power loses only what ran.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.protocol import HOLDS, VERSION

NOTICES = 6.0
"""Seconds after which an agent knows, by its pings, that the manager it had cannot be reached."""


class Assignment(NamedTuple):
    """What a manager sends: a full set, as of one revision."""

    epoch: int
    revision: int
    tasks: dict[str, Task]
    mounts: dict[str, tuple[str, ...]]
    """The volumes of each task."""
    leaving: frozenset[str]
    """The volumes to be removed."""
    stops: dict[str, float]
    """Of tasks whose services wish it: seconds without a manager after which they are stopped."""
    ahead: frozenset[str]
    """Versions of services whose images are to be there before their tasks come."""


@dataclass
class Container:
    """`sandbox` holds the addresses: from before the container starts until after it ended."""

    task: Task
    state: TaskState
    volumes: tuple[str, ...] = ()
    sandbox: bool = True
    stopping: bool = False
    ended: bool = False


@dataclass
class Agent:
    node: str
    name: str
    host_up: bool = True
    up: bool = True
    cut: bool = False
    version: int = VERSION
    containers: dict[str, Container] = field(default_factory=dict)
    journal: Assignment = field(default_factory=lambda: Assignment(0, 0, {}, {}, frozenset(), {}, frozenset()))
    ends: dict[str, TaskStatus] = field(default_factory=dict)
    """How tasks ended, as the stopped containers would tell."""

    volumes: set[str] = field(default_factory=set)
    """Those with data on this host."""
    removed: set[str] = field(default_factory=set)
    """Those of the set that were to be removed, and are."""

    session: tuple[str, int] | None = None
    heard_in_session: bool = False
    inbox: list[Assignment] = field(default_factory=list)
    unreported: dict[str, TaskStatus] = field(default_factory=dict)
    reported: dict[str, TaskStatus] = field(default_factory=dict)
    """What was said in this session, so as to say it once."""

    programmed: int = 0
    """Names and ports are as in the set of this revision."""

    last_beat: float = 0.0
    alone_since: float | None = None
    """Since when it has known of no manager; kept on disk."""

    @property
    def working(self) -> bool:
        return self.host_up and self.up

    @property
    def reachable(self) -> bool:
        return self.working and not self.cut

    def crash(self) -> None:
        """The agent's process ends; containers run on."""
        self.up = False
        self.removed.clear()
        self.forget_session()

    def power_off(self) -> None:
        self.host_up = False
        self.crash()

    def power_on(self, now: float) -> None:
        """What ran has stopped, and is started again under the same task: no failure."""
        if not self.working:
            self.host_up = self.up = True
            self.alone_since = now if self.alone_since is None else self.alone_since

    def bide(self, since: float, now: float) -> bool:
        """Live on without a manager, which there was none of since then; tells whether a copy was stopped for that."""
        if self.alone_since is None:
            self.alone_since = since + NOTICES
        overdue = [
            task
            for task in self.journal.tasks.values()
            if task.desired is Desired.RUNNING
            and task.id not in self.ends
            and now >= self.alone_since + self.journal.stops.get(task.id, float("inf"))
        ]
        for task in overdue:
            container = self.containers.get(task.id)
            if container is not None:
                container.sandbox, container.ended = False, True
            self._end(task, TaskState.SHUTDOWN, now)
        return bool(overdue)

    def forget_session(self) -> None:
        self.session = None
        self.heard_in_session = False
        self.inbox.clear()
        self.reported.clear()
        self.unreported.clear()

    def take(self, assignment: Assignment) -> bool:
        """Take a set unless it is older than what was acted on, or of another session."""
        if self.session is None or assignment.epoch != self.session[1]:
            return False
        if (assignment.epoch, assignment.revision) < (self.journal.epoch, self.journal.revision):
            return False
        if assignment.revision < self.journal.revision:
            return False  # this manager's picture is behind the one that was acted on
        self.journal = assignment
        self.removed &= assignment.leaving
        self.heard_in_session = True
        return True

    def converge(self, now: float, step: int) -> None:
        """Go one step on with each task; `step` is how many states a starting task advances."""
        self.programmed = self.journal.revision
        for task in self.journal.tasks.values():
            self._converge(task, now, step)
        if self.heard_in_session:
            for ident in [i for i in self.containers if i not in self.journal.tasks]:
                del self.containers[ident]
            for ident in [i for i in self.ends if i not in self.journal.tasks]:
                del self.ends[ident]
            used = {name for container in self.containers.values() for name in container.volumes}
            self.removed |= self.journal.leaving - used
            self.volumes -= self.removed

    def _converge(self, task: Task, now: float, step: int) -> None:
        container = self.containers.get(task.id)
        if task.id in self.ends:
            if task.desired is Desired.REMOVE and container is not None:
                del self.containers[task.id]
            left = "c" if task.id in self.containers else ""
            self._report(TaskStatus(task.id, self.ends[task.id].state, now, container=left))
        elif task.desired is not Desired.RUNNING:
            if container is not None and not container.stopping:
                container.stopping = True  # it has until the next time
                return
            if container is not None:
                container.sandbox, container.ended = False, True
                if task.desired is Desired.REMOVE:
                    del self.containers[task.id]
            self._end(task, TaskState.SHUTDOWN, now)
        elif container is None:
            volumes = self.journal.mounts.get(task.id, ())
            self.containers[task.id] = Container(task, TaskState.PREPARING, volumes)
            self.volumes.update(volumes)
            self._report(TaskStatus(task.id, TaskState.PREPARING, now))
        else:
            order = list(TaskState)
            holds = task.held and self.version >= HOLDS and container.state.rank <= TaskState.READY.rank
            most = TaskState.READY if holds else TaskState.RUNNING
            container.state = order[min(container.state.rank + step, most.rank)]
            self._report(TaskStatus(task.id, container.state, now, container="c"))

    def fail(self, ident: str, now: float, code: int) -> None:
        """A container ends by itself; the agent tears its sandbox down and says so."""
        container = self.containers[ident]
        container.sandbox, container.ended = False, True
        self._end(container.task, TaskState.FAILED if code else TaskState.COMPLETE, now, code)

    def reject(self, ident: str, now: float) -> None:
        container = self.containers[ident]
        container.sandbox, container.ended = False, True
        self._end(container.task, TaskState.REJECTED, now)

    def _end(self, task: Task, state: TaskState, now: float, code: int | None = None) -> None:
        left = "c" if task.id in self.containers else ""
        self.ends[task.id] = TaskStatus(task.id, state, now, container=left, exit_code=code)
        self._report(self.ends[task.id])

    def _report(self, status: TaskStatus) -> None:
        known = self.reported.get(status.task)
        if known is None or replace(status, at=known.at) != known:
            self.reported[status.task] = self.unreported[status.task] = status
