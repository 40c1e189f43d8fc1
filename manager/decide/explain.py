"""Why a service is not as it should be: for each task what holds it up, for each node why it does not fit, and what
change would mend either. Nothing is decided here; the same filters and allocators are asked that decide.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.model.service import ServiceSpec, ServiceState
from cluster.model.stack import StackRevision
from cluster.model.task import Task, TaskState
from cluster.views import Explanation, NodeFit, Trouble
from manager.decide import ports
from manager.decide.allocator import AddressAllocator, NoRoom, attachments
from manager.decide.scheduler import Scheduler
from manager.decide.slots import slots_of
from manager.picture import ClusterState


def explain(state: ClusterState, service: ServiceState, now: float, only: Task | None = None) -> Explanation:
    """Explain a service, or only one task of it."""
    name = service.full_name
    what = name if only is None else f"{name}.{only.slot}"
    wanted, head = state.wanted(service), state.head(service.stack_uid)
    tasks = state.all_of(service.uid)
    running = sum(state.is_ready(task) for task in tasks)
    if wanted is None or head is None:
        going = Trouble(what, "it is being removed")
        return Explanation(what, name, 0, running, (going,), ())
    spec, version = wanted
    scheduler = Scheduler(state, head, spec, tasks, now, version.version)
    newest = [slot.tasks[0] for slot in slots_of(tasks)] if only is None else [only]
    troubles = [
        *(_of_service(state, service, head, spec) if only is None or only.node is None else ()),
        *(trouble for task in newest for trouble in _of_task(state, name, task, scheduler)),
    ]
    nodes = sorted(state.nodes.values(), key=lambda node: node.name)
    fits = [_fit(state, scheduler, node.id, tasks) for node in nodes]
    return Explanation(what, name, spec.replicas, running, tuple(troubles), tuple(fits))


def _of_service(
    state: ClusterState, service: ServiceState, head: StackRevision, spec: ServiceSpec
) -> Iterator[Trouble]:
    name = service.full_name
    if service.quarantined_until is not None:
        yield Trouble(name, service.problem, "this is a bug: please report it; it is tried again by itself")
    for port, why, change in ports.troubles(state, service.uid, spec):
        yield Trouble(f"port {port.published or port.target}/{port.protocol}", why, change)
    allocator = AddressAllocator(state)
    try:
        for network, aliases in attachments(state, head, spec):
            allocator.endpoint(network, service.uid, aliases)
    except NoRoom as problem:
        yield Trouble(name, str(problem), problem.remedy)


def _of_task(state: ClusterState, service: str, task: Task, scheduler: Scheduler) -> Iterator[Trouble]:
    about = f"{service}.{task.slot}"
    status = state.statuses.get(task.id)
    reported = state.reported_state(task)
    node = state.nodes.get(task.node or "")
    where = "" if node is None else f" on {node.name}"
    if task.node is None:
        yield Trouble(about, task.reason or "it waits to be placed", _change_for(task, scheduler))
    elif reported in (TaskState.REJECTED, TaskState.FAILED):
        why = (status.message if status is not None else "") or task.reason or "it failed"
        if reported is TaskState.REJECTED:
            change = "mend what the node says: its image, a mount, a device"
        else:
            change = f"`stack logs {service}` shows what it printed"
        code = "" if status is None or status.exit_code is None else f" with exit code {status.exit_code}"
        words = f"; it said: {' | '.join(status.log)}" if status is not None and status.log else ""
        yield Trouble(about, f"{reported}{where}{code}: {why}{words}", change)
    elif state.is_lost(task.node):
        yield Trouble(about, task.reason or f"its node{where} is down", "bring the node back")
    elif reported is not TaskState.RUNNING and not reported.terminal:
        told = state.message_of(task)
        yield Trouble(about, f"it is {reported}{where}" + (f": {told}" if told else ""))
    elif task.reason:
        yield Trouble(about, task.reason)


def _change_for(task: Task, scheduler: Scheduler) -> str:
    """Tell what would let a task go that waits; the nodes' own list says it for each of them."""
    if task.reason != scheduler.no_room():
        return ""
    return "any of the changes below would make a node fit"


def _fit(state: ClusterState, scheduler: Scheduler, ident: str, tasks: list[Task]) -> NodeFit:
    node = state.nodes[ident]
    own = sum(task.node == ident and state.is_live(task) for task in tasks)
    reasons = tuple(Trouble(node.name, test.say([node]), test.remedy(node)) for test in scheduler.refusals(node))
    return NodeFit(node.name, own, not reasons, reasons)
