"""Routes about services and their tasks, and what the tasks print."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from cluster.errors import Unavailable, UserError
from cluster.views import ServiceView, TaskView
from manager.api import show
from manager.api.bodies import listed
from manager.api.core import ReadyCore
from manager.api.logs import Wanted, choose, logs_of, one_log
from manager.api.rules import Permitted

router = APIRouter(prefix="/v1", tags=["services"])

AT_ONCE = 500


@router.get("/services", response_model=list[ServiceView])
async def services(caller: Permitted, core: ReadyCore, stack: str | None = None) -> Response:
    seen = {name: one for name, one in core.state.stacks.items() if caller.sees(name)}
    stacks = seen if stack is None else {stack: show.find_stack(core.state, stack, caller.sees)}
    return await listed(stacks, lambda one: show.services(core.state, one, core.clock()))


@router.get("/tasks", response_model=list[TaskView])
async def tasks(
    caller: Permitted, core: ReadyCore, stack: str | None = None, service: str | None = None, node: str | None = None
) -> Response:
    """List tasks; a long list is made and sent in parts, between which others have their turn."""
    found = show.find_tasks(core.state, stack, service, node, caller.sees)
    return StreamingResponse(_array(core.rows.of(core.state, task) for task in found), media_type="application/json")


async def _array(rows: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Give JSON's array of these, some at a time."""
    before = b"["
    while some := list(itertools.islice(rows, AT_ONCE)):
        yield before + b",".join(some)
        before = b","
        await asyncio.sleep(0)  # a socket that takes all at once would not let others have their turn
    yield b"]" if before == b"," else b"[]"


@router.get("/logs", response_class=StreamingResponse)
async def logs(
    caller: Permitted,
    core: ReadyCore,
    of: Annotated[list[str], Query(min_length=1)],
    follow: bool = False,
    tail: Annotated[int | None, Query(ge=0)] = None,
    since: float | None = None,
    until: float | None = None,
    timestamps: bool = False,
    after: Annotated[list[str] | None, Query()] = None,
) -> StreamingResponse:
    """What tasks print, as it comes: those `of` stacks, services and tasks; a line with a note tells what is missing.

    `timestamps` puts the instant before each line. `after` is TASK@SECONDS: go on with that task's log from then on.
    """
    chosen = choose(core.state, of, caller.sees)
    wanted = Wanted(follow, tail, since, until, timestamps, dict(map(_position, after or ())))
    return StreamingResponse(logs_of(core, caller, chosen, wanted), media_type="application/x-ndjson")


@router.get("/tasks/{ident}/log", response_class=StreamingResponse, include_in_schema=False)
async def log_for_another_manager(
    caller: Permitted,
    core: ReadyCore,
    ident: str,
    follow: bool = False,
    tail: Annotated[int | None, Query(ge=0)] = None,
    since: float | None = None,
    until: float | None = None,
) -> StreamingResponse:
    """What one task prints whose agent is connected here."""
    task = core.state.tasks.get(ident)
    if task is None or task.node is None or not core.sessions.holds(task.node):
        raise Unavailable("its agent is not connected to this manager any more")
    return StreamingResponse(
        one_log(core, caller, task, Wanted(follow, tail, since, until)), media_type="application/x-ndjson"
    )


def _position(text: str) -> tuple[str, float]:
    task, _, seconds = text.partition("@")
    try:
        return task, float(seconds)
    except ValueError:
        raise UserError(f"after: {text!r} is not TASK@SECONDS") from None
