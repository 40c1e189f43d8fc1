"""The course of an update: its record from its beginning to its end, and what becomes of it when new tasks fail.

All of it is read from what is stored, so that a new leader goes on where the old one was: a task made by the update
counts as failed if it ended before it had run for `monitor` seconds, whoever was watching.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from cluster.model.service import FailureAction, RestartCondition, UpdateConfig
from cluster.model.task import Task, TaskState, TaskStatus
from cluster.model.update import UpdateState, UpdateStatus
from manager.decide.restarts import ending
from manager.decide.slots import ServicePicture, Slot


@dataclass(frozen=True, slots=True)
class Advance:
    """The record as it is now, the reason to go back if that is due, and the instants at which to look again."""

    update: UpdateStatus
    back: str = ""
    wakes: list[float] = field(default_factory=list)


def config_of(picture: ServicePicture, update: UpdateStatus | None) -> UpdateConfig:
    """Give what rules an update: going back has a configuration of its own."""
    back = update is not None and update.state in (UpdateState.ROLLBACK_STARTED, UpdateState.ROLLBACK_PAUSED)
    return picture.spec.rollback if back else picture.spec.update


def begun(picture: ServicePicture, slots: Sequence[Slot], outdated: AbstractSet[int]) -> UpdateStatus | None:
    """Give the record of the update that is due: the one that there is, one taken up again, or a new one."""
    update = picture.service.update
    version = picture.head.services[picture.service.name]
    if update is None and not outdated:
        return _first(picture)
    if update is None or update.version != version.version or (update.state.completed and outdated):
        return UpdateStatus(
            state=UpdateState.ROLLBACK_STARTED if version.rollback else UpdateState.UPDATING,
            version=version.version,
            started_at=picture.now,
            phase_since=picture.now,
            previous=_previous(picture, slots),
            revision=picture.head.n,
            attempt=version.attempt,
            made=picture.service.tasks_made,
            total=len(outdated),
            message=picture.head.reason if version.rollback else "",
        )
    if version.attempt > update.attempt:
        state = UpdateState.ROLLBACK_STARTED if version.rollback else UpdateState.UPDATING
        return replace(
            update,
            state=state if update.state.paused else update.state,
            phase_since=picture.now,
            attempt=version.attempt,
            made=picture.service.tasks_made,
            failed=(),
            message="",
        )
    return update


def advanced(picture: ServicePicture, update: UpdateStatus, slots: Sequence[Slot], *, settled: bool) -> Advance:
    """Take the record on by what has come of the update's tasks; `settled` if there is nothing left to replace."""
    if not update.state.at_work:
        return Advance(update)
    config = config_of(picture, update)
    failures = _failures(picture, update, config)
    update = replace(update, failed=tuple(sorted({*update.failed, *failures})))
    total = max(update.total, 1)
    if len(update.failed) > config.max_failure_ratio * total:
        going_back = update.state is UpdateState.ROLLBACK_STARTED
        why = next(iter(failures.values()), "")
        message = f"{len(update.failed)} of {total} new tasks failed" + (f": {why}" if why else "")
        atomic = not going_back and _is_atomic(picture, update)
        if atomic or (config.failure_action is FailureAction.ROLLBACK and not going_back):
            return Advance(update, back=message)
        if config.failure_action is not FailureAction.CONTINUE:
            return Advance(paused(update, message, picture.now))
        update = replace(update, message=message)
    if not settled:
        return Advance(update)
    if watched := [*_watched_until(picture, update, slots, config)]:
        return Advance(update, wakes=[max(watched)])
    back = update.state is UpdateState.ROLLBACK_STARTED
    state = UpdateState.ROLLBACK_COMPLETED if back else UpdateState.COMPLETED
    return Advance(replace(update, state=state, phase_since=picture.now))


def paused(update: UpdateStatus, message: str, now: float) -> UpdateStatus:
    """Have an update wait for a person."""
    back = update.state is UpdateState.ROLLBACK_STARTED
    state = UpdateState.ROLLBACK_PAUSED if back else UpdateState.PAUSED
    return replace(update, state=state, phase_since=now, message=message)


def runs_for(status: TaskStatus, seconds: float, now: float) -> float | None:
    """Tell the instant at which a task will have run for so long, None when it has.

    An instant further ahead than that takes was told by a wrong clock, and is not waited for.
    """
    until = (status.at if status.running_at is None else status.running_at) + seconds
    return until if now < until <= now + 2 * seconds else None


def _first(picture: ServicePicture) -> UpdateStatus | None:
    """A service that an all-or-nothing deploy brought is held to its first tasks, as if they replaced others."""
    head, version = picture.head, picture.head.services[picture.service.name]
    if not head.atomic or version.version != head.n or picture.service.tasks_made:
        return None
    return UpdateStatus(
        UpdateState.UPDATING, head.n, picture.now, picture.now, revision=head.n, total=max(1, picture.spec.replicas)
    )


def _is_atomic(picture: ServicePicture, update: UpdateStatus) -> bool:
    revision = picture.state.revisions.get(picture.service.stack_uid, {}).get(update.revision)
    return revision is not None and revision.atomic


def _previous(picture: ServicePicture, slots: Sequence[Slot]) -> int:
    """Give the version to which a failed update goes back: where the last one ended, or what most tasks run."""
    update = picture.service.update
    if update is not None:
        return update.version if update.state.completed else update.previous
    versions = Counter(slot.tasks[0].version for slot in slots if picture.state.is_ready(slot.tasks[0]))
    versions = versions or Counter(slot.tasks[0].version for slot in slots)
    return max(versions, key=lambda version: (versions[version], version), default=0)


def _own(update: UpdateStatus, tasks: Sequence[Task]) -> Iterator[Task]:
    return (task for task in tasks if task.n > update.made and task.version == update.version)


def _failures(picture: ServicePicture, update: UpdateStatus, config: UpdateConfig) -> dict[int, str]:
    """Give the slots with a task of the update that ended too early, and what was said of it."""
    failures: dict[int, str] = {}
    for slot in picture.slots:
        for task in _own(update, slot.tasks):
            status = picture.state.statuses.get(task.id)
            if status is None or not _has_failed(picture, status):
                continue
            if status.running_at is None or status.at - status.running_at <= config.monitor:
                failures[slot.number] = ending(status)
    return failures


def _has_failed(picture: ServicePicture, status: TaskStatus) -> bool:
    if status.state in (TaskState.FAILED, TaskState.REJECTED):
        return True
    return status.state is TaskState.COMPLETE and picture.spec.restart.condition is RestartCondition.ANY


def _watched_until(
    picture: ServicePicture, update: UpdateStatus, slots: Sequence[Slot], config: UpdateConfig
) -> Iterator[float]:
    for slot in slots:
        for task in _own(update, slot.tasks[:1]):
            status = picture.state.statuses.get(task.id)
            if status is not None and picture.state.is_ready(task):
                until = runs_for(status, config.monitor, picture.now)
                if until is not None:
                    yield until
