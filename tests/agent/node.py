"""The agent's working half, runner and networks, on a real engine; tests play the session."""

from __future__ import annotations

import asyncio
import time
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
from agent.secrets import OutOfReach, Secrets
from cluster.assignments import Item
from cluster.model.task import Task, TaskState, TaskStatus
from cluster.templates import Place
from tests.agent.builders import CLUSTER, NODE, a_set
from tests.engines import ADDRESS, EngineHost
from tests.patience import PATIENCE


class Node:
    """An agent without a session. `statuses` holds the newest of each task, `told` all of them in their order."""

    def __init__(self, host: EngineHost, journal: Path) -> None:
        self.host = host
        self.engine = Engine(host.socket)
        wiring = Wiring(NODE, ADDRESS, netns=host.netns, links=host.links, home=host.network_namespace())
        self.wiring = wiring
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
            place=Place(NODE, "host-1"),
            secrets=Secrets(host.memory / "secrets", self),
        )
        self.contents: dict[str, bytes] = {}
        self.statuses: dict[str, TaskStatus] = {}
        self.told: list[TaskStatus] = []
        self.away = False
        self._revision = 0
        self._news = asyncio.Condition()

    async def fetch(self, stack: str, digest: str) -> bytes:
        """Be the manager that gives contents."""
        if digest not in self.contents:
            raise OutOfReach("waits for a manager")
        return self.contents[digest]

    async def condition(self, name: str, *, gone: bool = False) -> None:
        """Wait until the node has a trouble of that name, or has it no longer."""
        await self.until_true(lambda: (name in self.runner.conditions) is not gone)

    async def until_true(self, condition: Callable[[], bool]) -> None:
        """Wait for what no report tells."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, (self.told, self.runner.conditions)
            await asyncio.sleep(0.02)

    async def listen(self) -> None:
        """Be the manager that records every status; one that is away hears of none, only the tests do."""
        while True:
            batch = await self.outbox.take(100, 1)
            if not self.away:
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

    def assign(self, *items: Item | Task, complete: bool = True) -> None:
        """Be the manager that gives this whole set."""
        self._revision += 1
        self.runner.assign(a_set(*items, revision=self._revision), complete=complete)

    async def leave_nothing(self) -> None:
        """Assign nothing, and see that everything goes."""
        self.assign()

        def traces() -> list[object]:
            places = (self.host.netns, self.host.links, self.host.files)
            return [*self.host.containers(), *(entry for place in places for entry in place.iterdir())]

        await self.until_true(lambda: not traces())

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
        await node.runner.settled()
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
