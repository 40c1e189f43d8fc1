"""Examines this node and the ways from it to others, when a manager asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from agent.answering import Answering
from agent.network.survey import Survey
from agent.verification import Verified
from cluster.assignments import Item
from cluster.errors import StackyardError
from cluster.examination import NodeReport, Probed, Target
from cluster.fingerprint import by_network
from cluster.protocol import Examine, Examined

log = logging.getLogger(__name__)

LEAVING = 1.0
"""Seconds after which what nothing accounts for is not only on its way out."""
CLEANING = 2.0
"""Seconds within which what nothing accounts for is to be gone once its removal was asked for."""


class Ways(Protocol):
    """What is asked of the probes (agent.network.probes.Probes)."""

    deaf: str

    async def run(self) -> None: ...
    async def send(self, targets: Iterable[Target], needed: int) -> list[Probed]: ...


class Kernel(Protocol):
    """What is asked of the wiring."""

    async def survey(self, tasks: Collection[str]) -> Survey: ...


class Tasks(Protocol):
    """What is asked of the runner."""

    @property
    def accounted(self) -> frozenset[str] | None: ...
    @property
    def items(self) -> Collection[Item]: ...
    def clean_again(self) -> None: ...


class Names(Protocol):
    """What is asked of the verification."""

    async def verify(self) -> Verified: ...


class Examiner(Answering[Examine, Examined]):
    """Examines this node, and answers the probes of others."""

    def __init__(self, ways: Ways, kernel: Kernel, tasks: Tasks, names: Names) -> None:
        super().__init__()
        self._ways, self._kernel, self._tasks, self._names = ways, kernel, tasks, names

    async def run(self) -> None:
        """Answer the probes of other nodes, and examine what is asked for, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ways.run())
            group.create_task(super().run())

    async def answer(self, wanted: Examine) -> Examined:
        """Examine in the time that there is, or say why not."""
        try:
            async with asyncio.timeout(wanted.seconds):
                return Examined(wanted.id, await self.examine(wanted.targets))
        except TimeoutError:
            return Examined(wanted.id, problem=f"it was not done with it within {wanted.seconds:g} s")
        except (StackyardError, OSError) as error:
            return Examined(wanted.id, problem=str(error))

    async def examine(self, targets: Sequence[Target]) -> NodeReport:
        """Examine this node and the ways to those others."""
        sending = asyncio.create_task(self._ways.send(targets, (await self._survey()).needed))
        try:
            stale = await self._stale()
            if stale:
                self._tasks.clean_again()
                await asyncio.sleep(CLEANING)
            verified = await self._names.verify()
            after = await self._survey()
            probed = await sending
        finally:
            sending.cancel()
        return NodeReport(
            link=after.link,
            mtu=after.mtu,
            needed=after.needed,
            probed=tuple(probed),
            deaf=self._ways.deaf,
            stale=tuple(name for name in stale if name in after.stale),
            removed=tuple(name for name in stale if name not in after.stale),
            foreign=after.foreign,
            networks=by_network(self._tasks.items),
            names=verified.names,
            vips=verified.vips,
            astray=verified.astray,
        )

    async def _stale(self) -> tuple[str, ...]:
        """Name what nothing accounts for, and is not only on its way out."""
        first = await self._survey()
        if not first.stale:
            return ()
        await asyncio.sleep(LEAVING)
        second = await self._survey()
        return tuple(name for name in first.stale if name in second.stale)

    async def _survey(self) -> Survey:
        accounted = self._tasks.accounted
        survey = await self._kernel.survey(accounted or ())
        return replace(survey, stale=()) if accounted is None else survey
