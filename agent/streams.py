"""Streams: for each one that a manager asks for, a connection of its own carries the bytes, and nothing piles up here.

A manager that reads slowly makes the send wait, which makes the read from the engine wait.
"""

from __future__ import annotations

import asyncio
import logging
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL

import aiohttp

from agent.channel import Channel
from agent.credentials import Credentials
from agent.engine import Engine
from agent.known import Known
from agent.reach import Reach
from cluster.channel import OpenChannel
from cluster.errors import NotFound, StackyardError
from cluster.protocol import STREAM_END, STREAM_ERROR, LogsRequest, OpenStream

log = logging.getLogger(__name__)

DIAL_TIMEOUT = 5.0
IDLE, BETWEEN, PROBES = 10, 5, 4
"""Seconds without a word, and between questions whether the manager's host is there, and how often that is asked."""


class Streams:
    """Carries streams. `run` is its life; `open` may be called at any time from the same loop."""

    def __init__(self, credentials: Credentials, engine: Engine, known: Known, reach: Reach) -> None:
        self._context = credentials.context
        self._engine, self._known, self._reach = engine, known, reach
        self._wanted: asyncio.Queue[tuple[str, OpenStream | OpenChannel]] = asyncio.Queue()

    def open(self, url: str, wanted: OpenStream | OpenChannel) -> None:
        """Have a stream or channel carried to the manager at `url`."""
        self._wanted.put_nowait((url, wanted))

    async def run(self) -> None:
        """Carry what is wanted, for ever; a stream that fails ends alone."""
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
            while True:
                url, wanted = await self._wanted.get()
                task = wanted.task if isinstance(wanted, OpenChannel) else wanted.request.task
                group.create_task(self._carry(http, url, wanted, task), name=f"stream of {task}")

    async def _carry(self, http: aiohttp.ClientSession, url: str, wanted: OpenStream | OpenChannel, task: str) -> None:
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                socket = await http.ws_connect(f"{url}/v1/agent/streams/{wanted.ticket}", ssl=self._context())
            _keep_alive(socket)
            async with socket:
                if isinstance(wanted, OpenChannel):
                    await self._reach.serve(Channel(socket), wanted)
                    return
                sending = asyncio.create_task(self._send(socket, wanted.request))
                # Nothing is to come: what is received is the end, of whoever wanted the stream or has read all of it.
                ending = asyncio.create_task(socket.receive())
                try:
                    await asyncio.wait((sending, ending), return_when=asyncio.FIRST_COMPLETED)
                    if sending.done() and sending.exception() is None:
                        await asyncio.wait((ending,))  # to hang up first would cut off what waits for a slow reader
                finally:
                    for each in (sending, ending):
                        each.cancel()
                    sent, _ = await asyncio.gather(sending, ending, return_exceptions=True)
                if isinstance(sent, Exception):
                    raise sent
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.info("a stream of task %s could not be carried to %s: %s", task, url, error)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse, request: LogsRequest) -> None:
        try:
            container = self._known.container_of(request.task)
            if container is None:
                raise NotFound(f"task {request.task} has no container on this node, so it has no log")
            async with self._engine.logs(container.id, request) as frames:
                async for source, data in frames:
                    await socket.send_bytes(source + data)
            await socket.send_bytes(STREAM_END)
        except StackyardError as error:
            await socket.send_bytes(STREAM_ERROR + error.message.encode())


def _keep_alive(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Have the kernel find out when the manager's host has gone; a ping would wait behind what a slow reader leaves."""
    connection = socket.get_extra_info("socket")
    connection.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    for option, value in ((TCP_KEEPIDLE, IDLE), (TCP_KEEPINTVL, BETWEEN), (TCP_KEEPCNT, PROBES)):
        connection.setsockopt(IPPROTO_TCP, option, value)
