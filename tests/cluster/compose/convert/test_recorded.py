"""The conversion beside Docker's: what `docker stack deploy` asks a swarm's manager to create (see record.py)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.compose.convert import convert
from cluster.model.container import ContainerSpec, FileReference, Mount
from cluster.model.service import ServiceSpec, UpdateConfig
from cluster.model.stack import StackSpec
from tests.cluster.compose.convert.plain import Plain
from tests.cluster.compose.convert.record import FOLDER, STACK

CASES = sorted(file.stem for file in FOLDER.glob("*.yml"))
OF_DOCKER = "com.docker.stack."
_SECOND = 10**9


@pytest.mark.parametrize("case", CASES)
def test_services_are_what_docker_makes_of_them(case: str) -> None:
    recorded = json.loads((FOLDER / f"{case}.json").read_text())
    found = convert(Plain(recorded["model"], name=STACK))
    made = {body["Name"]: body for path, body in recorded["calls"] if path == "/services/create"}
    assert {f"{STACK}_{key}" for key in found.services} == set(made)
    for key, spec in found.services.items():
        assert ours(spec, found) == theirs(made[f"{STACK}_{key}"])


@pytest.mark.parametrize("case", CASES)
def test_networks_secrets_and_configs_are_what_docker_makes_of_them(case: str) -> None:
    recorded = json.loads((FOLDER / f"{case}.json").read_text())
    found = convert(Plain(recorded["model"], name=STACK))
    made: dict[str, dict[str, Any]] = {"networks": {}, "secrets": {}, "configs": {}}
    for path, body in recorded["calls"]:
        if (kind := path.split("/")[1]) in made:
            made[kind][body["Name"]] = body
    assert {n.name: (n.internal, n.labels, list(n.subnets)) for n in found.networks.values() if not n.external} == {
        name: (
            bool(body.get("Internal")),
            labels(body),
            [config["Subnet"] for config in (body.get("IPAM") or {}).get("Config") or ()],
        )
        for name, body in made["networks"].items()
    }
    assert {s.name: s.labels for s in found.secrets.values() if not s.external} == {
        name: labels(body) for name, body in made["secrets"].items()
    }
    assert {c.name: (c.labels, c.template_driver) for c in found.configs.values() if not c.external} == {
        name: (labels(body), (body.get("Templating") or {}).get("Name", "")) for name, body in made["configs"].items()
    }


def labels(body: dict[str, Any]) -> dict[str, str]:
    """Give the user's own: Docker adds the name of the stack and of the image."""
    return {key: value for key, value in (body.get("Labels") or {}).items() if not key.startswith(OF_DOCKER)}


def nanoseconds(seconds: float | None) -> int:
    return round((seconds or 0) * _SECOND)


def ours(spec: ServiceSpec, stack: StackSpec) -> dict[str, Any]:
    container, restart = spec.container, spec.restart
    counted = spec.mode in ("replicated", "replicated-job")
    return {
        "mode": (str(spec.mode), spec.replicas if counted else None),
        "labels": spec.labels,
        "networks": {stack.networks[a.network].name: set(a.aliases) for a in spec.networks},
        "ports": sorted((p.protocol, p.mode, p.target, p.published) for p in spec.ports),
        "endpoint": spec.endpoint_mode,
        "update": _update(spec.update),
        "rollback": _update(spec.rollback),
        "restart": (str(restart.condition), nanoseconds(restart.delay), restart.max_attempts or 0,
                    nanoseconds(restart.window)),
        "limits": (spec.resources.nano_cpus or 0, spec.resources.memory or 0, spec.resources.pids or 0),
        "reserved": (spec.reservations.nano_cpus, spec.reservations.memory, spec.reservations.generic),
        "constraints": list(spec.constraints),
        "spread": list(spec.spread),
        "most": spec.max_replicas_per_node,
        "container": _container(container),
        "mounts": {m.target: _mount(m, stack) for m in container.mounts},
        "secrets": sorted(_file(f, stack.secrets[f.source].name) for f in container.secrets),
        "configs": sorted(_file(f, stack.configs[f.source].name) for f in container.configs),
    }  # fmt: skip


def _update(config: UpdateConfig) -> tuple[Any, ...]:
    return (config.parallelism, nanoseconds(config.delay), nanoseconds(config.monitor), str(config.failure_action),
            config.max_failure_ratio, config.order)  # fmt: skip


def _file(file: FileReference, name: str) -> tuple[Any, ...]:
    return name, file.target, file.uid, file.gid, file.mode


def _mount(mount: Mount, stack: StackSpec) -> tuple[Any, ...]:
    volume = next((v for v in stack.volumes.values() if v.name == mount.source), None)
    made = (volume.labels, volume.driver, volume.driver_options) if volume else ({}, "", {})
    return (
        mount.type, mount.source, mount.read_only, mount.nocopy, mount.propagation, mount.tmpfs_size or 0,
        made if volume and not volume.external else ({}, "", {}),
    )  # fmt: skip


def _container(spec: ContainerSpec) -> dict[str, Any]:
    check = spec.healthcheck
    return {
        "image": spec.image.removesuffix(":latest"),
        "command": list(spec.entrypoint or ()),
        "arguments": list(spec.command or ()),
        "environment": sorted(f"{key}={value}" for key, value in spec.environment.items()),
        "labels": spec.labels,
        "words": (spec.hostname, spec.user, spec.working_dir, spec.stop_signal),
        "flags": (spec.tty, spec.stdin_open, spec.read_only, spec.init),
        "grace": nanoseconds(spec.stop_grace_period),
        "capabilities": (list(spec.cap_add), list(spec.cap_drop)),
        "sysctls": spec.sysctls,
        "ulimits": {name: (limit.soft, limit.hard) for name, limit in spec.ulimits.items()},
        "hosts": [f"{address} {name}" for name, address in spec.extra_hosts],
        "dns": (list(spec.dns), list(spec.dns_search)),
        "logging": (spec.logging.driver, spec.logging.options) if spec.logging else ("", {}),
        "health": (
            list(check.test), nanoseconds(check.interval), nanoseconds(check.timeout),
            nanoseconds(check.start_period), check.retries or 0,
        ) if check else None,
    }  # fmt: skip


