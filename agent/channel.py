"""The agent's end of a channel: frames in and out of its WebSocket, within the windows of both sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

import aiohttp

from cluster.channel import (
    DATA,
    LARGEST_DATA,
    BrokenChannel,
    Kind,
    Request,
    Window,
    failure_frame,
    frame,
    number_frame,
    read_frame,
    read_number,
    read_request,
)
from cluster.errors import StackyardError

REQUEST_TIMEOUT = 30.0
CLOSE_TIMEOUT = 10.0
"""Seconds that the other side has to read what is last said."""

Control = Callable[[Kind, bytes], Awaitable[None]]


async def _no_control(kind: Kind, content: bytes) -> None:
    """Nothing can be steered."""


class Channel:
    """One channel. `listen` must run while it is used; it ends when the other side has gone."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.control: Control = _no_control
        """Is called with each RESIZE and SIGNAL."""
        self._socket = socket
        self._window = Window()
        self._room = asyncio.Event()
        self._room.set()
        self._input: asyncio.Queue[bytes | None] = asyncio.Queue()  # no more than the window lets in

    async def request(self) -> Request | None:
        """Wait for what is wanted: None when it was only to be seen that there is a way. Raises BrokenChannel."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                message = await self._socket.receive()
        except TimeoutError:
            raise BrokenChannel("nothing was requested in time") from None
        if message.type is not aiohttp.WSMsgType.BINARY:
            return None
        kind, content = read_frame(message.data)
        if kind is not Kind.REQUEST:
            raise BrokenChannel(f"the first frame is {kind.name}, not a request")
        return read_request(content)

    async def listen(self) -> None:
        """Take in what comes until the other side has gone. Raises BrokenChannel when it breaks the rules."""
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                return
            kind, content = read_frame(message.data)
            if kind is Kind.INPUT:
                self._window.received(len(content))
                self._input.put_nowait(content)
            elif kind is Kind.INPUT_END:
                self._input.put_nowait(None)
            elif kind is Kind.GRANT:
                self._window.granted(read_number(content))
                self._room.set()
            elif kind in (Kind.RESIZE, Kind.SIGNAL):
                await self.control(kind, content)
            else:
                raise BrokenChannel(f"a frame of kind {kind.name} came, which only goes the other way")

    async def input(self) -> AsyncIterator[bytes]:
        """Give the data that comes, up to its end; what was given is counted as used when the next is asked for."""
        while (data := await self._input.get()) is not None:
            yield data
            if data and (grant := self._window.taken(len(data))):
                await self._socket.send_bytes(number_frame(Kind.GRANT, grant))

    async def send(self, kind: Kind, content: bytes = b"") -> None:
        """Send a frame; data waits until the other side has room for it."""
        if kind not in DATA:
            await self._socket.send_bytes(frame(kind, content))
            return
        view = memoryview(content)
        while view:
            while not self._window.room:
                self._room.clear()
                await self._room.wait()
            part = view[: min(LARGEST_DATA, self._window.room)]
            view = view[len(part) :]
            self._window.sent(len(part))
            await self._socket.send_bytes(frame(kind, part))

    async def end(self, code: int = 0) -> None:
        await self._socket.send_bytes(number_frame(Kind.END, code))

    async def fail(self, error: StackyardError) -> None:
        await self._socket.send_bytes(failure_frame(error))

    async def over(self) -> None:
        """Wait, but not for long, until the other side has read all and gone."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                while (await self._socket.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass
        except TimeoutError:
            return


Outcome = Literal["done", "abandoned"]


async def while_listening(channel: Channel, work: Awaitable[None]) -> Outcome:
    """Do something while the other side is there; it is cancelled when that goes. What either raises is raised."""
    working, listening = asyncio.ensure_future(work), asyncio.ensure_future(channel.listen())
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
    finally:
        outcome: Outcome = "done" if working.done() else "abandoned"
        for task in (working, listening):
            task.cancel()
        results = await asyncio.gather(working, listening, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return outcome
