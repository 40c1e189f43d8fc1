"""What tasks use and what lies on this node's disk, read once from engine and kernel when a manager asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from agent.answering import Answering
from agent.container import Observed, Phase, instant
from agent.engine import ContainerMissing, Engine
from agent.known import Known
from cluster.errors import StackyardError
from cluster.protocol import Measure, Measured
from cluster.usage import Counters, Stored, Traffic

AT_ONCE = 8
"""Containers that the engine is asked about at a time, by however many managers and people."""


class Sandboxes(Protocol):
    """Where tasks' network namespaces can be entered."""

    def in_sandbox(self, task: str, work: Callable[[], list[int]]) -> Awaitable[list[int]]: ...


class Usage(Answering[Measure, Measured]):
    """Measures this node's tasks and disk."""

    def __init__(self, engine: Engine, known: Known, sandboxes: Sandboxes) -> None:
        super().__init__()
        self._engine, self._known, self._sandboxes = engine, known, sandboxes
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._walking = asyncio.Lock()  # engines refuse to walk through their disk twice at a time

    async def answer(self, wanted: Measure) -> Measured:
        """Measure in the time that there is, or say why not."""
        try:
            async with asyncio.timeout(wanted.seconds):
                return await self.measure(wanted)
        except TimeoutError:
            return Measured(wanted.id, problem=f"its engine did not tell within {wanted.seconds:g} s")
        except StackyardError as error:
            return Measured(wanted.id, problem=error.message)

    async def measure(self, wanted: Measure) -> Measured:
        """Measure once. Raises what the engine does; a task that has gone, or does not run, is left out."""
        if wanted.disk:
            async with self._walking:
                return Measured(wanted.id, disk=tuple(stored(await self._engine.disk())))
        if wanted.traffic:
            passed = await asyncio.gather(*map(self._traffic, wanted.tasks))
            return Measured(wanted.id, traffic=tuple(one for one in passed if one is not None))
        found = await asyncio.gather(*map(self._counters, wanted.tasks))
        return Measured(wanted.id, tuple(one for one in found if one is not None))

    async def _counters(self, task: str) -> Counters | None:
        container = self._known.container_of(task)
        if container is None or container.phase is not Phase.RUNNING:
            return None
        async with self._turns:
            return await self._read(task, container)

    async def _read(self, task: str, container: Observed) -> Counters | None:
        try:
            read = counters(task, await self._engine.stats(container.id))
        except ContainerMissing:
            return None
        passed = await self._passed(task)
        return read if read is None or passed is None else replace(read, received=passed.received, sent=passed.sent)

    async def _traffic(self, task: str) -> Traffic | None:
        async with self._turns:
            return await self._passed(task)

    async def _passed(self, task: str) -> Traffic | None:
        """Read the links of a task's sandbox; None of one that has none."""
        assigned = self._known.tasks.get(task)
        item = None if assigned is None else self._known.item(assigned)
        if item is None or not item.spec.container.has_sandbox:
            return None
        try:
            return Traffic(task, *await self._sandboxes.in_sandbox(task, own_traffic))
        except (StackyardError, OSError):
            return None  # the sandbox goes before its container is known to have gone


def own_traffic() -> list[int]:
    """Read what has passed the links of the calling thread's namespace, in the order of Traffic."""
    return traffic(Path("/proc/thread-self/net/dev").read_text())


def traffic(listed: str) -> list[int]:
    """Sum what /proc/net/dev tells of all links but the loopback."""
    rows = [row.partition(":") for row in listed.splitlines()[2:]]
    links = [list(map(int, numbers.split())) for name, _, numbers in rows if name.strip() != "lo"]
    columns = (0,), (8,), (1,), (9,), (3, 11)
    return [sum(link[column] for link in links for column in some) for some in columns]


def counters(task: str, told: Mapping[str, Any]) -> Counters | None:
    """Read an engine's statistics; None of a container that does not run."""
    at = instant(told.get("read"))
    memory = told.get("memory_stats") or {}
    if at is None or "usage" not in memory:
        return None
    details = memory.get("stats") or {}
    # As `docker stats` has it: the first is of cgroups v1, the second of v2.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    transferred = (told.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return Counters(
        task,
        at,
        cpu=told["cpu_stats"]["cpu_usage"]["total_usage"],
        memory=max(0, memory["usage"] - cache),
        memory_limit=memory.get("limit", 0),
        read=sum(one["value"] for one in transferred if one["op"].lower() == "read"),
        written=sum(one["value"] for one in transferred if one["op"].lower() == "write"),
        pids=(told.get("pids_stats") or {}).get("current", 0),
    )


def stored(told: Mapping[str, Any]) -> Iterator[Stored]:
    """Read what an engine tells of its disk, counted as `docker system df` does."""
    images = told.get("Images") or ()
    used = [one for one in images if one.get("Containers")]
    size = told.get("LayersSize") or 0
    # As Docker counts it: of what images in use share with others, all could go.
    in_use = sum(one["Size"] - max(0, one.get("SharedSize") or 0) for one in used)
    yield Stored("images", len(images), len(used), size, max(0, size - in_use))

    containers = told.get("Containers") or ()
    up = [one for one in containers if one["State"] in ("running", "paused", "restarting")]
    size, in_use = (sum(one.get("SizeRw") or 0 for one in some) for some in (containers, up))
    yield Stored("containers", len(containers), len(up), size, size - in_use)

    volumes = [one.get("UsageData") or {} for one in told.get("Volumes") or ()]
    mounted = [one for one in volumes if one.get("RefCount", 0) > 0]
    size, in_use = (sum(max(0, one.get("Size", 0)) for one in some) for some in (volumes, mounted))
    yield Stored("volumes", len(volumes), len(mounted), size, size - in_use)

    cache = [one for one in told.get("BuildCache") or () if not one.get("Shared")]
    busy = [one for one in cache if one.get("InUse")]
    size, in_use = (sum(one.get("Size") or 0 for one in some) for some in (cache, busy))
    yield Stored("build cache", len(cache), len(busy), size, size - in_use)
