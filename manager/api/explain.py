"""The route that explains: why a service or task is not as it should be, node by node."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.responses import Response

from cluster.views import Explanation
from manager.api import traefik
from manager.api.bodies import answer
from manager.api.core import ReadyCore
from manager.api.meant import meant
from manager.api.rules import Permitted
from manager.decide.explain import explain

router = APIRouter(prefix="/v1", tags=["services"])


@router.get("/explain/{name}", response_model=Explanation)
async def explanation(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Explain a service (`stack_service`) or a task (`stack_service.slot`, or the beginning of its id)."""
    found = meant(core.state, name, caller.sees)
    of_one = found.slot is not None or found.task is not None
    newest = max(found.tasks(core.state), key=lambda task: task.n) if of_one else None
    told = explain(core.state, found.service, core.clock(), newest)
    if not of_one and (wanted := core.state.wanted(found.service)) is not None:
        more = traefik.troubles(core.state, found.service.stack, wanted[0])
        told = replace(told, troubles=(*told.troubles, *more))
    return answer(told)
