"""Services."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.model.service import PortSpec, ServiceMode
from cluster.model.update import UpdateStatus


@dataclass(frozen=True, slots=True)
class ServiceView:
    """`name` is `stack_service`. `running` counts running tasks of any version, `updated` those of the newest.

    `completed` counts the tasks of the newest version that have done their work for good, of `wanted` a job has. A
    global service wants one on each node that it is for and that is up.

    `problem` is the newest reason why the service is not whole, "" when it is. `update` is the newest update, None
    before the first.
    """

    name: str
    stack: str
    service: str
    uid: str
    version: int
    image: str
    wanted: int
    running: int
    updated: int
    ports: tuple[PortSpec, ...] = ()
    problem: str = ""
    mode: ServiceMode = ServiceMode.REPLICATED
    completed: int = 0
    update: UpdateStatus | None = None
    digest: str = ""
