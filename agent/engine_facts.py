"""What the engine is, whether it can run our containers, and when its process began."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.engine import troubles


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What matters of the engine's own description. `troubles` are conditions under which no container can be made.

    `resources` are the generic resources of its configuration, `root` is its data directory.
    """

    version: str
    api: tuple[int, int]
    started_at: float
    os: str = "linux"
    architecture: str = ""
    kernel: str = ""
    cpus: int = 0
    memory: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    resources: dict[str, int] = field(default_factory=dict)
    root: str = ""


def facts_from(info: Mapping[str, Any], api: tuple[int, int], started_at: float) -> EngineFacts:
    """Read the engine's info answer."""
    labels = (text.partition("=") for text in info.get("Labels") or ())
    return EngineFacts(
        version=info.get("ServerVersion", ""),
        api=api,
        started_at=started_at,
        os=info.get("OSType", "linux"),
        architecture=info.get("Architecture", ""),
        kernel=info.get("KernelVersion", ""),
        cpus=info.get("NCPU", 0),
        memory=info.get("MemTotal", 0),
        labels={name: value for name, _, value in labels},
        troubles=troubles(info),
        resources=_resources(info),
        root=info.get("DockerRootDir", ""),
    )


def _resources(info: Mapping[str, Any]) -> dict[str, int]:
    """Count the generic resources that daemon.json gives (`node-generic-resources`), the named ones by their kind."""
    counts: dict[str, int] = {}
    for entry in info.get("GenericResources") or ():
        if discrete := entry.get("DiscreteResourceSpec"):
            kind = str(discrete.get("Kind", "")).lower()
            counts[kind] = counts.get(kind, 0) + int(discrete.get("Value", 0))
        elif named := entry.get("NamedResourceSpec"):
            kind = str(named.get("Kind", "")).lower()
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def peer(path: Path) -> int:
    """Give the process that serves a UNIX socket, 0 when it is in a namespace out of sight. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        probe.connect(str(path))
        return int(struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def peer_started_at(path: Path) -> float:
    """Tell when the process that serves a UNIX socket began; 0.0 when that cannot be known.

    Where systemd listens for the engine, the engine's own pid is in its pid file.
    """
    try:
        pid = peer(path)
        if pid == 1:
            pid = int((path.parent / "docker.pid").read_text())
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError):
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