def theirs(body: dict[str, Any]) -> dict[str, Any]:
    template, endpoint = body["TaskTemplate"], body.get("EndpointSpec") or {}
    spec, placement = template["ContainerSpec"], template.get("Placement") or {}
    resources, restart = template.get("Resources") or {}, template.get("RestartPolicy") or {}
    limits, reserved = resources.get("Limits") or {}, resources.get("Reservations") or {}
    ((mode, told),) = ((key, value) for key, value in body["Mode"].items() if value is not None)
    modes = {
        "Replicated": ("replicated", told.get("Replicas", 1)),
        "Global": ("global", None),
        "ReplicatedJob": ("replicated-job", told.get("TotalCompletions", 1)),
        "GlobalJob": ("global-job", None),
    }
    return {
        "mode": modes[mode],
        "labels": labels(body),
        "networks": {n["Target"]: set(n.get("Aliases") or ()) for n in template.get("Networks") or ()},
        "ports": sorted((p["Protocol"], p.get("PublishMode", "ingress"), p["TargetPort"], p["PublishedPort"])
                        for p in endpoint.get("Ports") or ()),
        "endpoint": endpoint.get("Mode") or "vip",
        "update": _their_update(body.get("UpdateConfig")),
        "rollback": _their_update(body.get("RollbackConfig")),
        "restart": (restart.get("Condition") or "any", restart.get("Delay") or 0, restart.get("MaxAttempts") or 0,
                    restart.get("Window") or 0),
        "limits": (limits.get("NanoCPUs", 0), limits.get("MemoryBytes", 0), limits.get("Pids", 0)),
        "reserved": (
            reserved.get("NanoCPUs", 0), reserved.get("MemoryBytes", 0),
            {g["DiscreteResourceSpec"]["Kind"]: g["DiscreteResourceSpec"]["Value"]
             for g in reserved.get("GenericResources") or ()},
        ),
        "constraints": placement.get("Constraints") or [],
        "spread": [p["Spread"]["SpreadDescriptor"] for p in placement.get("Preferences") or ()],
        "most": placement.get("MaxReplicas", 0),
        "container": _their_container(spec, template.get("LogDriver") or {}),
        "mounts": {m["Target"]: _their_mount(m) for m in spec.get("Mounts") or ()},
        "secrets": sorted(_their_file(f, f["SecretName"], "/run/secrets/") for f in spec.get("Secrets") or ()),
        "configs": sorted(_their_file(f, f["ConfigName"], "/") for f in spec.get("Configs") or ()),
    }  # fmt: skip


def _their_update(config: dict[str, Any] | None) -> tuple[Any, ...]:
    """SwarmKit fills in what the command leaves out."""
    told = config or {"Parallelism": 1}
    return (
        told.get("Parallelism", 0), told.get("Delay") or 0, told.get("Monitor") or 5 * _SECOND,
        told.get("FailureAction") or "pause", told.get("MaxFailureRatio") or 0.0, told.get("Order") or "stop-first",
    )  # fmt: skip


def _their_file(reference: dict[str, Any], name: str, folder: str) -> tuple[Any, ...]:
    file = reference["File"]
    target = file["Name"] if file["Name"].startswith("/") else f"{folder}{file['Name']}"
    return name, target, file["UID"], file["GID"], file["Mode"]


def _their_mount(mount: dict[str, Any]) -> tuple[Any, ...]:
    volume, bind = mount.get("VolumeOptions") or {}, mount.get("BindOptions") or {}
    driver = volume.get("DriverConfig") or {}
    return (
        mount["Type"], mount.get("Source", ""), mount.get("ReadOnly", False), volume.get("NoCopy", False),
        bind.get("Propagation", ""), (mount.get("TmpfsOptions") or {}).get("SizeBytes", 0),
        (labels(volume), driver.get("Name", "").replace("local", ""), driver.get("Options") or {}),
    )  # fmt: skip


def _their_container(spec: dict[str, Any], log: dict[str, Any]) -> dict[str, Any]:
    check, dns = spec.get("Healthcheck"), spec.get("DNSConfig") or {}
    return {
        "image": spec["Image"].removesuffix(":latest"),
        "command": spec.get("Command") or [],
        "arguments": spec.get("Args") or [],
        "environment": sorted(spec.get("Env") or ()),
        "labels": labels(spec),
        "words": tuple(spec.get(key, "") for key in ("Hostname", "User", "Dir", "StopSignal")),
        "flags": tuple(spec.get(key, False) for key in ("TTY", "OpenStdin", "ReadOnly", "Init")),
        "grace": spec.get("StopGracePeriod", 10 * _SECOND),
        "capabilities": (spec.get("CapabilityAdd") or [], spec.get("CapabilityDrop") or []),
        "sysctls": spec.get("Sysctls") or {},
        "ulimits": {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in spec.get("Ulimits") or ()},
        "hosts": spec.get("Hosts") or [],
        "dns": (dns.get("Nameservers") or [], dns.get("Search") or []),
        "logging": (log.get("Name", ""), log.get("Options") or {}),
        "health": (
            check.get("Test") or [], check.get("Interval", 0), check.get("Timeout", 0), check.get("StartPeriod", 0),
            check.get("Retries", 0),
        ) if check else None,
    }  # fmt: skip
