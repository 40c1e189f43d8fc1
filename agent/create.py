"""Task to engine create request: every key of a container, in the words of the engine that is there. Pure.

A key that the engine is too old for is refused by name, never left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.container import (
    LABEL_CLUSTER,
    LABEL_NAMESPACE,
    LABEL_SERVICE,
    LABEL_SLOT,
    LABEL_STACK,
    LABEL_TASK,
    RUNTIME,
    Image,
    Json,
)
from agent.network.lookups import RESOLVER
from agent.resolv_conf import ResolvConf, for_container
from cluster.assignments import ServiceItem
from cluster.errors import Failed
from cluster.model.container import BlockIO, ContainerSpec, DeviceRequest, Healthcheck, Mount
from cluster.model.network import INGRESS
from cluster.model.service import ServiceSpec
from cluster.model.task import Task
from cluster.model.volume import VolumeSpec
from cluster.templates import Place, expand_service, expand_volume, values_of

_LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix", "ff02::1\tip6-allnodes", "ff02::2\tip6-allrouters",
)  # fmt: skip
"""What Docker writes at the top of a container's /etc/hosts."""

_SINCE = {
    "healthcheck.start_interval": ((1, 44), "25.0"),
    "annotations": ((1, 43), "24.0"),
    "volumes.volume.subpath": ((1, 45), "26.0"),
    "devices (by CDI name)": ((1, 44), "25.0"),
}
"""Keys that came with an engine API later than the oldest that the agent speaks, and the engine that brought it."""


class Unsupported(Failed):
    """The task asks for what this node's engine cannot do; another node's may."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a create request needs to know of this node; `api` is the engine's API version, such as (1, 41).

    `files` is the folder that holds a folder of generated files for each task, `place` what templates see of the node,
    `resolv_conf` by what it asks for names itself.
    """

    cluster: str
    files: str
    address: str
    api: tuple[int, int]
    place: Place
    resolv_conf: ResolvConf = field(default_factory=ResolvConf)

    def folder(self, task: str) -> str:
        return f"{self.files}/{task}"

    def require(self, key: str) -> None:
        """Raise Unsupported if the engine is too old for a key."""
        api, engine = _SINCE[key]
        if self.api < api:
            raise Unsupported(
                f"{key} needs Docker Engine {engine} or newer; this node's speaks API {self.api[0]}.{self.api[1]} only",
                hint="Upgrade the engine, or keep the service on newer nodes with a constraint.",
            )


def expanded(item: ServiceItem, task: Task, host: Host) -> ServiceItem:
    """Expand the templates of a task's service and volumes. Raises TemplateError."""
    values = values_of(item.stack, item.spec, task, host.place)
    volumes = tuple(expand_volume(volume, values) for volume in item.volumes)
    return replace(item, spec=expand_service(item.spec, values), volumes=volumes)


def container_name(item: ServiceItem, task: Task) -> str:
    return f"{item.stack}_{item.spec.name}.{task.slot}.{task.id}"


def hostname_of(spec: ContainerSpec, task: Task) -> str:
    return spec.hostname or task.id[:12]


def has_healthcheck(spec: ContainerSpec, image: Image) -> bool:
    """Tell whether a container of this spec and image will report its health."""
    test = spec.healthcheck.test if spec.healthcheck else ()
    return test != ("NONE",) if test else image.healthchecked


def task_files(item: ServiceItem, task: Task, host: Host) -> dict[str, str]:
    """Give the files that stand in for those that an engine writes only where it makes the network itself."""
    spec = item.spec.container
    if not spec.has_sandbox:
        return {}
    hosts = list(_LOCAL_HOSTS)
    name = hostname_of(spec, task)
    names = f"{name}.{spec.domainname} {name}" if spec.domainname else name
    # A program that asks for its own address gets one that other services reach.
    ordered = sorted(task.endpoints, key=lambda endpoint: endpoint.network == INGRESS)
    hosts += [f"{address}\t{names}" for endpoint in ordered for address in endpoint.addresses]
    hosts += [f"{address}\t{extra}" for extra, address in _extra_hosts(spec, host)]
    resolv = for_container(RESOLVER, host.resolv_conf, spec.dns_search, spec.dns_options)
    return {"hosts": _lines(hosts), "resolv.conf": resolv, "hostname": _lines([name])}


