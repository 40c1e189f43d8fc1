"""The newest events of the cluster, in the order of etcd's revisions, in a ring that forgets the oldest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from cluster.events import ClusterEvent
from manager.follow import Follower
from manager.narrator import narrate, remembered
from manager.picture import Change

KEPT = 10_000
"""Events: some five megabytes."""


class EventLog:
    """Fed by the follower, before all others who listen; read by whoever follows the stream.

    An event's place is its number in this manager's own count, of which `begin` is the first that is kept and `end`
    the next to come. From `whole_from` on, every revision's events are here.
    """

    def __init__(self, follower: Follower, clock: Callable[[], float], name: str, kept: int = KEPT) -> None:
        self._follower, self._clock, self._name = follower, clock, name
        self._ring: deque[ClusterEvent] = deque(maxlen=kept)
        self.end = 0
        self.whole_from = 0

    @property
    def begin(self) -> int:
        return self.end - len(self._ring)

    def note(self, changes: list[Change]) -> None:
        """Take in what the picture shows from now on."""
        state = self._follower.state
        listed = self._follower.listed_at
        if not changes or changes[-1].revision > listed:
            self._add(narrate(state, changes, self._clock()))
            return
        told = remembered(state, changes)
        self.whole_from = listed + 1
        self._add(told)
        if told:
            self._add([self.lost("it has followed since here; of what was before, only what records still tell")])

    def lost(self, why: str) -> ClusterEvent:
        """Say that events are missing from the stream, at the newest revision that this manager knows of."""
        return ClusterEvent(
            self._follower.state.revision, self._clock(), "stream", "lost", name=self._name, node=self._name,
            message=f"some events may be missing: manager {self._name}: {why}",
        )  # fmt: skip

    def _add(self, events: Sequence[ClusterEvent]) -> None:
        overflow = len(self._ring) + len(events) - (self._ring.maxlen or 0)
        if overflow > 0 and events:
            kept = len(self._ring)
            last = self._ring[overflow - 1] if overflow <= kept else events[overflow - 1 - kept]
            self.whole_from = max(self.whole_from, last.revision + 1)
        self._ring.extend(events)
        self.end += len(events)

    def since(self, place: int, most: int) -> list[ClusterEvent]:
        """Give events from a place on, or from the first that is kept."""
        begin = max(0, place - self.begin)
        return list(islice(self._ring, begin, begin + most))
