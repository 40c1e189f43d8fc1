"""Whether a node's time of day is that of its manager, judged by its beats. Pure: the time is given."""

from __future__ import annotations

APART = 30.0
"""Seconds that may lie between them: beats come late on a busy machine, and nobody is called wrong for that."""

SURE = 5.0
"""Seconds for which that is to be so, since a manager that stood still reads beats of a while ago first."""

STEADY = 10.0
"""What is said stays while the difference changes by less: each change is written for all to know."""


class TimeOfDay:
    """What was found so far of one node."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told = 0.0
        self._trouble = ""

    def note(self, ahead: float, heard: float) -> str:
        """Take in that a node is so many seconds ahead, by a beat that came at a steady instant; gives its trouble."""
        if abs(ahead) <= APART:
            self._since, self._trouble = None, ""
            return ""
        if self._since is None:
            self._since = heard
        if heard - self._since >= SURE and (not self._trouble or abs(ahead - self._told) > STEADY):
            self._told = ahead
            self._trouble = f"its clock is {_roughly(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} its manager's"
        return self._trouble


def _roughly(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 300 else f"{seconds / 60:.0f} min"