def _extra_hosts(spec: ContainerSpec, host: Host) -> list[tuple[str, str]]:
    return [(name, host.address if address == "host-gateway" else address) for name, address in spec.extra_hosts]


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def create_request(
    item: ServiceItem, task: Task, image: Image, host: Host, *, secret_binds: tuple[str, ...] = ()
) -> Json:
    """Build the body of the engine's container create call for a task whose templates are expanded.

    `secret_binds` are the binds of its secrets and configs. Raises Unsupported.
    """
    spec, service = item.spec.container, item.spec
    body: Json = {
        "Image": item.image,
        "Domainname": spec.domainname,
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "Env": [*(f"{key}={value}" for key, value in spec.environment.items()), *spec.unset_environment],
        "Labels": {**spec.labels, **labels(item, task, host.cluster)},
        "Tty": spec.tty,
        "OpenStdin": spec.stdin_open,
        "StdinOnce": spec.stdin_once,
        "StopTimeout": math.ceil(spec.stop_grace_period),
        "HostConfig": {
            "RestartPolicy": {"Name": "no"},
            "Init": spec.init,
            "ReadonlyRootfs": spec.read_only,
            **_file_systems(item, task, host, secret_binds),
            **_privileges(spec),
            **_isolation(spec, host),
            **_limits(spec, service),
        },
        **_command(spec, image),
        **_network(spec, host),
    }
    if spec.hostname or (spec.uts != "host" and spec.has_sandbox):
        body["Hostname"] = hostname_of(spec, task)
    if not spec.has_sandbox:
        body["HostConfig"] |= _host_network(spec, host)
    if spec.logging is not None:
        body["HostConfig"]["LogConfig"] = {"Type": spec.logging.driver, "Config": dict(spec.logging.options)}
    if spec.stop_signal:
        body["StopSignal"] = spec.stop_signal
    if spec.healthcheck is not None:
        body["Healthcheck"] = _healthcheck(spec.healthcheck, host)
    return body


def labels(item: ServiceItem, task: Task, cluster: str) -> dict[str, str]:
    """Give the labels by which the agent finds a container again, and by which other tools group it."""
    return {
        LABEL_CLUSTER: cluster,
        LABEL_TASK: task.id,
        LABEL_SERVICE: item.spec.name,
        LABEL_STACK: item.stack,
        LABEL_SLOT: str(task.slot),
        LABEL_NAMESPACE: item.stack,
    }


def _command(spec: ContainerSpec, image: Image) -> Json:
    """Say command and entrypoint so that "cleared" differs from "not given".

    The engine takes an empty command for none given, unless an entrypoint is given too; `[""]` is its word for "no
    entrypoint".
    """
    entrypoint = spec.entrypoint
    if entrypoint is None and spec.command == ():
        entrypoint = image.entrypoint
    said: Json = {}
    if entrypoint is not None:
        said["Entrypoint"] = list(entrypoint) or [""]
    if spec.command is not None:
        said["Cmd"] = list(spec.command)
    return said


def _healthcheck(check: Healthcheck, host: Host) -> Json:
    if check.start_interval is not None:
        host.require("healthcheck.start_interval")
    said: Json = {"Test": list(check.test)}
    durations = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    said |= {name: round(seconds * 1e9) for name, seconds in durations.items() if seconds is not None}
    if check.retries is not None:
        said["Retries"] = check.retries
    return said


# Network


def _network(spec: ContainerSpec, host: Host) -> Json:
    """A sandbox of the agent's for all but those that share the host's network, in which the engine does its part."""
    return {"NetworkDisabled": spec.has_sandbox}


def _host_network(spec: ContainerSpec, host: Host) -> Json:
    said: Json = {"NetworkMode": "host"}
    if spec.extra_hosts:
        said["ExtraHosts"] = [f"{name}:{address}" for name, address in _extra_hosts(spec, host)]
    given = {"Dns": spec.dns, "DnsSearch": spec.dns_search, "DnsOptions": spec.dns_options}
    return said | {name: list(values) for name, values in given.items() if values}


def _runtime(spec: ContainerSpec) -> str:
    """Our runtime puts a container into its sandbox and then becomes the engine's own or the one that is asked for."""
    if not spec.has_sandbox:
        return spec.runtime
    return f"{RUNTIME}-{spec.runtime}" if spec.runtime else RUNTIME


