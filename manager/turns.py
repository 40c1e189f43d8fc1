"""Turns on the event loop: many who wake together do their work a few at a time, and the loop's others in between."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable


class Turns:
    """So many in each round of the loop, and so many seconds of work, in the order in which they came.

    What counts is the time for which this thread `worked` on turns, not that for which it waited for a core, nor what
    others on the loop did. One turn at least is given in each round, however long.
    """

    def __init__(self, each_round: int, seconds: float, worked: Callable[[], float] = time.thread_time) -> None:
        self._each_round, self._seconds, self._worked = each_round, seconds, worked
        self._began: float | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._put_off: list[asyncio.Future[None]] = []
        self._running = False

    async def take(self) -> None:
        """Wait for a turn; what follows up to the next await is to be short."""
        loop = asyncio.get_running_loop()
        if not self._running:
            self._running = True
            loop.call_soon(self._next_round)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn
        while not self._has_time():
            turn = loop.create_future()
            self._put_off.append(turn)
            await turn

    def _has_time(self) -> bool:
        """Tell whether one of those whose turns were given together, and who run one after the other, may go on."""
        now = self._worked()
        if self._began is None:
            self._began = now
        return now - self._began < self._seconds

    def _next_round(self) -> None:
        self._began = None
        self._waiting.extendleft(reversed(self._put_off))
        self._put_off.clear()
        left = self._each_round
        while left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # whoever waited may have been cancelled
                turn.set_result(None)
                left -= 1
        self._running = left < self._each_round
        if self._running:
            asyncio.get_running_loop().call_soon(self._next_round)
