"""Routes about services and their tasks, and what the tasks print."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from cluster.views import ServiceView, TaskView
from manager.api import show
from manager.api.bodies import answer
from manager.api.callers import Operator
from manager.api.core import ReadyCore
from manager.api.logs import Wanted, service_logs

router = APIRouter(prefix="/v1", tags=["services"])


@router.get("/services", response_model=list[ServiceView])
async def services(caller: Operator, core: ReadyCore, stack: str | None = None) -> Response:
    if stack is not None:
        show.find_stack(core.state, stack)
    return answer(show.services(core.state, stack))


@router.get("/tasks", response_model=list[TaskView])
async def tasks(
    caller: Operator, core: ReadyCore, stack: str | None = None, service: str | None = None, node: str | None = None
) -> Response:
    return answer(show.tasks(core.state, stack, service, node))


@router.get("/services/{name}/logs", response_class=StreamingResponse)
async def logs(
    caller: Operator,
    core: ReadyCore,
    name: str,
    follow: bool = False,
    tail: Annotated[int | None, Query(ge=0)] = None,
    since: float | None = None,
    timestamps: bool = False,
) -> StreamingResponse:
    """What all tasks of a service print, as it comes; a line with a note tells what is missing."""
    service = show.find_service(core.state, name)
    wanted = Wanted(follow, tail, since, timestamps)
    return StreamingResponse(service_logs(core, service, wanted), media_type="application/x-ndjson")