# Privileges, isolation, limits


def _privileges(spec: ContainerSpec) -> Json:
    said: Json = {
        "CapAdd": list(spec.cap_add),
        "CapDrop": list(spec.cap_drop),
        "Privileged": spec.privileged,
        "GroupAdd": list(spec.group_add),
        "SecurityOpt": [option for option in spec.security_opt if option != _SYSTEM_PATHS],
        "DeviceCgroupRules": list(spec.device_cgroup_rules),
        "Devices": [
            {"PathOnHost": d.source, "PathInContainer": d.target, "CgroupPermissions": d.permissions}
            for d in spec.devices
            if not _by_cdi(d.source)
        ],
    }
    if _SYSTEM_PATHS in spec.security_opt:
        said |= {"MaskedPaths": [], "ReadonlyPaths": []}
    return said


_SYSTEM_PATHS = "systempaths=unconfined"
"""Docker's own command answers this one; the engine does not know it."""


def _by_cdi(source: str) -> bool:
    return not source.startswith("/") and "=" in source


def _isolation(spec: ContainerSpec, host: Host) -> Json:
    said: Json = {"Sysctls": dict(spec.sysctls), "StorageOpt": dict(spec.storage_opt)}
    given = {
        "Runtime": _runtime(spec),
        "PidMode": spec.pid,
        "IpcMode": spec.ipc,
        "UTSMode": spec.uts,
        "UsernsMode": spec.userns_mode,
        "CgroupnsMode": spec.cgroup,
        "CgroupParent": spec.cgroup_parent,
    }
    said |= {name: value for name, value in given.items() if value}
    if spec.annotations:
        host.require("annotations")
        said["Annotations"] = dict(spec.annotations)
    requests = [_device_request(request) for request in spec.device_requests]
    if names := [device.source for device in spec.devices if _by_cdi(device.source)]:
        host.require("devices (by CDI name)")
        requests.append({"Driver": "cdi", "DeviceIDs": names})
    if requests:
        said["DeviceRequests"] = requests
    return said


def _device_request(request: DeviceRequest) -> Json:
    said: Json = {
        "Driver": request.driver,
        "Capabilities": [list(request.capabilities)],
        "Options": dict(request.options),
    }
    if request.device_ids:
        said["DeviceIDs"] = list(request.device_ids)
    else:
        said["Count"] = request.count
    return said


def _limits(spec: ContainerSpec, service: ServiceSpec) -> Json:
    limits = service.resources
    given = {
        "NanoCpus": limits.nano_cpus,
        "Memory": limits.memory,
        "PidsLimit": limits.pids,
        "MemoryReservation": service.reservations.memory or None,
        "MemorySwap": spec.memswap_limit,
        "MemorySwappiness": spec.mem_swappiness,
        "OomKillDisable": spec.oom_kill_disable or None,
        "OomScoreAdj": spec.oom_score_adj,
        "ShmSize": spec.shm_size,
        "CpuShares": spec.cpu_shares,
        "CpuPeriod": spec.cpu_period,
        "CpuQuota": spec.cpu_quota,
        "CpuRealtimePeriod": spec.cpu_rt_period,
        "CpuRealtimeRuntime": spec.cpu_rt_runtime,
        "CpusetCpus": spec.cpuset or None,
    }
    said: Json = {name: value for name, value in given.items() if value is not None}
    return (
        said
        | _block_io(spec.block_io or BlockIO())
        | {"Ulimits": [{"Name": name, "Soft": u.soft, "Hard": u.hard} for name, u in sorted(spec.ulimits.items())]}
    )


def _block_io(wanted: BlockIO) -> Json:
    given = {
        "BlkioWeight": wanted.weight,
        "BlkioWeightDevice": [{"Path": path, "Weight": weight} for path, weight in wanted.device_weights.items()],
    }
    limits = {
        "BlkioDeviceReadBps": wanted.read_bytes,
        "BlkioDeviceWriteBps": wanted.write_bytes,
        "BlkioDeviceReadIOps": wanted.read_calls,
        "BlkioDeviceWriteIOps": wanted.write_calls,
    }
    rates = {name: [{"Path": path, "Rate": rate} for path, rate in by.items()] for name, by in limits.items()}
    return {name: value for name, value in (given | rates).items() if value}


# File systems


