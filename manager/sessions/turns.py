"""Turns on the event loop: many who wake together do their work a few at a time, and the loop's others in between."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

LONG = 0.02
"""Seconds of this thread's own work that make a round of the event loop a long one."""


class Turns:
    """So many in each round of the loop, in the order in which they came; half as many after a round that was long.

    What counts is the time for which the thread `worked`, not that for which it waited for a core.
    """

    def __init__(self, most: int, worked: Callable[[], float] = time.thread_time) -> None:
        self._most = self._each_round = self._left = most
        self._worked, self._worked_before = worked, 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._running = False

    async def take(self) -> None:
        """Wait for a turn; what follows up to the next await is to be short."""
        if not self._running:
            self._running, self._worked_before = True, self._worked()
            asyncio.get_running_loop().call_soon(self._next_round)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _next_round(self) -> None:
        worked = self._worked()
        if worked - self._worked_before > LONG:
            self._each_round = max(1, self._each_round // 2)
        elif self._each_round < self._most:
            self._each_round += 1
        self._worked_before = worked
        self._left = self._each_round
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # whoever waited may have been cancelled
                turn.set_result(None)
                self._left -= 1
        self._running = self._left < self._each_round
        if self._running:
            asyncio.get_running_loop().call_soon(self._next_round)
