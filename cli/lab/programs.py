"""The programs of a lab: their command lines and files, from the lab's layout alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.lab.layout import API_PORT, Layout, NodeLayout

ENGINE, ETCD, MANAGER, AGENT = "engine", "etcd", "manager", "agent"
PROGRAMS = (ETCD, ENGINE, MANAGER, AGENT)  # in the order of starting; stopping goes the other way
MANAGER_PROGRAMS = frozenset({ETCD, MANAGER})
REGISTRY = "registry"

_ETCD_CLIENT, _ETCD_PEER = 2379, 2380


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: `executable` is the name by which the kernel knows the running program."""

    executable: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """An executable that must be on PATH, and the Debian package that has it."""

    executable: str
    package: str


_BASE = (
    Requirement("ip", "iproute2"),
    Requirement("nsenter", "util-linux"),
    Requirement("mount", "mount"),
    Requirement("awk", "mawk"),
    Requirement("tini", "tini"),
)
_REGISTRY = (Requirement("docker-registry", "docker-registry"),)
_NEEDS = {
    ENGINE: (
        Requirement("dockerd", "docker.io"),
        Requirement("containerd", "containerd"),
        Requirement("runc", "runc"),
        Requirement("iptables", "iptables"),
    ),
    ETCD: (Requirement("etcd", "etcd-server"),),
}


def requirements(programs: Sequence[str]) -> list[Requirement]:
    return [*_BASE, *_REGISTRY, *(need for program in programs for need in _NEEDS.get(program, ()))]


def engine_config(node: NodeLayout, runtime: Path) -> str:
    """The engine's daemon.json: a file and not flags, as the machine may have one for an engine of its own."""
    config = {
        "hosts": ["unix:///run/docker.sock"],
        "data-root": str(node.data_dir / "docker"),
        "exec-root": "/run/docker",
        "pidfile": "/run/docker.pid",
        "cgroup-parent": f"/{node.cgroup}",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "registry-mirrors": [f"http://{node.lab.registry}"],
        "insecure-registries": [node.lab.registry],
        "runtimes": {"stackyard": {"path": str(runtime)}},
        "log-level": "warn",
    }
    return json.dumps(config, indent=2) + "\n"


def engine(node: NodeLayout, extra: Sequence[str]) -> Program:
    return Program("dockerd", ("dockerd", "--config-file", str(engine_config_file(node)), *extra))


def engine_config_file(node: NodeLayout) -> Path:
    return node.data_dir / "daemon.json"


def etcd(node: NodeLayout, members: Sequence[NodeLayout]) -> Program:
    """One member of the lab's etcd. Its data says whether it is a new one."""
    peer = {member.name: f"http://{member.address}:{_ETCD_PEER}" for member in members}
    options = _options(
        name=node.name,
        data_dir=node.data_dir / ETCD,
        listen_client_urls=f"http://127.0.0.1:{_ETCD_CLIENT},{etcd_url(node)}",
        advertise_client_urls=etcd_url(node),
        listen_peer_urls=peer[node.name],
        initial_advertise_peer_urls=peer[node.name],
        initial_cluster=",".join(f"{name}={url}" for name, url in peer.items()),
        initial_cluster_token=f"stackyard-{node.lab.name}",
        initial_cluster_state="new",
        logger="zap",
        log_level="warn",
    )
    return Program("etcd", ("etcd", *options))


def etcd_url(node: NodeLayout) -> str:
    return f"http://{node.address}:{_ETCD_CLIENT}"


def manager(node: NodeLayout, managers: Sequence[NodeLayout], bin_dir: Path) -> Program:
    # its own member first, by an address that a cut cable does not take away
    endpoints = [f"http://127.0.0.1:{_ETCD_CLIENT}", *(etcd_url(other) for other in managers if other != node)]
    listen = f"{node.address}:{API_PORT}"
    options = _options(
        name=node.name,
        data_dir=node.data_dir / MANAGER,
        etcd=",".join(endpoints),
        listen=listen,
        advertise=listen,
        socket="/run/stackyard/manager.sock",
    )
    return Program("stack-manager", (str(bin_dir / "stack-manager"), *options))


def agent(node: NodeLayout, managers: Sequence[NodeLayout], token: str | None, bin_dir: Path) -> Program:
    """The node's agent; without a token it goes on with the certificate that it has."""
    options = _options(
        name=node.name,
        data_dir=node.data_dir / AGENT,
        manager=",".join(other.api_url for other in managers),
        advertise=node.address,
        engine="/run/docker.sock",
    )
    joining = _options(token=token) if token else ()
    # so that look-ups do not fail while it restarts, as with systemd
    keeper = (str(bin_dir / "stack-fdstore"), "/run/stackyard/fdstore", "--")
    return Program("stack-agent", (*keeper, str(bin_dir / "stack-agent"), *options, *joining))


def _options(**values: str | Path) -> tuple[str, ...]:
    return tuple(word for name, value in values.items() for word in ("--" + name.replace("_", "-"), str(value)))


def registry_config(lab: Layout) -> str:
    config = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(lab.cache_dir / "registry")},
            "delete": {"enabled": True},
        },
        "http": {"addr": lab.registry},
    }
    return json.dumps(config, indent=2) + "\n"  # which is YAML, too


def registry(lab: Layout) -> Program:
    return Program("docker-registry", ("docker-registry", "serve", str(registry_config_file(lab))))


def registry_config_file(lab: Layout) -> Path:
    return lab.data_dir / "registry.json"
