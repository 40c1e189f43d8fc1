"""Logs: a stream from the agent of each task that is meant, merged as they come: in batches of whole lines.

One buffer of a few batches lies between the agents and the client: a client that reads slowly slows the agents down.
The agents of another manager's side are asked through that manager, task by task. Whoever follows a log does so over
restarts of agents and managers: each line has its instant, by which another stream goes on where the last one was cut.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import aiohttp
import anyio
import msgspec
from anyio.streams.memory import MemoryObjectSendStream

from cluster.errors import Unavailable
from cluster.logs import Position, since_when
from cluster.model.node import Manager
from cluster.model.task import Task, TaskState, TaskStatus
from cluster.protocol import STDERR, LogsRequest
from cluster.views import ErrorBody, LogLine
from manager.api.bodies import line
from manager.api.callers import Caller
from manager.api.core import Core
from manager.api.lasting import lasting
from manager.api.meant import Meant, meant
from manager.api.reach import other_holder, silent
from manager.api.show import Sees
from manager.picture import Change, ClusterState

BUFFER = 16
"""Batches: of an agent's frame each, so some megabytes at most, also of very short lines."""

AT_ONCE = 16
"""Streams open at a time when the logs are not followed."""

KEEP_ALIVE = 10.0
"""Seconds after which an empty line tells that nothing was printed; a client that has gone is noticed by it."""

CONNECT, SILENCE = 5.0, 2.5 * KEEP_ALIVE
"""Seconds to connect to another manager, and those without even an empty line after which it is given up."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds before a log is asked for again whose agent is out of reach, or whose container may have been restarted."""

Source = Literal["stdout", "stderr"]
Batch = Sequence[LogLine]
Lines = MemoryObjectSendStream[Batch]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`after` tells by task from when on the client has not all, in place of `tail` and `since`."""

    follow: bool = False
    tail: int | None = None
    since: float | None = None
    until: float | None = None
    timestamps: bool = False
    after: Mapping[str, float] = field(default_factory=dict)

    def of(self, task: str) -> Wanted:
        return replace(self, tail=None, since=self.after[task]) if task in self.after else self

    def query(self) -> dict[str, str]:
        """Ask for the same of another manager."""
        numbers = {"tail": self.tail, "since": self.since, "until": self.until}
        query = {name: str(number) for name, number in numbers.items() if number is not None}
        return query | {"follow": str(self.follow).lower()}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whose logs: all services of these stacks, by their uids, and these services and tasks."""

    stacks: frozenset[str]
    parts: tuple[Meant, ...]

    def tasks(self, state: ClusterState) -> list[Task]:
        """Give the tasks that are chosen now, each once, in the order of their services and ids."""
        services = sorted(uid for stack in self.stacks for uid in state.services_of.get(stack, ()))
        found = [task for uid in services for task in state.all_of(uid)]
        found += [task for part in self.parts for task in part.tasks(state)]
        return list({task.id: task for task in found}.values())

    def is_gone(self, state: ClusterState) -> bool:
        """Tell whether nothing can come any more, as all that was chosen is removed or has ended."""
        known = {stack.uid for stack in state.stacks.values()}
        return not self.stacks & known and not any(part.may_come(state) for part in self.parts)


def choose(state: ClusterState, names: Sequence[str], sees: Sees) -> Chosen:
    """Find whose logs are meant by names of stacks, and by all that `meant` knows. Raises as it does."""
    stacks = {name: state.stacks[name].uid for name in names if name in state.stacks and sees(name)}
    return Chosen(frozenset(stacks.values()), tuple(meant(state, name, sees) for name in names if name not in stacks))


async def logs_of(core: Core, caller: Caller, chosen: Chosen, wanted: Wanted) -> AsyncIterator[bytes]:
    """Give the log lines of the chosen tasks; when following, also those of tasks that come later."""
    async for one in _until_ended(core, caller, lambda lines: _read_all(core, chosen, wanted, lines)):
        yield one


async def one_log(core: Core, caller: Caller, task: Task, wanted: Wanted) -> AsyncIterator[bytes]:
    """Give the log lines of one task, a note last when they end too early."""

    async def read(lines: Lines) -> None:
        try:
            async with aclosing(task_log(core, task, wanted)) as log:
                async for batch in log:
                    await lines.send(batch)
        except Unavailable as error:
            await lines.send((LogLine("", task.id, task.slot, "", note=error.message),))

    async for one in _until_ended(core, caller, read):
        yield one


