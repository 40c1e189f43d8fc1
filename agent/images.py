"""What images' names mean now: asked of their registries through the engine, for managers that deploy."""

from __future__ import annotations

import asyncio

from agent.answering import Answering
from agent.engine import Engine
from cluster.errors import StackyardError
from cluster.protocol import ImagesResolved, ResolveImages

AT_ONCE = 8


class Images(Answering[ResolveImages, ImagesResolved]):
    """Looks up images."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    async def answer(self, wanted: ResolveImages) -> ImagesResolved:
        """Ask about all images of a question, a few at a time."""
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
        return ImagesResolved(wanted.id, digests, problems, platforms)
