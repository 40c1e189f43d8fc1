"""When this program's garbage is collected: often, so that no collection holds the event loop for long.

The collector counts what is made less what is freed. A manager at work makes a new record for each that it lets go of,
so that the count hardly grows while tens of thousands of new objects come to lie in the young generations; to walk
through them took 20 to 45 ms at a time. Here they are looked through by the clock instead, once each.
"""

from __future__ import annotations

import asyncio
import gc
import time

THRESHOLDS = (5_000, 1_000, 1_000_000)
"""The first is for what is made within one turn of the loop. By the last, everything is collected after a million
looks, hours of work or days of rest: it holds the loop for as long as it takes to walk through the whole picture, and
finds next to nothing, as most of what is let go of is in no circle."""

BUSY_PAUSE, LONGEST_PAUSE = 0.03, 0.5
"""Seconds between two looks at what is new."""

WORTH = 0.001
"""Seconds of a look after which the next one comes soon."""


def settle() -> None:
    """Leave alone what is there now: it mostly stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


async def collecting() -> None:
    """Once the picture is loaded, collect what is new until cancelled."""
    settle()
    pause = LONGEST_PAUSE
    while True:
        await asyncio.sleep(pause)
        began = time.thread_time()
        gc.collect(1)
        pause = BUSY_PAUSE if time.thread_time() - began > WORTH else min(LONGEST_PAUSE, 2 * pause)
