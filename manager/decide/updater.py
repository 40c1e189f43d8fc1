"""Which slots get a new task in place of one that serves: for a new version, or because the task is to move.

The orchestrator finds out which slots are due and why, asks `turn` which of them have their turn now, and carries that
out; everything about update_config belongs in here. `turn` is asked for the slots of services (not of jobs) each time
the service is decided, also when nothing is due, so that an update can be told to be over. A service that waits for
another one (depends_on) has no updates due meanwhile, only moves.

- In `stop_first` the newest task of the slot is asked to end and its successor waits until it has ended.
- In `start_first` the successor is made beside the newest task, which yields: it serves until its successor is ready.
- `over` are tasks that are to end now, or are on their way out; what that takes is `let_go`'s to say.
- `service` is the record with the update's progress in it (`progress` tells of that): what `turn` got, or a changed
  copy. The orchestrator writes it with whatever else changes in it.
- `undo` goes back to what was before the update: the orchestrator writes it instead of all else.
- `wake_at` is the instant at which the answer changes by itself.

Slots that serve nobody are replaced at once, the others when no more are out of service than update_config allows. A
slot is that until its new task has been ready for `delay`: a version that does not come up stops its own roll-out.
Moves count with updates, so that both together take no more away than was allowed. A task that ends before its
successor starts serves until its node has the new image (`ahead`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.errors import Inconsistent
from cluster.model.service import ServiceState, UpdateConfig
from cluster.model.task import Desired, Task
from cluster.model.update import UpdateStatus
from manager.decide import ahead, handover, progress, rollback
from manager.decide.restarts import Rests, after_end, policy_for
from manager.decide.rollback import Undo
from manager.decide.slots import ServicePicture, Slot
from manager.decide.volumes import local_volumes

SETTLE = 0.3
"""Seconds that a task without a health check must have run to count: what cannot run at all mostly ends sooner.

