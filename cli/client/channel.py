"""The command's end of a channel to a task (see `cluster.channel`): a socket that never blocks, for a select loop."""

from __future__ import annotations

import select
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable

from cli.client import websocket
from cli.client.transport import Transport
from cluster.channel import (
    DATA,
    LARGEST_DATA,
    Kind,
    Purpose,
    Request,
    Window,
    frame,
    number_frame,
    read_frame,
    read_number,
    request_frame,
)
from cluster.errors import Unavailable

PING_AFTER, SILENCE = 5.0, 20.0
"""Seconds without a word after which the manager is asked whether it is there, and after which it is given up."""

_AT_ONCE = 2**16
_FULL = 4 * LARGEST_DATA


def open_channel(transport: Transport, task: str, purpose: Purpose) -> Channel:
    """Open a channel to a task, `stack_service.slot`: the stack may be left out, and the slot where any will do."""
    return _opened(transport, f"/v1/tasks/{urllib.parse.quote(task, safe='')}/channels/{purpose}", task)


def attend(transport: Transport, oneoff: str) -> Channel:
    """Open the channel with which a one-off task, by its id, starts and goes. Which node it is on is told nowhere."""
    return _opened(transport, f"/v1/runs/{oneoff}/channel", oneoff)


def _opened(transport: Transport, path: str, task: str) -> Channel:
    opened, read, headers = transport.upgrade(path)
    return Channel(opened, read, headers["x-stackyard-task"] or task, headers["x-stackyard-node"] or "")


class Channel:
    """`task` and `node` are those that the manager chose. Close it, and the other side ends what it does for us."""

    def __init__(
        self, opened: socket.socket, read: bytes, task: str, node: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        opened.setblocking(False)
        if opened.family != socket.AF_UNIX:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.task, self.node = task, node
        self.closed = False
        """The other side has gone: nothing more comes."""
        self._socket = opened
        self._reader = websocket.Reader()
        self._arrived: list[tuple[Kind, bytes]] = []
        self._out = bytearray()
        self._window = Window()
        self._clock = clock
        self._heard = self._asked = clock()
        self._take(read)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    @property
    def room(self) -> int:
        """Bytes of data that may be sent now."""
        return 0 if len(self._out) > _FULL else min(self._window.room, LARGEST_DATA)

    @property
    def unsent(self) -> bool:
        return bool(self._out)

    def request(self, request: Request) -> None:
        self._write(request_frame(request))

    def send(self, kind: Kind, content: bytes = b"") -> None:
        """Have a frame sent; of data no more than there is room for."""
        if kind in DATA:
            self._window.sent(len(content))
        self._write(frame(kind, content))

    def send_frame(self, message: bytes) -> None:
        """Have a frame sent that is no data."""
        self._write(message)

    def taken(self, count: int) -> None:
        """Data that came was used: the other side may send as much again."""
        if grant := self._window.taken(count):
            self._write(number_frame(Kind.GRANT, grant))

    def flush(self) -> None:
        """Send what the socket takes."""
        while self._out:
            try:
                del self._out[: self._socket.send(self._out[:_AT_ONCE])]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return
            except OSError:
                self._out.clear()  # reading tells that it is closed, after what was said before
                return

    def receive(self) -> list[tuple[Kind, bytes]]:
        """Give the frames that have come; those of data count until they are `taken`."""
        while not self.closed:
            try:
                data = self._socket.recv(_AT_ONCE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError:
                data = b""
            self.closed = self.closed or not data
            self._take(data)
        arrived, self._arrived = self._arrived, []
        return arrived

    def heard(self, within: float) -> bool:
        """Wait so many seconds for anything to come, or for the other side to go; what came is for `receive`."""
        self.flush()
        if not self._arrived:
            select.select([self], [], [], within)
            self._arrived = self.receive()
        self.check()
        return bool(self._arrived) or self.closed

    def check(self) -> None:
        """Ask now and then whether the manager is there. Raises Unavailable when it has not answered for long."""
        now = self._clock()
        if now - self._heard > SILENCE and self._asked > self._heard:
            raise Unavailable("the manager does not answer any more")
        if now - max(self._heard, self._asked) > PING_AFTER:
            self._asked = now
            self._out += websocket.written(b"", websocket.PING)

    def _take(self, data: bytes) -> None:
        self._heard = self._clock()
        for opcode, payload in self._reader.feed(data):
            if opcode == websocket.PING:
                self._out += websocket.written(payload, websocket.PONG)
            elif opcode == websocket.CLOSE:
                self.closed = True
                return
            elif opcode == websocket.BINARY:
                kind, content = read_frame(payload)
                if kind is Kind.GRANT:
                    self._window.granted(read_number(content))
                    continue
                if kind in DATA:
                    self._window.received(len(content))
                self._arrived.append((kind, content))

    def _write(self, message: bytes) -> None:
        self._out += websocket.written(message)
