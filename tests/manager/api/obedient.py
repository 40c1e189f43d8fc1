"""An agent that does at once whatever it is told, without an engine: enough to see the API from outside."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import aiohttp

from cluster.assignments import ServiceItem, TaskItem, VolumeItem
from cluster.channel import OpenChannel
from cluster.examination import NodeReport, Probed
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.protocol import (
    STDOUT,
    STREAM_END,
    Beat,
    Examine,
    Examined,
    Fetched,
    ImagesResolved,
    LogsRequest,
    Measure,
    Measured,
    OpenStream,
    Page,
    ResolveImages,
    Statuses,
    VolumesRemoved,
    Welcome,
    decode_to_agent,
)
from cluster.usage import Counters, Stored
from tests.manager.managers import Client, Joined, RunningManager
from tests.manager.sessions.stage import ToyAgent

Outcome = Callable[[Task], TaskState]


class ObedientAgent(ToyAgent):
    """`outcome` tells the state in which a task that is to run ends up, `log` what each task has printed so far.

    `digests` are those of the images that its registry knows.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, node: str, client: Client, outcome: Outcome) -> None:
        super().__init__(socket, node)
        self.outcome = outcome
        self.log = b"hello\nworld\n"
        self.complaint = ""
        """What it says of tasks that fail."""
        self.last_words: tuple[str, ...] = ()
        """What those print before they do."""
        self.follows = True
        self.digests: dict[str, str] = {}
        self.passes = 1500
        """The size of the largest packets that its probes find to pass."""
        self.measured = 0
        """How often it was asked what its tasks use; each time a second later, of which they worked a half."""
        self.channels = 0
        """Those that are open."""
        self._client = client
        self._sequence = 0
        self._told: dict[str, TaskState] = {}
        self._fetched: dict[str, str] = {}
        self._ended: dict[str, asyncio.Event] = {}

    async def obey(self) -> None:
        async with asyncio.TaskGroup() as streams:
            while True:
                message = decode_to_agent(await self.socket.receive_bytes())
                if isinstance(message, Page):
                    self._take(message)
                    await self._act()
                elif isinstance(message, ResolveImages):
                    known = {image: self.digests[image] for image in message.images if image in self.digests}
                    problems = {image: "no such image" for image in message.images if image not in known}
                    await self.say(ImagesResolved(message.id, known, problems))
                elif isinstance(message, Examine):
                    probed = tuple(Probed(target, self.passes, answerer=target.node) for target in message.targets)
                    await self.say(Examined(message.id, NodeReport("eth0", 1500, 1500, probed)))
                elif isinstance(message, Measure):
                    await self.say(self._measured(message))
                elif isinstance(message, OpenStream):
                    streams.create_task(self._serve(message.ticket, message.request))
                elif isinstance(message, OpenChannel):
                    streams.create_task(self._echo(message))

    def _measured(self, asked: Measure) -> Measured:
        if asked.disk:
            return Measured(asked.id, disk=(Stored("images", 3, 1, 3 * 2**30, 2**30), Stored("volumes", 1, 1, 5, 0)))
        n = self.measured = self.measured + 1
        used = Counters("", 100.0 + n, n * 500_000_000, 2**20, 2**30, n * 1024, n * 2048, n * 10, n * 20, 3)
        return Measured(asked.id, tuple(replace(used, task=task) for task in asked.tasks))

    async def _act(self) -> None:
        news = []
        for item in self.items.values():
            if isinstance(item, TaskItem) and (state := self._state(item.task)) is not self._told.get(item.task.id):
                self._told[item.task.id] = state
                gone = item.task.desired is Desired.REMOVE
                container = "" if gone else "c-" + item.task.id
                code = 3 if state is TaskState.FAILED else None
                if state.terminal:
                    self._ended.setdefault(item.task.id, asyncio.Event()).set()
                why, log = (self.complaint, self.last_words) if state is TaskState.FAILED else ("", ())
                news.append(TaskStatus(item.task.id, state, 5.0, why, container, code, log=log))
        if news:
            self._sequence += 1
            await self.say(Statuses(self._sequence, tuple(news)))
        if going := tuple(item.name for item in self.items.values() if isinstance(item, VolumeItem)):
            await self.say(VolumesRemoved(going))
        coming = {item.name: "" for item in self.items.values() if isinstance(item, ServiceItem) and item.coming}
        if coming.keys() - self._fetched.keys():
            await self.say(Fetched(coming))
        self._fetched = coming

    def _state(self, task: Task) -> TaskState:
        if task.held and task.desired is Desired.RUNNING:
            return TaskState.READY
        return self.outcome(task) if task.desired is Desired.RUNNING else TaskState.SHUTDOWN

    async def _serve(self, ticket: str, request: LogsRequest) -> None:
        base = f"{self._client.base}/v1/agent/streams/{ticket}"
        async with self._client.http.ws_connect(base) as socket:
            log = self._asked(request)
            for start in range(0, len(log), 5):
                await socket.send_bytes(STDOUT + log[start : start + 5])
            reading = asyncio.create_task(socket.receive())
            if request.follow and self.follows:
                ending = asyncio.create_task(self._ended.setdefault(request.task, asyncio.Event()).wait())
                await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
            if not reading.done():
                await socket.send_bytes(STREAM_END)
            await reading

    async def _echo(self, wanted: OpenChannel) -> None:
        """Say what was opened for which task, and give back whatever comes, until the other side goes or says bye."""
        async with self._client.http.ws_connect(f"{self._client.base}/v1/agent/streams/{wanted.ticket}") as socket:
            self.channels += 1
            await socket.send_bytes(f"{wanted.task} {wanted.purpose}".encode())
            async for message in socket:
                if message.data == b"bye":
                    break
                await socket.send_bytes(message.data)
            self.channels -= 1

    def _asked(self, request: LogsRequest) -> bytes:
        """Give what is asked for of lines that have their instants before them: as engines do, the last ones first."""
        if not self.log.startswith(b"2"):
            return self.log
        lines = self.log.splitlines(keepends=True)
        first, last = request.since or 0.0, request.until or math.inf
        return b"".join(
            one
            for one in (lines if request.tail is None else lines[-request.tail :])
            if first <= datetime.fromisoformat(one[:30].decode()).timestamp() <= last
        )


def stamped(second: int, text: str) -> bytes:
    """A line as engines give it when they are asked for its instant."""
    return f"2026-01-31T12:00:{second:02}.123456789Z {text}\n".encode()


@asynccontextmanager
async def obedient(
    manager: RunningManager,
    name: str = "n1",
    outcome: Outcome = lambda task: TaskState.RUNNING,
    joined: Joined | None = None,
    address: str = "127.0.0.1",
) -> AsyncIterator[ObedientAgent]:
    """A node that has joined, or `joined` before, with its agent at work until the end of the block."""
    joined = joined or await manager.join(name)
    client = manager.node(joined)
    async with client.http.ws_connect(f"{manager.base}/v1/agent/session", max_msg_size=1 << 20) as socket:
        agent = ObedientAgent(socket, joined.id, client, outcome)
        await agent.hello(address)
        await agent.hear(Welcome)
        await agent.say(Beat())
        agent.beat()
        obeying = asyncio.create_task(agent.obey())
        try:
            yield agent
        finally:
            await agent.fall_silent()
            obeying.cancel()
            await asyncio.gather(obeying, return_exceptions=True)
