"""Routes about services and their tasks, and what the tasks print."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from cluster.errors import Unavailable, UserError
from cluster.model.node import Node
from cluster.model.service import ServiceState
from cluster.views import ServiceView, TaskView
from manager.api import show
from manager.api.bodies import listed
from manager.api.core import Core, ReadyCore
from manager.api.logs import Wanted, choose, logs_of, one_log
from manager.api.rules import Permitted

router = APIRouter(prefix="/v1", tags=["services"])

PART = 256 * 1024
"""Bytes of a list that are sent together."""

SLICE = 0.005
"""Seconds of work on a list after which others on the event loop have their turn."""


@router.get("/services", response_model=list[ServiceView])
async def services(caller: Permitted, core: ReadyCore, stack: str | None = None) -> Response:
    """List services, with how many of their tasks run."""
    seen = {name: one for name, one in core.state.stacks.items() if caller.sees(name)}
    stacks = seen if stack is None else {stack: show.find_stack(core.state, stack, caller.sees)}
    return await listed(stacks, lambda one: show.services(core.state, one, core.clock()))


@router.get("/tasks", response_model=list[TaskView])
async def tasks(
    caller: Permitted, core: ReadyCore, stack: str | None = None, service: str | None = None, node: str | None = None
) -> Response:
    """List tasks; a long list is made and sent in parts, between which others have their turn."""
    services = show.find_services(core.state, stack, service, caller.sees)
    there = None if node is None else show.find_node(core.state, node)
    return StreamingResponse(_array(_rows(core, services, there)), media_type="application/json")


def _rows(core: Core, services: list[ServiceState], node: Node | None) -> Iterator[bytes]:
    for service in services:
        if node is None:
            yield from core.rows.of_service(core.state, service.uid)
        else:
            yield from (core.rows.of(core.state, task) for task in show.tasks_of(core.state, service.uid, node))


async def _array(rows: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Give JSON's array of these, in parts that are neither large nor long in the making."""
    opened, part, size, began = b"[", list[bytes](), 0, time.thread_time()
    for row in rows:
        part.append(row)
        size += len(row)
        if size > PART or time.thread_time() - began > SLICE:
            yield opened + b",".join(part)
            await asyncio.sleep(0)  # a socket that takes all at once would not let others have their turn
            opened, part, size, began = b",", [], 0, time.thread_time()
    yield (opened + b",".join(part) if part or opened == b"[" else b"") + b"]"


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
