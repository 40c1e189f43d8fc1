"""Questions that managers ask in a session, each answered as soon as that can be, while others wait for theirs."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Answering(ABC, Generic[Q, A]):
    """Answers managers. `run` is its life; `ask` may be called at any time from the same loop."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[Q] = asyncio.Queue()
        self._answers: asyncio.Queue[A] = asyncio.Queue()

    @abstractmethod
    async def answer(self, wanted: Q) -> A:
        """Give the answer to one question. Must not fail: what is wrong is a part of the answer."""

    def ask(self, wanted: Q) -> None:
        """Have a question answered."""
        self._asked.put_nowait(wanted)

    async def take(self) -> A:
        """Wait for the next answer; one to a manager that has gone since means nothing to another."""
        return await self._answers.get()

    async def run(self) -> None:
        """Answer what is asked, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = await self._asked.get()
                group.create_task(self._answer(wanted), name=f"answer to {type(wanted).__name__}")

    async def _answer(self, wanted: Q) -> None:
        self._answers.put_nowait(await self.answer(wanted))
