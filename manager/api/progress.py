"""How far a stack is from what its newest revision says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cluster.model.node import NodeStatus
from cluster.model.service import ServiceSpec
from cluster.model.stack import ServiceVersion, Stack
from cluster.model.task import Task, TaskState
from cluster.views import Progress, ServiceProgress
from manager.api.show import problem
from manager.decide.restarts import Rests, after_end
from manager.decide.slots import slots_of
from manager.picture import ClusterState


def progress(state: ClusterState, name: str, uid: str, n: int, now: float) -> Progress:
    """Tell where a revision of a stack stands; a stack that is not there any more has been removed."""
    stack = state.stacks.get(name)
    if stack is None or stack.uid != uid:
        return Progress(name, n, removing=True, done=True)
    if stack.removing:
        return Progress(name, n, True, tuple(_leaving(state, stack, set())))
    if stack.head > n:
        return Progress(name, n, False, failed=f"revision {n} was replaced by revision {stack.head}")
    head = state.revisions[uid][stack.head]
    services, stuck = [], []
    waits = False
    for service, spec in head.spec.services.items():
        one, why = _service(state, spec, head.services[service], now)
        services.append(one)
        if why:
            stuck.append(f"{service}: {why}")
        else:
            waits |= one.done != one.wanted or one.leaving > 0
    leaving = list(_leaving(state, stack, {version.uid for version in head.services.values()}))
    return Progress(
        stack=name,
        revision=n,
        removing=False,
        services=tuple(sorted([*services, *leaving], key=lambda one: one.service)),
        done=not (stuck or waits or any(one.leaving for one in leaving)),
        failed="" if waits else "; ".join(stuck),
    )


def _service(
    state: ClusterState, spec: ServiceSpec, version: ServiceVersion, now: float
) -> tuple[ServiceProgress, str]:
    """Tell of one service, and why it comes no further ("" while it may)."""
    tasks = [state.tasks[task] for task in state.tasks_of.get(version.uid, ())]
    occupants = [slot.occupant for slot in slots_of(tasks) if slot.occupant is not None]
    current = [task for task in occupants if task.version == version.version]
    counted = {task.id for task in current}
    done, ended = 0, []
    for task in current:
        status = state.statuses.get(task.id)
        if state.is_ready(task):
            done += 1
        elif status is not None and status.state.terminal:
            rests = after_end(task, status, spec.restart, now)
            if isinstance(rests, Rests):
                done += not rests.reason
                if rests.reason:
                    ended.append(f"{status.message or f'exit code {status.exit_code}'}; {rests.reason}")
    one = ServiceProgress(
        service=spec.name,
        wanted=spec.replicas,
        done=done,
        states=dict(Counter(str(state.state_of(task)) for task in occupants)),
        failures=sum(task.version == version.version and _failed(state, task) for task in tasks),
        message="" if done >= spec.replicas else problem(state, version.uid),
        leaving=sum(_lingers(state, task) for task in tasks if task.id not in counted),
    )
    return one, ended[0] if ended and done + len(ended) >= spec.replicas else ""


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


def _lingers(state: ClusterState, task: Task) -> bool:
    """Tell whether a task has yet to end where somebody can see to it: nobody waits for a node that is down."""
    if state.has_ended(task):
        return False
    verdict = state.node_states.get(task.node or "")
    return verdict is None or verdict.status is not NodeStatus.DOWN


def _failed(state: ClusterState, task: Task) -> bool:
    return state.reported_state(task) in (TaskState.FAILED, TaskState.REJECTED)
