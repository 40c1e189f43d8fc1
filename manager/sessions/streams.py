"""Streams that an agent dials on request: each has a one-time ticket and a WebSocket of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.websockets import WebSocket, WebSocketDisconnect

from cluster.channel import OpenChannel, Purpose
from cluster.errors import NotFound, Unavailable
from cluster.protocol import STREAM_END, STREAM_ERROR, LogsRequest, OpenStream

DIAL_TIMEOUT = 10.0


class Stream:
    """Frames from an agent. Who reads slowly slows the agent down: uvicorn stops reading while a frame waits."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.ended = asyncio.Event()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Give the frames up to the end of the stream. Raises Unavailable when it was cut or the agent failed."""
        while True:
            try:
                frame = await self.socket.receive_bytes()
            except WebSocketDisconnect:
                raise Unavailable("the connection to the agent was cut") from None
            if frame[:1] == STREAM_END:
                return
            if frame[:1] == STREAM_ERROR:
                raise Unavailable(frame[1:].decode(errors="replace"))
            yield frame


class Streams:
    """The tickets that are out, by their text."""

    def __init__(self) -> None:
        self._expected: dict[str, tuple[str, asyncio.Future[Stream]]] = {}

    @asynccontextmanager
    async def open(self, node: str, request: LogsRequest, send: Callable[[OpenStream], None]) -> AsyncIterator[Stream]:
        """Ask the agent of `node`, by `send`, to dial in with a stream. Raises Unavailable when it does not."""
        async with self._arrived(node, lambda ticket: send(OpenStream(ticket, request))) as stream:
            yield stream

    @asynccontextmanager
    async def open_channel(
        self, node: str, task: str, purpose: Purpose, send: Callable[[OpenChannel], None]
    ) -> AsyncIterator[WebSocket]:
        """Ask the agent of `node`, by `send`, to dial in with a channel. Raises Unavailable when it does not."""
        async with self._arrived(node, lambda ticket: send(OpenChannel(ticket, task, purpose))) as stream:
            yield stream.socket

    def give_up(self, node: str) -> None:
        """Have those who wait for a node's agent to dial in wait no longer, as the node is down."""
        for expected, arrival in self._expected.values():
            if expected == node and not arrival.done():
                arrival.set_exception(Unavailable("its node is down"))

    @asynccontextmanager
    async def _arrived(self, node: str, ask: Callable[[str], None]) -> AsyncIterator[Stream]:
        ticket = secrets.token_urlsafe(24)
        arrival: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self._expected[ticket] = (node, arrival)
        try:
            ask(ticket)
            async with asyncio.timeout(DIAL_TIMEOUT):
                stream = await arrival
        except TimeoutError:
            raise Unavailable("the agent did not open the stream in time") from None
        finally:
            self._expected.pop(ticket, None)
        try:
            yield stream
        finally:
            stream.ended.set()

    async def carry(self, socket: WebSocket, node: str, ticket: str) -> None:
        """Hand an agent's connection to whoever asked for it, and keep it until they are done with it."""
        expected_node, arrival = self._expected.get(ticket, ("", None))
        if arrival is None or expected_node != node or arrival.done():
            raise NotFound("there is no such ticket, or not any more")
        del self._expected[ticket]
        await socket.accept()
        stream = Stream(socket)
        arrival.set_result(stream)
        await stream.ended.wait()
        try:
            await socket.close()
        except (RuntimeError, WebSocketDisconnect):
            pass  # the agent was first
