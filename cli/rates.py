"""What tasks use a second, from two answers with counters. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cluster.usage import Counters, TaskUsage


@dataclass(frozen=True, slots=True)
class Row:
    """What a task, or all tasks of a service or node, use. None is what is not known, or not known yet.

    `cpu` is in percent of one core, what is not memory in bytes a second. Of many tasks, `node` is "" unless it is
    what they have in common.
    """

    name: str
    node: str
    tasks: int
    cpu: float | None
    memory: int
    memory_limit: int
    received: float | None
    sent: float | None
    read: float | None
    written: float | None
    pids: int


def rows(before: Mapping[str, Counters], usage: Iterable[TaskUsage]) -> list[Row]:
    """Give a row for each task that is there now; without earlier counters of it there are no rates."""
    return [_row(before.get(one.counters.task), one) for one in usage]


def _row(before: Counters | None, usage: TaskUsage) -> Row:
    now = usage.counters

    def rate(counter: Callable[[Counters], int | None]) -> float | None:
        if before is None or now.at <= before.at:
            return None
        first, last = counter(before), counter(now)
        if first is None or last is None or last < first:
            return None  # a container that was restarted counts from 0 again
        return (last - first) / (now.at - before.at)

    cpu = rate(lambda counters: counters.cpu)
    return Row(
        name=usage.name,
        node=usage.node,
        tasks=1,
        cpu=None if cpu is None else cpu / 1e9 * 100,
        memory=now.memory,
        memory_limit=now.memory_limit,
        received=rate(lambda counters: counters.received),
        sent=rate(lambda counters: counters.sent),
        read=rate(lambda counters: counters.read),
        written=rate(lambda counters: counters.written),
        pids=now.pids,
    )


def summed(usage: Iterable[TaskUsage], found: Iterable[Row], by: str) -> list[Row]:
    """Sum the rows of tasks by "service" or "node"; what is not known of some is the sum of the others."""
    groups: dict[str, list[Row]] = {}
    for one, row in zip(usage, found, strict=True):
        groups.setdefault(one.service if by == "service" else one.node, []).append(row)
    return [_sum(name, name if by == "node" else "", groups[name]) for name in sorted(groups)]


def _sum(name: str, node: str, some: list[Row]) -> Row:
    def known(value: Callable[[Row], float | None]) -> float | None:
        numbers = [number for row in some if (number := value(row)) is not None]
        return sum(numbers) if numbers else None

    return Row(
        name=name,
        node=node,
        tasks=len(some),
        cpu=known(lambda row: row.cpu),
        memory=sum(row.memory for row in some),
        # Those without a limit of their own have the host's, which adds up to nothing.
        memory_limit=0,
        received=known(lambda row: row.received),
        sent=known(lambda row: row.sent),
        read=known(lambda row: row.read),
        written=known(lambda row: row.written),
        pids=sum(row.pids for row in some),
    )
