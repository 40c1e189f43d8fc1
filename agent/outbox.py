"""Statuses on their way to a manager: the newest of each task, kept until a manager has recorded it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from cluster.model.task import TaskStatus
from cluster.protocol import Statuses


class Outbox:
    """Coalesces statuses by task. What was sent and not recorded when a session ended goes out again in the next."""

    def __init__(self) -> None:
        self._waiting: dict[str, TaskStatus] = {}
        self._sent: dict[int, dict[str, TaskStatus]] = {}
        self._sequence = 0
        self._news = asyncio.Event()

    def put(self, status: TaskStatus) -> None:
        """Take a status to send; it replaces an earlier one of the same task."""
        self._waiting[status.task] = status
        self._news.set()

    def drop(self, tasks: Collection[str]) -> None:
        """Forget tasks that no manager asks about any more."""
        for held in (self._waiting, *self._sent.values()):
            for task in tasks:
                held.pop(task, None)

    async def take(self, most: int, unanswered: int) -> Statuses:
        """Wait for statuses, and until less than `unanswered` messages are; take up to `most` of them, oldest first.

        What waits meanwhile is overtaken by what is newer, so a slow manager is told less, not later.
        """
        while not self._waiting or len(self._sent) >= unanswered:
            self._news.clear()
            await self._news.wait()
        self._sequence += 1
        taken = {task: self._waiting.pop(task) for task in list(self._waiting)[:most]}
        self._sent[self._sequence] = taken
        return Statuses(self._sequence, tuple(taken.values()))

    def recorded(self, sequence: int) -> None:
        """A manager has stored all statuses up to this sequence number."""
        for sent in [s for s in self._sent if s <= sequence]:
            del self._sent[sent]
        self._news.set()

    def send_again(self) -> None:
        """A new session begins: nobody will answer for what the last one sent."""
        unanswered: dict[str, TaskStatus] = {}
        for sequence in sorted(self._sent):
            unanswered |= self._sent[sequence]
        self._sent.clear()
        self._waiting = unanswered | self._waiting
        self._news.set()
