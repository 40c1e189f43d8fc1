"""The agent's working half, runner and networks, on a real engine; tests play the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agent.engine import Engine
from agent.journal import Journal
from agent.network.wiring import Wiring
from agent.networks import Networks
from agent.outbox import Outbox
from agent.resolver import Resolver
from agent.runner import Runner
from cluster.model.task import Task, TaskState, TaskStatus
from tests.agent.builders import CLUSTER, NODE
from tests.engines import ADDRESS, EngineHost

PATIENCE = 30.0


class Node:
    """An agent without a session. `statuses` holds the newest of each task, `told` all of them in their order."""

    def __init__(self, host: EngineHost, journal: Path) -> None:
        self.host = host
        self.engine = Engine(host.socket)
        wiring = Wiring(NODE, ADDRESS, netns=host.netns, links=host.links, home=host.network_namespace())
        self.network = Networks(wiring, Resolver(wiring))
        self.outbox = Outbox()
        self.journal = Journal(journal)
        self.runner = Runner(
            self.engine,
            self.network,
            self.outbox,
            self.journal,
            cluster=CLUSTER,
            files=host.files,
            address=ADDRESS,
        )
        self.statuses: dict[str, TaskStatus] = {}
        self.told: list[TaskStatus] = []
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        """Be the manager that records every status."""
        while True:
            batch = await self.outbox.take(100, 1)
            await self.runner.announce(batch.statuses)
            async with self._news:
                for status in batch.statuses:
                    self.statuses[status.task] = status
                    self.told.append(status)
                self._news.notify_all()
            self.outbox.recorded(batch.sequence)

    async def until(self, condition: Callable[[], bool], within: float = PATIENCE) -> None:
        """Wait until what was reported fulfils a condition."""
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(condition)
        except TimeoutError:
            raise AssertionError(f"not in {within} s; reported: {self.told}; {self.runner.conditions}") from None

    async def reach(self, task: Task, state: TaskState, within: float = PATIENCE) -> TaskStatus:
        await self.until(lambda: task.id in self.statuses and self.statuses[task.id].state is state, within)
        return self.statuses[task.id]

    async def gone(self, task: Task, within: float = PATIENCE) -> TaskStatus:
        """Wait for the word that nothing of a task is left."""

        def over() -> bool:
            status = self.statuses.get(task.id)
            return status is not None and status.state.terminal and not status.container

        await self.until(over, within)
        return self.statuses[task.id]


@asynccontextmanager
async def running(host: EngineHost, *, listening: bool = True, journal: Path | None = None) -> AsyncIterator[Node]:
    """Run an agent's working half for the block. Its end leaves containers and networks as they are."""
    node = Node(host, journal or host.home / "journal.json")
    await node.network.open()
    if listening:
        node.runner.online()
    tasks = [asyncio.create_task(node.runner.run()), asyncio.create_task(node.listen())]
    tasks.append(asyncio.create_task(node.journal.run(node.runner.entry)))
    try:
        yield node
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await node.engine.close()
        await node.network.close()
        for result in results:
            if isinstance(result, Exception):
                raise result
