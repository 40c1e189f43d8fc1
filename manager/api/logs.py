"""The logs of a service: a stream from each of its tasks' agents, merged line by line as they come.

One buffer of a few lines lies between the agents and the client: a client that reads slowly slows the agents down. The
agents of another manager's side are asked through that manager, task by task.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import anyio
import msgspec
from anyio.streams.memory import MemoryObjectSendStream

from cluster.errors import Unavailable
from cluster.model.service import ServiceState
from cluster.model.task import Task, TaskState
from cluster.protocol import STDERR, LogsRequest
from cluster.views import ErrorBody, LogLine
from manager.api.bodies import line
from manager.api.core import Core
from manager.picture import Change

BUFFER = 256
AT_ONCE = 16
"""Streams open at a time when the logs are not followed."""

LONGEST_LINE = 64 * 1024

Source = Literal["stdout", "stderr"]
Lines = MemoryObjectSendStream[LogLine]


@dataclass(frozen=True, slots=True)
class Wanted:
    follow: bool
    tail: int | None
    since: float | None
    timestamps: bool

    def query(self) -> dict[str, str]:
        """Ask for the same of another manager."""
        numbers = {"tail": self.tail, "since": self.since}
        query = {name: str(number) for name, number in numbers.items() if number is not None}
        return query | {"follow": str(self.follow).lower(), "timestamps": str(self.timestamps).lower()}


async def service_logs(core: Core, service: ServiceState, wanted: Wanted) -> AsyncIterator[bytes]:
    """Give the log lines of a service's tasks; when following, also those of tasks that come later."""
    async for one in _until_stopped(core, lambda lines: _read_all(core, service, wanted, lines)):
        yield one


async def one_log(core: Core, task: Task, wanted: Wanted) -> AsyncIterator[bytes]:
    """Give the log lines of one task, a note last when they end too early."""

    async def read(lines: Lines) -> None:
        async for one in _noting(core, task, task_log(core, task, wanted)):
            await lines.send(one)

    async for one in _until_stopped(core, read):
        yield one


async def _until_stopped(core: Core, read: Callable[[Lines], Coroutine[Any, Any, None]]) -> AsyncIterator[bytes]:
    """Give what `read` sends, until it is done or the manager stops."""
    sending, receiving = anyio.create_memory_object_stream[LogLine](BUFFER)

    async def read_to_its_end() -> None:
        async with sending:
            await read(sending)

    async def stop() -> None:
        await core.stopping.wait()
        reading.cancel()

    reading, stopping = asyncio.create_task(read_to_its_end()), asyncio.create_task(stop())
    try:
        async with receiving:
            async for one in receiving:
                yield line(one)
        if not core.stopping.is_set():
            await reading  # should it have met a bug, that is told
    finally:
        reading.cancel()
        stopping.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)


async def _read_all(core: Core, service: ServiceState, wanted: Wanted, lines: Lines) -> None:
    news = asyncio.Event()
    known: set[str] = set()
    room = asyncio.Semaphore(10_000 if wanted.follow else AT_ONCE)

    def note(changes: list[Change]) -> None:
        news.set()

    async def read(task: Task) -> None:
        async with room:
            async for one in _read_task(core, task, wanted):
                await lines.send(one)

    with core.follower.listening(note):
        async with asyncio.TaskGroup() as group:
            while True:
                news.clear()
                for task in _with_log(core, service):
                    if task.id not in known:
                        known.add(task.id)
                        group.create_task(read(task))
                if not wanted.follow or service.uid not in core.state.services:
                    break
                await news.wait()


def _with_log(core: Core, service: ServiceState) -> Iterator[Task]:
    """Give the tasks that have a container, and with it a log."""
    for ident in sorted(core.state.tasks_of.get(service.uid, ())):
        status = core.state.statuses.get(ident)
        if status is not None and status.container and status.state.rank >= TaskState.STARTING.rank:
            yield core.state.tasks[ident]


def _read_task(core: Core, task: Task, wanted: Wanted) -> AsyncIterator[LogLine]:
    """Read one task's log from wherever its agent is connected."""
    session = core.state.sessions.get(task.node or "")
    holder = None if session is None else core.state.managers.get(session.manager)
    if holder is not None and holder.id != core.presence.manager.id:
        return _noting(core, task, _from_manager(core, holder.url, task, wanted))
    return _noting(core, task, task_log(core, task, wanted))


async def _noting(core: Core, task: Task, lines: AsyncGenerator[LogLine, None]) -> AsyncIterator[LogLine]:
    """Turn what goes wrong with a log into a note at its end."""
    try:
        async with aclosing(lines):
            async for one in lines:
                yield one
    except Unavailable as error:
        name, node = _names(core, task)
        yield LogLine(name, task.id, task.slot, node, note=f"no log of {name} on {node}: {error.message}")


async def task_log(core: Core, task: Task, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
    """Read the log of a task whose agent is connected to this manager. Raises Unavailable when it is not."""
    assert task.node is not None
    name, node = _names(core, task)
    request = LogsRequest(task.id, wanted.follow, wanted.tail, wanted.since, timestamps=wanted.timestamps)
    cut: dict[Source, _Lines] = {"stdout": _Lines(), "stderr": _Lines()}
    async with core.sessions.open_stream(task.node, request) as stream, aclosing(stream.frames()) as frames:
        async for frame in frames:
            source: Source = "stderr" if frame[:1] == STDERR else "stdout"
            for text in cut[source].feed(frame[1:]):
                yield LogLine(name, task.id, task.slot, node, source, text)
    for source, lines in cut.items():
        if rest := lines.rest():
            yield LogLine(name, task.id, task.slot, node, source, rest)


async def _from_manager(core: Core, url: str, task: Task, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
    try:
        async with core.others.get(f"{url}/v1/tasks/{task.id}/log", params=wanted.query()) as answer:
            if answer.status != 200:
                told = msgspec.json.decode(await answer.read(), type=ErrorBody)
                raise Unavailable(told.error)
            async for text in answer.content:
                yield msgspec.json.decode(text, type=LogLine)
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        raise Unavailable(f"the manager at {url} cannot be asked: {error}") from error


def _names(core: Core, task: Task) -> tuple[str, str]:
    service, node = core.state.services.get(task.service_uid), core.state.nodes.get(task.node or "")
    full_name = task.service_uid if service is None else service.full_name
    return f"{full_name}.{task.slot}", node.name if node is not None else task.node or ""


class _Lines:
    """Cuts bytes into lines; a line that does not end is cut where it gets too long."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> Iterator[str]:
        *lines, self._left = (self._left + data).split(b"\n")
        for one in lines:
            yield one.removesuffix(b"\r").decode(errors="replace")
        while len(self._left) > LONGEST_LINE:
            part, self._left = self._left[:LONGEST_LINE], self._left[LONGEST_LINE:]
            yield part.decode(errors="replace")

    def rest(self) -> str:
        return self._left.decode(errors="replace")
