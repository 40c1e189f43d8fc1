"""How long what this manager does takes, and what the agents in session with it do, since it started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from cluster.latency import Histogram, Latency, Work
from cluster.model.task import Task, TaskState, TaskStatus
from manager.picture import Change, ClusterState


class Latencies:
    """A histogram for each kind of work, from the start: a rate needs to have been told that there was none before."""

    def __init__(self) -> None:
        self._held: dict[Work, Histogram] = {work: Histogram() for part in get_args(Work) for work in get_args(part)}

    def observe(self, work: Work, seconds: float) -> None:
        self._held[work].observe(seconds)

    def add(self, told: Mapping[Work, Latency]) -> None:
        """Add what an agent has seen since it last said so."""
        for work, latency in told.items():
            self._held[work].add(latency)

    def changed(self, state: ClusterState, changes: Iterable[Change], now: float) -> None:
        """See which tasks have got a node, and which ones run, at this instant of the cluster's time."""
        for change in changes:
            match change:
                case Change(old=None | Task(node=None), new=Task(node=str()) as placed):
                    self.observe("schedule", now - placed.created_at)
                case Change(old=before, new=TaskStatus(state=TaskState.RUNNING) as status):
                    ran = isinstance(before, TaskStatus) and before.state is TaskState.RUNNING
                    if not ran and (task := state.tasks.get(status.task)) is not None:
                        self.observe("run", now - task.created_at)

    def view(self) -> dict[Work, Latency]:
        return {work: held.latency for work, held in sorted(self._held.items())}
