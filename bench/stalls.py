"""What holds an event loop: a thread beside it looks where its thread is, for as long as the loop has no turn.

One look tells what the loop was in at that instant. A long stall of many small things has many looks, and those tell
the shares. Collections of garbage, in which no other thread runs, are told by the collector itself.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

PAUSE = 0.005
"""Seconds between two looks."""

PATIENCE = 0.02
"""Seconds without a turn after which the loop is looked at."""

COLLECTION = 0.005
"""Seconds of work of a collection that is worth telling."""

_HOME = str(Path(__file__).parents[1]) + "/"


class Stalls(threading.Thread):
    """Made and started on the loop's own thread, which calls `turn` whenever it has one."""

    def __init__(self) -> None:
        super().__init__(name="stalls", daemon=True)
        self._watched = threading.get_ident()
        self._turn_at = time.monotonic()
        self._seen: list[str] = []
        self._collecting_since = 0.0
        gc.callbacks.append(self._collect)

    def turn(self) -> dict[str, int]:
        """Give where the loop was seen since its last turn, and how often."""
        seen, self._seen, self._turn_at = self._seen, [], time.monotonic()
        return dict(Counter(seen).most_common())

    def run(self) -> None:
        while True:
            time.sleep(PAUSE)
            if time.monotonic() - self._turn_at > PATIENCE:
                # A collection in the middle of this calls back, and lets go of the interpreter while a lock of all
                # threads is held: whoever starts one then keeps the interpreter and waits for ever (CPython 3.11).
                gc.disable()
                frame = sys._current_frames().get(self._watched)
                gc.enable()
                if frame is not None:
                    self._seen.append(_place(frame))

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._collecting_since = now
        elif (took := now - self._collecting_since) > COLLECTION:
            self._seen += [f"collecting generation {info['generation']}"] * max(1, round(took / PAUSE))


def _place(frame: FrameType) -> str:
    """Name the innermost function of ours that runs, and what of others it has called."""
    inner = _name(frame)
    here: FrameType | None = frame
    while here is not None:
        name = here.f_code.co_filename
        if name.startswith(_HOME) and "/.venv/" not in name:
            ours = _name(here)
            return ours if here is frame else f"{ours} > {inner}"
        here = here.f_back
    return inner


def _name(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename.removeprefix(_HOME).rpartition('site-packages/')[2]}:{frame.f_code.co_qualname}"
