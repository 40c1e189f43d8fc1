"""The client's side of a WebSocket, as far as managers use it, as bytes in and messages out.

The package `websockets` would cost a third of the time that a command has: it loads asyncio.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

from cluster.errors import Unavailable

BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA
LARGEST = 1024 * 1024

_FIN, _MASKED = 0x80, 0x80
_NO_MASK = bytes(4)
"""A mask guards caches between browsers and servers from scripts. Here are neither, and zeros spare the work."""


def opening() -> dict[str, str]:
    """The headers that ask for a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}


def written(payload: bytes, opcode: int = BINARY) -> bytes:
    """Make a message of one frame."""
    count = len(payload)
    if count < 126:
        size = bytes((_MASKED | count,))
    elif count < 2**16:
        size = bytes((_MASKED | 126,)) + count.to_bytes(2, "big")
    else:
        size = bytes((_MASKED | 127,)) + count.to_bytes(8, "big")
    return bytes((_FIN | opcode,)) + size + _NO_MASK + payload


class Reader:
    """Cuts what comes into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Give the opcodes and payloads of the messages that are complete. Raises Unavailable for what is none."""
        self._data += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> tuple[int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        start, size = 2, data[1]
        if size in (126, 127):
            start += 2 if size == 126 else 8
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if not data[0] & _FIN or data[0] & 0x70 or data[1] & _MASKED or size > LARGEST:
            raise Unavailable(
                "the manager's stream cannot be read", hint="`stack version` tells whether versions differ."
            )
        if len(data) < start + size:
            return None
        opcode, payload = data[0] & 0xF, bytes(data[start : start + size])
        del data[: start + size]
        return opcode, payload
