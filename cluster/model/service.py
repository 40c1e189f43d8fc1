"""What a service wants to run: its container, and how many of it, where, and how they are replaced."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from cluster.model.container import ContainerSpec
from cluster.model.update import UpdateStatus

Protocol = Literal["tcp", "udp"]

GIVEN_PORTS = (30000, 32767)
"""The first and the last of the ports that are given to services that publish one without saying as what (Swarm's)."""


@dataclass(frozen=True, slots=True)
class NetworkAttachment:
    """`network` is the key within the stack; `aliases` always hold the service's short name too.

    `addresses` are those that its one task is to have, at most one of each family.
    """

    network: str
    aliases: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """Upper limits of one task; None is unlimited. `nano_cpus` is in billionths of a core."""

    nano_cpus: int | None = None
    memory: int | None = None
    pids: int | None = None


CLUSTER_PORTS = {
    "tcp/2377": "its managers", "tcp/23790": "the etcd of its managers", "tcp/23791": "the etcd of its managers",
    "udp/4789": "its networks", "udp/24789": "its encrypted networks", "udp/24790": "its encrypted networks",
}  # fmt: skip
"""What the cluster itself needs ports of its hosts for: a service that published one would cut it off."""
STICKY, CLIENT_IP = "com.stackyard.sticky", "client-ip"
"""Label of a service, and its value with which the VIP leads each client to one endpoint."""
INGRESS_ROUTING, LOCAL_FIRST = "com.stackyard.ingress", "local-first"
"""Label of a service, and its value with which a node that has ready tasks leads its published ports to those."""
MANAGERS, API = "com.stackyard.managers", "api"
"""Label of a service, and its value with which its tasks reach the managers' API, which is kept from all others."""


class RestartCondition(StrEnum):
    """When a task that ended is replaced."""

    NONE = "none"
    ON_FAILURE = "on-failure"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How failed tasks are replaced.

    The first failure is answered at once unless `delay` is given; repeated ones back off (decide/restarts.py).
    `max_attempts` None is without end; it counts within `window` seconds, 0 meaning for ever.
    """

    condition: RestartCondition = RestartCondition.ANY
    delay: float | None = None
    max_attempts: int | None = None
    window: float = 0.0


class ServiceMode(StrEnum):
    """How many tasks there are: a number, one a node, or runs that end (SwarmKit's four modes)."""

    REPLICATED = "replicated"
    GLOBAL = "global"
    REPLICATED_JOB = "replicated-job"
    GLOBAL_JOB = "global-job"

    @property
    def is_global(self) -> bool:
        return self in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB)

    @property
    def is_job(self) -> bool:
        return self in (ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB)


class FailureAction(StrEnum):
    """What an update does when too many of its new tasks fail; a rollback never rolls back."""

    PAUSE = "pause"
    CONTINUE = "continue"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """How tasks are replaced by those of a new spec; the defaults are SwarmKit's.

    `parallelism` 0 is all at once. A new task counts as failed if it fails within `monitor` seconds;
    `max_failure_ratio` is of the tasks that the update touches.
    """

    parallelism: int = 1
    delay: float = 0.0
    monitor: float = 5.0
    failure_action: FailureAction = FailureAction.PAUSE
    max_failure_ratio: float = 0.0
    order: Literal["stop-first", "start-first"] = "stop-first"


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a service waits for before its tasks start. `restart` replaces its tasks when the other one is updated.

    One that is not `required` is passed over if the stack has no such service.
    """

    condition: Literal["service_started", "service_healthy", "service_completed_successfully"] = "service_started"
    restart: bool = False
    required: bool = True


@dataclass(frozen=True, slots=True)
class Reservations:
    """What the scheduler keeps free for one task on its node; `generic` counts named resources of the nodes."""

    nano_cpus: int = 0
    memory: int = 0
    generic: dict[str, int] = field(default_factory=dict)

    def exceed(self, other: Reservations) -> bool:
        """Tell whether something of these is more than it is of others."""
        return (
            self.nano_cpus > other.nano_cpus
            or self.memory > other.memory
            or any(count > other.generic.get(name, 0) for name, count in self.generic.items())
        )


@dataclass(frozen=True, slots=True)
class OnDisconnect:
    """What becomes of tasks on a node that falls silent, in seconds from the last that was heard of it.

    They are replaced `replace_after` (None: as soon as the node is called down), unless `replace` is false; the node
    itself stops its copies `stop_after` it lost the managers (None: never), so that one that must run only once does.
    """

    replace_after: float | None = None
    replace: bool = True
    stop_after: float | None = None


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A published port. Mode `ingress` answers on every node, `host` on the task's own node only.

    `published` 0 asks for one that is free, out of GIVEN_PORTS; the number is in the claim on it.
    """

    target: int
    published: int
    protocol: Protocol = "tcp"
    mode: Literal["ingress", "host"] = "ingress"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service of a stack; `name` is its key in the Compose file.

    The loader gives a service without networks the stack's default one; an empty tuple means no network at all.
    `replicas` of a replicated job are its completions, of which `max_concurrent` run at a time (None: all); the global
    modes have no number. `spread` are the spread preferences (`node.labels.zone`); `max_replicas_per_node` 0 is no
    bound.
    """

    name: str
    container: ContainerSpec
    networks: tuple[NetworkAttachment, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    replicas: int = 1
    resources: Resources = Resources()
    restart: RestartPolicy = RestartPolicy()
    constraints: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    mode: ServiceMode = ServiceMode.REPLICATED
    max_concurrent: int | None = None
    update: UpdateConfig = UpdateConfig()
    rollback: UpdateConfig = UpdateConfig()
    reservations: Reservations = Reservations()
    spread: tuple[str, ...] = ()
    max_replicas_per_node: int = 0
    endpoint_mode: Literal["vip", "dnsrr"] = "vip"
    depends_on: dict[str, Dependency] = field(default_factory=dict)
    on_disconnect: OnDisconnect = OnDisconnect()
    stopped: bool = False
    """It keeps its definition and runs nothing, until it is started or deployed."""

    @property
    def has_ingress(self) -> bool:
        return any(port.mode == "ingress" for port in self.ports)

    @property
    def volume_names(self) -> tuple[str, ...]:
        """Full names of the named volumes that its tasks mount."""
        return tuple(m.source for m in self.container.mounts if m.type == "volume" and m.source)

    def needs_new_tasks(self, other: ServiceSpec) -> bool:
        """Tell whether tasks made for `other` must be replaced to run this spec.

        Replicas, the published side of ingress ports, and service labels, but for that by which managers are reached,
        apply to running tasks as they are; so does placement, by which those tasks move whose nodes fit no longer, and
        so do smaller reservations: for larger ones there has to be room first.
        """
        return (
            self.container != other.container
            or self.networks != other.networks
            or self.resources != other.resources
            or self.reservations.exceed(other.reservations)
            or self.has_ingress != other.has_ingress
            or self.labels.get(MANAGERS) != other.labels.get(MANAGERS)
            or [p for p in self.ports if p.mode == "host"] != [p for p in other.ports if p.mode == "host"]
        )


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The leader's record of one service. `tasks_made` only grows, so that no task id ever comes back.

    `quarantined_until` and `problem` tell of a bug met while deciding this service; other services go on. `quarantines`
    counts them in a row. It was met with `quarantined_revision` of the stack (0: with a service that is to go); what
    another one makes of the service is tried at once. `problem` alone is something that its owner can mend, such as a
    published port that is taken. `update` is its newest update, None before the first.
    """

    uid: str
    stack_uid: str
    stack: str
    name: str
    tasks_made: int = 0
    quarantined_until: float | None = None
    problem: str = ""
    quarantines: int = 0
    update: UpdateStatus | None = None
    quarantined_revision: int | None = None

    @property
    def full_name(self) -> str:
        return f"{self.stack}_{self.name}"
