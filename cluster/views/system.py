"""The cluster and its managers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EtcdView:
    """A member of etcd, by the URL at which managers ask it."""

    endpoint: str
    version: str


@dataclass(frozen=True, slots=True)
class VersionView:
    """`protocol` is the newest version of the agents' session that the manager speaks.

    `etcd` has the members that answered this manager; none while etcd is out of reach.
    """

    version: str
    api: str
    protocol: int
    etcd: tuple[EtcdView, ...] = ()


@dataclass(frozen=True, slots=True)
class ManagerView:
    id: str
    name: str
    url: str
    leader: bool
    started_at: float
    locked: bool = False


@dataclass(frozen=True, slots=True)
class ClusterView:
    """`revision` is the etcd revision that the manager's picture stands at."""

    id: str
    created_at: float
    revision: int
    managers: tuple[ManagerView, ...]
    nodes: int
    ready_nodes: int
    stacks: int
    services: int
    tasks: int
