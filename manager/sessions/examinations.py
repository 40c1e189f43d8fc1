"""Examinations of nodes: asked of their agents, all at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

from cluster.examination import Target
from cluster.protocol import Examine, Examined
from manager.sessions.session import AgentSession

WITHIN = 30.0
"""Seconds that an agent may take; without trouble it takes a moment, and with the worst of it a third of this."""
PATIENCE = WITHIN + 5.0
MOST_WAYS, LEAST_TARGETS = 10_000, 8
"""Ways that are probed at a time in the whole cluster, and how many from each node it always is."""


class Examinations:
    """The questions that are out, by their ids."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[str, asyncio.Future[Examined]]] = {}

    def answered(self, node: str, answer: Examined) -> None:
        """Take a node's answer; one that nobody waits for any more is dropped."""
        asked, arrival = self._asked.get(answer.id, ("", None))
        if arrival is not None and asked == node and not arrival.done():
            arrival.set_result(answer)

    async def examine(self, sessions: Sequence[AgentSession], targets: Sequence[Target]) -> dict[str, Examined]:
        """Have the agents of sessions examine their nodes, and the ways to those of the targets that are others."""
        ordered = sorted(targets, key=lambda target: target.node)
        answers = await asyncio.gather(*(self._ask(session, _others(ordered, session.node)) for session in sessions))
        return {session.node: answer for session, answer in zip(sessions, answers, strict=True)}

    async def _ask(self, session: AgentSession, targets: tuple[Target, ...]) -> Examined:
        ident = secrets.token_hex(8)
        arrival: asyncio.Future[Examined] = asyncio.get_running_loop().create_future()
        self._asked[ident] = (session.node, arrival)
        try:
            session.send(Examine(ident, targets, WITHIN))
            async with asyncio.timeout(PATIENCE):
                return await arrival
        except TimeoutError:
            return Examined(ident, problem="its agent did not answer")
        finally:
            del self._asked[ident]


def _others(ordered: Sequence[Target], node: str) -> tuple[Target, ...]:
    """Give the targets that come after a node, in a circle: so each is probed by as many as any other."""
    after = [target for target in ordered if target.node > node]
    before = [target for target in ordered if target.node < node]
    return tuple([*after, *before][: max(LEAST_TARGETS, MOST_WAYS // len(ordered))])
