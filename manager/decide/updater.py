"""Which slots get a new task in place of one that serves: for a new version, or because the task is to move.

The orchestrator finds out which slots are due and why, asks `turn` which of them have their turn now, and carries that
out; everything about update_config belongs in here. `turn` is asked for the slots of services (not of jobs) each time
the service is decided, also when nothing is due, so that an update can be told to be over. A service that waits for
another one (depends_on) has no updates due meanwhile, only moves.

- In `stop_first` the newest task of the slot is asked to end and its successor waits until it has ended.
- In `start_first` the successor is made beside the newest task, which stays wanted; the slot then has two wanted tasks
  until `over` names the older one.
- `over` are older tasks of slots, still wanted, that are to end now.
- `service` is the record with the update's progress in it: what `turn` got, or a changed copy. The orchestrator writes
  it with whatever else changes in it.
- `wake_at` is the instant at which the answer changes by itself.

Stop-first, one slot that serves at a time: the next slot has its turn when the last one is ready again, so that a
version which does not come up stops its own roll-out. Slots that serve nobody are replaced at once, and so are moves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.errors import Inconsistent
from cluster.model.service import ServiceState
from cluster.model.task import Desired, Task, TaskState
from manager.decide.slots import ServicePicture, Slot

PARALLELISM = 1


class Due(NamedTuple):
    """Why the newest task of a slot is to be replaced: for an update, or (not `update`) to move to another node."""

    update: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What is replaced now, by slot number."""

    service: ServiceState
    stop_first: frozenset[int] = frozenset()
    start_first: frozenset[int] = frozenset()
    over: tuple[Task, ...] = ()
    wake_at: float | None = None


def turn(picture: ServicePicture, slots: Sequence[Slot], due: Mapping[int, Due]) -> Turn:
    """Choose among occupied slots those whose task is replaced now; `due` has those that should be, by number."""
    for slot in slots:
        if any(task.desired is Desired.RUNNING for task in slot.tasks[1:]):
            raise Inconsistent(f"two tasks of {picture.service.full_name}.{slot.number} are wanted at once")
    moves = {number for number, why in due.items() if not why.update}
    stale = [slot for slot in slots if slot.number in due and due[slot.number].update]
    idle = [slot for slot in stale if not picture.state.is_ready(slot.tasks[0])]
    chosen = idle
    if stale and not idle:
        busy = sum(slot.number not in due and _in_progress(picture, slot) for slot in slots)
        chosen = stale[: max(0, PARALLELISM - busy)]
    return Turn(picture.service, stop_first=frozenset(moves | {slot.number for slot in chosen}))


def _in_progress(picture: ServicePicture, slot: Slot) -> bool:
    newest, *before = slot.tasks
    if picture.state.is_ready(newest) or picture.state.reported_state(newest) is TaskState.COMPLETE:
        return False
    return any(task.version != newest.version for task in before)


def let_go(picture: ServicePicture, task: Task, desired: Desired, reason: str) -> Task:
    """Give the record of a task that has a node and is asked to end: every orderly end goes through here."""
    return dataclasses.replace(task, desired=desired, reason=reason)
