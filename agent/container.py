"""Task to engine create request, and what the engine says of a container to Observed. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cluster.model.container import ContainerSpec, Healthcheck, Mount
from cluster.model.task import Task
from cluster.model.volume import VolumeSpec
from cluster.protocol import ServiceItem

LABEL_CLUSTER = "com.stackyard.cluster"
LABEL_TASK = "com.stackyard.task"
LABEL_SERVICE = "com.stackyard.service"
LABEL_STACK = "com.stackyard.stack"
LABEL_SLOT = "com.stackyard.slot"
LABEL_NAMESPACE = "com.docker.stack.namespace"

RUNTIME = "stackyard"
RESOLVER = "127.0.0.11"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Host:
    """What a create request needs to know of this node; `api` is the engine's API version, such as (1, 41).

    `files` is the folder that holds a folder of generated files for each task.
    """

    cluster: str
    files: str
    address: str
    api: tuple[int, int]

    def folder(self, task: str) -> str:
        return f"{self.files}/{task}"


@dataclass(frozen=True, slots=True)
class Image:
    """What matters of an image on this node: its own health check and entrypoint."""

    id: str
    healthchecked: bool = False
    entrypoint: tuple[str, ...] = ()


class Phase(StrEnum):
    """Where a container stands. DEAD is one that the engine failed to remove or is removing."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Observed:
    """A container of ours. `health` is "" without a health check, else starting, healthy or unhealthy.

    `inspected` tells that exit code, OOM and error are the engine's last word, not only an event's.
    """

    id: str
    task: str
    phase: Phase
    exit_code: int | None = None
    oom: bool = False
    health: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    error: str = ""
    inspected: bool = False


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
    hosts = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    name = hostname_of(spec, task)
    hosts += [f"{address}\t{name}" for endpoint in task.endpoints for address in endpoint.addresses]
    hosts += [
        f"{host.address if address == 'host-gateway' else address}\t{extra}" for extra, address in spec.extra_hosts
    ]
    resolv = [f"nameserver {RESOLVER}"]
    if spec.dns_search:
        resolv.append("search " + " ".join(spec.dns_search))
    resolv.append("options " + " ".join(spec.dns_options or ("ndots:0",)))
    return {"hosts": _lines(hosts), "resolv.conf": _lines(resolv), "hostname": _lines([name])}


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def create_request(item: ServiceItem, task: Task, image: Image, host: Host) -> Json:
    """Build the body of the engine's container create call for a task."""
    spec, service = item.spec.container, item.spec
    binds = [_bind(mount) for mount in spec.mounts if mount.type == "bind" and mount.create_host_path]
    taken = {mount.target.rstrip("/") for mount in spec.mounts}
    folder = host.folder(task.id)
    # "z" lets containers read them on a host that enforces SELinux.
    binds += [f"{folder}/{name}:/etc/{name}:z" for name in task_files(item, task, host) if f"/etc/{name}" not in taken]
    mounts = [_mount(mount, item) for mount in spec.mounts if not (mount.type == "bind" and mount.create_host_path)]
    resources = service.resources
    host_config: Json = {
        "Runtime": RUNTIME,
        "RestartPolicy": {"Name": "no"},
        "Binds": binds,
        "Mounts": mounts,
        "Init": spec.init,
        "ReadonlyRootfs": spec.read_only,
        "CapAdd": list(spec.cap_add),
        "CapDrop": list(spec.cap_drop),
        "Sysctls": dict(spec.sysctls),
        "Ulimits": [{"Name": name, "Soft": u.soft, "Hard": u.hard} for name, u in sorted(spec.ulimits.items())],
        "NanoCpus": resources.nano_cpus or 0,
        "Memory": resources.memory or 0,
    }
    if resources.pids is not None:
        host_config["PidsLimit"] = resources.pids
    if spec.logging is not None:
        host_config["LogConfig"] = {"Type": spec.logging.driver, "Config": dict(spec.logging.options)}
    body: Json = {
        "Image": spec.image,
        "Hostname": hostname_of(spec, task),
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "Env": [f"{key}={value}" for key, value in spec.environment.items()],
        "Labels": {**spec.labels, **labels(item, task, host.cluster)},
        "Tty": spec.tty,
        "OpenStdin": spec.stdin_open,
        "NetworkDisabled": True,
        "StopTimeout": math.ceil(spec.stop_grace_period),
        "HostConfig": host_config,
        **_command(spec, image),
    }
    if spec.stop_signal:
        body["StopSignal"] = spec.stop_signal
    if spec.healthcheck is not None:
        body["Healthcheck"] = _healthcheck(spec.healthcheck, host.api)
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


