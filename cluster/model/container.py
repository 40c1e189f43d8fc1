"""What one container of a service is: the engine's create request in the words of Compose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


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
    """A file system in the container. `source` of a volume is its full name (`stack_key`), "" for an anonymous one.

    `tmpfs_options` are those of mount(8) besides size and mode, such as `exec` or `uid=1000`.
    """

    type: Literal["volume", "bind", "tmpfs"]
    target: str
    source: str = ""
    read_only: bool = False
    nocopy: bool = False
    propagation: str = ""
    create_host_path: bool = False
    tmpfs_size: int | None = None
    tmpfs_mode: int | None = None
    subpath: str = ""
    selinux: Literal["", "z", "Z"] = ""
    tmpfs_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ulimit:
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Logging:
    driver: str = ""
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceMapping:
    """A device of the node, such as /dev/ttyUSB0; `permissions` are of r, w, m."""

    source: str
    target: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """Devices that a driver of the engine gives (GPUs). `count` -1 is all; exclusive with `device_ids`."""

    driver: str = ""
    count: int = 0
    device_ids: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlockIO:
    """A container's share of block devices: weights of 10 to 1000, and limits by device, a second (bytes, calls)."""

    weight: int | None = None
    device_weights: dict[str, int] = field(default_factory=dict)
    read_bytes: dict[str, int] = field(default_factory=dict)
    write_bytes: dict[str, int] = field(default_factory=dict)
    read_calls: dict[str, int] = field(default_factory=dict)
    write_calls: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileReference:
    """A secret or config in a container's file system; `source` is its key within the stack, `target` an absolute path.

    `mode` is as in chmod, such as 0o444. The manager sets `digest`, the keyed digest under which the content is stored,
    and `templated`, when the revision is made: with another content it is another container.
    """

    source: str
    target: str
    uid: str = "0"
    gid: str = "0"
    mode: int = 0o444
    digest: str = ""
    templated: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What the engine is asked to create. None for `command` or `entrypoint` keeps the image's, `()` clears it.

    `unset_environment` are variables of the image that the container is not to have. With `stdin_once` its input ends
    when that of whoever is attached first does. Sizes are in bytes. None for a
    number, a flag or a limit, and "" for a text, take the engine's default.
    """

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
    secrets: tuple[FileReference, ...] = ()
    configs: tuple[FileReference, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    domainname: str = ""
    group_add: tuple[str, ...] = ()
    privileged: bool = False
    security_opt: tuple[str, ...] = ()
    devices: tuple[DeviceMapping, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    device_requests: tuple[DeviceRequest, ...] = ()
    runtime: str = ""
    network_mode: Literal["", "none", "host"] = ""
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    userns_mode: str = ""
    cgroup: str = ""
    cgroup_parent: str = ""
    mac_address: str = ""
    shm_size: int | None = None
    storage_opt: dict[str, str] = field(default_factory=dict)
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    cpuset: str = ""
    memswap_limit: int | None = None
    mem_swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    platform: str = ""
    pull_policy: Literal["", "always", "missing", "never"] = ""
    unset_environment: tuple[str, ...] = ()
    block_io: BlockIO | None = None
    stdin_once: bool = False

    @property
    def has_files(self) -> bool:
        """Tell whether it uses any secret or config."""
        return bool(self.secrets or self.configs)

    @property
    def has_sandbox(self) -> bool:
        """Tell whether its tasks have a network namespace of ours; those in the host's network have none."""
        return self.network_mode != "host"
