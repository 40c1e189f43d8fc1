"""Routes about stacks: deploy, scale, remove, and how far that is."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response, StreamingResponse

from cluster.errors import UserError
from cluster.model.node import Session
from cluster.model.service import ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Task, TaskStatus
from cluster.model.volume import Volume
from cluster.protocol import ImagesResolved
from cluster.views import (
    DeployRequest,
    Progress,
    RemoveReply,
    RevisionReply,
    RevisionView,
    RollbackRequest,
    ScaleRequest,
    StackView,
    SwitchRequest,
    UpdateRequest,
)
from manager import audit
from manager.api import privileges, revise, show
from manager.api.bodies import answer, body, line, listed, takes
from manager.api.callers import Caller
from manager.api.changes import changes
from manager.api.contents import take_in
from manager.api.core import TRIES, Core, ReadyCore, busy
from manager.api.images import images_to_resolve, resolved, unresolved
from manager.api.lasting import lasting
from manager.api.progress import progress
from manager.api.rules import Permitted
from manager.decide.stacks import volumes_of_stack
from manager.picture import Change, ClusterState

router = APIRouter(prefix="/v1/stacks", tags=["stacks"])

LARGEST_DEPLOY = 32 * 1024 * 1024
"""Bytes of a deploy with the secrets and configs in it."""

NOTHING_ASKED = ImagesResolved("")

DEBOUNCE = 0.05
KEEP_ALIVE = 10.0
"""Seconds without a line after which an empty one comes, whatever happened that changes nothing of what was told; a
client that has gone is noticed by it."""


@router.get("", response_model=list[StackView])
async def list_stacks(caller: Permitted, core: ReadyCore) -> Response:
    """List stacks."""
    seen = {name: one for name, one in core.state.stacks.items() if caller.sees(name)}
    return await listed(seen, lambda stack: [show.stack(core.state, stack, core.clock())])


@router.get("/{name}", response_model=StackView)
async def stack(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Show a stack."""
    return answer(show.stack(core.state, show.find_stack(core.state, name), core.clock()))


