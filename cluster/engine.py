"""What a Docker Engine must be, so that its containers can run in network namespaces that an agent wired. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUNTIME = "stackyard"
"""Our OCI runtime's name in an engine's configuration; `stackyard-NAME` is the one in front of the runtime NAME."""


def refusals(info: Mapping[str, Any]) -> dict[str, str]:
    """Name what no registration can mend of an engine, by its answer to /info, with the reason and the remedy."""
    options = {o.partition(",")[0].removeprefix("name=") for o in info.get("SecurityOptions") or ()}
    root = str(info.get("DockerRootDir", ""))
    found: dict[str, str] = {}
    if "rootless" in options:
        found["engine-rootless"] = (
            "the Docker Engine is rootless and cannot use network namespaces of the host: run it as root"
        )
    if "userns" in options:
        found["engine-userns"] = (
            "the Docker Engine remaps users, so its containers cannot use network namespaces of the host: "
            "remove userns-remap from daemon.json and restart it"
        )
    if root.startswith("/var/snap/"):
        found["engine-snap"] = "the Docker Engine is a snap, which is confined: install docker.io instead"
    if info.get("OperatingSystem") == "Docker Desktop":
        found["engine-desktop"] = "Docker Desktop runs containers in a virtual machine: use Docker Engine on Linux"
    return found


def troubles(info: Mapping[str, Any]) -> dict[str, str]:
    """Name all that keeps an engine from running our containers, with the remedy."""
    found = refusals(info)
    if RUNTIME not in (info.get("Runtimes") or {}):
        found["runtime"] = (
            f"the Docker Engine does not know the runtime {RUNTIME!r}: register it in daemon.json under runtimes "
            "and reload the engine (systemctl reload docker)"
        )
    return found
