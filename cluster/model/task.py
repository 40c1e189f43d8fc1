"""Tasks: one run of one container on one node, and how far it has come."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from cluster.model.network import Endpoint

IT_SAID = "it said: "
"""Begins what a task printed last, wherever a reason or message ends with that."""


class TaskState(StrEnum):
    """How far a task has come; it only ever moves forward in this order (names and meaning are SwarmKit's)."""

    NEW = "new"  # made, nothing decided
    PENDING = "pending"  # waits for a node that fits
    ASSIGNED = "assigned"  # bound to a node, the agent has not answered
    ACCEPTED = "accepted"  # the agent has it
    PREPARING = "preparing"  # image and network are made ready
    READY = "ready"  # container created
    STARTING = "starting"  # container starts, or runs and is not healthy yet
    RUNNING = "running"  # runs, and is healthy where a health check is set
    COMPLETE = "complete"  # ended by itself with exit code 0
    SHUTDOWN = "shutdown"  # ended because it was asked to
    FAILED = "failed"  # ended by itself with another exit code, or unhealthy
    REJECTED = "rejected"  # could not be started on that node
    ORPHANED = "orphaned"  # its node is gone for good

    rank: int
    terminal: bool

    def __init__(self, value: str) -> None:
        self.rank = len(type(self).__members__)
        self.terminal = value in ("complete", "shutdown", "failed", "rejected", "orphaned")


class Desired(StrEnum):
    """What the leader wants of a task. REMOVE also takes the dead container, and with it its log, off the node."""

    RUNNING = "running"
    SHUTDOWN = "shutdown"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Task:
    """The leader's record. Bound once: `node` None waits, with the reason in `reason`; a set node never changes.

    `version` is the stack revision whose spec of the service it runs. `failures` counts the failures in a row of its
    slot before it, and it is not to start before `not_before` (0: at once). `endpoints` belong to its sandbox.
    `meant_for` is the one node that a task of a global service may get ("": any), known before it gets it.

    A task that `yields` serves on until the newer one of its slot is ready. From `leaving_at` on, names and published
    ports do not lead to it any more, while it runs on for those that have yet to hear of that and for open connections.
    One that is `moving` is to make way for a task of its slot on a node where it is needed more.

    A task that is `held` is made ready on its node, and not started before the task whose place it takes has ended:
    what SwarmKit calls desired state READY. A node whose session is older than protocol.HOLDS is told of none.
    """

    id: str
    stack_uid: str
    service_uid: str
    slot: int
    n: int
    version: int
    created_at: float
    node: str | None = None
    desired: Desired = Desired.RUNNING
    endpoints: tuple[Endpoint, ...] = ()
    not_before: float = 0.0
    failures: int = 0
    first_failure_at: float | None = None
    reason: str = ""
    yields: bool = False
    leaving_at: float | None = None
    meant_for: str = ""
    moving: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """What the agent saw, written by the manager that holds its session.

    A terminal state is reported only when the sandbox is gone, so its addresses are free; an empty `container` with a
    terminal state means that nothing of the task is left on the node. `restarts` counts restarts in place.
    `running_at` is when it was first RUNNING (None: never, or not known), and stays. `log` has the last lines that a
    task printed before it failed.
    """

    task: str
    state: TaskState
    at: float
    message: str = ""
    container: str = ""
    exit_code: int | None = None
    restarts: int = 0
    running_at: float | None = None
    log: tuple[str, ...] = ()


def task_id(service_uid: str, slot: int, n: int) -> str:
    """Name a task by what it is, so that deciding the same twice makes it once: 25 lower-case hex characters."""
    return hashlib.blake2b(f"{service_uid}/{slot}/{n}".encode(), digest_size=16).hexdigest()[:25]
