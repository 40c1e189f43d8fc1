"""What a service waits for before its tasks start (depends_on), wherever in the cluster that runs.

Before the first task of a version starts, each service that it depends on must be whole: all its tasks of its own
newest version as the condition asks. So a deploy that changes both changes the one depended on first. Once the service
runs at its version, it takes only one such task of whatever version for a replacement or one more replica to start: a
service that lost a node is not held back by another that lost it too, but does not start before it either. What runs is
never stopped for the sake of what it depends on; `restart: true` is a matter of versions (`revisions`). With
`required: false`, what the stack does not have, or what has failed, is not waited for, as in Compose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.model.service import Dependency, ServiceSpec, ServiceState
from cluster.model.stack import ServiceVersion, StackRevision, StackSpec
from cluster.model.task import Task, TaskState
from manager.decide.tally import Tally, tally
from manager.picture import ClusterState


@dataclass(frozen=True, slots=True)
class Wait:
    """`reason` tells people what is waited for, which is in `service`; `in_vain` that it has failed for good."""

    reason: str
    service: str
    in_vain: bool = False


def wait_of(
    state: ClusterState, head: StackRevision, spec: ServiceSpec, version: ServiceVersion, now: float
) -> Wait | None:
    """Tell what a service waits for, None when its tasks may start."""
    if not spec.depends_on:
        return None
    tasks = state.all_of(version.uid)
    fresh = not any(task.version == version.version and task.node is not None for task in tasks)
    for name, dependency in sorted(spec.depends_on.items()):
        if name not in head.services:
            if dependency.required:
                return Wait(f"waits for service {name}, which the stack does not have", name)
            continue
        wait = _wait_for(state, head, name, dependency, fresh, now)
        if wait is not None:
            return wait
    return None


def _wait_for(
    state: ClusterState, head: StackRevision, name: str, dependency: Dependency, fresh: bool, now: float
) -> Wait | None:
    count = tally(state, head, head.spec.services[name], head.services[name], now)
    if dependency.condition == "service_completed_successfully":
        met, verb = count.completed, "completed"
    else:
        test, verb = (_is_healthy, "healthy") if dependency.condition == "service_healthy" else (_is_started, "started")
        met = sum(test(state, task) for task in count.current)
        if not fresh and any(test(state, task) for task in state.all_of(head.services[name].uid)):
            return None
    if met >= count.wanted and head.services[name].uid in state.services:
        return None
    if not dependency.required and (count.failed or any(task.failures for task in count.current)):
        return None
    if _is_over(count):
        return Wait(f"waits in vain for service {name}: {count.failed[0]}", name, in_vain=True)
    return Wait(f"waits for service {name}: {met} of {count.wanted} {verb}", name)


def _is_over(count: Tally) -> bool:
    return bool(count.failed) and count.done + len(count.failed) >= count.wanted


def _is_started(state: ClusterState, task: Task) -> bool:
    return state.state_of(task) in (TaskState.STARTING, TaskState.RUNNING, TaskState.COMPLETE)


def _is_healthy(state: ClusterState, task: Task) -> bool:
    return state.is_ready(task)


def circle(stack: StackSpec) -> list[str]:
    """Give services that wait for each other in a circle, in that order; [] when there are none."""
    over: set[str] = set()
    for start in sorted(stack.services):
        path = [start]
        while path:
            ahead = sorted(stack.services[path[-1]].depends_on.keys() & (stack.services.keys() - over))
            if not ahead:
                over.add(path.pop())
            elif ahead[0] in path:
                return [*path[path.index(ahead[0]) :], ahead[0]]
            else:
                path.append(ahead[0])
    return []


def dependents(state: ClusterState, service: ServiceState) -> Iterator[str]:
    """Name the services, by uid, that wait for one that their stack has."""
    head = _head_with(state, service)
    if head is not None:
        waiting = (name for name, spec in head.spec.services.items() if service.name in spec.depends_on)
        yield from (head.services[name].uid for name in waiting)


def depended_on(state: ClusterState, service: ServiceState) -> Iterator[str]:
    """Name the services, by uid, that one waits for."""
    head = _head_with(state, service)
    if head is not None:
        on = head.spec.services[service.name].depends_on
        yield from (head.services[name].uid for name in on if name in head.services)


def _head_with(state: ClusterState, service: ServiceState) -> StackRevision | None:
    """Give the newest revision of a service's stack if the service is in it, and not another one of its name."""
    head = state.head(service.stack_uid)
    version = None if head is None else head.services.get(service.name)
    return head if version is not None and version.uid == service.uid else None


def is_still_used(state: ClusterState, service: ServiceState) -> bool:
    """Tell whether something still runs of the services that depend on one whose stack is removed."""
    users = (task for uid in dependents(state, service) for task in state.all_of(uid))
    return any(task.node is not None and not state.has_ended(task) for task in users)
