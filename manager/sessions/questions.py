"""Questions to agents over their sessions, and the answers that come later."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Generic, TypeVar

from cluster.errors import Unavailable
from cluster.protocol import Examined, ImagesResolved, Measured, ToAgent
from manager.sessions.session import AgentSession

Answer = TypeVar("Answer", ImagesResolved, Examined, Measured)


class Questions(Generic[Answer]):
    """Those of one kind that are out, by their ids."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[str, asyncio.Future[Answer]]] = {}

    def answered(self, node: str, answer: Answer) -> None:
        """Take a node's answer; one that nobody waits for any more is dropped."""
        asked, arrival = self._asked.get(answer.id, ("", None))
        if arrival is not None and asked == node and not arrival.done():
            arrival.set_result(answer)

    def give_up(self, node: str) -> None:
        """Have those who wait for a node's answers wait no longer, as it is down."""
        for asked, arrival in self._asked.values():
            if asked == node and not arrival.done():
                arrival.set_exception(Unavailable("its node is down"))

    async def ask(self, session: AgentSession, question: Callable[[str], ToAgent]) -> Answer:
        """Send the question of an id, and wait for its answer for as long as the caller lets it.

        Raises Unavailable when the node is called down meanwhile.
        """
        ident = secrets.token_hex(8)
        arrival: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[ident] = (session.node, arrival)
        try:
            session.send(question(ident))
            return await arrival
        finally:
            del self._asked[ident]