async def _until_ended(
    core: Core, caller: Caller, read: Callable[[Lines], Coroutine[Any, Any, None]]
) -> AsyncIterator[bytes]:
    """Give what `read` sends and, unless the stream has to end before (`lasting`), that it was all."""
    with lasting(core, caller) as end:
        async for one in _until_set(end, read):
            yield one


async def _until_set(end: asyncio.Event, read: Callable[[Lines], Coroutine[Any, Any, None]]) -> AsyncIterator[bytes]:
    sending, receiving = anyio.create_memory_object_stream[Batch](BUFFER)

    async def read_to_its_end() -> None:
        async with sending:
            await read(sending)

    async def stop() -> None:
        await end.wait()
        reading.cancel()

    reading, stopping = asyncio.create_task(read_to_its_end()), asyncio.create_task(stop())
    try:
        async with receiving:
            while True:
                batch: Batch = ()
                with anyio.move_on_after(KEEP_ALIVE):
                    batch = await receiving.receive()
                yield b"".join(map(line, batch)) or b"\n"
    except anyio.EndOfStream:
        if not end.is_set():
            await reading  # should it have met a bug, that is told
            yield line(LogLine("", "", 0, "", end=True))
    finally:
        reading.cancel()
        stopping.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)


async def _read_all(core: Core, chosen: Chosen, wanted: Wanted, lines: Lines) -> None:
    news = asyncio.Event()
    known: set[str] = set()
    room = asyncio.Semaphore(10_000 if wanted.follow else AT_ONCE)

    def note(changes: list[Change]) -> None:
        news.set()

    async def read(task: Task, wanted: Wanted) -> None:
        async with room:
            async for batch in _read_task(core, task, wanted):
                await lines.send(batch)

    with core.follower.listening(note):
        async with asyncio.TaskGroup() as group:
            while True:
                news.clear()
                for task in _with_log(core, chosen):
                    if task.id not in known:
                        known.add(task.id)
                        group.create_task(read(task, wanted.of(task.id)))
                if not wanted.follow or chosen.is_gone(core.state):
                    break
                wanted = replace(wanted, tail=None)  # what begins later is shown from its beginning
                await news.wait()


def _with_log(core: Core, chosen: Chosen) -> Iterator[Task]:
    """Give the tasks that have a container, and with it a log."""
    for task in chosen.tasks(core.state):
        status = core.state.statuses.get(task.id)
        if status is not None and status.container and status.state.rank >= TaskState.STARTING.rank:
            yield task


async def _read_task(core: Core, task: Task, wanted: Wanted) -> AsyncIterator[Batch]:
    """Read one task's log; when following, over whatever cuts the way to it, which is a note among the lines."""
    position, began, told, pause = Position(), core.clock(), "", FIRST_PAUSE
    while True:
        before = core.state.statuses.get(task.id)
        problem = ""
        try:
            if core.state.is_lost(task.node or ""):
                raise Unavailable("the node is down")  # its session may be there for a while yet
            async with aclosing(_from_holder(core, task, wanted)) as log:
                async for batch in log:
                    if new := [one for one in batch if position.is_new(one.stream, one.at)]:
                        told, pause = "", FIRST_PAUSE
                        yield [_with_instant(one) for one in new] if wanted.timestamps else new
        except Unavailable as error:
            problem = error.message
        if problem and problem != told:
            name, node = _names(core, task)
            yield (LogLine(name, task.id, task.slot, node, note=f"no log of {name} on {node}: {problem}"),)
        told = problem
        if not wanted.follow or not await _may_go_on(core, task, before, pause, cut=problem != ""):
            return
        pause = min(LONGEST_PAUSE, 2 * pause)
        since = since_when(wanted.tail, wanted.since, began) if position.since is None else position.since
        wanted = replace(wanted, tail=None, since=since)
        position.again()


async def _may_go_on(core: Core, task: Task, before: TaskStatus | None, pause: float, *, cut: bool) -> bool:
    """Wait until there may be more of a task's log than there was; tells whether there may be.

    A log that was not cut ended with its container, which is restarted in place or will be told to have ended.
    """

    def is_over() -> bool:
        return task.id not in core.state.tasks or core.state.has_ended(task)

    await asyncio.sleep(pause)
    if not cut:
        await core.follower.until(lambda: is_over() or core.state.statuses.get(task.id) != before)
    return not is_over()


def _with_instant(one: LogLine) -> LogLine:
    return replace(one, line=f"{one.at} {one.line}")


