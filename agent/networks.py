"""Wiring and resolver as one, for the runner: where a sandbox is, names are answered in it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

from agent.network.wiring import Wiring
from agent.resolver import Resolver, open_sockets
from cluster.assignments import Item
from cluster.errors import NotFound
from cluster.model.network import Endpoint

log = logging.getLogger(__name__)


class Networks:
    """All that a node does for its containers' networks; the same calls as on `Wiring`, which say what they do."""

    def __init__(self, wiring: Wiring, resolver: Resolver) -> None:
        self._wiring, self._resolver = wiring, resolver

    async def open(self) -> None:
        """Make ready, and answer again in the sandboxes that an earlier process left."""
        await self._wiring.open()
        for task in self._wiring.sandboxes() | self._wiring.attached():
            try:
                await self._resolver.adopt(task)
            except (NotFound, OSError) as error:
                log.warning("names cannot be answered in the sandbox of task %s: %s", task, error)
        self._resolver.adopted()

    async def close(self) -> None:
        await self._resolver.close_all()
        await self._wiring.close()

    async def run(self) -> None:
        await self._wiring.run()

    async def apply(self, items: Iterable[Item], *, prune: bool = True) -> None:
        held = tuple(items)
        try:
            await self._wiring.apply(held, prune=prune)
        finally:
            self._resolver.update(held)  # last, so that a name never leads where the wiring does not reach yet

    async def create_sandbox(self, task: str, endpoints: Collection[Endpoint]) -> Path:
        self._resolver.close(task)
        opened: list[socket.socket] = []
        try:
            path = await self._wiring.create_sandbox(task, endpoints, lambda: opened.extend(open_sockets()))
        except BaseException:
            for each in opened:
                each.close()
            raise
        self._resolver.enter(task, *opened)
        return path

    async def delete_sandbox(self, task: str) -> None:
        self._resolver.close(task)
        await self._wiring.delete_sandbox(task)

    async def attach(self, sandbox: str, pid: int, endpoints: Collection[Endpoint]) -> None:
        if await self._wiring.attach(sandbox, pid, endpoints) or not self._resolver.answers_in(sandbox):
            await self._resolver.open(sandbox)

    async def release(self, sandbox: str) -> None:
        self._resolver.close(sandbox)
        await self._wiring.release(sandbox)

    def attached(self) -> frozenset[str]:
        return self._wiring.attached()

    @property
    def trouble(self) -> str:
        return self._wiring.trouble

    def sandboxes(self) -> frozenset[str]:
        return self._wiring.sandboxes()

    async def link_container(self, container: str, task: str) -> None:
        await self._wiring.link_container(container, task)

    async def unlink_container(self, container: str) -> None:
        await self._wiring.unlink_container(container)

    async def clean(self, tasks: Collection[str], containers: Collection[str]) -> None:
        for task in self._wiring.sandboxes().difference(tasks):
            self._resolver.close(task)
        await self._wiring.clean(tasks, containers)
