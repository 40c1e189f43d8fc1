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
        passed = self._pass(monotonic)
        ahead = wall - self._now
        self.held = ahead if ahead > JUMP else 0.0
        if not self.held:
            self._now += max(0.0, min(ahead, passed * CATCH_UP))
        return self._now

    def learn(self, stored: float, monotonic: float) -> None:
        """Take in an instant that a leader stored."""
        self._pass(monotonic)
        self._now = max(self._now, stored)

    def _pass(self, monotonic: float) -> float:
        """Let the time pass since the last reading, and give how much that was."""
        passed = max(0.0, monotonic - self._read_at)
        self._now += passed
        self._read_at += passed
        return passed
