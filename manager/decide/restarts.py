"""Whether and when a task that ended by itself is followed by another one in its slot.

The first failure is answered at once, repeated ones ever later, and a task that ran well for a while starts the row
anew. All of it is stored in the tasks, so that a new leader goes on where the old one was. How long a task ran is taken
from the leaders' own clock: an agent's may be wrong. Whether its slot rests does not depend on when that is asked.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from cluster.model.service import RestartCondition, RestartPolicy, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import IT_SAID, Task, TaskState, TaskStatus

FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0
RAN_WELL = 60.0
"""Seconds after which a task that ends counts as the first failure of a row."""


@dataclass(frozen=True, slots=True)
class Successor:
    """What the next task of the slot is made with; the fields are those of Task."""

    failures: int = 0
    first_failure_at: float | None = None
    not_before: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rests:
    """The slot is left as it is; `reason` is "" when that is what its policy wants of a task that did its work."""

    reason: str = ""


def policy_for(stack: StackSpec, spec: ServiceSpec) -> RestartPolicy:
    """Give the policy that holds for a service: what is there to complete is not run again after it has."""
    if spec.restart.condition is RestartCondition.ANY and (spec.mode.is_job or _is_awaited(stack, spec.name)):
        return dataclasses.replace(spec.restart, condition=RestartCondition.ON_FAILURE)
    return spec.restart


def _is_awaited(stack: StackSpec, name: str) -> bool:
    """Tell whether another service of the stack waits for this one to complete."""
    on = (service.depends_on.get(name) for service in stack.services.values())
    return any(one is not None and one.condition == "service_completed_successfully" for one in on)


def after_end(task: Task, status: TaskStatus, policy: RestartPolicy, now: float) -> Successor | Rests:
    """Answer the end of a task that nobody asked to end."""
    if status.state in (TaskState.ORPHANED, TaskState.SHUTDOWN):
        return inherited(task)
    failed = status.state is not TaskState.COMPLETE
    if policy.condition is RestartCondition.NONE or (policy.condition is RestartCondition.ON_FAILURE and not failed):
        return Rests(f"not restarted (restart_policy.condition is {policy.condition})" if failed else "")
    ran_well = now - max(task.created_at, task.not_before) >= RAN_WELL
    began, before = task.first_failure_at, task.failures
    if policy.max_attempts is None:
        fresh = ran_well
    else:
        ended = max(task.created_at, min(status.at, now))
        fresh = policy.window > 0 and began is not None and ended - began > policy.window
        if not fresh and before >= policy.max_attempts:
            return Rests(f"not restarted: {before} restarts are used up (restart_policy.max_attempts)")
    failures = 1 if fresh else before + 1
    wait = _wait(1 if ran_well else failures, policy.delay, task.id)
    return Successor(
        failures=failures,
        first_failure_at=now if fresh or began is None else began,
        not_before=now + wait if wait else 0.0,
        reason=f"waits {wait:.1f} s before restart {failures}: {ending(status)}" if wait else "",
    )


def ending(status: TaskStatus) -> str:
    """Tell how a task ended by itself, with its last words: `exited with code 3, it said: no such table`."""
    why = status.message or (f"exit code {status.exit_code}" if status.exit_code is not None else str(status.state))
    return f"{why}, {IT_SAID}{status.log[-1]}" if status.log else why


def inherited(task: Task) -> Successor:
    """Continue the row of a task that is replaced for no fault of its own."""
    return Successor(task.failures, task.first_failure_at)


def _wait(failures: int, delay: float | None, seed: str) -> float:
    least = delay or 0.0
    if failures <= 1:
        return least
    backoff = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures - 2, 16))
    return max(least, min(LONGEST_WAIT, backoff * (1.0 + 0.25 * _jitter(seed))))


def _jitter(seed: str) -> float:
    """Give a number from 0 to 1 that is always the same for a task, so that slots which fell together part."""
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=4).digest(), "big") / 2**32
