"""What tasks use and what lies on disks: asked of agents, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from cluster.errors import Unavailable
from cluster.protocol import Measure, Measured
from cluster.usage import MOST_MEASURED
from manager.sessions import bounds
from manager.sessions.questions import Questions
from manager.sessions.session import AgentSession

WITHIN, DISK_WITHIN = 5.0, 60.0
"""Seconds that an agent may take: engines walk through all that they have when they are asked about their disk."""
ON_THE_WAY = 2.0
"""Seconds that question and answer may take beside."""

NOT_HERE = "its agent is not connected"
TOO_OLD = "its agent is too old to tell"


class Measurements(Questions[Measured]):
    """What nodes measure."""

    async def measure(
        self, sessions: Mapping[str, AgentSession], tasks: Mapping[str, Sequence[str]], *, disk: bool, traffic: bool
    ) -> dict[str, Measured]:
        """Ask the nodes that `tasks` names, each about its own; a problem tells why there is nothing of one."""
        nodes = list(tasks)
        told = await asyncio.gather(*(self._of(sessions.get(node), tasks[node], disk, traffic) for node in nodes))
        return dict(zip(nodes, told, strict=True))

    async def _of(self, session: AgentSession | None, tasks: Sequence[str], disk: bool, traffic: bool) -> Measured:
        if session is None:
            return Measured("", problem=NOT_HERE)
        if not session.measures:
            return Measured("", problem=TOO_OLD)
        parts = [tuple(tasks[start : start + MOST_MEASURED]) for start in range(0, len(tasks), MOST_MEASURED)] or [()]
        found = await asyncio.gather(*(self._part(session, part, disk, traffic) for part in parts))
        counters = tuple(one for each in found for one in each.tasks)
        passed = tuple(one for each in found for one in each.traffic)
        problem = next((each.problem for each in found if each.problem), "")
        return Measured("", counters, found[0].disk, problem, passed)

    async def _part(self, session: AgentSession, tasks: tuple[str, ...], disk: bool, traffic: bool) -> Measured:
        within = DISK_WITHIN if disk else WITHIN
        try:
            async with asyncio.timeout(within + ON_THE_WAY):
                told = await self.ask(session, lambda ident: Measure(ident, tasks, disk, within, traffic))
        except TimeoutError:
            return Measured("", problem="its agent did not answer")
        except Unavailable as error:
            return Measured("", problem=error.message)
        return bounds.measured(told, tasks)
