"""What came about in histories: a simulation in which something never happens holds nothing of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cluster.model.node import Availability, NodeState, NodeStatus
from cluster.model.service import ServiceState
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.model.update import UpdateState
from cluster.model.volume import Volume
from manager.picture import Change, ClusterState

if TYPE_CHECKING:
    from tests.sim.world import World

EXPECTED = (
    "an update was completed",
    "an update was paused",
    "an update went back by itself",
    "a task started beside the one before",
    "a task was withdrawn before it ended",
    "a task left a drained node",
    "a service waited for another",
    "a job was completed",
    "a node fell silent",
    "a task of a lost node was replaced",
    "a task waited for a lost node as its service wishes",
    "a node out of reach stopped its copy",
    "a node came back",
    "a task was moved for a better spread",
    "a task failed and was restarted",
    "a task waited for room",
    "a task left a node that its service no longer asks for",
    "a volume was bound by the name of a slot",
)


class Seen:
    """A rule that holds nothing, and counts."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.counts: Counter[str] = Counter()

    def note(self, change: Change) -> None:
        self.counts.update(_told_by(self._world.truth, change))


def _told_by(truth: ClusterState, change: Change) -> Iterator[str]:
    match change.old, change.new:
        case (ServiceState() as before, ServiceState(update=update)) if update is not None:
            if before.update is None or before.update.state is not update.state:
                yield from _update(update.state)
        case (old, NodeState(status=status)) if not isinstance(old, NodeState) or old.status is not status:
            if status is NodeStatus.DOWN:
                yield "a node fell silent"
            elif status is NodeStatus.READY and isinstance(old, NodeState) and old.status is NodeStatus.DOWN:
                yield "a node came back"
        case (_, TaskStatus(task=ident, state=TaskState.COMPLETE)) if ident in truth.tasks:
            spec = truth.spec_of(truth.tasks[ident])
            if spec is not None and spec.mode.is_job:
                yield "a job was completed"
        case (Task() | None as was, Task() as now):
            yield from _task(truth, was, now)
        case (None, Volume(name=name)) if name[-2:-1] == "-":
            yield "a volume was bound by the name of a slot"


def _update(state: UpdateState) -> Iterator[str]:
    match state:
        case UpdateState.COMPLETED:
            yield "an update was completed"
        case UpdateState.PAUSED:
            yield "an update was paused"
        case UpdateState.ROLLBACK_STARTED:
            yield "an update went back by itself"


def _task(truth: ClusterState, old: Task | None, new: Task) -> Iterator[str]:
    if new.yields and not (old is not None and old.yields):
        yield "a task started beside the one before"
    if new.leaving_at is not None and not (old is not None and old.leaving_at is not None):
        yield "a task was withdrawn before it ended"
        node = truth.nodes.get(new.node or "")
        if node is not None and node.availability is Availability.DRAIN:
            yield "a task left a drained node"
    if new.moving and not (old is not None and old.moving):
        yield "a task was moved for a better spread"
    if old is None and new.failures:
        yield "a task failed and was restarted"
    if new.reason and (old is None or old.reason != new.reason):
        if new.leaving_at is not None and " does not match " in new.reason:
            yield "a task left a node that its service no longer asks for"
        if new.desired is not Desired.RUNNING and new.reason.endswith(" is down"):
            yield "a task of a lost node was replaced"
        yield from (told for words, told in _REASONS.items() if words in new.reason)


_REASONS = {
    "waits for service": "a service waited for another",
    "is down (x-on-disconnect)": "a task waited for a lost node as its service wishes",
    "no node fits": "a task waited for room",
}
