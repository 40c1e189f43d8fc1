"""How far the replacing of a service's tasks has come, and who has let go of the tasks that leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class UpdateState(StrEnum):
    """SwarmKit's states of an update; the three last ones are of an update that goes back to an older spec."""

    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLBACK_STARTED = "rollback_started"
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLBACK_COMPLETED = "rollback_completed"

    @property
    def at_work(self) -> bool:
        return self in (UpdateState.UPDATING, UpdateState.ROLLBACK_STARTED)

    @property
    def paused(self) -> bool:
        return self in (UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED)

    @property
    def completed(self) -> bool:
        return self in (UpdateState.COMPLETED, UpdateState.ROLLBACK_COMPLETED)


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """The newest update of one service, by the leader.

    It leads to `version` from `previous` (0: there was none), the version that the last completed update led to, to
    which a failed one goes back. `state` was entered at `phase_since`. `made` is how many tasks the service had made
    when it began: later ones are its own. `total` is how many slots it set out to replace, of which those in `failed`
    had a new task that failed too early. `revision` is the stack's that began it, `attempt` that of the ServiceVersion.
    """

    state: UpdateState
    version: int
    started_at: float
    phase_since: float
    previous: int = 0
    revision: int = 0
    attempt: int = 0
    made: int = 0
    total: int = 0
    failed: tuple[int, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class Late:
    """The nodes that have not let go of a task yet; all others had at that instant."""

    at: float
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What one manager can vouch for, written while tasks leave and deleted when none does.

    No agent in session with it, of those whose node could send to one of these tasks, has done so since that instant.
    """

    manager: str
    tasks: dict[str, float]
    late: dict[str, Late] = field(default_factory=dict)
    """Of tasks for which that takes long, who has yet to let go of them. Those are not in `tasks`."""
