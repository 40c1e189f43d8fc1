"""Takes apart what an engine gives of a program without a terminal, whose outputs come as one. Pure.

It comes in frames, one for each write of the program: a source (1 or 2), three zero bytes, a length as 32 bits, and so
many bytes. What follows each other of one source is put together again: to hand on line by line costs ten times more.
"""

from __future__ import annotations

from cluster.protocol import STDERR, STDOUT

_HEAD = 8
_ERRORS = 2


class Demultiplexer:
    """Remembers between two pieces of a stream where in a frame it is."""

    def __init__(self) -> None:
        self._head = b""
        self._source = STDOUT
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Give (STDOUT or STDERR, bytes) of what came, in its order."""
        found: list[tuple[bytes, list[bytes]]] = []
        at = 0
        while at < len(data):
            if not self._left:
                came = data[at : at + _HEAD - len(self._head)]
                at += len(came)
                self._head += came
                if len(self._head) == _HEAD:
                    self._source = STDERR if self._head[0] == _ERRORS else STDOUT
                    self._left = int.from_bytes(self._head[4:], "big")
                    self._head = b""
                continue
            part = data[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if not found or found[-1][0] != self._source:
                found.append((self._source, []))
            found[-1][1].append(part)
        return [(source, b"".join(parts)) for source, parts in found]
