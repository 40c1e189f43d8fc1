"""One line of how this node fares, for whoever stands before it: `systemctl status stackyard-agent` shows it.

It is there for when no manager is in reach, who would tell: after a reboot, say, tasks with secrets wait for one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from cluster.model.task import TaskState, TaskStatus

LOOK_EVERY = 5.0
_MOST_REASONS = 3


class Node(Protocol):
    """What is asked of the runner."""

    @property
    def reported(self) -> Collection[TaskStatus]: ...
    @property
    def conditions(self) -> Mapping[str, str]: ...
    @property
    def is_offline(self) -> bool: ...


class Keeper(Protocol):
    """What is asked of the keeper of sockets."""

    def show(self, status: str) -> None: ...


class Standing:
    """`run` is its life."""

    def __init__(self, node: Node, keeper: Keeper) -> None:
        self._node, self._keeper = node, keeper

    async def run(self) -> None:
        """Show how the node fares whenever that has changed, for ever."""
        shown = ""
        while True:
            now = line(self._node.reported, self._node.conditions, offline=self._node.is_offline)
            if now != shown:
                self._keeper.show(now)
                shown = now
            await asyncio.sleep(LOOK_EVERY)


def line(statuses: Iterable[TaskStatus], conditions: Mapping[str, str], *, offline: bool) -> str:
    """Say it in one line."""
    live = [status for status in statuses if not status.state.terminal]
    run = sum(status.state is TaskState.RUNNING for status in live)
    reasons = Counter(status.message for status in live if status.state is not TaskState.RUNNING)
    told = [f"{_tasks(run)} {'runs' if run == 1 else 'run'}"]
    if reasons:
        why = "; ".join(reason for reason, _ in reasons.most_common(_MOST_REASONS) if reason)
        told.append(f"{reasons.total()} not yet" + (f" ({why})" if why else ""))
    told += ["no manager answers"] if offline else []
    return " ".join("; ".join([", ".join(told), *conditions.values()]).split())


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
