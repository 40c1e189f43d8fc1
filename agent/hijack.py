"""Connections that the engine turns into streams: bytes both ways, each direction with an end of its own.

An HTTP client has no place for that; the exchange before it is one request and the head of one answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiodocker.exceptions import DockerError

from agent.container import Json
from agent.demultiplexer import Demultiplexer
from cluster.protocol import STDOUT

ANSWER_TIMEOUT = 60.0
CHUNK = 2**15
_LARGEST_HEAD = 64 * 1024


class Hijacked:
    """A stream of the engine's. Who reads slowly slows the program down, and a program that does, who writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def write_end(self) -> None:
        """Tell the program that no more input comes."""
        if self._writer.can_write_eof():
            self._writer.write_eof()

    async def output(self, *, tty: bool) -> AsyncIterator[tuple[bytes, bytes]]:
        """Read (STDOUT or STDERR, bytes) to the end; a terminal has but one stream."""
        if tty:
            while chunk := await self._reader.read(CHUNK):
                yield STDOUT, chunk
            return
        frames = Demultiplexer()
        while chunk := await self._reader.read(CHUNK):
            for part in frames.feed(chunk):
                yield part


@asynccontextmanager
async def hijacked(socket: Path, path: str, body: Json) -> AsyncIterator[Hijacked]:
    """Have the engine upgrade a POST to a stream, closed after the block. Raises DockerError, OSError, TimeoutError."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=_LARGEST_HEAD)
    try:
        writer.write(head.encode() + data)
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await _accepted(reader)
        yield Hijacked(reader, writer)
    finally:
        # Not `close`: it would first wait for the engine to take what a program that has ended did not read.
        writer.transport.abort()
        try:
            await writer.wait_closed()
        except OSError:
            pass  # the engine was first


async def _accepted(reader: asyncio.StreamReader) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionResetError("the engine hung up") from error
    status = int(head.split(" ", 2)[1])
    if status in (101, 200):
        return
    text = (await reader.read(CHUNK)).decode(errors="replace")
    start, end = text.find("{"), text.rfind("}")
    try:
        message = str(json.loads(text[start : end + 1])["message"])
    except (ValueError, KeyError, TypeError):
        message = text.strip()
    raise DockerError(status, message)
