"""Simulated agents for `bench.control`: real WebSockets over mTLS, the real protocol, no engine behind them.

Each does at once whatever it is told. SIGUSR1 cuts all their connections, after which they dial again as agents do.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import signal
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import aiohttp
import uvloop

from cluster import pki
from cluster.assignments import Item, TaskItem
from cluster.model.node import NodeDescription
from cluster.model.task import Desired, TaskState, TaskStatus
from cluster.protocol import (
    OLDEST_VERSION,
    VERSION,
    Beat,
    Fetched,
    Hello,
    ImagesResolved,
    Page,
    Programmed,
    ResolveImages,
    Statuses,
    Welcome,
    decode_to_agent,
    encode,
    part,
)
from cluster.topics import digest, mark, topic_of

LONGEST_PAUSE = 3.0


class Set:
    """What an agent is to work from, and what that weighs by topic, kept up to date: real agents weigh it when they
    dial, each on a host of its own, but here five hundred share a core.
    """

    def __init__(self) -> None:
        self._marks: dict[str, int] = {}
        self._sums = Counter[str]()

    def put(self, items: Iterable[Item]) -> None:
        for item in items:
            if topic := topic_of(item.ident):
                weight = mark(part(item).text)
                self._sums[topic] += weight - self._marks.get(item.ident, 0)
                self._marks[item.ident] = weight

    def drop(self, idents: Iterable[str]) -> None:
        for ident in idents:
            if ident in self._marks:
                self._sums[topic_of(ident)] -= self._marks.pop(ident)

    def keep(self, topics: Collection[str]) -> None:
        """Drop all topics but these."""
        self.drop([ident for ident in self._marks if topic_of(ident) not in topics])

    @property
    def digests(self) -> dict[str, str]:
        return {topic: digest(total) for topic, total in self._sums.items() if total}


class SimulatedAgent:
    def __init__(self, name: str, url: str, certificates: Path) -> None:
        self.name = name
        self._url = url
        files = (certificates / f"{name}.pem", certificates / f"{name}-key.pem")
        self._tls = pki.client_context((certificates / "ca.pem").read_text(), *map(str, files))
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._told: dict[str, tuple[TaskState, Desired]] = {}
        self._has = Set()
        self._coming: list[Item] | None = None
        self._sequence = 0
        self._interval = 1.0

    async def run(self, http: aiohttp.ClientSession) -> None:
        pause = 0.1
        while True:
            try:
                async with http.ws_connect(self._url, ssl=self._tls, max_msg_size=1 << 20) as socket:
                    self._socket = socket
                    async with asyncio.TaskGroup() as group:
                        beating = group.create_task(self._beat(socket))
                        await self._talk(socket)
                        beating.cancel()
                pause = 0.1
            except (aiohttp.ClientError, OSError, ExceptionGroup):
                pause = min(LONGEST_PAUSE, pause * 2)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))

    async def cut(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await socket.send_bytes(encode(Beat()))

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        description = NodeDescription(
            self.name, "127.0.0.1", "bench", "1", architecture="x86_64", engine_version="20.10", cpus=64, memory=2**38
        )
        await socket.send_bytes(encode(Hello(OLDEST_VERSION, VERSION, description, has=self._has.digests)))
        self._told.clear()
        self._coming = None
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.BINARY:
                return
            message = decode_to_agent(frame.data)
            if isinstance(message, Welcome):
                self._interval = message.beat_interval
                await socket.send_bytes(encode(Beat()))
            elif isinstance(message, Page):
                await self._obey(socket, message)
            elif isinstance(message, ResolveImages):
                known = dict.fromkeys(message.images, "sha256:" + 64 * "0")
                await socket.send_bytes(encode(ImagesResolved(message.id, known)))

    async def _obey(self, socket: aiohttp.ClientWebSocketResponse, page: Page) -> None:
        self._keep(page)
        news = []
        for item in page.tasks:
            if (status := self._state(item)) is not None:
                news.append(status)
        if news:
            self._sequence += 1
            await socket.send_bytes(encode(Statuses(self._sequence, tuple(news))))
        if coming := {item.name: "" for item in page.services if item.coming}:
            await socket.send_bytes(encode(Fetched(coming)))
        if page.last and page.peers:
            await socket.send_bytes(encode(Programmed(page.revision)))

    def _keep(self, page: Page) -> None:
        if not page.full:
            self._has.drop(page.removed)
            self._has.put(page.items)
            return
        self._coming = [*(self._coming or ()), *page.items]
        if page.last:
            self._has.keep(page.kept)
            self._has.put(self._coming)
            self._coming = None

    def _state(self, item: TaskItem) -> TaskStatus | None:
        task = item.task
        up = TaskState.READY if task.held else TaskState.RUNNING
        state = up if task.desired is Desired.RUNNING else TaskState.SHUTDOWN
        if self._told.get(task.id) == (state, task.desired):
            return None
        self._told[task.id] = (state, task.desired)
        container = "" if task.desired is Desired.REMOVE else f"container-{task.id}"
        return TaskStatus(task.id, state, 5.0, "", container)


async def work(first: int, count: int, url: str, certificates: Path) -> None:
    agents = [SimulatedAgent(f"n{number:04d}", url, certificates) for number in range(first, first + count)]

    cuts: set[asyncio.Task[None]] = set()

    def cut() -> None:
        cuts.update(asyncio.create_task(agent.cut()) for agent in agents)

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, cut)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        for agent in agents:
            group.create_task(agent.run(http))


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulated agents; bench.control starts them.")
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--certificates", type=Path, required=True)
    parsed = parser.parse_args()
    gc.set_threshold(100_000, 50, 1000)  # these hold what a thousand hosts would
    uvloop.run(work(parsed.first, parsed.count, parsed.url, parsed.certificates))


if __name__ == "__main__":
    main()
