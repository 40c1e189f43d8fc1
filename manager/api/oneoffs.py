"""Routes about one-off tasks: a service's container with another command, for whoever is at a terminal, or by itself.

What is written here is only what was asked for; the leader has the task made. One that somebody attends is made ready,
and let go when the agent has joined the terminal to it: so nothing that it prints is lost.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response
from starlette.websockets import WebSocket

from cluster.channel import Kind, failure_frame
from cluster.codec import key_for, key_of
from cluster.errors import Conflict, Failed, NotFound, StackyardError, UserError
from cluster.model.container import Healthcheck
from cluster.model.oneoff import OneOff
from cluster.model.service import RestartCondition, RestartPolicy, ServiceMode, ServiceSpec
from cluster.model.stack import Stack
from cluster.model.task import Desired, Task, TaskState
from cluster.views import OneOffView, RunRequest
from manager import audit
from manager.api.bodies import answer, body, takes
from manager.api.callers import Caller
from manager.api.core import TRIES, Core, ReadyCore, busy
from manager.api.meant import meant
from manager.api.privileges import check_entry
from manager.api.reach import NODE_HEADER, TASK_HEADER, End, ServerEnd, close, hand_on, lost, way_to
from manager.api.rules import Permitted
from manager.api.show import Sees
from manager.picture import ClusterState

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1", tags=["services"])

_OPERATION = re.compile(r"[0-9a-f]{16}")
_LONGEST_NAME = 63
_FRAMES_AHEAD = 64
"""Frames that are kept of somebody who speaks before there is anybody to listen."""


@router.post("/services/{name}/runs", response_model=OneOffView, openapi_extra=takes(RunRequest), status_code=201)
async def run(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[RunRequest, Depends(body(RunRequest))]
) -> Response:
    """Run a service's container once more, with another command: one task beside the service's own."""
    for _ in range(TRIES):
        if (known := core.state.oneoffs.get(request.operation)) is not None and caller.sees(known.stack):
            return answer(_view(known), 201)
        made = begin(core.state, name, request, caller, core.clock())
        after = f"{made.name}, revision {made.version}"
        audit.note(about=f"{made.stack}_{made.service}", stack=made.stack, after=after)
        key = key_for(Stack, made.stack)
        if await core.write([made], {key_of(made): 0, key: core.state.revision_of(key)}):
            return answer(_view(made), 201)
    raise busy(f"the stack of {name}")


@router.delete("/runs/{name}", status_code=204)
async def remove(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Stop a one-off task, if it runs, and forget it; its name may be that of its task."""
    one = _find(core.state, name, caller.sees)
    audit.note(about=f"{one.stack}_{one.name}", stack=one.stack)
    await _change(core, one.id, lambda now: replace(now, removing=True))
    return Response(status_code=204)


@router.websocket("/runs/{name}/channel")
async def channel(socket: WebSocket, caller: Permitted, core: ReadyCore, name: str) -> None:
    """Attend a one-off task: it starts with this channel, and goes with it. Frames are those of `attach`."""
    one = _find(core.state, name, caller.sees)
    audit.note(about=f"{one.stack}_{one.name}", stack=one.stack)
    here = core.presence.manager.id
    if not one.attended or one.manager or one.removing:
        raise Conflict(f"{_task_name(one)} has, or had, somebody who attends it, or is not to be attended")
    if await _change(core, one.id, lambda now: replace(now, manager=now.manager or here, alone_since=None)) != here:
        raise Conflict(f"{_task_name(one)} has somebody who attends it")
    try:
        await socket.accept(headers=[(TASK_HEADER.encode(), _task_name(one).encode()), (NODE_HEADER.encode(), b"")])
        person = _Early(ServerEnd(socket))
        listening = asyncio.create_task(person.listen())
        try:
            await _attended(core, caller, one.id, person)
        except StackyardError as error:
            await person.send(failure_frame(error))
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        await close(socket)
    finally:
        with suppress(StackyardError):  # the leader sees that nobody is there, if this cannot be written
            await _change(core, one.id, lambda now: replace(now, removing=True))


async def _attended(core: Core, caller: Caller, ident: str, person: _Early) -> None:
    """Wait until the task is ready, and join the two. Raises what became of it otherwise; ends when the person goes."""

    def trouble() -> StackyardError | None:
        return _trouble(core.state, ident)

    waiting = [
        asyncio.create_task(core.follower.until(lambda: _is_ready(core.state, ident) or trouble() is not None)),
        asyncio.create_task(person.gone.wait()),
        asyncio.create_task(core.stopping.wait()),
    ]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    if (met := trouble()) is not None:
        raise met
    if (task := _task(core.state, ident)) is None or not _is_ready(core.state, ident):
        return
    way, on_the_way = way_to(core, task, "attach")
    async with way as agent:
        joining = _Joining(agent, lambda: _change(core, ident, lambda now: replace(now, joined=True)))
        await hand_on(core, caller, person, joining, lambda: trouble() or on_the_way())


