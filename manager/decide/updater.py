"""Which slots go over to a new version now: stop-first, one slot that serves at a time.

Slots that serve nobody are replaced at once. The next slot that serves has its turn when the last one is ready again,
so that a version which does not come up stops its own roll-out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.model.task import Task, TaskState
from manager.decide.slots import Slot
from manager.picture import ClusterState

PARALLELISM = 1


def next_batch(state: ClusterState, slots: Sequence[Slot], is_outdated: Callable[[Task], bool]) -> list[Slot]:
    """Choose among occupied slots those whose task is to be replaced now."""
    stale = [slot for slot in slots if is_outdated(slot.tasks[0])]
    idle = [slot for slot in stale if not state.is_ready(slot.tasks[0])]
    if idle or not stale:
        return idle
    in_progress = [slot for slot in slots if _in_progress(state, slot, is_outdated)]
    return stale[: max(0, PARALLELISM - len(in_progress))]


def _in_progress(state: ClusterState, slot: Slot, is_outdated: Callable[[Task], bool]) -> bool:
    newest, *before = slot.tasks
    if is_outdated(newest) or state.is_ready(newest) or state.reported_state(newest) is TaskState.COMPLETE:
        return False
    return any(task.version != newest.version for task in before)
