"""How far a service is: how many tasks it is to have, and how many of those are as they should be.

Views, a deploy that is followed and services that depend on this one all count by this.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.model.service import ServiceMode, ServiceSpec
from cluster.model.stack import ServiceVersion, StackRevision
from cluster.model.task import Task
from manager.decide import global_mode
from manager.decide.restarts import Rests, after_end, policy_for
from manager.decide.slots import slots_in
from manager.picture import ClusterState


@dataclass(frozen=True, slots=True)
class Tally:
    """`wanted` are the slots that count, by the task of the newest version that each has, if it has one.

    Of these tasks some are `ready`, some have `completed` for good, and the others that ended are in `failed`, with
    what is said of that, once they are not tried again.
    """

    wanted: int
    current: tuple[Task, ...]
    ready: int
    completed: int
    failed: tuple[str, ...]

    @property
    def done(self) -> int:
        return self.ready + self.completed


def tally(state: ClusterState, head: StackRevision, spec: ServiceSpec, version: ServiceVersion, now: float) -> Tally:
    """Count the tasks of a service that its stack wants."""
    occupants = [slot.occupant for slot in slots_in(state, version.uid) if slot.occupant is not None]
    current = [task for task in occupants if task.version == version.version]
    wanted = spec.replicas
    if spec.mode.is_global:
        nodes = {node.id for node in global_mode.fitting(state, global_mode.suitability(state, head, spec))}
        current = [task for task in current if global_mode.node_of(task) in nodes]
        wanted = len(nodes)
    if spec.stopped:
        wanted, current = 0, []
    policy = policy_for(head.spec, spec)
    ready = completed = 0
    failed = []
    for task in current:
        status = state.statuses.get(task.id)
        if state.is_ready(task):
            ready += not spec.mode.is_job
        elif status is not None and status.state.terminal:
            after = after_end(task, status, policy, now)
            if isinstance(after, Rests) and not after.reason:
                completed += 1
            elif isinstance(after, Rests):
                failed.append(f"{status.message or f'exit code {status.exit_code}'}; {after.reason}")
    if spec.mode is ServiceMode.REPLICATED_JOB:
        completed = min(completed, wanted)
    return Tally(wanted, tuple(current), ready, completed, tuple(failed))
