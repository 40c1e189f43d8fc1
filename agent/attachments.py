"""Containers that were started by hand, as members of networks: looks at them, has them wired, and tells of them.

Level-triggered: whenever an assignment, the engine or the node's networks changed, each one is looked at anew. What was
said to be over stays so until its addresses were taken from it, as they may be somebody else's by then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Protocol

from agent.attaching import Seen, Verdict, judge, seen_from
from agent.engine import ContainerMissing, Engine
from cluster.assignments import AttachmentItem, Item
from cluster.errors import StackyardError
from cluster.model.attachment import AttachmentReport, AttachmentState
from cluster.model.network import Endpoint
from cluster.protocol import Attached

log = logging.getLogger(__name__)

AGAIN = 2.0
"""Seconds until what failed is tried again."""


class Network(Protocol):
    """What is asked of the node's networks (agent.networks.Networks)."""

    async def attach(self, sandbox: str, pid: int, endpoints: Collection[Endpoint]) -> None: ...
    async def release(self, sandbox: str) -> None: ...
    def attached(self) -> frozenset[str]: ...


class Attachments:
    """`run` is its life; the rest may be called at any time from the same loop. `whole`: a manager gave a full set."""

    def __init__(self, engine: Engine, network: Network, whole: Callable[[], bool]) -> None:
        self._engine, self._network, self._whole = engine, network, whole
        self._items: dict[str, AttachmentItem] = {}
        self._over: dict[str, Endpoint] = {}
        self._reports: dict[str, AttachmentReport] = {}
        self._wake, self._news = asyncio.Event(), asyncio.Event()

    def assign(self, items: Iterable[Item]) -> None:
        """Work from these items from now on, of which the node's networks are made by now."""
        found = {item.id: item for item in items if isinstance(item, AttachmentItem)}
        if found or self._items:
            self._items = found
            self._wake.set()

    def again(self, container: str = "") -> None:
        """Look again: at all, or if one of them is this container."""
        if not container or any(container.startswith(i.container) for i in self._items.values() if i.container):
            self._wake.set()

    def tell_again(self) -> None:
        """Tell everything anew: to the manager of a new session."""
        if self._reports:
            self._news.set()

    async def take(self) -> Attached:
        """Wait until there is something to tell."""
        await self._news.wait()
        self._news.clear()
        return Attached(dict(self._reports))

    @property
    def sandboxes(self) -> frozenset[str]:
        """Those that are wanted, or there."""
        return self._network.attached() | {i.sandbox for i in self._items.values() if i.endpoint and i.container}

    async def run(self) -> None:
        """Look, for ever."""
        if self._network.attached():
            self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._whole():
                self._again_in(AGAIN)
                continue
            try:
                await self._look()
            except (StackyardError, OSError) as error:
                log.info("containers started by hand cannot be looked at now: %s", error)
                self._again_in(AGAIN)

    def _again_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._wake.set)

    async def _look(self) -> None:
        seen = {item.id: await self._inspect(item.container or item.asked) for item in self._items.values()}
        verdicts: dict[str, Verdict] = {}
        wired: dict[str, list[str]] = {}
        for ident in self._items.keys() & seen.keys():
            item = self._items[ident]
            verdict = verdicts[ident] = judge(item, seen[ident], self._over.get(ident), time.time())
            if verdict.wire:
                wired.setdefault(item.sandbox, []).append(ident)
            if verdict.again_in is not None:
                self._again_in(verdict.again_in)
        reports = {ident: verdict.report for ident, verdict in verdicts.items()}
        for sandbox in self._network.attached() - wired.keys():
            await self._network.release(sandbox)
        for sandbox, idents in wired.items():
            reports.update(await self._wire(sandbox, [(self._items[i], seen[i]) for i in idents], reports))
        self._tell(reports)

    async def _wire(
        self, sandbox: str, members: list[tuple[AttachmentItem, Seen | None]], reports: dict[str, AttachmentReport]
    ) -> dict[str, AttachmentReport]:
        """Wire one container; where that fails, say why it waits."""
        endpoints = [item.endpoint for item, _ in members if item.endpoint is not None]
        [seen, *_] = [seen for _, seen in members if seen is not None]
        try:
            await self._network.attach(sandbox, seen.pid, endpoints)
        except (StackyardError, OSError) as error:
            log.warning("container %s cannot be attached, tried again: %s", seen.name, error)
            self._again_in(AGAIN)
            waits = AttachmentReport(AttachmentState.WAITING, str(error), seen.observed.id, seen.name)
            return {item.id: waits for item, _ in members}
        return {item.id: reports[item.id] for item, _ in members}

    def _tell(self, reports: dict[str, AttachmentReport]) -> None:
        for ident, report in reports.items():
            endpoint = self._items[ident].endpoint if ident in self._items else None
            if report.state.is_over and endpoint is not None:
                self._over[ident] = endpoint
            elif not report.state.is_over:
                self._over.pop(ident, None)
        self._over = {ident: endpoint for ident, endpoint in self._over.items() if ident in reports}
        if reports != self._reports:
            for ident, report in reports.items():
                if self._reports.get(ident) != report and report.state is not AttachmentState.MISSING:
                    log.info(
                        "container %s is %s %s", report.name or report.container[:12], report.state, report.message
                    )
            self._reports = reports
            self._news.set()

    async def _inspect(self, container: str) -> Seen | None:
        try:
            found = await self._engine.ask("look at a container", "GET", f"containers/{container}/json")
        except ContainerMissing:
            return None
        return seen_from(found, await asyncio.to_thread(_read, str(found.get("ResolvConfPath") or "")))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace") if path else ""
    except OSError:
        return ""
