"""Connections to TCP ports of tasks, from inside of their network namespaces, so that nothing must be published.

A program is looked for where its own clients in the container would find it: on the loopback addresses first, so that
one which listens there only is reached, then on the task's own addresses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from agent.channel import Channel, while_listening
from cluster.channel import Kind, PortRequest
from cluster.errors import Failed, Unavailable

CONNECT_TIMEOUT = 10.0
_CHUNK = 2**15
LOOPBACK = ("127.0.0.1", "::1")

OpenSocket = Callable[[Callable[[], socket.socket]], Awaitable[socket.socket]]
"""Calls something that makes a socket inside of the right network namespace."""


async def pass_connection(inside: OpenSocket, addresses: Sequence[str], channel: Channel, request: PortRequest) -> None:
    """Connect to a port and pass bytes both ways until both directions have ended, or the other side has gone."""
    reader, writer = await _connect(inside, (*LOOPBACK, *addresses), request.port)
    try:
        if await while_listening(channel, _pass(reader, writer, channel)) == "done":
            await channel.over()
    finally:
        writer.transport.abort()


async def _connect(
    inside: OpenSocket, addresses: Sequence[str], port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    problem: OSError | None = None
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            opened = await inside(lambda family=family: socket.socket(family))  # type: ignore[misc]
        except OSError as error:  # a kernel without IPv6
            problem = problem or error
            continue
        opened.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.get_running_loop().sock_connect(opened, (address, port))
                return await asyncio.open_connection(sock=opened)
        except (OSError, TimeoutError) as error:
            opened.close()
            problem = error if problem is None or not isinstance(error, ConnectionRefusedError) else problem
        except BaseException:
            opened.close()
            raise
    reason = "nothing listens there" if isinstance(problem, ConnectionRefusedError) else str(problem or "no address")
    raise Unavailable(f"port {port} cannot be reached in its container: {reason}")


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, channel: Channel) -> None:
    await channel.send(Kind.START)
    ways = asyncio.ensure_future(_up(writer, channel)), asyncio.ensure_future(_down(reader, channel))
    try:
        await asyncio.gather(*ways)
    except OSError as error:
        raise Failed(f"the program closed the connection: {error.strerror or error}") from error
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    await channel.end()


async def _up(writer: asyncio.StreamWriter, channel: Channel) -> None:
    async for data in channel.input():
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _down(reader: asyncio.StreamReader, channel: Channel) -> None:
    while data := await reader.read(_CHUNK):
        await channel.send(Kind.OUTPUT, data)
    await channel.send(Kind.OUTPUT_END)
