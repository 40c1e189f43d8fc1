"""Whether the disk of the engine's data is nearly full: a condition of the node under which it gets no new tasks."""

from __future__ import annotations

import asyncio
import logging
import os

log = logging.getLogger(__name__)

LOOK_EVERY = 10.0
LEAST_FREE, LEAST_SHARE = 10 * 2**30, 0.05
"""A disk is short of space with less than this free, in bytes and as a part of it; one that is big enough for the one
or small enough for the other is not."""

MARGIN = 1.25
"""How many times as much must be free until the condition is over, so that it does not come and go."""


def shortage(free: int, size: int, before: bool) -> bool:
    """Tell whether a disk is short of space; `before` is what was said last."""
    factor = MARGIN if before else 1.0
    return free < LEAST_FREE * factor and free < size * LEAST_SHARE * factor


class Disk:
    """Looks at the engine's data directory, once that is known. `trouble` is "" or the sentence for people."""

    def __init__(self) -> None:
        self.root = ""
        self.trouble = ""

    async def run(self) -> None:
        """Look from time to time, for ever."""
        while True:
            if self.root:
                await self._look(self.root)
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self, root: str) -> None:
        try:
            found = await asyncio.to_thread(os.statvfs, root)
        except OSError as error:
            log.warning("the engine's data directory %s cannot be looked at: %s", root, error)
            return
        free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        short = shortage(free, size, bool(self.trouble))
        text = f"{free / 2**30:.1f} of {size / 2**30:.0f} GiB are free in {root}"
        if short and not self.trouble:
            log.warning("the disk is nearly full: %s", text)
        self.trouble = text if short else ""
