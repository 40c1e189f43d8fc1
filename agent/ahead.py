"""Images of versions that tasks here are about to be updated to: pulled while the old ones serve, then told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agent.container import ImageWish, image_wish
from agent.engine import EngineDown, EngineRefused
from agent.known import Known
from cluster.assignments import ServiceItem
from cluster.errors import StackyardError
from cluster.protocol import Fetched

log = logging.getLogger(__name__)

TRIES = 4
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class Ahead:
    """Works on what the assignments say at the time. `run` is its life; the rest may be called at any time.

    `have` makes an image known. One that cannot be had is told to be so, and tried for again.
    """

    def __init__(self, known: Known, have: Callable[[ImageWish], Awaitable[None]]) -> None:
        self._known, self._have = known, have
        self._told: dict[str, str] = {}
        self._found: dict[str, str] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._look = asyncio.Event()
        self._news = asyncio.Event()

    def assigned(self) -> None:
        """The assignments are new."""
        self._look.set()

    def tell_again(self) -> None:
        """A new session begins, in which nothing was told."""
        self._told = {}
        self._news.set()

    async def take(self) -> Fetched:
        """Wait for an image of which this session was not told."""
        while not self._found.items() - self._told.items():
            self._news.clear()
            await self._news.wait()
        self._told = dict(self._found)
        return Fetched(self._told)

    async def run(self) -> None:
        """Pull what is wanted ahead, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._look.wait()
                self._look.clear()
                items = self._known.assignments.items.values()
                wanted = {item.name: item for item in items if isinstance(item, ServiceItem) and item.coming}
                for name in [name for name in self._under_way if name not in wanted]:
                    self._under_way.pop(name).cancel()
                self._found = {name: why for name, why in self._found.items() if name in wanted}
                for name, item in wanted.items():
                    if name not in self._under_way:
                        self._under_way[name] = group.create_task(self._get(name, image_wish(item)))

    async def _get(self, name: str, wish: ImageWish) -> None:
        tries, pause = 0, FIRST_PAUSE
        while True:
            try:
                await self._have(wish)
            except EngineDown:
                pass  # which says nothing of the image
            except (StackyardError, OSError) as error:
                tries += 1
                log.info("image %s cannot be had ahead: %s", wish.name, error)
                if tries >= TRIES or isinstance(error, EngineRefused):
                    self._tell(name, str(error))
            else:
                self._tell(name, "")
                return
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _tell(self, name: str, why: str) -> None:
        self._found[name] = why
        self._news.set()
