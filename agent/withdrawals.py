"""Tells the manager that this node has let go of endpoints that leave: each set that has one, once it is in force."""

from __future__ import annotations

import asyncio

from cluster.protocol import Assignments, PeerItem, Programmed


class Withdrawals:
    """Only the newest set counts: what was let go of in an older one is so in it too."""

    def __init__(self) -> None:
        self._revision = 0
        self._told = 0
        self._news = asyncio.Event()

    def applied(self, assignments: Assignments) -> None:
        """Names, published ports and networks are as in this set from now on."""
        if any(isinstance(item, PeerItem) and item.leaving for item in assignments.items.values()):
            self._revision = assignments.revision
            self._news.set()

    def tell_again(self) -> None:
        """A new session begins, in which nothing was told."""
        self._told = 0
        self._news.set()

    async def take(self) -> Programmed:
        """Wait for a set of which this session was not told."""
        while self._revision <= self._told:
            self._news.clear()
            await self._news.wait()
        self._told = self._revision
        return Programmed(self._told)
