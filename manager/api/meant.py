"""What a person means by a name: a service with or without its stack, a task of it, the beginning of a task's id. Pure.

What is not the caller's affair is not there for it, so that a short name that two stacks have is clear to who sees one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.alike import did_you_mean
from cluster.errors import NotFound, UserError
from cluster.model.service import ServiceState
from cluster.model.task import Task
from manager.api.show import Sees, everything
from manager.picture import ClusterState

_SHORTEST_ID = 3
"""Characters of an id that can mean it: fewer are rather a name that is not there."""


@dataclass(frozen=True, slots=True)
class Meant:
    """A service; of it, where `slot` or `task` are given, only those tasks."""

    service: ServiceState
    slot: int | None = None
    task: Task | None = None

    def may_come(self, state: ClusterState) -> bool:
        """Tell whether there may be more of it: a service stays while it is not removed, a task until it has ended."""
        if self.task is not None:
            return self.task.id in state.tasks and not state.has_ended(self.task)
        return self.service.uid in state.services

    def tasks(self, state: ClusterState) -> list[Task]:
        """Give the tasks that are meant, ended ones too."""
        return [
            task
            for task in state.all_of(self.service.uid)
            if (self.slot is None or task.slot == self.slot) and (self.task is None or task.id == self.task.id)
        ]


def meant(state: ClusterState, name: str, sees: Sees = everything) -> Meant:
    """Find what `stack_service`, `service`, either of them with `.slot`, or the beginning of a task's id means.

    Raises NotFound where it is nothing, and UserError where it can be several things.
    """
    if service := _service(state, name, sees):
        return Meant(service)
    before, _, slot = name.rpartition(".")
    if slot.isascii() and slot.isdecimal() and (service := _service(state, before, sees)):
        if not any(task.slot == int(slot) for task in state.all_of(service.uid)):
            raise NotFound(f"{service.full_name} has no task {slot}", hint="`stack ps` lists the tasks.")
        return Meant(service, int(slot))
    begun = [task for ident, task in state.tasks.items() if ident.startswith(name)] if len(name) >= _SHORTEST_ID else []
    found = [task for task in begun if sees(state.stack_names.get(task.stack_uid, ""))]
    if len(found) > 1:
        raise UserError(f"{name} is the beginning of {len(found)} tasks' ids", hint="Give more of it.")
    if not found or found[0].service_uid not in state.services:
        seen = () if sees is everything else (one for one in state.services.values() if sees(one.stack))
        known = {known for one in seen for known in (one.full_name, one.name)}
        hint = did_you_mean(before or name, known, "`stack services` and `stack ps` list them.")
        raise NotFound(f"there is no service or task {name}", hint=hint)
    return Meant(state.services[found[0].service_uid], task=found[0])


def _service(state: ClusterState, name: str, sees: Sees) -> ServiceState | None:
    seen = [service for service in state.services.values() if sees(service.stack)]
    exact = [service for service in seen if service.full_name == name]
    found = exact or [service for service in seen if service.name == name]
    if len(found) > 1:
        raise UserError(f"{name} can mean several services: {_listed(found)}", hint="Give the whole name.")
    return found[0] if found else None


def _listed(services: Iterable[ServiceState]) -> str:
    return ", ".join(sorted(service.full_name for service in services))
