"""What a service wants to run: the spec as converted from Compose, in the engine's terms where there is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Protocol = Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """A container's health check; an empty `test` keeps the image's own, `("NONE",)` switches it off.

    A duration or count of None takes the engine's default.
    """

    test: tuple[str, ...] = ()
    interval: float | None = None
    timeout: float | None = None
    start_period: float | None = None
    start_interval: float | None = None
    retries: int | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system in the container. `source` of a volume is its full name (`stack_key`), "" for an anonymous one."""

    type: Literal["volume", "bind", "tmpfs"]
    target: str
    source: str = ""
    read_only: bool = False
    nocopy: bool = False
    propagation: str = ""
    create_host_path: bool = False
    tmpfs_size: int | None = None
    tmpfs_mode: int | None = None


@dataclass(frozen=True, slots=True)
class Ulimit:
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Logging:
    driver: str = ""
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What the engine is asked to create. None for `command` or `entrypoint` keeps the image's, `()` clears it."""

    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    hostname: str = ""
    user: str = ""
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    healthcheck: Healthcheck | None = None
    stop_signal: str = ""
    stop_grace_period: float = 10.0
    init: bool = False
    tty: bool = False
    stdin_open: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    ulimits: dict[str, Ulimit] = field(default_factory=dict)
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    logging: Logging | None = None


@dataclass(frozen=True, slots=True)
class NetworkAttachment:
    """`network` is the key within the stack; `aliases` always hold the service's short name too."""

    network: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resources:
    """Upper limits of one task; None is unlimited. `nano_cpus` is in billionths of a core."""

    nano_cpus: int | None = None
    memory: int | None = None
    pids: int | None = None


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


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A published port. Mode `ingress` answers on every node, `host` on the task's own node only."""

    target: int
    published: int
    protocol: Protocol = "tcp"
    mode: Literal["ingress", "host"] = "ingress"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service of a stack; `name` is its key in the Compose file.

    The loader gives a service without networks the stack's default one; an empty tuple means no network at all.
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

    @property
    def has_ingress(self) -> bool:
        return any(port.mode == "ingress" for port in self.ports)

    @property
    def volume_names(self) -> tuple[str, ...]:
        """Full names of the named volumes that its tasks mount."""
        return tuple(m.source for m in self.container.mounts if m.type == "volume" and m.source)

    def needs_new_tasks(self, other: ServiceSpec) -> bool:
        """Tell whether tasks made for `other` must be replaced to run this spec.

        Replicas, service labels, placement and the published side of ingress ports apply to running tasks as they are.
        """
        return (
            self.container != other.container
            or self.networks != other.networks
            or self.resources != other.resources
            or self.has_ingress != other.has_ingress
            or [p for p in self.ports if p.mode == "host"] != [p for p in other.ports if p.mode == "host"]
        )


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The leader's record of one service. `tasks_made` only grows, so that no task id ever comes back.

    `quarantined_until` and `problem` tell of a bug met while deciding this service; other services go on. `quarantines`
    counts them in a row. `problem` alone is something that its owner can mend, such as a published port that is taken.
    """

    uid: str
    stack_uid: str
    stack: str
    name: str
    tasks_made: int = 0
    quarantined_until: float | None = None
    problem: str = ""
    quarantines: int = 0

    @property
    def full_name(self) -> str:
        return f"{self.stack}_{self.name}"
