"""How long things take, counted by how long: as agents tell it, as managers add it up, and as Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: the upper ends of the classes; what is above the last makes one more."""

AgentWork = Literal["pull", "sandbox", "create", "start", "record"]
"""What agents time: an image pulled, a sandbox wired, a container created, started; a status on its way into etcd."""

ManagerWork = Literal["decide", "commit", "schedule", "run", "open", "reachable", "unreachable"]
"""What managers time: a question decided, a transaction of the leader's; a task from its making until it has a node,
until it runs; a session opened; a task that names and ports lead to on all nodes, or on none any more.
"""

Work = AgentWork | ManagerWork


@dataclass(frozen=True, slots=True)
class Latency:
    """How many took how long, by class, and the seconds of all together."""

    counts: tuple[int, ...]
    total: float


class Histogram:
    """Counts what is observed; not for several threads."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def observe(self, seconds: float) -> None:
        seconds = max(0.0, seconds)  # clocks of two hosts may differ by a little
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self._total += seconds

    def add(self, other: Latency) -> None:
        for index, count in enumerate(other.counts):
            self._counts[index] += count
        self._total += other.total

    @property
    def latency(self) -> Latency:
        return Latency(tuple(self._counts), self._total)
