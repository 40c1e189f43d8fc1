"""Whether everything is as people want it, or known not to be possible: where each history must end."""

from __future__ import annotations

from cluster.model.node import NodeStatus
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackRevision
from cluster.model.task import Desired, Task
from manager.decide import dependencies, jobs
from manager.decide.moves import misfit
from manager.decide.restarts import Rests, after_end, policy_for
from manager.decide.slots import ServicePicture, Slot, slots_of
from manager.decide.tally import tally
from manager.picture import ClusterState


def unsettled(truth: ClusterState, running: set[str], now: float) -> str:
    """Tell what is not settled, "" when all is; `running` are the tasks with a sandbox on a host."""
    for node, verdict in truth.node_states.items():
        if verdict.status is not NodeStatus.READY:
            return f"{node} is {verdict.status}"
    for stack in truth.stacks.values():
        if stack.removing:
            networks = truth.networks_of.get(stack.uid, ())
            if not any(truth.occupied.get(network) for network in networks):
                return f"stack {stack.name} is there"
            continue  # another stack has addresses in its networks
        head = truth.head(stack.uid)
        assert head is not None
        if missing := {v.uid for v in head.services.values()} - set(truth.services):
            return f"services {missing} are missing"
    for service in truth.services.values():
        if why := _service(truth, service.uid, now):
            return f"{service.full_name}: {why}"
    wanted = {t.id for t in truth.tasks.values() if truth.is_ready(t)}
    if running != wanted:
        return f"{running - wanted} run, and {wanted - running} do not"
    for task in truth.tasks.values():
        if task.desired is Desired.REMOVE:
            return f"{task.id} is still there"
    if truth.volumes_leaving:
        return f"volumes are still there: {truth.volumes_leaving}"
    return ""


def _service(truth: ClusterState, uid: str, now: float) -> str:
    service = truth.services[uid]
    wanted, head = truth.wanted(service), truth.head(service.stack_uid)
    if service.quarantined_until is not None:
        return service.problem
    if wanted is None or head is None:
        return "is still there"
    spec, version = wanted
    slots = slots_of(truth.all_of(uid))
    wait = dependencies.wait_of(truth, head, spec, version, now)
    picture = ServicePicture(truth, service, head, spec, version.version, now, slots)
    if spec.mode.is_job:
        return _job(picture, held=wait is not None)
    occupied = [slot for slot in slots if slot.occupant is not None]
    expected = spec.replicas
    if spec.mode.is_global:
        expected = tally(truth, head, spec, version, now).wanted
    if len(occupied) != expected:
        return f"{len(occupied)} of {expected} slots"
    for slot in occupied:
        outdated = slot.tasks[0].version != version.version
        if outdated and wait is None and not _is_stuck(truth, slots) and not _is_paused(picture):
            return f"slot {slot.number} runs version {slot.tasks[0].version}, not {version.version}"
        if why := _task(truth, head, spec, slot.tasks[0], now, held=wait is not None):
            return f"slot {slot.number} {why}"
        node = truth.nodes.get(slot.tasks[0].node or "")
        if node is not None and not slot.tasks[0].reason and not outdated and (why := misfit(truth, spec, node)):
            return f"slot {slot.number} is on {node.name}, which {why}"
    return ""


def _task(truth: ClusterState, head: StackRevision, spec: ServiceSpec, task: Task, now: float, *, held: bool) -> str:
    status = truth.statuses.get(task.id)
    if truth.is_ready(task):
        return ""
    if status is not None and status.state.terminal:
        after = after_end(task, status, policy_for(head.spec, spec), now)
        return "" if isinstance(after, Rests) else "is not restarted"
    if task.node is None and held and task.reason.startswith(("waits for service", "waits in vain")):
        return ""
    if task.node is not None or not task.reason or task.reason.startswith("waits"):
        return f"is {truth.state_of(task)}: {task.reason}"
    return ""


def _job(picture: ServicePicture, *, held: bool) -> str:
    """A job ends; what does not run of it waits for something that does not come, and says for what."""
    waiting = 0
    runs = {slot.number: jobs.run_of(picture, slot) for slot in picture.slots}
    for slot in picture.slots:
        if runs[slot.number] is jobs.Run.UNDER_WAY:
            task = slot.tasks[0]
            if picture.state.is_ready(task):
                return f"slot {slot.number} has yet to end"
            if why := _task(picture.state, picture.head, picture.spec, task, picture.now, held=held):
                return f"slot {slot.number} {why}"
            waiting += 1
    over = sum(run in (jobs.Run.DONE, jobs.Run.FAILED) for run in runs.values())
    count = tally(picture.state, picture.head, picture.spec, picture.head.services[picture.service.name], picture.now)
    full = 0 < (picture.spec.max_concurrent or 0) <= waiting
    return "" if full or over + waiting >= count.wanted else f"{over} done, {waiting} wait, of {count.wanted}"


def _is_stuck(truth: ClusterState, slots: tuple[Slot, ...]) -> bool:
    """An update that waits for a slot which can never run goes no further: that is what it is to do."""
    newest = [slot.tasks[0] for slot in slots]
    return any(not truth.is_ready(task) and task.desired is Desired.RUNNING for task in newest)


def _is_paused(picture: ServicePicture) -> bool:
    """An update of which too many new tasks failed waits for people."""
    update = picture.service.update
    return update is not None and update.state.paused
