"""How long it takes until every agent here has programmed that a task can be reached, or no longer.

Agents acknowledge the newest set in force, a network generation, by its revision. From a change that turns whether
names, virtual addresses and published ports lead to a task, to the acknowledgement of the last agent that is told of
its networks, is one figure. Some changes at a time are measured, in memory only: what is shown is of this manager's
agents, since its start.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from cluster.model.node import Session, SessionState
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.protocol import GENERATIONS
from cluster.views import ConvergenceView, DelayView
from manager.picture import Change, ClusterState

KEPT = 1024
AT_ONCE = 16
"""Changes that are measured at a time: each costs as much as there are nodes, and of many at once these tell enough."""

PATIENCE = 30.0
"""Seconds after which a change is counted as not acknowledged."""

BEHIND = 1.0
"""Seconds of silence after which a node is named."""

Turn = Literal["reachable", "unreachable"]


@dataclass(slots=True)
class _Measure:
    """One change: what it turns a task to, the revision that shows it, since when, and who is yet to acknowledge it."""

    turn: Turn
    revision: int
    since: float
    waiting: set[str]


class Generations:
    """Fed with changes of the picture and with what agents say.

    `told` names the nodes whose sessions are here and that are told of a network; `observe` is given each figure.
    """

    def __init__(
        self,
        state: ClusterState,
        manager: str,
        told: Callable[[str], Collection[str]],
        observe: Callable[[Turn, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state, self._manager, self._told = state, manager, told
        self._observe, self._clock = observe, clock
        self._heard: dict[str, float] = {}  # by task, when the newest word of it came in
        self._open: dict[str, _Measure] = {}  # by task
        self._delays: dict[Turn, deque[float]] = {"reachable": deque(maxlen=KEPT), "unreachable": deque(maxlen=KEPT)}
        self._lost = 0

    def heard(self, task: str) -> None:
        """An agent has sent a status of a task, which is now to be stored."""
        self._heard[task] = self._clock()

    def changed(self, changes: Iterable[Change]) -> None:
        """Take up what has changed in the picture, which shows it already."""
        for change in changes:
            match change:
                case Change(new=TaskStatus() as status):
                    since = self._heard.pop(status.task, None)
                    self._turn(status.task, change.key, _turn_of_status(self._state, change.old, status), since)
                case Change(old=Task() as before, new=Task() as task):
                    if _is_withdrawn(task) and not _is_withdrawn(before) and _runs(self._state, task.id):
                        self._turn(task.id, change.key, "unreachable", None)
                case Change(old=Task() as before, new=None):
                    self._heard.pop(before.id, None)
                case Change(new=Session() as session) if session.state is not SessionState.OPEN:
                    self._leave_out(session.node)

    def programmed(self, node: str, revision: int) -> None:
        """An agent has the set of that revision in force."""
        for task, measure in tuple(self._open.items()):
            if measure.revision <= revision and node in measure.waiting:
                measure.waiting.discard(node)
                if not measure.waiting:
                    del self._open[task]
                    took = self._clock() - measure.since
                    self._delays[measure.turn].append(took)
                    self._observe(measure.turn, took)

    def view(self) -> ConvergenceView:
        """Show what was measured."""
        self._give_up()
        now = self._clock()
        behind: dict[str, float] = {}
        for measure in self._open.values():
            for node in measure.waiting:
                behind[node] = max(behind.get(node, 0.0), now - measure.since)
        names = {node: self._state.nodes[node].name for node in behind if node in self._state.nodes}
        manager = self._state.managers.get(self._manager)
        return ConvergenceView(
            manager="" if manager is None else manager.name,
            nodes=len(self._state.sessions_at.get(self._manager, ())),
            reachable=_delays(self._delays["reachable"]),
            unreachable=_delays(self._delays["unreachable"]),
            unconfirmed=self._lost,
            behind={names[node]: since for node, since in behind.items() if node in names and since > BEHIND},
        )

    def _turn(self, ident: str, key: str, turn: Turn | None, since: float | None) -> None:
        task = self._state.tasks.get(ident)
        if turn is None or task is None:
            return
        self._give_up()
        self._open.pop(ident, None)  # what it had turned to is overtaken
        if len(self._open) >= AT_ONCE or not task.endpoints or (task.node and self._state.is_lost(task.node)):
            return
        nodes = set(chain.from_iterable(self._told(endpoint.network) for endpoint in task.endpoints))
        waiting = {node for node in nodes if self._acknowledges(node)}
        if waiting:
            at = self._clock() if since is None else since
            self._open[ident] = _Measure(turn, self._state.revision_of(key), at, waiting)

    def _acknowledges(self, node: str) -> bool:
        session = self._state.sessions.get(node)
        return session is not None and session.version >= GENERATIONS and session.state is SessionState.OPEN

    def _leave_out(self, node: str) -> None:
        """Wait no more for a node that says nothing; what only it was missing for is no figure."""
        for task, measure in tuple(self._open.items()):
            measure.waiting.discard(node)
            if not measure.waiting:
                del self._open[task]

    def _give_up(self) -> None:
        now = self._clock()
        for task in [task for task, measure in self._open.items() if now - measure.since > PATIENCE]:
            del self._open[task]
            self._lost += 1


def _turn_of_status(state: ClusterState, before: Any, status: TaskStatus) -> Turn | None:
    ran = isinstance(before, TaskStatus) and before.state is TaskState.RUNNING
    task = state.tasks.get(status.task)
    if task is None or ran == (status.state is TaskState.RUNNING) or _is_withdrawn(task):
        return None
    return "unreachable" if ran else "reachable"


def _is_withdrawn(task: Task) -> bool:
    return task.leaving_at is not None or task.desired is not Desired.RUNNING


def _runs(state: ClusterState, task: str) -> bool:
    status = state.statuses.get(task)
    return status is not None and status.state is TaskState.RUNNING


def _delays(measured: Collection[float]) -> DelayView:
    if not measured:
        return DelayView(0)
    ranked = sorted(measured)
    last = len(ranked) - 1
    return DelayView(len(ranked), ranked[round(last * 0.5)], ranked[round(last * 0.99)], ranked[-1])
