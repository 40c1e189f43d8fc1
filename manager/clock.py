"""Cluster time: a clock that all managers in turn agree on well enough, and that never runs backwards.

It is the wall clock, but never behind the highest instant that a leader stored, plus the time since. A wall clock that
jumps ahead is caught up with slowly, or when it jumps far not at all, so that a wrong clock never makes everything that
waits due at once.
"""

from __future__ import annotations

JUMP = 60.0
"""Seconds that the wall clock may be ahead of steady time and still be followed."""

CATCH_UP = 0.1
"""Seconds that cluster time gains in each second on a wall clock that is ahead."""


class ClusterClock:
    """Fed with readings of the wall clock and of a monotonic one. `held` is by how much a jump ahead is held back."""

    def __init__(self, wall: float, monotonic: float, highest_stored: float = 0.0) -> None:
        self._now = max(wall, highest_stored)
        self._read_at = monotonic
        self.held = 0.0

    def now(self, wall: float, monotonic: float) -> float:
        """Tell the time."""
        passed = max(0.0, monotonic - self._read_at)
        steady = self._now + passed
        ahead = wall - steady
        self.held = ahead if ahead > JUMP else 0.0
        if not self.held:
            steady += max(0.0, min(ahead, passed * CATCH_UP))
        self._now = steady
        self._read_at = max(self._read_at, monotonic)
        return self._now

    def learn(self, stored: float) -> None:
        """Take in an instant that a leader stored."""
        self._now = max(self._now, stored)
