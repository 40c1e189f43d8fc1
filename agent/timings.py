"""Tells managers how long this agent's work takes, every so often, by how long: never task by task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.latency import AgentWork, Histogram
from cluster.protocol import Timings as Told

PAUSE = 5.0
"""Seconds in which more may come, before what has come is told."""


class Timings:
    """What was timed and not told yet. What was on its way when a session ended is not told again."""

    def __init__(self) -> None:
        self._held: dict[AgentWork, Histogram] = {}
        self._news = asyncio.Event()

    def observe(self, work: AgentWork, seconds: float) -> None:
        self._held.setdefault(work, Histogram()).observe(seconds)
        self._news.set()

    @contextmanager
    def timed(self, work: AgentWork) -> Iterator[None]:
        """Time the block, unless it fails."""
        began = time.monotonic()
        yield
        self.observe(work, time.monotonic() - began)

    async def take(self) -> Told:
        """Wait for something to tell."""
        await self._news.wait()
        await asyncio.sleep(PAUSE)
        self._news.clear()
        held, self._held = self._held, {}
        return Told({work: histogram.latency for work, histogram in held.items()})
