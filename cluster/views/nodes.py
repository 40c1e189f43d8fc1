"""Nodes, and what people change of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cluster.model.node import Availability, NodeStatus, Role


@dataclass(frozen=True, slots=True)
class NodeView:
    """`tasks` counts the tasks that are to run there; `conditions` are its troubles by name, a sentence each.

    `reserved_*` is what its tasks reserve; `resources` are the named things that it offers, of which the tasks reserve
    `reserved_resources`. `volumes` are those with their data there. A drain ends at `drain_until`, ready or not.
    `tunnels_trouble` is why it can be in no encrypted network.
    """

    id: str
    name: str
    role: Role
    status: NodeStatus
    availability: Availability
    address: str
    engine_version: str
    agent_version: str
    tasks: int
    since: float
    reason: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    operating_system: str = ""
    architecture: str = ""
    cpus: int = 0
    memory: int = 0
    reserved_cpus: float = 0.0
    reserved_memory: int = 0
    resources: dict[str, int] = field(default_factory=dict)
    reserved_resources: dict[str, int] = field(default_factory=dict)
    drain_until: float | None = None
    joined_at: float = 0.0
    kernel: str = ""
    engine_labels: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    tunnels_trouble: str = ""


@dataclass(frozen=True, slots=True)
class NodeChange:
    """The body of PATCH /v1/nodes/{name}: what is None stays; a label or resource of None is taken off.

    `deadline` goes with a drain: the seconds that it may take for not leaving a service with less than it should have,
    "never" for as long as it takes; ten minutes unless given.
    """

    availability: Availability | None = None
    labels: dict[str, str | None] | None = None
    resources: dict[str, int | None] | None = None
    deadline: float | Literal["never"] | None = None
    role: Role | None = None
    """A manager that becomes a worker has its etcd taken out; a worker becomes one by `stack join --manager`."""
