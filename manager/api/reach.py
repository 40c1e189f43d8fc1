"""Channels into tasks: a person's WebSocket and that of the task's agent, each frame of one handed on to the other.

The frames are not looked at: `cluster.channel` says what the two ends say to one another. A task whose agent is
connected to another manager is reached through that one. What is checked here is who asks, for which purpose.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import aiohttp
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from cluster.channel import Purpose, failure_frame
from cluster.errors import Forbidden, NotFound, StackyardError, Unavailable
from cluster.model.node import Manager
from cluster.model.task import Task, TaskState
from manager import audit
from manager.api import show
from manager.api.callers import Caller
from manager.api.core import Core, ReadyCore
from manager.api.lasting import lasting
from manager.api.meant import meant
from manager.api.privileges import check_channel
from manager.api.rules import Permitted
from manager.api.show import Sees, everything
from manager.picture import ClusterState
from manager.sessions.streams import DIAL_TIMEOUT

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/tasks")

TASK_HEADER, NODE_HEADER = "x-stackyard-task", "x-stackyard-node"
"""How the answer says which task was chosen, and where it is."""


class End(Protocol):
    """One side of a channel."""

    async def receive(self) -> bytes | None:
        """Wait for a frame; None once the other side has gone."""

    async def send(self, frame: bytes) -> None:
        """Send a frame as soon as there is room for it; nothing happens when the other side has gone."""


class ServerEnd:
    """The side of someone who has called this manager: a person, another manager, an agent."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> bytes | None:
        message = await self._socket.receive()
        frame: bytes | None = message.get("bytes") if message["type"] == "websocket.receive" else None
        return frame

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send_bytes(frame)
        except (RuntimeError, WebSocketDisconnect):
            return  # `receive` tells it


class ManagerEnd:
    """The side of another manager, which this one has called."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> bytes | None:
        message = await self._socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.BINARY else None

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send_bytes(frame)
        except (aiohttp.ClientError, OSError):
            return


@router.websocket("/{name}/channels/{purpose}")
async def channel(socket: WebSocket, caller: Permitted, core: ReadyCore, name: str, purpose: Purpose) -> None:
    """Open a channel to a task: `stack_service.slot`, also without the stack or slot, or the beginning of its id.

    Whoever may deploy a stack may do anything to its tasks: a deploy can run any command as well.
    """
    task = find_task(core.state, name, purpose, caller.sees)
    check_channel(core.state, caller, task, purpose)
    shown, node = names(core.state, task)
    audit.note(about=f"{purpose} {shown}", stack=core.state.stack_names.get(task.stack_uid, ""))
    log.info("%s opens a channel to %s on %s for %s", caller, shown, node, purpose)
    try:
        way, trouble = way_to(core, task, purpose)
        async with way as end:
            told = [(TASK_HEADER.encode(), shown.encode()), (NODE_HEADER.encode(), node.encode())]
            await socket.accept(headers=told)
            await hand_on(core, caller, ServerEnd(socket), end, trouble)
            await close(socket)
    except Unavailable as error:
        if (away := lost(core.state, task)) is not None:
            raise away from error
        raise Unavailable(f"{shown} on {node} cannot be reached: {error.message}", hint=error.hint) from error


@router.websocket("/{ident}/relayed-channels/{purpose}")
async def channel_for_another_manager(
    socket: WebSocket, caller: Permitted, core: ReadyCore, ident: str, purpose: Purpose
) -> None:
    """Open a channel to a task whose agent is connected here; what is wrong is told as a frame."""
    await socket.accept()
    end = ServerEnd(socket)
    task = core.state.tasks.get(ident)
    try:
        if task is None or task.node is None:
            raise Unavailable("another manager does not know this task yet", hint="Ask again.")
        async with _by_agent(core, task, purpose) as agent:
            await hand_on(core, caller, end, agent, lambda: lost(core.state, task))
    except StackyardError as error:
        away = None if task is None else lost(core.state, task)
        await end.send(failure_frame(away or error))
    await close(socket)


def find_task(state: ClusterState, name: str, purpose: Purpose, sees: Sees = everything) -> Task:
    """Find the task that is meant: one that runs where there is one, the newest of its slot else.

    Raises NotFound, UserError, and Unavailable when the task is not in a state for that purpose.
    """

    def unlikely(task: Task) -> tuple[bool, bool, int, int]:
        away = task.node is not None and state.is_lost(task.node)
        return not _runs(state, task), away, task.slot, -task.n

    found = sorted(meant(state, name, sees).tasks(state), key=unlikely)
    if not found:
        raise NotFound(f"{name} has no tasks", hint="`stack ps` lists the tasks.")
    task = found[0]
    if _runs(state, task):
        return task
    if purpose == "archive":
        for one in found:
            if one.slot == task.slot and one.node is not None and _has_container(state, one):
                return one
    shown, _ = names(state, task)
    for one in found:
        if one.slot == task.slot and not state.has_ended(one) and (away := lost(state, one)) is not None:
            raise away
    raise Unavailable(
        f"{shown} is not running: it is {state.state_of(task)}", hint=f"`stack explain {shown}` tells why."
    )


def _has_container(state: ClusterState, task: Task) -> bool:
    status = state.statuses.get(task.id)
    return status is not None and bool(status.container)


def _runs(state: ClusterState, task: Task) -> bool:
    return task.node is not None and state.state_of(task) in (TaskState.STARTING, TaskState.RUNNING)


def names(state: ClusterState, task: Task) -> tuple[str, str]:
    """Give a task's name and that of its node, as `stack ps` shows them."""
    view = show.task(state, task)
    return view.name, view.node


