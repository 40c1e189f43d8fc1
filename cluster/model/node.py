"""Nodes, the sessions of their agents, and what the leader makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from cluster.model.attachment import AttachmentReport
from cluster.model.network import Endpoint, TunnelKey

Role = Literal["worker", "manager"]


class Availability(StrEnum):
    """The operator's word: whether a node takes new tasks (active), keeps what it has (pause), gives it up (drain)."""

    ACTIVE = "active"
    PAUSE = "pause"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Node:
    """The spec of a node, written by the API when it joins and when an operator changes it.

    `resources` are named things that it offers besides what its engine tells of. When `drain_until` has come, what is
    still on a drained node leaves at once, whatever that does to its services.
    """

    id: str
    name: str
    role: Role
    joined_at: float
    labels: dict[str, str] = field(default_factory=dict)
    availability: Availability = Availability.ACTIVE
    resources: dict[str, int] = field(default_factory=dict)
    drain_until: float | None = None


@dataclass(frozen=True, slots=True)
class NodeDescription:
    """What an agent says of its host when a session opens. `address` carries the overlay (VTEP).

    `resources` are the generic resources that the engine is configured with (`node-generic-resources`), counted. One
    that `keeps_source` lets tasks see the address of clients of published ports. Encrypted networks go through
    `tunnels`, the first of which is the one to send to; where there are none, `tunnels_trouble` says why.
    """

    hostname: str
    address: str
    agent_version: str
    boot_id: str
    os: str = "linux"
    architecture: str = ""
    kernel: str = ""
    engine_version: str = ""
    engine_api: str = ""
    cpus: int = 0
    memory: int = 0
    engine_labels: dict[str, str] = field(default_factory=dict)
    resources: dict[str, int] = field(default_factory=dict)
    keeps_source: bool = False
    tunnels: tuple[TunnelKey, ...] = ()
    tunnels_trouble: str = ""


class SessionState(StrEnum):
    """OPEN: beats arrive. SILENT: three beats missed while the manager listened. CLOSED: ended, no newer one opened."""

    OPEN = "open"
    SILENT = "silent"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Session:
    """An agent's session, written by the manager that holds it; the record outlives the session, so `epoch` only grows.

    `reachable` is the second witness's word while SILENT or CLOSED: whether the host's address still answers (None: not
    asked yet). `back_by` is a goodbye: the agent goes down by plan and means to be back by then. `conditions` are
    troubles of the node by name, such as "engine" or "disk", with a sentence each. `version` is that of the protocol
    which the two speak. `routes` are the subnets that the host reaches otherwise than by our networks, and by which
    link: those that the agent told last, in this session or an earlier one. `images` names the versions of services
    (`uid/version`) that tasks of the node are about to be updated to, and of which the image is there, or why not.
    `listening` are the ports that programs of the host listen on (`tcp/22`), told and kept as the routes are.
    `attachments` is what was said in this session of containers that were started by hand; of an earlier one it has
    only which were attached: what was over then may have begun again.
    """

    node: str
    epoch: int
    manager: str
    state: SessionState
    since: float
    description: NodeDescription
    reachable: bool | None = None
    back_by: float | None = None
    conditions: dict[str, str] = field(default_factory=dict)
    version: int = 1
    routes: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    listening: tuple[str, ...] = ()
    attachments: dict[str, AttachmentReport] = field(default_factory=dict)
    roots: tuple[str, ...] = ()
    signer: str = ""


class NodeStatus(StrEnum):
    """The leader's verdict. AGENT_LOST: the host answers, its agent does not. UNKNOWN: not seen since it joined."""

    UNKNOWN = "unknown"
    READY = "ready"
    AGENT_LOST = "agent-lost"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class NodeState:
    """The leader's record of a node; `ingress` is the node's own endpoint in the network of published ports.

    The tasks of a node that is down are replaced from `replace_at` on: at once, unless many nodes fell silent together.
    """

    node: str
    status: NodeStatus
    since: float
    reason: str = ""
    ingress: Endpoint | None = None
    replace_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Manager:
    """A manager that is alive: the record is bound to its lease. `url` is where agents and people reach it.

    `version` is the newest of records and messages that it knows (see cluster/protocol.py), `release` its program's.
    One that says neither is of a release from before they were told. One that is `locked` waits for its unlock key, and
    does nothing before. It goes by the generation `trust` of the CA's roots (see Trust), 0 before the first rotation.
    """

    id: str
    name: str
    url: str
    started_at: float
    version: int = 1
    release: str = ""
    locked: bool = False
    trust: int = 0
