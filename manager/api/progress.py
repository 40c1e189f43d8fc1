"""How far a stack is from what its newest revision says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from cluster.model.node import Availability, NodeStatus
from cluster.model.service import FailureAction, ServiceSpec
from cluster.model.stack import ServiceVersion, Stack, StackRevision
from cluster.model.task import Desired, Task, TaskState
from cluster.model.update import UpdateState, UpdateStatus
from cluster.views import Progress, ServiceProgress
from manager.api.show import last_words, problem
from manager.api.volumes import removal_trouble
from manager.decide import dependencies
from manager.decide.slots import slots_of
from manager.decide.tally import tally
from manager.picture import ClusterState


def progress(state: ClusterState, name: str, uid: str, n: int, now: float, only: Collection[str] = ()) -> Progress:
    """Tell where a revision of a stack stands; a stack that is not there any more has been removed.

    Of a stack that stays, `only` some services may count.
    """
    stack = state.stacks.get(name)
    if stack is None or stack.uid != uid:
        return Progress(name, n, removing=True, done=True)
    if stack.removing:
        return Progress(
            name, n, True, tuple(_leaving(state, stack, set())), waits=tuple(_volumes_leaving(state, stack))
        )
    if stack.head > n:
        why = f": {reason}" if (reason := state.revisions[uid][stack.head].reason) else ""
        return Progress(name, n, False, failed=f"revision {n} was replaced by revision {stack.head}{why}")
    head = state.revisions[uid][stack.head]
    services, stuck = [], []
    remedies: list[str] = []
    waits = False
    for service, spec in head.spec.services.items():
        if only and service not in only:
            continue
        one, why = _service(state, head, spec, head.services[service], now)
        services.append(one)
        if why:
            stuck.append(f"{service}: {why}")
            remedies += _remedies(state, one, f"{name}_{service}", head.services[service])
        else:
            waits |= one.done != one.wanted or one.leaving > 0 or _may_go_back(state, head, spec)
    wanted = {version.uid for version in head.services.values()}
    leaving = [one for one in _leaving(state, stack, wanted | state.oneoffs.keys()) if not only or one.service in only]
    return Progress(
        stack=name,
        revision=n,
        removing=False,
        services=tuple(sorted([*services, *leaving], key=lambda one: one.service)),
        done=not (stuck or waits or any(one.leaving for one in leaving)),
        failed="" if waits else "; ".join(stuck),
        remedies=() if waits else tuple(remedies),
    )


def _remedies(state: ClusterState, one: ServiceProgress, name: str, version: ServiceVersion) -> tuple[str, ...]:
    """Tell what to type about a service that comes no further."""
    update = _update(state, version)
    if update is None or not update.state.paused or one.done >= one.wanted:
        return ()
    return (f"`stack update {name} --continue` goes on with the update.", f"`stack rollback {name}` goes back.")


def _service(
    state: ClusterState, head: StackRevision, spec: ServiceSpec, version: ServiceVersion, now: float
) -> tuple[ServiceProgress, str]:
    """Tell of one service, and why it comes no further ("" while it may)."""
    tasks = state.all_of(version.uid)
    count = tally(state, head, spec, version, now)
    counted = {task.id for task in count.current}
    others = [t for t in tasks if t.id not in counted and not _stays(state, spec, t) and _lingers(state, t)]
    whole = count.done >= count.wanted
    occupants = [slot.occupant for slot in slots_of(tasks) if slot.occupant is not None]
    one = ServiceProgress(
        service=spec.name,
        wanted=count.wanted,
        done=count.done,
        states=dict(Counter(str(state.state_of(t)) for t in occupants if t.id in counted or _stays(state, spec, t))),
        failures=sum(task.version == version.version and _failed(state, task) for task in tasks),
        message="" if whole else problem(state, version.uid),
        leaving=len(others),
        mode=spec.mode,
        log=() if whole else last_words(state, version.uid),
        others=dict(Counter(_other(state, task, version) for task in others)),
    )
    if count.failed and count.done + len(count.failed) >= count.wanted:
        return one, count.failed[0]
    update = _update(state, version)
    if update is not None and update.state.paused and not whole:
        return one, f"its update is paused: {update.message}"
    wait = None if whole else dependencies.wait_of(state, head, spec, version, now)
    return one, wait.reason if wait is not None and wait.in_vain else ""


def _update(state: ClusterState, version: ServiceVersion) -> UpdateStatus | None:
    """Give the update that leads to a version."""
    service = state.services.get(version.uid)
    update = None if service is None else service.update
    return update if update is not None and update.version == version.version else None


def _may_go_back(state: ClusterState, head: StackRevision, spec: ServiceSpec) -> bool:
    """Tell whether what runs already may yet be undone: its new tasks are watched, and that is what a failure does."""
    update = _update(state, head.services[spec.name])
    if update is None or update.state is not UpdateState.UPDATING:
        return False
    began = state.revisions[head.stack_uid].get(update.revision)
    atomic = began is not None and began.atomic
    return atomic or spec.update.failure_action is FailureAction.ROLLBACK


def _leaving(state: ClusterState, stack: Stack, kept: set[str]) -> Iterator[ServiceProgress]:
    """Tell of the services that are on their way out."""
    for uid in sorted(state.services_of.get(stack.uid, set()) - kept):
        tasks = [state.tasks[task] for task in state.tasks_of.get(uid, ())]
        left = sum(_lingers(state, task) for task in tasks)
        yield ServiceProgress(
            service=state.services[uid].name,
            wanted=len(tasks),
            done=len(tasks) - left,
            states=dict(Counter(str(state.reported_state(task)) for task in tasks)),
            leaving=left,
        )


def _volumes_leaving(state: ClusterState, stack: Stack) -> Iterator[str]:
    """Tell of the volumes that a removal waits for, with what their node says of them."""
    for name, volume in sorted(state.volumes.items()):
        verdict = state.node_states.get(volume.node)
        down = verdict is not None and verdict.status is NodeStatus.DOWN
        if volume.removing and volume.stack_uid == stack.uid and volume.node in state.nodes and not down:
            why = removal_trouble(state, volume) or "is being removed"
            yield f"volume {name} on node {state.nodes[volume.node].name} {why}"


def _stays(state: ClusterState, spec: ServiceSpec, task: Task) -> bool:
    """Tell whether a task goes on as it is: a global service's on a paused node does, whatever its version."""
    node = state.nodes.get(task.node or "")
    paused = node is not None and node.availability is Availability.PAUSE
    return paused and spec.mode.is_global and task.desired is Desired.RUNNING and task.leaving_at is None


def _lingers(state: ClusterState, task: Task) -> bool:
    """Tell whether a task has yet to end where somebody can see to it: nobody waits for a node that is down."""
    if state.has_ended(task):
        return False
    verdict = state.node_states.get(task.node or "")
    return verdict is None or verdict.status is not NodeStatus.DOWN


def _other(state: ClusterState, task: Task, version: ServiceVersion) -> str:
    """Tell in a word or two what a task is that has yet to end."""
    ends = task.desired is not Desired.RUNNING or task.leaving_at is not None
    word = "ending" if ends else str(state.state_of(task))
    return f"old {word}" if task.version != version.version else word


def _failed(state: ClusterState, task: Task) -> bool:
    return state.reported_state(task) in (TaskState.FAILED, TaskState.REJECTED)
