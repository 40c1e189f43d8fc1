"""What images' names mean, asked of nodes: their engines reach the registries, with the nodes' own configuration."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence

from cluster.protocol import ImagesResolved, ResolveImages
from manager.sessions.session import AgentSession

WITHIN = 5.0
"""Seconds that whoever deploys waits at most."""

NODE_WITHIN = 4.5
ANOTHER_AFTER = 1.0
"""A node that has not answered by then may be gone: another one is asked too."""


class Images:
    """The questions that are out, by their ids."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[str, asyncio.Future[ImagesResolved]]] = {}

    def answered(self, node: str, answer: ImagesResolved) -> None:
        """Take a node's answer; one that nobody waits for any more is dropped."""
        asked, arrival = self._asked.get(answer.id, ("", None))
        if arrival is not None and asked == node and not arrival.done():
            arrival.set_result(answer)

    async def resolve(self, images: Sequence[str], sessions: Sequence[AgentSession]) -> ImagesResolved:
        """Ask one of the sessions' agents, and another if it does not answer at once. What nobody knows is left out."""
        chosen = random.sample(sessions, min(2, len(sessions)))
        asking: set[asyncio.Task[ImagesResolved]] = set()
        if not chosen:
            return ImagesResolved("", problems=dict.fromkeys(images, "no node that could look is connected here"))
        try:
            async with asyncio.timeout(WITHIN):
                for session in chosen:
                    asking.add(asyncio.create_task(self._ask(session, images)))
                    last = session is chosen[-1]
                    done, _ = await asyncio.wait(
                        asking, timeout=None if last else ANOTHER_AFTER, return_when=asyncio.FIRST_COMPLETED
                    )
                    if done:
                        return done.pop().result()
        except TimeoutError:
            pass
        finally:
            for task in asking:
                task.cancel()
        return ImagesResolved("", problems=dict.fromkeys(images, "no node answered in time"))

    async def _ask(self, session: AgentSession, images: Sequence[str]) -> ImagesResolved:
        ident = secrets.token_hex(8)
        arrival: asyncio.Future[ImagesResolved] = asyncio.get_running_loop().create_future()
        self._asked[ident] = (session.node, arrival)
        try:
            session.send(ResolveImages(ident, tuple(images), NODE_WITHIN))
            return await arrival
        finally:
            del self._asked[ident]
