"""Where somebody is in the log of a task, so that another stream goes on there. Pure.

An instant is the text that the engine puts before each line, to the nanosecond and of one length, so that it sorts.
"""

from __future__ import annotations

from datetime import datetime

OUT_OF_STEP = 2.0
"""Seconds by which one output of a task may be behind the other in its log."""

GENEROUS = 60.0


class Position:
    """Up to which line each output of one task has been read."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, int]] = {}  # by output: the newest instant, and how many lines have it
        self._known: dict[str, tuple[str, int]] = {}  # the same when the stream began that is read now

    def is_new(self, source: str, at: str) -> bool:
        """Count a line in, unless a stream before this one had it. A line without an instant is always new."""
        if not at:
            return True
        if (known := self._known.get(source)) is not None:
            instant, count = known
            if at < instant:
                return False
            if at == instant and count:
                self._known[source] = (instant, count - 1)
                return False
            # From here on all is new, also should the node's clock have been set back.
            del self._known[source]
        newest, count = self._last.get(source, ("", 0))
        self._last[source] = (at, count + 1 if at == newest else 1)
        return True

    def again(self) -> None:
        """Take note that another stream begins, which may have lines again that were read."""
        self._known = dict(self._last)

    @property
    def since(self) -> float | None:
        """Seconds since the epoch from which another stream has to begin; None before the first line."""
        newest = max((at for at, _ in self._last.values()), default="")
        return datetime.fromisoformat(newest).timestamp() - OUT_OF_STEP if newest else None


def since_when(tail: int | None, since: float | None, began: float) -> float | None:
    """Tell from when on to read a log of which a stream that began at `began` has shown nothing.

    With a `tail` there was nothing to show then, so that all that is there now is new; some more is read in case that
    the clocks differ.
    """
    if tail is None:
        return since
    return max(since or 0.0, began - (GENEROUS if tail else 0.0))
