"""Jobs: services whose tasks do their work and end.

A slot is done when its task has completed at the job's version; another version is another run of the job, for which
every slot gets a new task. What was done stays done, so that deciding again changes nothing, and more completions are
only the missing ones. A slot that failed for good (restart_policy) is not replaced by another one: the job has failed
in part. At most `max_concurrent` tasks are under way at a time, those that wait for their restart among them; what has
yet to end of an earlier run takes the place of a new one too.
"""

from __future__ import annotations

from enum import Enum, auto

from cluster.model.task import Desired, Task, TaskState
from manager.decide import global_mode
from manager.decide.restarts import Rests, after_end, policy_for
from manager.decide.slots import Act, Fate, Opening, ServicePicture, Slot, Wanted
from manager.picture import ClusterState


class Run(Enum):
    """How far a slot is with the job's newest run."""

    GONE = auto()  # it was given up
    DUE = auto()  # it has yet to begin: what is in it is of an earlier run
    UNDER_WAY = auto()
    DONE = auto()
    FAILED = auto()  # and it is not tried again


def run_of(picture: ServicePicture, slot: Slot) -> Run:
    task = slot.tasks[0]
    if task.desired is Desired.REMOVE:
        return Run.GONE
    if task.desired is Desired.SHUTDOWN or task.version != picture.version:
        return Run.DUE
    status = picture.state.statuses.get(task.id)
    if status is None or not status.state.terminal:
        return Run.UNDER_WAY
    if status.state is TaskState.COMPLETE:
        return Run.DONE
    after = after_end(task, status, policy_for(picture.head.spec, picture.spec), picture.now)
    return Run.FAILED if isinstance(after, Rests) else Run.UNDER_WAY


def wanted_replicated(picture: ServicePicture) -> Wanted:
    """Have as many slots done as the job has replicas."""
    runs = {slot.number: run_of(picture, slot) for slot in picture.slots}
    over = sum(run in (Run.DONE, Run.FAILED) for run in runs.values())
    left = max(0, picture.spec.replicas - over)
    under_way = [slot for slot in picture.slots if runs[slot.number] is Run.UNDER_WAY]
    under_way.sort(key=lambda slot: (-picture.state.reported_state(slot.tasks[0]).rank, slot.number))
    kept, surplus = under_way[:left], under_way[left:]
    waiting = [slot for slot in picture.slots if runs[slot.number] is Run.DUE]
    waiting, spare = waiting[: left - len(kept)], waiting[left - len(kept) :]
    fates = {slot.number: Fate(Act.SETTLE) for slot in picture.slots}
    fates |= {slot.number: Fate(Act.GIVE_UP, "scaled down") for slot in [*surplus, *spare]}
    fates |= {slot.number: Fate(Act.GIVE_UP) for slot in picture.slots if runs[slot.number] is Run.GONE}
    fates |= {slot.number: Fate(Act.REST, _again(picture)) for slot in waiting}
    room = _room(picture, kept)
    renewed = waiting[:room]
    fates |= {slot.number: Fate(Act.RENEW, _again(picture)) for slot in renewed}
    missing = min(left - len(kept) - len(waiting), room - len(renewed))
    return Wanted(fates, tuple(map(Opening, _numbers(picture, missing))))


def wanted_global(picture: ServicePicture) -> Wanted:
    """Have the job done once on each node that it is for."""
    state, suits = picture.state, global_mode.suitability(picture.state, picture.head, picture.spec)
    fates: dict[int, Fate] = {}
    served: set[str] = set()
    kept: list[Slot] = []
    waiting: list[Slot] = []
    for slot in picture.slots:
        node, run = global_mode.node_of(slot.tasks[0]), run_of(picture, slot)
        reason = global_mode.misfit(state, slot, suits)
        fates[slot.number] = Fate(Act.SETTLE)
        if run is Run.GONE or node in served or node not in state.nodes:
            fates[slot.number] = Fate(Act.GIVE_UP, reason)
            continue
        if run is Run.UNDER_WAY and reason:
            fates[slot.number] = Fate(Act.GIVE_UP, reason)
            continue
        served.add(node)
        if run is Run.UNDER_WAY:
            kept.append(slot)
        elif run is Run.DUE:
            fates[slot.number] = Fate(Act.REST, _again(picture))
            if not reason and not state.is_lost(node):
                waiting.append(slot)
    room = _room(picture, kept)
    fates |= {slot.number: Fate(Act.RENEW, _again(picture)) for slot in waiting[:room]}
    room = max(0, room - len(waiting))
    missing = [node for node in global_mode.fitting(state, suits) if node.id not in served]
    return Wanted(fates, global_mode.openings(picture, missing[:room]))


def _again(picture: ServicePicture) -> str:
    return f"the job runs again as version {picture.version}"


def _room(picture: ServicePicture, kept: list[Slot]) -> int:
    """Tell how many more tasks may be under way."""
    most = picture.spec.max_concurrent
    if not most:
        return len(picture.state.nodes) + picture.spec.replicas
    numbers = {slot.number for slot in kept}
    others = (task for slot in picture.slots if slot.number not in numbers for task in slot.tasks)
    return max(0, most - len(kept) - sum(_still_runs(picture.state, task) for task in others))


def _still_runs(state: ClusterState, task: Task) -> bool:
    return task.node is not None and not state.has_ended(task) and not state.is_lost(task.node)


def _numbers(picture: ServicePicture, count: int) -> list[int]:
    """Give the lowest numbers of which nothing is left."""
    taken = {slot.number for slot in picture.slots}
    numbers: list[int] = []
    number = 0
    while len(numbers) < count:
        number += 1
        if number not in taken:
            numbers.append(number)
    return numbers
