"""Turns on the event loop: many who wake together do their work a few at a time, and the loop's others in between."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """So many in each round of the loop, in the order in which they came."""

    def __init__(self, each_round: int) -> None:
        self._each_round = self._left = each_round
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running = False

    async def take(self) -> None:
        """Wait for a turn; what follows up to the next await is to be short."""
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._next_round)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _next_round(self) -> None:
        self._left = self._each_round
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # whoever waited may have been cancelled
                turn.set_result(None)
                self._left -= 1
        self._running = self._left < self._each_round
        if self._running:
            asyncio.get_running_loop().call_soon(self._next_round)
