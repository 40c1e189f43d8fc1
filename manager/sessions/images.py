"""What images' names mean, asked of nodes: their engines reach the registries, with the nodes' own configuration."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from cluster.protocol import ImagesResolved, ResolveImages
from manager.sessions.questions import Questions
from manager.sessions.session import AgentSession

WITHIN = 5.0
"""Seconds that whoever deploys waits at most."""

NODE_WITHIN = 4.5
ANOTHER_AFTER = 1.0
"""A node that has not answered by then may be gone: another one is asked too."""


class Images(Questions[ImagesResolved]):
    """What tags mean, as nodes find out."""

    async def resolve(self, images: Sequence[str], sessions: Sequence[AgentSession]) -> ImagesResolved:
        """Ask one of the sessions' agents, and another if it does not answer at once. What nobody knows is left out."""
        chosen = random.sample(sessions, min(2, len(sessions)))
        asking: set[asyncio.Task[ImagesResolved]] = set()

        def question(ident: str) -> ResolveImages:
            return ResolveImages(ident, tuple(images), NODE_WITHIN)

        if not chosen:
            return ImagesResolved("", problems=dict.fromkeys(images, "no node that could look is connected here"))
        try:
            async with asyncio.timeout(WITHIN):
                for session in chosen:
                    asking.add(asyncio.create_task(self.ask(session, question)))
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
