"""Examinations of nodes: asked of their agents, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cluster.errors import Unavailable
from cluster.examination import Target
from cluster.protocol import Examine, Examined
from manager.sessions.questions import Questions
from manager.sessions.session import AgentSession

WITHIN = 30.0
"""Seconds that an agent may take; without trouble it takes a moment, and with the worst of it a third of this."""
PATIENCE = WITHIN + 5.0
MOST_WAYS, LEAST_TARGETS = 10_000, 8
"""Ways that are probed at a time in the whole cluster, and how many from each node it always is."""


class Examinations(Questions[Examined]):
    """What nodes find when they are examined."""

    async def examine(self, sessions: Sequence[AgentSession], targets: Sequence[Target]) -> dict[str, Examined]:
        """Have the agents of sessions examine their nodes, and the ways to those of the targets that are others."""
        ordered = sorted(targets, key=lambda target: target.node)
        answers = await asyncio.gather(*(self._one(session, _others(ordered, session.node)) for session in sessions))
        return {session.node: answer for session, answer in zip(sessions, answers, strict=True)}

    async def _one(self, session: AgentSession, targets: tuple[Target, ...]) -> Examined:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.ask(session, lambda ident: Examine(ident, targets, WITHIN))
        except TimeoutError:
            return Examined("", problem="its agent did not answer")
        except Unavailable as error:
            return Examined("", problem=error.message)


def _others(ordered: Sequence[Target], node: str) -> tuple[Target, ...]:
    """Give the targets that come after a node, in a circle: so each is probed by as many as any other."""
    after = [target for target in ordered if target.node > node]
    before = [target for target in ordered if target.node < node]
    return tuple([*after, *before][: max(LEAST_TARGETS, MOST_WAYS // len(ordered))])