Trouble = Callable[[], StackyardError | None]
"""Tells, by the picture, why nothing more comes through a channel."""


def way_to(core: Core, task: Task, purpose: Purpose) -> tuple[AbstractAsyncContextManager[End], Trouble]:
    """Find the way to a task's agent, and what tells that it leads nowhere any more. Raises Unavailable."""
    if (away := lost(core.state, task)) is not None:
        raise away
    if (holder := other_holder(core, task)) is None:
        return _by_agent(core, task, purpose), lambda: lost(core.state, task)
    return (
        _by_manager(core, holder.url, task, purpose),
        lambda: lost(core.state, task) or silent(core.state, holder),
    )


def other_holder(core: Core, task: Task) -> Manager | None:
    """Give the manager that has the session of a task's agent, where that is not this one."""
    session = core.state.sessions.get(task.node or "")
    holder = None if session is None else core.state.managers.get(session.manager)
    return holder if holder is not None and holder.id != core.presence.manager.id else None


def silent(state: ClusterState, manager: Manager) -> Unavailable | None:
    """Tell that a manager is not heard of any more: nobody hangs up for one that is frozen, or cut off."""
    if manager.id in state.managers:
        return None
    return Unavailable(
        f"the manager on {manager.name}, through which it was reached, is not heard of any more",
        hint="The node turns to another manager within seconds: try again.",
    )


@asynccontextmanager
async def _by_agent(core: Core, task: Task, purpose: Purpose) -> AsyncIterator[End]:
    assert task.node is not None
    async with core.sessions.open_channel(task.node, task.id, purpose) as socket:
        yield ServerEnd(socket)


@asynccontextmanager
async def _by_manager(core: Core, url: str, task: Task, purpose: Purpose) -> AsyncIterator[End]:
    where = f"{url}/v1/tasks/{task.id}/relayed-channels/{purpose}"
    try:
        async with asyncio.timeout(DIAL_TIMEOUT):
            socket = await core.others.ws_connect(where)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        reason = str(error) or "it took too long"
        raise Unavailable(f"the manager that holds its agent's session does not answer: {reason}") from error
    async with socket:
        yield ManagerEnd(socket)


async def hand_on(core: Core, caller: Caller, person: End, agent: End, trouble: Trouble) -> None:
    """Hand frames on both ways until either side goes, there is `trouble`, or it has to end (`lasting`)."""
    with lasting(core, caller) as end:
        await _hand_on_until(end, core, person, agent, trouble)
        if end.is_set() and not core.stopping.is_set():
            await person.send(failure_frame(Forbidden(f"{caller.name} was revoked, or may not do this any more")))


async def _hand_on_until(end: asyncio.Event, core: Core, person: End, agent: End, trouble: Trouble) -> None:
    ways = [
        asyncio.create_task(_frames(person.receive, agent.send)),
        asyncio.create_task(_frames(agent.receive, person.send)),
        asyncio.create_task(end.wait()),
        asyncio.create_task(core.follower.until(lambda: trouble() is not None)),
    ]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    if ways[3] in done and (met := trouble()) is not None:
        await person.send(failure_frame(met))
    for way in done:
        way.result()


async def _frames(receive: Callable[[], Awaitable[bytes | None]], send: Callable[[bytes], Awaitable[None]]) -> None:
    while (frame := await receive()) is not None:
        await send(frame)


def lost(state: ClusterState, task: Task) -> Unavailable | None:
    """Tell that a task's node is down, None when it is not."""
    if task.node is None or not state.is_lost(task.node):
        return None
    node = task.node
    known, verdict = state.nodes.get(node), state.node_states.get(node)
    name = node if known is None else known.name
    why = f" ({verdict.reason})" if verdict is not None and verdict.reason else ""
    return Unavailable(
        f"node {name} is down{why}", hint="`stack node ls` tells when it is back, `stack ps` where other tasks run."
    )


async def close(socket: WebSocket) -> None:
    try:
        await socket.close()
    except (RuntimeError, WebSocketDisconnect):
        return  # the other side was first