class _Early:
    """A person who may speak, or go, before there is anybody to listen; their frames are kept for `receive`."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue(_FRAMES_AHEAD)
        self.gone = asyncio.Event()
        self.send = end.send

    async def listen(self) -> None:
        """Take in what comes, until the person has gone."""
        while (frame := await self._end.receive()) is not None:
            await self._frames.put(frame)
        self.gone.set()
        await self._frames.put(None)

    async def receive(self) -> bytes | None:
        return await self._frames.get()


class _Joining:
    """An agent's side, of which the first word is awaited: with START the terminal is joined, and the task may go."""

    def __init__(self, end: End, joined: Callable[[], Awaitable[str]]) -> None:
        self._end, self._joined = end, joined
        self._waits = True
        self.send = end.send

    async def receive(self) -> bytes | None:
        frame = await self._end.receive()
        if self._waits and frame is not None and frame[:1] == bytes((Kind.START,)):
            self._waits = False
            await self._joined()
        return frame


# Pure


def begin(state: ClusterState, name: str, request: RunRequest, caller: Caller, now: float) -> OneOff:
    """Say what is asked for. Raises what the caller is to know."""
    if _OPERATION.fullmatch(request.operation) is None:
        raise UserError("operation: it is to be 16 hexadecimal digits")
    found = meant(state, name, caller.sees)
    service, wanted, basis = found.service, state.wanted(found.service), state.basis(found.service)
    if found.slot is not None or found.task is not None or service.uid in state.oneoffs:
        raise UserError(f"{name} is a task", hint="Name the service whose container it is to be.")
    if wanted is None or basis is None:
        raise Conflict(f"{service.full_name} is being removed")
    check_entry(caller, wanted[0])
    suffix = f"-run-{request.operation[:8]}"
    return OneOff(
        id=request.operation,
        stack_uid=service.stack_uid,
        stack=service.stack,
        service=service.name,
        name=service.name[: _LONGEST_NAME - len(suffix)] + suffix,
        version=basis.n,
        spec=_once(wanted[0], request),
        author=caller.author,
        created_at=now,
        attended=request.attended,
        kept=request.kept,
        alone_since=now if request.attended else None,
    )


def _once(spec: ServiceSpec, request: RunRequest) -> ServiceSpec:
    """Take what makes a service's container, and leave what makes it a service: its names, ports, health, restarts."""
    given = spec.container
    command, entrypoint = given.command, given.entrypoint
    if request.entrypoint is not None:
        command, entrypoint = None, request.entrypoint
    container = replace(
        given,
        command=command if request.command is None else request.command,
        entrypoint=entrypoint,
        environment=given.environment | request.environment,
        unset_environment=tuple(one for one in given.unset_environment if one not in request.environment),
        user=request.user or given.user,
        working_dir=request.workdir or given.working_dir,
        tty=request.tty,
        stdin_open=request.stdin,
        stdin_once=request.stdin and request.attended,
        healthcheck=Healthcheck(("NONE",)),
        mac_address="",
    )
    return replace(
        spec,
        container=container,
        networks=tuple(replace(network, aliases=(), addresses=()) for network in spec.networks),
        ports=(),
        replicas=1,
        restart=RestartPolicy(RestartCondition.NONE),
        mode=ServiceMode.GLOBAL_JOB if spec.mode.is_global else ServiceMode.REPLICATED_JOB,
        max_concurrent=None,
        max_replicas_per_node=0,
        depends_on={},
        stopped=False,
    )


def _task_name(one: OneOff) -> str:
    return f"{one.stack}_{one.name}.1"


def _view(one: OneOff) -> OneOffView:
    return OneOffView(one.id, _task_name(one), f"{one.stack}_{one.service}", one.version)


def _find(state: ClusterState, name: str, sees: Sees) -> OneOff:
    for one in state.oneoffs.values():
        if sees(one.stack) and name in (one.id, one.name, f"{one.stack}_{one.name}", _task_name(one)):
            return one
    raise NotFound(f"there is no one-off task {name}", hint="`stack ps` lists the tasks.")


def _task(state: ClusterState, ident: str) -> Task | None:
    return next(iter(state.all_of(ident)), None)


def _is_ready(state: ClusterState, ident: str) -> bool:
    task = _task(state, ident)
    return task is not None and task.held and state.reported_state(task) is TaskState.READY


def _trouble(state: ClusterState, ident: str) -> StackyardError | None:
    """Tell why nothing comes of it, or nothing more; None while something may, and when it ended by itself."""
    one, task, service = state.oneoffs.get(ident), _task(state, ident), state.services.get(ident)
    if one is None or one.removing or (task is None and service is not None and service.tasks_made):
        return Conflict("it was removed" if one is None or one.removing else "its node left the cluster")
    if task is None:
        return None
    status = state.statuses.get(task.id)
    if status is not None and status.state in (TaskState.REJECTED, TaskState.ORPHANED, TaskState.SHUTDOWN):
        return Failed(state.message_of(task) or f"it was {status.state}")
    if status is not None and status.state.terminal:
        return None if status.exit_code is not None else Failed(state.message_of(task) or "it failed")
    if task.desired is not Desired.RUNNING:
        return Failed(f"it was stopped: {task.reason}")
    return lost(state, task)


async def _change(core: Core, ident: str, change: Callable[[OneOff], OneOff]) -> str:
    """Change what is asked for, if it still is; gives the manager at which it is attended."""
    for _ in range(TRIES):
        one = core.state.oneoffs.get(ident)
        if one is None:
            return ""
        changed = change(one)
        key = key_of(one)
        if changed == one or await core.write([changed], {key: core.state.revision_of(key)}):
            return changed.manager
    raise busy("what is run once")
