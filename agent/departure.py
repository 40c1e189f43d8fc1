"""What is done when a host leaves its cluster: none of its containers, networks and namespaces stays."""

from __future__ import annotations

import asyncio
import logging

from agent.engine import Engine
from agent.network.wiring import Wiring

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Containers removed side by side; an engine gets no faster with more."""


async def depart(engine: Engine, wiring: Wiring, cluster: str) -> None:
    """Remove all that the cluster has on this node but named volumes, which are data. No agent may be running."""
    await engine.connect()
    try:
        containers = list(await engine.containers(cluster))
        turns = asyncio.Semaphore(AT_ONCE)

        async def remove(container: str) -> None:
            async with turns:
                await engine.remove(container, force=True)

        async with asyncio.TaskGroup() as group:
            for container in containers:
                group.create_task(remove(container))
    finally:
        await engine.close()
    log.info("removed %d containers", len(containers))
    try:
        await wiring.open()
        await wiring.apply(())
        for sandbox in wiring.attached():
            await wiring.release(sandbox)
        await wiring.clean((), ())
    finally:
        await wiring.close()
