"""Does with tasks what is requested over channels: commands, connections to ports, archives of files."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from agent.archive import pass_archive
from agent.channel import Channel
from agent.console import attach, send_signal
from agent.container import Observed, Phase
from agent.engine import Engine
from agent.exec import begin_command, run_command
from agent.known import Known
from agent.ports import pass_connection
from cluster.channel import (
    PURPOSES,
    AttachRequest,
    BeginRequest,
    BrokenChannel,
    ExecRequest,
    OpenChannel,
    PortRequest,
    ReadArchive,
    SignalRequest,
    StatArchive,
    WriteArchive,
)
from cluster.errors import NotFound, StackyardError, Unavailable

log = logging.getLogger(__name__)


class Sandboxes(Protocol):
    """Where tasks' network namespaces can be entered."""

    def in_sandbox(self, task: str, work: Callable[[], socket.socket]) -> Awaitable[socket.socket]: ...


class Reach:
    """Serves channels, each by itself. Nothing of one is left when `serve` returns."""

    def __init__(self, engine: Engine, known: Known, sandboxes: Sandboxes) -> None:
        self._engine, self._known, self._sandboxes = engine, known, sandboxes

    async def serve(self, channel: Channel, wanted: OpenChannel) -> None:
        """Do what the other side requests, up to the end. Raises only what says that the channel is cut."""
        try:
            await self._do(channel, wanted)
        except StackyardError as error:
            log.info("a channel to task %s for %s failed: %s", wanted.task, wanted.purpose, error.message)
            await channel.fail(error)
            await channel.over()

    async def _do(self, channel: Channel, wanted: OpenChannel) -> None:
        if (request := await channel.request()) is None:
            return
        if PURPOSES[type(request)] != wanted.purpose:
            raise BrokenChannel(f"the channel was opened for {wanted.purpose}, not for what is requested")
        match request:
            case ExecRequest():
                await run_command(self._engine, self._running(wanted.task).id, channel, request)
            case BeginRequest():
                await begin_command(self._engine, self._running(wanted.task).id, channel, request)
            case AttachRequest():
                await attach(self._engine, self._running(wanted.task, Phase.CREATED).id, channel, request)
            case SignalRequest():
                await send_signal(self._engine, self._running(wanted.task).id, channel, request)
            case ReadArchive() | WriteArchive() | StatArchive():
                await pass_archive(self._engine, self._container(wanted.task).id, channel, request)
            case PortRequest():
                self._running(wanted.task)
                await pass_connection(
                    partial(self._inside, wanted.task), self._addresses(wanted.task), channel, request
                )

    async def _inside(self, task: str, make: Callable[[], socket.socket]) -> socket.socket:
        """Make a socket in a task's network namespace: the node's own where the task has that."""
        assigned = self._known.tasks.get(task)
        item = None if assigned is None else self._known.item(assigned)
        if item is not None and not item.spec.container.has_sandbox:
            return make()
        return await self._sandboxes.in_sandbox(task, make)

    def _addresses(self, task: str) -> list[str]:
        assigned = self._known.tasks.get(task)
        endpoints = () if assigned is None else assigned.endpoints
        return [address for endpoint in endpoints for address in endpoint.addresses]

    def _running(self, task: str, *also: Phase) -> Observed:
        container = self._container(task)
        if container.phase not in (Phase.RUNNING, *also):
            raise Unavailable(
                f"its container is {container.phase}, not running", hint="`stack ps` and `stack explain` tell why."
            )
        return container

    def _container(self, task: str) -> Observed:
        container = self._known.container_of(task)
        if container is None:
            raise NotFound("it has no container on its node", hint="`stack ps` shows the tasks that there are.")
        return container
