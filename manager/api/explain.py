"""The route that explains: why a service or task is not as it should be, node by node."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from cluster.errors import NotFound, UserError
from cluster.model.service import ServiceState
from cluster.model.task import Task
from cluster.views import Explanation
from manager.api.bodies import answer
from manager.api.core import ReadyCore
from manager.api.rules import Permitted
from manager.api.show import Sees
from manager.decide.explain import explain
from manager.picture import ClusterState

router = APIRouter(prefix="/v1", tags=["services"])


@router.get("/explain/{name}", response_model=Explanation)
async def explanation(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Explain a service (`stack_service`) or a task (`stack_service.slot`, or the beginning of its id)."""
    service, task = _meant(core.state, name, caller.sees)
    return answer(explain(core.state, service, core.clock(), task))


def _meant(state: ClusterState, name: str, sees: Sees) -> tuple[ServiceState, Task | None]:
    by_name = {service.full_name: service for service in state.services.values() if sees(service.stack)}
    if name in by_name:
        return by_name[name], None
    service_name, _, slot = name.rpartition(".")
    if service_name in by_name and slot.isdecimal():
        service = by_name[service_name]
        found = [task for task in state.all_of(service.uid) if task.slot == int(slot)]
        if found:
            return service, max(found, key=lambda task: task.n)
    alike = [
        task
        for ident, task in state.tasks.items()
        if ident.startswith(name) and sees(state.stack_names.get(task.stack_uid, ""))
    ]
    if len(alike) > 1:
        raise UserError(f"{name} is the beginning of {len(alike)} tasks' ids", hint="Give more of it.")
    if not alike or alike[0].service_uid not in state.services:
        raise NotFound(f"there is no service or task {name}", hint="`stack services` and `stack ps` list them.")
    return state.services[alike[0].service_uid], alike[0]