def _healthcheck(check: Healthcheck, api: tuple[int, int]) -> Json:
    said: Json = {"Test": list(check.test)}
    durations = {"Interval": check.interval, "Timeout": check.timeout, "StartPeriod": check.start_period}
    if api >= (1, 44):
        durations["StartInterval"] = check.start_interval
    said |= {name: round(seconds * 1e9) for name, seconds in durations.items() if seconds is not None}
    if check.retries is not None:
        said["Retries"] = check.retries
    return said


def _bind(mount: Mount) -> str:
    """Write a bind in the engine's older form, the only one that makes a missing source in every API version."""
    options = ["ro" if mount.read_only else "rw", *([mount.propagation] if mount.propagation else [])]
    return f"{mount.source}:{mount.target}:{','.join(options)}"


def _mount(mount: Mount, item: ServiceItem) -> Json:
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
    return said


def _volume_options(volume: VolumeSpec | None, item: ServiceItem) -> Json:
    """Say how the engine is to make a volume that is not there yet; an external one must be there."""
    if volume is None or volume.external:
        return {}
    said: Json = {"Labels": {**volume.labels, LABEL_STACK: item.stack, LABEL_NAMESPACE: item.stack}}
    if volume.driver or volume.driver_options:
        said["DriverConfig"] = {"Name": volume.driver or "local", "Options": dict(volume.driver_options)}
    return said


# What the engine says.


def image_from(inspect: Mapping[str, Any]) -> Image:
    """Read an image inspect answer."""
    config = inspect.get("Config") or {}
    test = (config.get("Healthcheck") or {}).get("Test") or []
    return Image(
        id=inspect["Id"],
        healthchecked=bool(test) and test[0] != "NONE",
        entrypoint=tuple(config.get("Entrypoint") or ()),
    )


def observe(inspect: Mapping[str, Any]) -> Observed:
    """Read a container inspect answer."""
    state = inspect["State"]
    phase = phase_from(state["Status"])
    health = (state.get("Health") or {}).get("Status") or ""
    return Observed(
        id=inspect["Id"],
        task=(inspect["Config"].get("Labels") or {}).get(LABEL_TASK, ""),
        phase=phase,
        exit_code=state.get("ExitCode") if phase in (Phase.EXITED, Phase.DEAD) else None,
        oom=bool(state.get("OOMKilled")),
        health="" if health == "none" else health,
        started_at=_instant(state.get("StartedAt")),
        finished_at=_instant(state.get("FinishedAt")),
        error=state.get("Error") or "",
        inspected=True,
    )


def phase_from(status: str) -> Phase:
    """Sort the engine's seven states of a container into those that matter here."""
    match status:
        case "created":
            return Phase.CREATED
        case "exited":
            return Phase.EXITED
        case "dead" | "removing":
            return Phase.DEAD
        case _:  # running, and what a person may have made of it: paused, restarting
            return Phase.RUNNING


def _instant(text: str | None) -> float | None:
    """Read the engine's RFC 3339 with nanoseconds; its year 1 means never."""
    if not text or text.startswith("0001-"):
        return None
    main, _, zone = text.partition("Z") if text.endswith("Z") else (text[:-6], "", text[-6:])
    seconds, _, fraction = main.partition(".")
    moment = datetime.fromisoformat(seconds + (zone or "+00:00"))
    return moment.astimezone(UTC).timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


@dataclass(frozen=True, slots=True)
class Event:
    """A container event: what happened, to which container, and when."""

    action: str
    container: str
    at: float
    attributes: Mapping[str, str]


def fold(seen: Observed, event: Event) -> Observed | None:
    """Bring what is known of a container up to date with an event about it; None when it has gone.

    Events that are older than the start of the run that is known change nothing: they tell of an earlier run.
    """
    if event.action == "destroy":
        return None
    if seen.started_at is not None and event.at < seen.started_at:
        return seen
    match event.action.split(":")[0]:
        case "start":
            return started(seen, event.at)
        case "die" if seen.phase is Phase.RUNNING or seen.phase is Phase.CREATED:
            code = event.attributes.get("exitCode", "")
            return replace(
                seen,
                phase=Phase.EXITED,
                exit_code=int(code) if code.lstrip("-").isdigit() else None,
                finished_at=event.at,
                inspected=False,
            )
        case "oom":
            return replace(seen, oom=True)
        case "health_status" if seen.phase is Phase.RUNNING:
            return replace(seen, health=event.action.partition(":")[2].strip() or seen.health)
        case _:
            return seen


def started(seen: Observed, at: float) -> Observed:
    """A run began at `at`. A container that reports health starts again with "starting"."""
    if seen.phase is Phase.RUNNING:
        return replace(seen, started_at=at)
    return Observed(
        id=seen.id, task=seen.task, phase=Phase.RUNNING, health="starting" if seen.health else "", started_at=at
    )
