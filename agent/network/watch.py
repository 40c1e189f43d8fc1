"""Tells when somebody changed links, rows or rules, without asking the kernel again and again.

The kernel sends a message for each change, also for those of this process: whoever waits here has to look what it was.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection

LINKS, ROWS = 0x1, 0x4
"""Multicast groups of links, and of neighbours, which forwarding tables count among."""
RULES = 1 << 6
SETTLING = 0.3
"""Seconds to wait after a first message: changes come in crowds."""

_AT_ONCE = 1 << 16


def listener(protocol: int, groups: int) -> socket.socket:
    """Listen to changes in the calling thread's namespace."""
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
    )  # fmt: skip
    opened.bind((0, groups))
    return opened


class Watch:
    """Waits for any of some sockets, from one event loop. It holds copies: whoever gave a socket may close it."""

    def __init__(self) -> None:
        self._any = asyncio.Event()
        self._heard: set[socket.socket] = set()
        self._copies: dict[socket.socket, socket.socket] = {}

    def keep(self, sockets: Collection[socket.socket]) -> None:
        """Listen to these and to no others; new ones count as heard, for what was before them is not known."""
        loop = asyncio.get_running_loop()
        for gone in self._copies.keys() - set(sockets):
            copy = self._copies.pop(gone)
            loop.remove_reader(copy)
            copy.close()
            self._heard.discard(gone)
        for new in set(sockets) - self._copies.keys():
            copy = self._copies[new] = new.dup()
            loop.add_reader(copy, self._drain, new, copy)
            self._hear(new)

    async def heard(self, within: float) -> frozenset[socket.socket]:
        """Wait for a change, and a moment for those that come with it. Gives the sockets that told of any."""
        try:
            async with asyncio.timeout(within):
                await self._any.wait()
        except TimeoutError:
            return frozenset()
        await asyncio.sleep(SETTLING)
        self._any.clear()
        heard, self._heard = frozenset(self._heard), set()
        return heard

    def _hear(self, socket: socket.socket) -> None:
        self._heard.add(socket)
        self._any.set()

    def _drain(self, given: socket.socket, copy: socket.socket) -> None:
        self._hear(given)
        try:
            while copy.recv(_AT_ONCE):
                pass
        except OSError:
            return  # nothing more; or more than it could hold: something has changed, which is all that is asked
