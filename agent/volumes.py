"""Named volumes that are to go from this node with their data: removed once nothing uses them, then told.

Only what a stack had made is ever removed, which its label tells; anything else of that name is left to people.
"""

from __future__ import annotations

import asyncio
import logging

from agent.container import LABEL_STACK
from agent.engine import Engine, EngineDown
from agent.known import Known
from cluster.assignments import ServiceItem
from cluster.errors import StackyardError
from cluster.protocol import VolumesRemoved

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds before a volume that could not be removed is tried again."""


class Volumes:
    """Works on what the assignments say at the time. `run` is its life; the rest may be called at any time."""

    def __init__(self, engine: Engine, known: Known) -> None:
        self._engine, self._known = engine, known
        self._wanted: frozenset[str] = frozenset()
        self._gone: set[str] = set()
        self._told: set[str] = set()
        self._troubles: dict[str, str] = {}
        self._look = asyncio.Event()
        self._news = asyncio.Event()

    def assigned(self) -> None:
        """The assignments are new."""
        wanted = self._known.volumes
        if wanted != self._wanted:
            self._wanted = wanted
            self._gone &= wanted
            self._told &= wanted
            self._troubles = {name: why for name, why in self._troubles.items() if name in wanted}
            self._look.set()

    def tell_again(self) -> None:
        """A new session begins, in which nothing was told."""
        self._told.clear()
        self._news.set()

    async def take(self) -> VolumesRemoved:
        """Wait for volumes that are gone and of which this session was not told."""
        while not (names := self._gone - self._told):
            self._news.clear()
            await self._news.wait()
        self._told |= names
        return VolumesRemoved(tuple(sorted(names)))

    @property
    def trouble(self) -> str:
        """Why volumes are still there, for people; "" when there is nothing to say."""
        return "; ".join(self._troubles.values())

    async def run(self) -> None:
        """Remove what is to be removed, for ever."""
        pause = FIRST_PAUSE
        while True:
            self._look.clear()
            await self._remove_all()
            try:
                async with asyncio.timeout(pause if self._wanted - self._gone else None):
                    await self._look.wait()
                pause = FIRST_PAUSE
            except TimeoutError:
                pause = min(LONGEST_PAUSE, pause * 2)

    async def _remove_all(self) -> None:
        items = self._known.assignments.items.values()
        used = {name for item in items if isinstance(item, ServiceItem) for name in item.spec.volume_names}
        for name in sorted(self._wanted - self._gone - used):
            try:
                trouble = await self._remove(name)
            except EngineDown as error:
                log.info("removing volume %s waits for the engine: %s", name, error.message)
                return
            except StackyardError as error:
                log.info("volume %s cannot be removed now: %s", name, error.message)
                trouble = f"volume {name} cannot be removed: {error.message}"
            if name not in self._wanted:
                continue  # the assignments changed meanwhile
            if trouble:
                self._troubles[name] = trouble
            else:
                self._troubles.pop(name, None)
                self._gone.add(name)
                self._news.set()

    async def _remove(self, name: str) -> str:
        """Remove one volume; gives the reason when it must stay."""
        labels = await self._engine.volume(name)
        if labels is None:
            return ""
        if LABEL_STACK not in labels:
            return (
                f"volume {name} is to be removed, but was not made by a stack and is left alone: "
                f"`docker volume rm {name}` removes it"
            )
        await self._engine.remove_volume(name)
        log.info("volume %s was removed with its data", name)
        return ""