def _from_holder(core: Core, task: Task, wanted: Wanted) -> AsyncGenerator[Batch, None]:
    """Read one task's log from wherever its agent is connected."""
    if (holder := other_holder(core, task)) is not None:
        return _from_manager(core, holder, task, wanted)
    return task_log(core, task, wanted)


async def task_log(core: Core, task: Task, wanted: Wanted) -> AsyncGenerator[Batch, None]:
    """Read the log of a task whose agent is connected to this manager. Raises Unavailable when it is not."""
    assert task.node is not None
    name, node = _names(core, task)
    request = LogsRequest(task.id, wanted.follow, wanted.tail, wanted.since, wanted.until, timestamps=True)
    cut: dict[Source, Cutter] = {"stdout": Cutter(), "stderr": Cutter()}

    def made(source: Source, lines: Iterator[tuple[str, str]]) -> Batch:
        return [LogLine(name, task.id, task.slot, node, source, text, at=at) for at, text in lines]

    async with core.sessions.open_stream(task.node, request) as stream, aclosing(stream.frames()) as frames:
        async for frame in frames:
            source: Source = "stderr" if frame[:1] == STDERR else "stdout"
            if batch := made(source, cut[source].feed(frame[1:])):
                yield batch
    for source, cutter in cut.items():
        yield made(source, cutter.rest())


async def _from_manager(core: Core, holder: Manager, task: Task, wanted: Wanted) -> AsyncGenerator[Batch, None]:
    try:
        within = aiohttp.ClientTimeout(connect=CONNECT, sock_read=SILENCE)
        url = f"{holder.url}/v1/tasks/{task.id}/log"
        async with core.others.get(url, params=wanted.query(), timeout=within) as answer, _cut(core, holder, answer):
            if answer.status != 200:
                told = msgspec.json.decode(await answer.read(), type=ErrorBody)
                raise Unavailable(told.error)
            left = b""
            async for data in answer.content.iter_any():
                whole, end, left = (left + data).rpartition(b"\n")
                came = _decoder.decode_lines(whole + end)
                last = next((index for index, one in enumerate(came) if one.end or one.note), None)
                yield came[:last]
                if last is not None and came[last].note:
                    raise Unavailable(came[last].note)
                if last is not None:
                    return
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
        gone = silent(core.state, holder)
        reason = gone.message if gone is not None else f"the manager at {holder.url} cannot be asked: {error}"
        raise Unavailable(reason) from error
    raise Unavailable(f"the manager at {holder.url} stopped")


@asynccontextmanager
async def _cut(core: Core, holder: Manager, answer: aiohttp.ClientResponse) -> AsyncIterator[None]:
    """Hang up when the manager that answers is not heard of any more."""

    async def watch() -> None:
        await core.follower.until(lambda: silent(core.state, holder) is not None)
        answer.close()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def _names(core: Core, task: Task) -> tuple[str, str]:
    service, node = core.state.services.get(task.service_uid), core.state.nodes.get(task.node or "")
    full_name = task.service_uid if service is None else service.full_name
    return f"{full_name}.{task.slot}", node.name if node is not None else task.node or ""


# Lines

_decoder = msgspec.json.Decoder(LogLine)

PART = 16 * 1024
"""Bytes at which engines cut what has no line end; they put the instant before each part."""

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) ")
_STAMP_LENGTH = 31
LONGEST_LINE = 4 * (PART + _STAMP_LENGTH)


class Cutter:
    """Cuts what an engine gives into lines, each with its instant; a line that does not end is cut when too long."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> Iterator[tuple[str, str]]:
        *lines, self._left = (self._left + data).split(b"\n")
        for one in lines:
            yield _parsed(one.removesuffix(b"\r"))
        while len(self._left) > LONGEST_LINE:
            part, self._left = self._left[:LONGEST_LINE], self._left[LONGEST_LINE:]
            yield _parsed(part)

    def rest(self) -> Iterator[tuple[str, str]]:
        """Give the last line if it has no end."""
        if self._left:
            yield _parsed(self._left)


def _parsed(data: bytes) -> tuple[str, str]:
    stamp = _STAMP.match(data)
    if stamp is None:
        return "", data.decode(errors="replace")
    at, data = stamp[1].decode(), data[_STAMP_LENGTH:]
    if len(data) > PART:
        data = _joined(data)
    return at, data.decode(errors="replace")


def _joined(data: bytes) -> bytes:
    """Take the instants out that are before the further parts of a line."""
    parts = []
    while _STAMP.match(data, PART):
        parts.append(data[:PART])
        data = data[PART + _STAMP_LENGTH :]
    return b"".join(parts) + data
