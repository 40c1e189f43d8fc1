"""What tasks use of their nodes, and what lies on nodes' disks: how nodes tell it, and how people are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST_MEASURED = 200
"""Tasks that are asked about at once: the answer fits a frame."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a task's container has used since it started, as of an instant (`at`) of its node's clock.

    `cpu` is in nanoseconds of one core, all else in bytes; `memory` is what it holds now, without the page cache that
    can be given up, of `memory_limit` at most (the host's, where it has none). `received` and `sent` are those of its
    network namespace's links, None where it has the host's.
    """

    task: str
    at: float
    cpu: int = 0
    memory: int = 0
    memory_limit: int = 0
    received: int | None = None
    sent: int | None = None
    read: int = 0
    written: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has passed the links of a task's network namespace since that was made: bytes, packets, and lost packets."""

    task: str
    received: int
    sent: int
    received_packets: int
    sent_packets: int
    dropped: int


DiskKind = Literal["images", "containers", "volumes", "build cache"]


@dataclass(frozen=True, slots=True)
class Stored:
    """What things of a kind take on a disk, in bytes: `count` of them, `active` ones in use; the others could go."""

    kind: DiskKind
    count: int
    active: int
    size: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one manager asks of another: the counters of these tasks, or the disks of these nodes, by node."""

    tasks: dict[str, tuple[str, ...]]
    disk: bool = False


# As people see it


@dataclass(frozen=True, slots=True)
class TaskUsage:
    """The counters of a task; rates are the differences of two of them by those of their instants."""

    name: str
    stack: str
    service: str
    slot: int
    node: str
    counters: Counters


@dataclass(frozen=True, slots=True)
class UsageView:
    """`notes` tell of which nodes there is nothing, and why."""

    tasks: tuple[TaskUsage, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeDisk:
    node: str
    stored: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class DiskView:
    """`notes` tell of which nodes there is nothing, and why."""

    nodes: tuple[NodeDisk, ...]
    notes: tuple[str, ...] = ()