Asked of the first tasks of a version, until one turn of them has shown that it runs.
"""


class Due(NamedTuple):
    """Why the newest task of a slot is to be replaced: for an update, or (not `update`) to move to another node.

    `at_once` does not wait for its turn.
    """

    update: bool
    reason: str
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """What is replaced now, by slot number."""

    service: ServiceState
    stop_first: frozenset[int] = frozenset()
    start_first: frozenset[int] = frozenset()
    over: tuple[Task, ...] = ()
    undo: Undo | None = None
    wake_at: float | None = None


def turn(picture: ServicePicture, slots: Sequence[Slot], due: Mapping[int, Due]) -> Turn:
    """Choose among occupied slots those whose task is replaced now; `due` has those that should be, by number."""
    _check(picture, slots)
    ended, wakes = over(picture)
    outdated = {number for number, why in due.items() if why.update}
    update = progress.begun(picture, slots, outdated)
    serving = [slot for slot in slots if slot.number in due and picture.state.is_ready(slot.tasks[0])]
    serving = [slot for slot in serving if not due[slot.number].at_once]
    idle = due.keys() - {slot.number for slot in serving}
    config = progress.config_of(picture, update)
    at_work = update is not None and update.state.at_work
    busy, until = _busy(picture, slots, due, config, update) if due or at_work else (set[int](), None)
    first = update is not None and not update.previous
    undone: Undo | str = ""
    if update is not None:
        at = progress.advanced(picture, update, slots, settled=not (outdated or busy or (first and not slots)))
        update = at.update
        wakes += at.wakes
        if at.back and isinstance(undone := rollback.undo(picture, update, at.back), str):
            update = progress.paused(update, f"{at.back}; {undone}", picture.now)
        if update.state.paused:
            serving = [slot for slot in serving if slot.number not in outdated]
            idle -= outdated
    if until is not None:
        wakes.append(until)
    why_not = _stop_first_because(picture)
    if update is not None and update.state.at_work and (config.order == "stop-first" or why_not):
        update, lacking = _awaiting(picture, update, [slot.tasks[0] for slot in serving if slot.number in outdated])
        serving = [slot for slot in serving if slot.tasks[0].id not in lacking]
        wakes += [update.phase_since + ahead.PATIENCE] if lacking else []
    room = len(serving) if config.parallelism == 0 else max(0, config.parallelism - len(busy) - len(idle))
    chosen = idle | {slot.number for slot in serving[:room]}
    beside = set() if config.order == "stop-first" or why_not else chosen - idle
    if update is not None and update.state.at_work and config.order == "start-first" and not update.message:
        update = dataclasses.replace(update, message=why_not)
    return Turn(
        dataclasses.replace(picture.service, update=update),
        stop_first=frozenset(chosen - beside),
        start_first=frozenset(beside),
        over=tuple(ended),
        undo=None if isinstance(undone, str) else undone,
        wake_at=min(wakes, default=None),
    )


def _awaiting(picture: ServicePicture, update: UpdateStatus, tasks: Iterable[Task]) -> tuple[UpdateStatus, set[str]]:
    """Give the record, with word of it, and the tasks that serve on until their nodes have the new image."""
    lacking = []
    if picture.now < update.phase_since + ahead.PATIENCE:
        lacking = [task for task in tasks if ahead.lacks(picture, task)]
    if lacking:
        update = dataclasses.replace(update, message=ahead.said(picture.state, lacking))
    elif update.message.startswith(ahead.AWAITS):
        update = dataclasses.replace(update, message="")
    return update, {task.id for task in lacking}


def _check(picture: ServicePicture, slots: Sequence[Slot]) -> None:
    for slot in slots:
        if len(slot.tasks) == 1:
            continue
        older = [task for task in slot.tasks[1:] if task.desired is Desired.RUNNING]
        if any(not task.yields and task.leaving_at is None for task in older):
            raise Inconsistent(f"two tasks of {picture.service.full_name}.{slot.number} are wanted at once")


def let_go(picture: ServicePicture, task: Task, desired: Desired, reason: str) -> Task:
    """Give the record of a task that has a node and is asked to end: every orderly end goes through here."""
    return handover.let_go(picture.state, task, desired, reason, picture.now, _tasks(picture))


def over(picture: ServicePicture) -> tuple[list[Task], list[float]]:
    """Give the older tasks whose end it is, and until when those that were withdrawn run on."""
    ended: list[Task] = []
    wakes: list[float] = []
    for slot in picture.slots:
        newest, *older = slot.tasks
        yielding = [t for t in older if t.yields and t.desired is Desired.RUNNING and t.leaving_at is None]
        successor = bool(yielding) and picture.state.is_ready(newest)
        ended += [task for task in yielding if successor or not picture.state.is_live(task)]
        for task in handover.leaving(slot.tasks):
            until = handover.wait_of(picture.state, task, picture.now).until
            if until is not None:
                wakes.append(until)
            elif task in older:
                ended.append(task)
    return ended, wakes


def _tasks(picture: ServicePicture) -> Iterable[Task]:
    return (task for slot in picture.slots for task in slot.tasks)


def _busy(
    picture: ServicePicture,
    slots: Sequence[Slot],
    due: Mapping[int, Due],
    config: UpdateConfig,
    update: UpdateStatus | None,
) -> tuple[set[int], float | None]:
    """Name the slots that were replaced and are not back yet, and the next instant at which one is by itself.

    One whose new task failed is not waited for: that so many may fail was allowed. Nor is one that is at rest.
    """
    failed = () if update is None else update.failed
    first = update is not None and not update.previous
    policy = policy_for(picture.head.spec, picture.spec)
    check = picture.spec.container.healthcheck
    new = update is not None and update.state.at_work and (check is None or check.test == ("NONE",))
    new = new and not _has_proven_itself(picture, slots, config)
    busy: set[int] = set()
    wakes: list[float] = []
    for slot in slots:
        newest, *before = slot.tasks
        if slot.number in due or not (before or first):
            continue
        status = picture.state.statuses.get(newest.id)
        if not picture.state.is_ready(newest):
            ended = status is not None and status.state.terminal
            rests = status is not None and ended and isinstance(after_end(newest, status, policy, picture.now), Rests)
            if slot.number not in failed and not rests:
                busy.add(slot.number)
        elif status is not None:
            until = progress.runs_for(status, max(config.delay, SETTLE if new else 0.0), picture.now)
            if until is not None:
                busy.add(slot.number)
                wakes.append(until)
    return busy, min(wakes, default=None)


def _has_proven_itself(picture: ServicePicture, slots: Sequence[Slot], config: UpdateConfig) -> bool:
    """Tell whether as many tasks of the version as are replaced at a time have settled: then it can run."""
    statuses, settled = picture.state.statuses, 0
    for slot in slots:
        task = slot.tasks[0]
        if task.version == picture.version and picture.state.is_ready(task):
            settled += progress.runs_for(statuses[task.id], SETTLE, picture.now) is None
            if settled >= max(1, config.parallelism):
                return True
    return False


def _stop_first_because(picture: ServicePicture) -> str:
    """Tell why new tasks cannot start beside old ones; "" when they can."""
    spec = picture.spec
    if any(port.mode == "host" for port in spec.ports):
        return "stop-first, as only one task of a node can hold a host port"
    if local_volumes(picture.head.spec, spec):
        return "stop-first, as two tasks of a slot must not share a volume"
    return ""
