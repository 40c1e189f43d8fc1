"""Which roots of the CA this node trusts: those that managers tell of, and a certificate of the one that signs.

What is open stays open while the roots change; connections that are made from then on go by the new ones.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import NoReturn

from agent.credentials import Credentials, renew
from cluster import pki
from cluster.errors import StackyardError, Unavailable
from cluster.protocol import Trusting

log = logging.getLogger(__name__)

SPREAD = 2.0
"""All agents hear of a new root at once: within so many seconds they ask for certificates of it."""
TRY_AGAIN = 2.0


class Trust:
    """`run` is its life; `learn` may be called at any time from the same loop."""

    def __init__(self, credentials: Credentials, managers: Callable[[], Iterable[str]]) -> None:
        self._credentials, self._managers = credentials, managers
        self._roots: tuple[str, ...] = ()
        self._news, self._to_tell = asyncio.Event(), asyncio.Event()

    def learn(self, roots: tuple[str, ...]) -> None:
        """Take in what a manager says of the roots; what comes of it is told."""
        self._roots = roots
        self._news.set()

    async def take(self) -> Trusting:
        """Wait until there is something to tell the manager."""
        await self._to_tell.wait()
        self._to_tell.clear()
        return Trusting(tuple(map(pki.ca_digest, self._credentials.roots())), self._credentials.signer())

    async def run(self) -> NoReturn:
        while True:
            await self._news.wait()
            self._news.clear()
            roots = self._roots
            try:
                self._credentials.trust(roots)
                self._to_tell.set()
                if self._credentials.signer() != pki.ca_digest(roots[0]):
                    await asyncio.sleep(random.uniform(0.0, SPREAD))
                    await self._get_certificate(pki.ca_digest(roots[0]))
                    self._to_tell.set()
            except (StackyardError, OSError) as error:
                log.warning("the CA's new root waits: %s", error)
                await asyncio.sleep(TRY_AGAIN)
                self._news.set()

    async def _get_certificate(self, signer: str) -> None:
        await renew(self._credentials, tuple(self._managers()))
        if self._credentials.signer() != signer:
            raise Unavailable("a manager does not sign with it yet")
