"""The logs of a service: a stream from each of its tasks' agents, merged line by line as they come.

One buffer of a few lines lies between the agents and the client: a client that reads slowly slows the agents down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from cluster.errors import Unavailable
from cluster.model.service import ServiceState
from cluster.model.task import Task, TaskState
from cluster.protocol import STDERR, LogsRequest
from cluster.views import LogLine
from manager.api.bodies import line
from manager.api.core import Core
from manager.picture import Change

BUFFER = 256
AT_ONCE = 16
"""Streams open at a time when the logs are not followed."""

LONGEST_LINE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    follow: bool
    tail: int | None
    since: float | None
    timestamps: bool


async def service_logs(core: Core, service: ServiceState, wanted: Wanted) -> AsyncIterator[bytes]:
    """Give the log lines of a service's tasks; when following, also those of tasks that come later."""
    lines: asyncio.Queue[LogLine | None] = asyncio.Queue(BUFFER)
    reading = asyncio.create_task(_read_all(core, service, wanted, lines), name=f"logs of {service.full_name}")
    stopping = asyncio.create_task(core.stopping.wait())
    try:
        while not core.stopping.is_set():
            getting = asyncio.create_task(lines.get())
            await asyncio.wait({getting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                return
            if (one := getting.result()) is None:
                await reading
                return
            yield line(one)
    finally:
        reading.cancel()
        stopping.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)


async def _read_all(core: Core, service: ServiceState, wanted: Wanted, lines: asyncio.Queue[LogLine | None]) -> None:
    news = asyncio.Event()
    known: set[str] = set()
    room = asyncio.Semaphore(10_000 if wanted.follow else AT_ONCE)

    def note(changes: list[Change]) -> None:
        news.set()

    async def read(task: Task) -> None:
        async with room:
            async for one in _read_task(core, service, task, wanted):
                await lines.put(one)

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
    await lines.put(None)


def _with_log(core: Core, service: ServiceState) -> Iterator[Task]:
    """Give the tasks that have a container, and with it a log."""
    for ident in sorted(core.state.tasks_of.get(service.uid, ())):
        status = core.state.statuses.get(ident)
        if status is not None and status.container and status.state.rank >= TaskState.STARTING.rank:
            yield core.state.tasks[ident]


async def _read_task(core: Core, service: ServiceState, task: Task, wanted: Wanted) -> AsyncIterator[LogLine]:
    assert task.node is not None
    node = core.state.nodes.get(task.node)
    name, node_name = f"{service.full_name}.{task.slot}", node.name if node is not None else task.node
    request = LogsRequest(task.id, wanted.follow, wanted.tail, wanted.since, timestamps=wanted.timestamps)
    cut = {"stdout": _Lines(), "stderr": _Lines()}
    try:
        async with core.sessions.open_stream(task.node, request) as stream, aclosing(stream.frames()) as frames:
            async for frame in frames:
                source: Literal["stdout", "stderr"] = "stderr" if frame[:1] == STDERR else "stdout"
                for text in cut[source].feed(frame[1:]):
                    yield LogLine(name, task.id, task.slot, node_name, source, text)
    except Unavailable as error:
        yield LogLine(name, task.id, task.slot, node_name, note=f"no log of {name} on {node_name}: {error.message}")
    for source, rest in (("stdout", cut["stdout"].rest()), ("stderr", cut["stderr"].rest())):
        if rest:
            yield LogLine(name, task.id, task.slot, node_name, "stderr" if source == "stderr" else "stdout", rest)


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
