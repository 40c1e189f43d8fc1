"""What images' names mean now: asked of their registries through the engine, for managers that deploy."""

from __future__ import annotations

import asyncio

from agent.engine import Engine
from cluster.errors import StackyardError
from cluster.protocol import ImagesResolved, ResolveImages

AT_ONCE = 8


class Images:
    """Answers managers. `run` is its life; `ask` may be called at any time from the same loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._asked: asyncio.Queue[ResolveImages] = asyncio.Queue()
        self._answers: asyncio.Queue[ImagesResolved] = asyncio.Queue()

    def ask(self, wanted: ResolveImages) -> None:
        """Have images looked up."""
        self._asked.put_nowait(wanted)

    async def take(self) -> ImagesResolved:
        """Wait for the next answer; one to a manager that has gone since means nothing to another."""
        return await self._answers.get()

    async def run(self) -> None:
        """Look up what is asked for, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = await self._asked.get()
                group.create_task(self._resolve(wanted), name=f"looking up {len(wanted.images)} images")

    async def _resolve(self, wanted: ResolveImages) -> None:
        turns = asyncio.Semaphore(AT_ONCE)
        digests: dict[str, str] = {}
        platforms: dict[str, tuple[str, ...]] = {}
        problems: dict[str, str] = {}

        async def look_up(image: str) -> None:
            try:
                async with asyncio.timeout(wanted.seconds), turns:
                    digests[image], platforms[image] = await self._engine.look_up(image)
            except TimeoutError:
                problems[image] = "its registry does not answer"
            except StackyardError as error:
                problems[image] = error.message

        await asyncio.gather(*map(look_up, wanted.images))
        self._answers.put_nowait(ImagesResolved(wanted.id, digests, problems, platforms))
