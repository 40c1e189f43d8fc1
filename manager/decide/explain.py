"""Why a service is not as it should be: for each task what holds it up, for each node why it does not fit, and what
change would mend either. Nothing is decided here; the same filters and allocators are asked that decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cluster.model.node import Node
from cluster.model.service import ServiceSpec, ServiceState
from cluster.model.stack import StackRevision
from cluster.model.task import IT_SAID, Task, TaskState, TaskStatus
from cluster.views import Explanation, NodeFit, Trouble
from manager.decide import dependencies, failures, ports
from manager.decide.allocator import AddressAllocator, NoRoom, attachments
from manager.decide.dependencies import Wait
from manager.decide.ranking import LATELY
from manager.decide.restarts import RAN_WELL
from manager.decide.scheduler import Scheduler
from manager.decide.slots import slots_in, slots_of
from manager.decide.tally import tally
from manager.picture import ClusterState

_ENDED_BADLY = (TaskState.REJECTED, TaskState.FAILED)


def explain(state: ClusterState, service: ServiceState, now: float, only: Task | None = None) -> Explanation:
    """Explain a service, or only one task of it."""
    name = service.full_name
    what = name if only is None else f"{name}.{only.slot}"
    wanted, head = state.wanted(service), state.basis(service)
    tasks = state.all_of(service.uid)
    running = sum(state.is_ready(task) for task in tasks)
    if wanted is None or head is None:
        going = Trouble(what, "it is being removed")
        return Explanation(what, name, 0, running, (going,), ())
    spec, version = wanted
    count = tally(state, head, spec, version, now)
    scheduler = Scheduler(state, head, spec, tasks, now, version.version)
    newest = [slot.tasks[0] for slot in slots_of(tasks)] if only is None else [only]
    wait = dependencies.wait_of(state, head, spec, version, now)
    troubles = [
        *(_of_service(state, service, head, spec) if only is None or only.node is None else ()),
        *(trouble for task in newest for trouble in _of_task(state, service, task, scheduler, wait)),
    ]
    nodes = sorted(state.nodes.values(), key=lambda node: node.name)
    slot = 0 if only is None else only.slot
    fits = [_fit(state, scheduler, service, version.version, node, slot, now) for node in nodes]
    return Explanation(what, name, count.wanted, running, tuple(troubles), tuple(fits))


def _of_service(
    state: ClusterState, service: ServiceState, head: StackRevision, spec: ServiceSpec
) -> Iterator[Trouble]:
    name = service.full_name
    if service.quarantined_until is not None:
        yield Trouble(name, service.problem, "this is a bug: please report it; it is tried again by itself")
    if service.update is not None and service.update.state.paused:
        change = f"`stack update {name} --continue` goes on with it, `stack rollback {name}` goes back"
        yield Trouble(name, f"its update is paused: {service.update.message}", change)
    for port, why, change in ports.troubles(state, service.uid, spec):
        yield Trouble(f"port {port.published or port.target}/{port.protocol}", why, change)
    allocator = AddressAllocator(state)
    try:
        for network, _ in attachments(state, head, spec):
            allocator.endpoint(network, service.uid)
    except NoRoom as problem:
        yield Trouble(name, str(problem), problem.remedy)


def _of_task(
    state: ClusterState, of: ServiceState, task: Task, scheduler: Scheduler, wait: Wait | None
) -> Iterator[Trouble]:
    service = of.full_name
    about = f"{service}.{task.slot}"
    status = state.statuses.get(task.id)
    reported = state.reported_state(task)
    node = state.nodes.get(task.node or "")
    where = "" if node is None else f" on {node.name}"
    if task.node is None:
        change = _change_for(state, of, task, scheduler, wait)
        yield Trouble(about, task.reason or "it waits to be placed", change)
    elif status is not None and reported in _ENDED_BADLY:
        change = failures.change_for(status, service, "" if node is None else node.name)
        yield Trouble(about, f"{reported}{where}{_how(task, status)}", change)
    elif state.is_lost(task.node):
        yield Trouble(about, task.reason or f"its node{where} is down", "bring the node back")
    elif reported is not TaskState.RUNNING and not reported.terminal:
        told = state.message_of(task)
        change = failures.known_change(told, "the node" if node is None else node.name)
        yield Trouble(about, f"it is {reported}{where}" + (f": {told}" if told else ""), change)
    elif task.reason:
        yield Trouble(about, task.reason)


def _how(task: Task, status: TaskStatus) -> str:
    """Tell how a task ended."""
    told = f"exited with code {status.exit_code}" in status.message
    code = "" if status.exit_code is None or told else f" with exit code {status.exit_code}"
    words = f"; {IT_SAID}{' | '.join(status.log)}" if status.log else ""
    return f"{code}: {status.message or task.reason or 'it failed'}{words}"


def _change_for(state: ClusterState, service: ServiceState, task: Task, scheduler: Scheduler, wait: Wait | None) -> str:
    """Tell what would let a task go that waits; the nodes' own list says it for each of them."""
    if task.failures and task.not_before:
        before = [one for one in state.all_of(task.service_uid) if one.slot == task.slot and one.n < task.n]
        last = max(before, key=lambda one: one.n, default=None)
        status = None if last is None else state.statuses.get(last.id)
        if last is not None and status is not None and status.state in _ENDED_BADLY:
            node = state.nodes.get(last.node or "")
            return failures.change_for(status, service.full_name, "the node" if node is None else node.name)
    if wait is not None and task.reason == wait.reason:
        head = state.head(service.stack_uid)
        if head is None or wait.service not in head.services:
            return f"add service {wait.service} to the file, or set `required: false` in depends_on"
        return f"`stack explain {service.stack}_{wait.service}` tells what that one waits for"
    if task.reason != scheduler.no_room(task.slot):
        return ""
    return "any of the changes below would make a node fit"


def _fit(
    state: ClusterState, scheduler: Scheduler, service: ServiceState, version: int, node: Node, slot: int, now: float
) -> NodeFit:
    here = [task for task in state.all_of(service.uid) if task.node == node.id]
    own = sum(map(state.is_live, here))
    reasons = tuple(Trouble(node.name, test.say([node]), test.remedy(node)) for test in scheduler.refusals(node, slot))
    well = _running_well(state, service, now)
    fresh = [task for task in here if task.version == version and task.slot not in well and not state.is_lost(node.id)]
    return NodeFit(node.name, own, not reasons, reasons, tuple(_failed_on(state, service.full_name, node, fresh, now)))


def _running_well(state: ClusterState, service: ServiceState, now: float) -> set[int]:
    """Give the slots whose task has run for a while: how those before it failed is over."""
    newest = (slot.tasks[0] for slot in slots_in(state, service.uid))
    return {one.slot for one in newest if state.is_ready(one) and now - state.statuses[one.id].at >= RAN_WELL}


def _failed_on(state: ClusterState, service: str, node: Node, here: list[Task], now: float) -> Iterator[Trouble]:
    """Tell how tasks failed on a node lately, each way once with how often: what they met there others may meet."""
    told: dict[str, tuple[int, Trouble]] = {}
    for task in sorted(here, key=lambda task: -task.n):
        status = state.statuses.get(task.id)
        if status is None or status.state not in _ENDED_BADLY or now - status.at >= LATELY:
            continue
        why = f"{status.state}{_how(task, status)}"
        change = failures.change_for(status, service, node.name)
        times, trouble = told.get(why, (0, Trouble(f"{service}.{task.slot}", why, change)))
        told[why] = (times + 1, trouble)
    for times, trouble in told.values():
        yield replace(trouble, why=f"{trouble.why} ({times} times)") if times > 1 else trouble