@router.get("/{name}/revisions", response_model=list[RevisionView])
async def revisions(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """List the revisions of a stack that are kept, newest first."""
    return answer(show.revisions(core.state, show.find_stack(core.state, name)))


@router.put("/{name}", response_model=RevisionReply, openapi_extra=takes(DeployRequest))
async def deploy(
    caller: Permitted,
    core: ReadyCore,
    name: str,
    request: Annotated[DeployRequest, Depends(body(DeployRequest, LARGEST_DEPLOY))],
) -> Response:
    """Make a stack be as the spec says: a new revision of it, unless it is like that already."""
    given, found = await prepared(core, caller, name, request)

    def decide(state: ClusterState) -> revise.Write | RevisionReply:
        return revise.deploy(state, name, given, caller.author, core.clock(), new_uid, resolved(found))

    reply = await _write(core, caller, name, decide)
    return answer(replace(reply, notes=unresolved(core.state, reply, found.problems)))


async def prepared(
    core: Core, caller: Caller, name: str, request: DeployRequest, *, only_named: bool = False
) -> tuple[DeployRequest, ImagesResolved]:
    """Take in what a deploy needs before it can be decided: its contents (`take_in`), and what its images mean."""
    if name != request.spec.name:
        raise UserError(f"the spec is for the stack {request.spec.name}, the request for {name}")
    privileges.check(core.state, caller, request.spec, digests=False)
    given = replace(request, spec=await take_in(core, request, only_named=only_named), secrets={}, configs={})
    revise.check(given.spec)
    images = images_to_resolve(core.state, given)
    return given, await core.sessions.resolve(images) if images else NOTHING_ASKED


@router.post("/{name}/scale", response_model=RevisionReply, openapi_extra=takes(ScaleRequest))
async def scale(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[ScaleRequest, Depends(body(ScaleRequest))]
) -> Response:
    """Change how many tasks services have, as a new revision."""
    return await _change(caller, core, name, request)


@router.post("/{name}/rollback", response_model=RevisionReply, openapi_extra=takes(RollbackRequest))
async def roll_back(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[RollbackRequest, Depends(body(RollbackRequest))]
) -> Response:
    """Make a stack, or some of its services, what an earlier revision was, as a new revision."""
    return await _change(caller, core, name, request)


@router.post("/{name}/update", response_model=RevisionReply, openapi_extra=takes(UpdateRequest))
async def update(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[UpdateRequest, Depends(body(UpdateRequest))]
) -> Response:
    """Have paused updates go on, or tasks replaced though nothing has changed, as a new revision."""
    return await _change(caller, core, name, request)


@router.post("/{name}/switch", response_model=RevisionReply, openapi_extra=takes(SwitchRequest))
async def switch(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[SwitchRequest, Depends(body(SwitchRequest))]
) -> Response:
    """Stop services, which keep their definitions, volumes and logs, or start them again, as a new revision."""
    return await _change(caller, core, name, request)


@router.delete("/{name}", response_model=RemoveReply)
async def remove(caller: Permitted, core: ReadyCore, name: str, volumes: bool = False) -> Response:
    """Have a stack removed; its named volumes only if asked for."""
    left: dict[str, str] = {}

    def decide(state: ClusterState) -> revise.Write | RevisionReply:
        nonlocal left
        outcome = revise.remove(state, name, volumes=volumes)
        left = {} if volumes else _volumes_left(state, name)  # now, as the stack may be gone with the next change
        return outcome

    reply = await _write(core, caller, name, decide)
    return answer(RemoveReply(reply.stack, reply.uid, reply.revision, left))


def _volumes_left(state: ClusterState, name: str) -> dict[str, str]:
    """Give the volumes that the removal of a stack leaves behind, with their nodes."""
    stack = state.stacks.get(name)
    if stack is None or stack.remove_volumes:
        return {}
    nodes = ((volume, state.nodes.get(volume.node)) for volume in volumes_of_stack(state, stack) if not volume.removing)
    return {volume.name: volume.node if node is None else node.name for volume, node in nodes}


async def _change(caller: Caller, core: Core, name: str, request: revise.Change) -> Response:
    def decide(state: ClusterState) -> revise.Write | RevisionReply:
        return revise.change(state, name, request, caller.author, core.clock(), new_uid)

    return answer(await _write(core, caller, name, decide))


async def _write(
    core: Core, caller: Caller, name: str, decide: Callable[[ClusterState], revise.Write | RevisionReply]
) -> RevisionReply:
    for _ in range(TRIES):
        outcome = decide(core.state)
        if isinstance(outcome, RevisionReply):
            return outcome
        for record in outcome.records:
            if isinstance(record, StackRevision):
                privileges.check(core.state, caller, record.spec)
        audit.note(**_told(core.state, outcome))
        if await core.write(outcome.records, outcome.guards):
            return outcome.reply
    raise busy(f"the stack {name}")


def _told(state: ClusterState, write: revise.Write) -> dict[str, str]:
    """Say for the audit log what a write makes of a stack."""
    stack = state.stacks.get(write.reply.stack)
    head = None if stack is None else state.head(stack.uid)
    made = next((record for record in write.records if isinstance(record, StackRevision)), None)
    told = {"before": "" if head is None else f"revision {head.n}"}
    if made is None:
        going = next(record for record in write.records if isinstance(record, Stack))
        return told | {"after": "removed, with its volumes" if going.remove_volumes else "removed"}
    changed = () if head is None else changes(head, made)
    return told | {"after": audit.words((f"revision {made.n}", *changed))}


def new_uid() -> str:
    """Name a stack or service as no other is named."""
    return secrets.token_hex(12)


@router.get("/{name}/progress", response_class=StreamingResponse)
async def follow_progress(
    caller: Permitted,
    core: ReadyCore,
    name: str,
    revision: Annotated[int | None, Query(ge=1)] = None,
    service: Annotated[list[str] | None, Query()] = None,
) -> StreamingResponse:
    """Tell, line by line, how far a stack is from a revision (the newest, if none is given) or from being gone.

    Where services are named, only those count.
    """
    found = show.find_stack(core.state, name)
    n = found.head if revision is None else revision
    return StreamingResponse(_progress(core, caller, found, n, service or ()), media_type="application/x-ndjson")


async def _progress(
    core: Core, caller: Caller, stack: Stack, n: int, only: Collection[str]
) -> AsyncGenerator[bytes, None]:
    news = asyncio.Event()

    def note(changes: list[Change]) -> None:
        if any(_concerns(core.state, change, stack) for change in changes):
            news.set()

    told: Progress | None = None
    silent_since = time.monotonic()
    with core.follower.listening(note), lasting(core, caller) as end:
        while not end.is_set():
            news.clear()
            now = progress(core.state, stack.name, stack.uid, n, core.clock(), only)
            left = silent_since + KEEP_ALIVE - time.monotonic()
            if now != told or left <= 0:
                yield b"\n" if now == told else line(now)
                told, silent_since, left = now, time.monotonic(), KEEP_ALIVE
            if now.done or now.failed:
                return
            await asyncio.sleep(DEBOUNCE)
            await _first(news, end, left)


def _concerns(state: ClusterState, change: Change, stack: Stack) -> bool:
    match change.new or change.old:
        case Task(stack_uid=uid) | ServiceState(stack_uid=uid) | Stack(uid=uid) | Volume(stack_uid=uid):
            return uid == stack.uid
        case Session(node=node):
            return node in state.volumes_leaving
        case TaskStatus(task=task):
            return task not in state.tasks or state.tasks[task].stack_uid == stack.uid
        case _:
            return False


async def _first(news: asyncio.Event, end: asyncio.Event, timeout: float) -> None:
    """Wait for either, or until the time is over."""
    waiting = [asyncio.create_task(event.wait()) for event in (news, end)]
    try:
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
