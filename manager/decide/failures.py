"""What would mend the failure of a task, by what its node said of it. Only people read it: nothing is decided by it."""

from __future__ import annotations

import re

from cluster.model.task import TaskState, TaskStatus

_MENDS: tuple[tuple[str, str], ...] = (
    (  # before all others, as what the check said may be anything
        r"health check failed",
        "mend the program or the check, of which `docker inspect` on {node} shows more; if it only needs more time,"
        " give it a longer start_period",
    ),
    (
        r"no space left on device|disk quota exceeded",
        "free disk space on {node}: `docker system df` there tells what takes it",
    ),
    (
        r"cannot be had: .*(unauthorized|authentication required|denied)",
        "correct the image's name; one in a private registry has to be loaded onto the nodes, or made public",
    ),
    (
        r"no matching manifest|does not match the (specified|detected) platform",
        "use an image that is made for the platform of {node}",
    ),
    (r"cannot be had: ", "correct the image's name and tag, or push it to its registry"),
    (r"cannot be pulled now: ", "see that {node} reaches the image's registry; it is tried again by itself"),
    (r"pull_policy forbids", "load the image onto {node}, or take `pull_policy: never` out"),
    (r"bind source path does not exist: (?P<what>\S+)", "make {what} on {node}, or set bind.create_host_path"),
    (
        r"volume driver|plugin \S+ not found|error looking up volume plugin",
        "install the volume's driver on {node}, or correct volumes.*.driver",
    ),
    (r"(failed|error while) mount|mounting volume", "correct the volume's driver_opts, and see that {node} reaches it"),
    (r"volume", "correct the volume, or look at it on {node}: `docker volume ls`"),
    (
        r"executable file not found|exec: .*no such file or directory|exec format error",
        "correct the command or entrypoint: the image has no such program that {node} can run",
    ),
    (r"port is already allocated|address already in use", "free the port on {node}, or publish another one"),
    (r"needs Docker Engine", "upgrade the Docker Engine on {node}, or take the key out"),
    (r"out of memory", "raise deploy.resources.limits.memory, or have the program take less"),
)


def change_for(status: TaskStatus, service: str, node: str) -> str:
    """Give the change that would mend a failure; for one that nobody knows, where to look."""
    if known := known_change(status.message, node):
        return known
    if status.state is TaskState.REJECTED:
        return "mend what the node says: its image, a mount, a device"
    return f"`stack logs {service}` shows what it printed"


def known_change(message: str, node: str) -> str:
    """Give the change that would mend what a node says, "" when it is not one that is known."""
    for pattern, change in _MENDS:
        found = re.search(pattern, message, re.IGNORECASE)
        if found is not None:
            return change.format(node=node, **found.groupdict())
    return ""
