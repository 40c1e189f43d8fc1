"""Tells the manager which network generation is in force here, where that tells it something.

That is each set in which an endpoint leaves, since its task ends only when it has been let go of, and each in which
another endpoint is ready than before, by which the manager knows how long changes take to reach all nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cluster.assignments import Assignments, Item, PeerItem
from cluster.protocol import Programmed


class Withdrawals:
    """Only the newest set counts: what was let go of in an older one is so in it too."""

    def __init__(self) -> None:
        self._revision = 0
        self._told = 0
        self._items: dict[str, Item] = {}
        self._news = asyncio.Event()

    def applied(self, assignments: Assignments) -> None:
        """Names, published ports and networks are as in this set from now on."""
        before, self._items = self._items, assignments.items
        if _leaves(self._items) or _turns(before, self._items) or _turns(self._items, before):
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


def _leaves(items: Mapping[str, Item]) -> bool:
    return any(isinstance(item, PeerItem) and item.leaving for item in items.values())


def _turns(before: Mapping[str, Item], after: Mapping[str, Item]) -> bool:
    """Tell whether an endpoint is ready after that was not before."""
    for ident, item in after.items():
        held = before.get(ident)
        if held is not item and isinstance(item, PeerItem) and item.ready and item.service_uid:
            if not isinstance(held, PeerItem) or not held.ready:
                return True
    return False
