"""Tasks."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.model.task import Desired, TaskState


@dataclass(frozen=True, slots=True)
class TaskView:
    """`name` is `stack_service.slot`; `node` is a name, "" while unbound.

    `message` joins what the agent said and the leader's reason. `since` is when `state` was entered. `restarts` counts
    restarts in place, `failures` those in a row before it in its slot. `log` has the last lines that it printed before
    it failed.
    """

    id: str
    name: str
    stack: str
    service: str
    slot: int
    image: str
    node: str
    desired: Desired
    state: TaskState
    since: float
    message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    container: str = ""
    version: int = 0
    created_at: float = 0.0
    log: tuple[str, ...] = ()
    failures: int = 0
    digest: str = ""