def _file_systems(item: ServiceItem, task: Task, host: Host, secret_binds: tuple[str, ...]) -> Json:
    spec = item.spec.container
    taken = {mount.target.rstrip("/") for mount in spec.mounts}
    folder = host.folder(task.id)
    binds = [_bind(mount) for mount in spec.mounts if _in_old_form(mount)]
    # "z" lets containers read them on a host that enforces SELinux.
    binds += [f"{folder}/{name}:/etc/{name}:z" for name in task_files(item, task, host) if f"/etc/{name}" not in taken]
    mounts = [_mount(m, item, host) for m in spec.mounts if not (_in_old_form(m) or m.tmpfs_options)]
    tmpfs = {m.target: _tmpfs_options(m) for m in spec.mounts if m.tmpfs_options}
    return {"Binds": [*binds, *secret_binds], "Mounts": mounts, **({"Tmpfs": tmpfs} if tmpfs else {})}


def _tmpfs_options(mount: Mount) -> str:
    """Write a tmpfs in the engine's older form, the only one that knows all options in every API version."""
    given = [
        "ro" if mount.read_only else "",
        f"size={mount.tmpfs_size}" if mount.tmpfs_size else "",
        f"mode={mount.tmpfs_mode:o}" if mount.tmpfs_mode is not None else "",
    ]
    return ",".join(option for option in (*given, *mount.tmpfs_options) if option)


def _in_old_form(mount: Mount) -> bool:
    """The older form alone makes a missing source of a bind in every API version, and alone knows SELinux labels."""
    return mount.type != "tmpfs" and bool(mount.selinux or (mount.type == "bind" and mount.create_host_path))


def _bind(mount: Mount) -> str:
    if mount.subpath:
        raise Unsupported(f"the volume at {mount.target} cannot have both a subpath and an SELinux label")
    options = ["ro" if mount.read_only else "rw"]
    options += [option for option in (mount.propagation, mount.selinux, "nocopy" if mount.nocopy else "") if option]
    return f"{mount.source}:{mount.target}:{','.join(options)}"


def needed_sources(item: ServiceItem) -> tuple[str, ...]:
    """Name the folders and files of this node that must be there, as the engine would make those in the older form."""
    return tuple(
        m.source for m in item.spec.container.mounts if m.type == "bind" and _in_old_form(m) and not m.create_host_path
    )


def volumes_to_make(item: ServiceItem) -> list[Json]:
    """Give the requests for volumes that the older form of a mount would make without labels and driver."""
    found = []
    for mount in item.spec.container.mounts:
        if mount.type == "volume" and mount.source and _in_old_form(mount):
            volume = next((v for v in item.volumes if v.name == mount.source), None)
            options = _volume_options(volume, item)
            driver = options.pop("DriverConfig", {"Name": "local", "Options": {}})
            if options:
                found.append(
                    {"Name": mount.source, "Driver": driver["Name"], "DriverOpts": driver["Options"], **options}
                )
    return found


def _mount(mount: Mount, item: ServiceItem, host: Host) -> Json:
    said: Json = {"Type": mount.type, "Target": mount.target, "ReadOnly": mount.read_only}
    if mount.type == "tmpfs":
        options = {"SizeBytes": mount.tmpfs_size, "Mode": mount.tmpfs_mode}
        said["TmpfsOptions"] = {name: value for name, value in options.items() if value is not None}
        return said
    said["Source"] = mount.source
    if mount.type == "bind":
        said["BindOptions"] = {"Propagation": mount.propagation} if mount.propagation else {}
        return said
    volume = next((v for v in item.volumes if v.name == mount.source), None)
    said["VolumeOptions"] = {"NoCopy": mount.nocopy, **_volume_options(volume, item)}
    if mount.subpath:
        host.require("volumes.volume.subpath")
        said["VolumeOptions"]["Subpath"] = mount.subpath
    return said


def _volume_options(volume: VolumeSpec | None, item: ServiceItem) -> Json:
    """Say how the engine is to make a volume that is not there yet; an external one must be there."""
    if volume is None or volume.external:
        return {}
    said: Json = {"Labels": {**volume.labels, LABEL_STACK: item.stack, LABEL_NAMESPACE: item.stack}}
    if volume.driver or volume.driver_options:
        said["DriverConfig"] = {"Name": volume.driver or "local", "Options": dict(volume.driver_options)}
    return said
