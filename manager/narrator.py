"""What changes of records mean, as events for people: the reason of each decision is in the record it made. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cluster.events import ClusterEvent
from cluster.examination import WAY
from cluster.model.attachment import Attachment, AttachmentReport, AttachmentState
from cluster.model.cluster import ClockMark, Trust, TrustPhase
from cluster.model.network import INGRESS, Network
from cluster.model.node import Manager, Node, NodeState, NodeStatus, Session, SessionState
from cluster.model.rebalance import Rebalance
from cluster.model.secret import External
from cluster.model.service import ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.model.volume import Volume
from manager.api.changes import changes as changed
from manager.decide.restarts import ending
from manager.picture import Change, ClusterState

_MOST_CHANGES = 5
_DESIRED = {Desired.SHUTDOWN: "stop", Desired.REMOVE: "remove"}

_ROTATION = {
    TrustPhase.SPREADING: "a new root of the CA is made known beside the one that signs",
    TrustPhase.RENEWING: "the new root signs, and all get certificates of it; the old one is trusted still",
    TrustPhase.SETTLED: "the new root alone is trusted",
}


def narrate(state: ClusterState, changes: Sequence[Change], now: float) -> list[ClusterEvent]:
    """Tell of changes that the picture shows already.

    An event's instant is the record's own, else that of the leader's transaction, else `now`.
    """
    narrator = _Narrator(state, changes, now)
    return [event for change in changes for event in narrator.of(change)]


def remembered(state: ClusterState, changes: Iterable[Change]) -> list[ClusterEvent]:
    """Tell what records still say of when they came to be as they are, oldest first.

    It is for a manager that reads them for the first time: what was overwritten is not known any more.
    """
    new = [change for change in changes if change.new is not None]
    dated = [event for event in narrate(state, new, 0.0) if event.at > 0]
    return sorted(dated, key=lambda event: (event.at, event.revision))


class _Narrator:
    def __init__(self, state: ClusterState, changes: Sequence[Change], now: float) -> None:
        self._state, self._now = state, now
        self._marks = {c.revision: c.new.now for c in changes if isinstance(c.new, ClockMark)}
        # what is gone by now is known by what it was
        self._services = {c.old.uid: c.old for c in changes if isinstance(c.old, ServiceState)}
        self._nodes = {c.old.id: c.old for c in changes if isinstance(c.old, Node)}
        self._tasks = {c.old.id: c.old for c in changes if isinstance(c.old, Task)}
        self._stacks = {c.old.uid: c.old.name for c in changes if isinstance(c.old, Stack)}

    def of(self, change: Change) -> Iterator[ClusterEvent]:
        match change:
            case Change(new=StackRevision() as made, old=None):
                yield self._deployed(change, made)
            case Change(old=(Stack() | None) as old, new=(Stack() | None) as new):
                yield from self._stack(change, old, new)
            case Change(old=(ServiceState() | None) as old, new=(ServiceState() | None) as new):
                yield from self._service(change, old, new)
            case Change(old=(Task() | None) as old, new=(Task() | None) as new):
                yield from self._task(change, old, new)
            case Change(old=(TaskStatus() | None) as said, new=TaskStatus() as status):
                yield from self._status(change, said, status)
            case Change(old=(Node() | None) as old, new=(Node() | None) as new):
                yield from self._node(change, old, new)
            case Change(old=(NodeState() | None) as had, new=NodeState() as has):
                if has.status is not (NodeStatus.UNKNOWN if had is None else had.status):
                    yield self._of_node(change, has.node, str(has.status), has.reason, has.since)
            case Change(old=(Session() | None) as ended, new=Session() as session):
                yield from self._session(change, ended, session)
            case Change(old=(Network() | None) as old, new=(Network() | None) as new):
                yield from self._network(change, old, new)
            case Change(old=(Volume() | None) as old, new=(Volume() | None) as new):
                yield from self._volume(change, old, new)
            case Change(old=(External() | None) as old, new=(External() | None) as new):
                yield from self._external(change, old, new)
            case Change(old=(Manager() | None) as old, new=(Manager() | None) as new):
                yield from self._manager(change, old, new)
            case Change(old=(Rebalance() | None) as round_, new=Rebalance() as at_work):
                yield from self._rebalance(change, round_, at_work)
            case Change(old=(Trust() | None), new=Trust() as trust):
                message = _ROTATION[trust.phase]
                yield ClusterEvent(change.revision, trust.since, "manager", "rotate-ca", "ca", "ca", message=message)

    def _at(self, change: Change) -> float:
        return self._marks.get(change.revision, self._now)

    # Stacks and services

    def _deployed(self, change: Change, new: StackRevision) -> ClusterEvent:
        before = self._state.revisions.get(new.stack_uid, {}).get(new.n - 1)
        told = list(changed(before, new)) if before is not None else []
        more = [f"and {len(told) - _MOST_CHANGES} more"] if len(told) > _MOST_CHANGES else []
        what = "; ".join([*filter(None, [new.reason]), *told[:_MOST_CHANGES], *more])
        by = f" by {new.author}" if new.author else ""
        message = f"revision {new.n}{by}" + (f": {what}" if what else "")
        name = new.spec.name
        return ClusterEvent(
            change.revision, new.created_at, "stack", "deploy", new.stack_uid, name, stack=name, message=message
        )

    def _stack(self, change: Change, old: Stack | None, new: Stack | None) -> Iterator[ClusterEvent]:
        if new is not None and not (new.removing and (old is None or not old.removing)):
            return
        one = new or old
        assert one is not None
        action = "removing" if new is not None else "remove"
        message = "its volumes too" if one.remove_volumes else ""
        yield ClusterEvent(
            change.revision, self._at(change), "stack", action, one.uid, one.name, stack=one.name, message=message
        )

    def _service(self, change: Change, old: ServiceState | None, new: ServiceState | None) -> Iterator[ClusterEvent]:
        if old is None or new is None:
            one = new or old
            assert one is not None
            yield self._of_service(change, one, "create" if new is not None else "remove")
            if new is None:
                return
        assert new is not None
        if new.problem != ("" if old is None else old.problem):
            yield self._of_service(change, new, "problem" if new.problem else "mended", new.problem)
        update, before = new.update, None if old is None else old.update
        if update is not None and (before is None or (before.state, before.version) != (update.state, update.version)):
            words = f"{str(update.state).replace('_', ' ')}, to revision {update.version}"
            message = f"{words}: {update.message}" if update.message else words
            yield self._of_service(change, new, "update", message, update.phase_since)

    def _of_service(
        self, change: Change, service: ServiceState, action: str, message: str = "", at: float | None = None
    ) -> ClusterEvent:
        return ClusterEvent(
            change.revision, self._at(change) if at is None else at, "service", action, service.uid, service.full_name,
            stack=service.stack, service=service.full_name, message=message,
        )  # fmt: skip

    # Tasks

    def _task(self, change: Change, old: Task | None, new: Task | None) -> Iterator[ClusterEvent]:
        if old is None:
            assert new is not None
            yield self._of_task(change, new, "create", self._predecessor(new), new.created_at)
        if new is None:
            if old is not None and old.desired is not Desired.REMOVE:
                yield self._of_task(change, old, "remove")
            return
        if new.node is not None and (old is None or old.node is None):
            yield self._of_task(change, new, "assign", new.reason)
        elif new.node is None and new.reason and (old is None or new.reason != old.reason):
            yield self._of_task(change, new, "pending", new.reason)
        if old is None:
            return
        if new.desired is not old.desired and new.desired in _DESIRED:
            yield self._of_task(change, new, _DESIRED[new.desired], new.reason)
        elif new.leaving_at is not None and old.leaving_at is None:
            yield self._of_task(change, new, "withdraw", new.reason)
        elif new.moving and not old.moving:
            yield self._of_task(change, new, "move", new.reason)

    def _predecessor(self, task: Task) -> str:
        """Say whose place a task takes."""
        row = self._state.rows.get(task.service_uid, {}).get(task.slot, ())
        before = next((one for one in row if one.n < task.n), None)
        if before is None:
            return ""
        if message := self._state.message_of(before):
            return f"{message} (in place of {before.id[:12]})"
        return f"in place of {before.id[:12]}, {self._state.reported_state(before)}"

    def _status(self, change: Change, before: TaskStatus | None, new: TaskStatus) -> Iterator[ClusterEvent]:
        task = self._state.tasks.get(new.task) or self._tasks.get(new.task)
        if task is None:
            return
        if before is not None and new.restarts > before.restarts:
            message = f"in place, {new.restarts} times by now" + (f": {new.message}" if new.message else "")
            yield self._of_task(change, task, "restart", message, new.at)
        elif before is None or before.state is not new.state:
            shown = new.state is TaskState.FAILED or new.state is TaskState.COMPLETE
            why = ending(new) if new.state is TaskState.FAILED else new.message
            yield self._of_task(change, task, str(new.state), why, new.at, new.exit_code if shown else None)

    def _of_task(
        self, change: Change, task: Task, action: str, message: str = "", at: float | None = None,
        exit_code: int | None = None,
    ) -> ClusterEvent:  # fmt: skip
        service = self._state.services.get(task.service_uid) or self._services.get(task.service_uid)
        name = task.service_uid if service is None else service.full_name
        stack = self._stack_name(task.stack_uid) if service is None else service.stack
        return ClusterEvent(
            change.revision, self._at(change) if at is None else at, "task", action, task.id, f"{name}.{task.slot}",
            stack=stack, service=name, node=self._node_name(task.node), message=message, exit_code=exit_code,
        )  # fmt: skip

    def _stack_name(self, uid: str) -> str:
        return self._state.stack_names.get(uid) or self._stacks.get(uid, "")

    def _node_name(self, node: str | None) -> str:
        known = self._state.nodes.get(node or "") or self._nodes.get(node or "")
        return (node or "") if known is None else known.name

    # Nodes and managers

    def _node(self, change: Change, old: Node | None, new: Node | None) -> Iterator[ClusterEvent]:
        if new is None:
            assert old is not None
            yield self._of_node(change, old.id, "remove")
        elif old is None:
            yield self._of_node(change, new.id, "create", f"joined as a {new.role}", new.joined_at)
        elif old != new:
            words = [f"{name} {had} -> {has}" for name, had, has in (
                ("availability", old.availability, new.availability), ("role", old.role, new.role)
            ) if had != has]  # fmt: skip
            words += [name for name in ("labels", "resources") if getattr(old, name) != getattr(new, name)]
            yield self._of_node(change, new.id, "update", ", ".join(words))

    def _session(self, change: Change, old: Session | None, new: Session) -> Iterator[ClusterEvent]:
        if old is None or (old.epoch, old.state) != (new.epoch, new.state):
            match new.state:
                case SessionState.OPEN:
                    yield self._of_node(
                        change, new.node, "connect", f"agent {new.description.agent_version}", new.since
                    )
                case SessionState.SILENT:
                    yield self._of_node(change, new.node, "silent", "its agent was not heard three times", new.since)
                case SessionState.CLOSED:
                    why = "" if new.back_by is None else "by plan"
                    yield self._of_node(change, new.node, "disconnect", why, new.since)
        before = {} if old is None else old.conditions
        for name, text in new.conditions.items():
            if name not in before:
                yield self._of_node(change, new.node, "condition", f"{self._condition(name)}: {text}")
        if gone := sorted(before.keys() - new.conditions.keys()):
            yield self._of_node(change, new.node, "mended", ", ".join(map(self._condition, gone)))
        told = {} if old is None else old.attachments
        for ident, report in new.attachments.items():
            if (ident not in told or told[ident].state is not report.state) and ident in self._state.attachments:
                yield from self._attachment(change, new.node, self._state.attachments[ident], report)

    def _condition(self, name: str) -> str:
        return f"the way to {self._node_name(name.removeprefix(WAY))}" if name.startswith(WAY) else name

    def _attachment(
        self, change: Change, node: str, one: Attachment, report: AttachmentReport
    ) -> Iterator[ClusterEvent]:
        """Tell of a container that was started by hand, in the engine's words for that."""
        network = self._state.networks.get(one.network)
        wired = report.state is AttachmentState.ATTACHED
        if network is None or not (wired or report.state.is_over):
            return
        action, message = "connect" if wired else "disconnect", f"container {report.name or one.asked}"
        message += f": {report.message}" if report.message else ""
        stack = self._state.stack_names.get(network.stack_uid, "")
        yield ClusterEvent(
            change.revision, report.at, "network", action, one.id, network.name, stack=stack,
            node=self._node_name(node), message=message,
        )  # fmt: skip

    def _of_node(
        self, change: Change, node: str, action: str, message: str = "", at: float | None = None
    ) -> ClusterEvent:
        name = self._node_name(node)
        return ClusterEvent(
            change.revision, self._at(change) if at is None else at, "node", action, node, name, node=name,
            message=message,
        )  # fmt: skip

    def _manager(self, change: Change, old: Manager | None, new: Manager | None) -> Iterator[ClusterEvent]:
        if old is not None and new is not None:
            return
        one = new or old
        assert one is not None
        at = one.started_at if new is not None else self._at(change)
        action = "start" if new is not None else "stop"
        yield ClusterEvent(change.revision, at, "manager", action, one.id, one.name, message=one.url)

    def _rebalance(self, change: Change, old: Rebalance | None, new: Rebalance) -> Iterator[ClusterEvent]:
        name = "rebalance"
        if new.active and (old is None or not old.active):
            yield ClusterEvent(change.revision, new.began_at, "manager", name, new.wish, name, message="began")
        elif not new.active and old is not None and old.active:
            message = f"ended: {new.moved} tasks moved"
            yield ClusterEvent(change.revision, new.ended_at, "manager", name, new.wish, name, message=message)

    # What tasks use

    def _network(self, change: Change, old: Network | None, new: Network | None) -> Iterator[ClusterEvent]:
        one = new or old
        assert one is not None
        if (old is None) != (new is None) and one.id != INGRESS:
            action = "create" if new is not None else "remove"
            yield ClusterEvent(
                change.revision, self._at(change), "network", action, one.id, one.name,
                stack=self._stack_name(one.stack_uid), message=", ".join(one.subnets) if new is not None else "",
            )  # fmt: skip

    def _volume(self, change: Change, old: Volume | None, new: Volume | None) -> Iterator[ClusterEvent]:
        one = new or old
        assert one is not None
        if new is None:
            action, message, at = "destroy", "", self._at(change)
        elif old is None:
            action, message, at = "create", "its data is on this node from now on", new.bound_at
        elif new.removing and not old.removing:
            action, message, at = "removing", "", self._at(change)
        else:
            return
        yield ClusterEvent(
            change.revision, at, "volume", action, one.name, one.name, stack=self._stack_name(one.stack_uid),
            node=self._node_name(one.node), message=message,
        )  # fmt: skip

    def _external(self, change: Change, old: External | None, new: External | None) -> Iterator[ClusterEvent]:
        one = new or old
        assert one is not None
        if new is None:
            yield ClusterEvent(change.revision, self._at(change), one.kind, "remove", one.name, one.name)
        elif old is None:
            message = f"by {new.author}" if new.author else ""
            yield ClusterEvent(change.revision, new.created_at, one.kind, "create", one.name, one.name, message=message)
