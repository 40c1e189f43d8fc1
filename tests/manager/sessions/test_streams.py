"""Streams that agents dial on request, with a ticket."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from cluster.errors import Unavailable
from cluster.protocol import (
    STDOUT,
    STREAM_END,
    STREAM_ERROR,
    LogsRequest,
    OpenStream,
)
from tests.manager.sessions.stage import Stage, node

pytestmark = pytest.mark.etcd


async def test_a_stream_is_dialled_with_a_ticket_and_ends_in_order(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")

    async def serve() -> None:
        asked = await agent.hear(OpenStream)
        assert asked.request == LogsRequest("t1", follow=True)
        dialled = await stage.dial("n1", asked.ticket)
        for frame in (STDOUT + b"one\n", STDOUT + b"two\n", STREAM_END):
            await dialled.send_bytes(frame)

    serving = asyncio.create_task(serve())
    async with stage.sessions.open_stream("n1", LogsRequest("t1", follow=True)) as stream:
        assert [frame async for frame in stream.frames()] == [STDOUT + b"one\n", STDOUT + b"two\n"]
    await serving


async def test_a_stream_tells_the_agents_error(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")

    async def serve() -> None:
        dialled = await stage.dial("n1", (await agent.hear(OpenStream)).ticket)
        await dialled.send_bytes(STREAM_ERROR + b"no such container")

    serving = asyncio.create_task(serve())
    async with stage.sessions.open_stream("n1", LogsRequest("t1")) as stream:
        with pytest.raises(Unavailable, match="no such container"):
            async for _ in stream.frames():
                pass
    await serving


async def test_a_reader_that_is_slow_slows_the_agent_down(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    sent = 0

    async def serve() -> None:
        nonlocal sent
        dialled = await stage.dial("n1", (await agent.hear(OpenStream)).ticket)
        while True:
            await dialled.send_bytes(STDOUT + b"x" * 60_000)
            sent += 1

    serving = asyncio.create_task(serve())
    async with stage.sessions.open_stream("n1", LogsRequest("t1", follow=True)) as stream:
        frames = stream.frames()
        await anext(frames)
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 500
        await frames.aclose()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_a_ticket_is_for_one_node_and_one_time(stage: Stage) -> None:
    await stage.write(node("n1"), node("n2"))
    agent, _ = await stage.agent("n1"), await stage.agent("n2")

    async def serve() -> None:
        ticket = (await agent.hear(OpenStream)).ticket
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await stage.dial("n2", ticket)
        dialled = await stage.dial("n1", ticket)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await stage.dial("n1", ticket)
        await dialled.send_bytes(STREAM_END)

    serving = asyncio.create_task(serve())
    async with stage.sessions.open_stream("n1", LogsRequest("t1")) as stream:
        assert [frame async for frame in stream.frames()] == []
    await serving


async def test_no_stream_from_a_node_that_is_not_here(stage: Stage) -> None:
    with pytest.raises(Unavailable):
        async with stage.sessions.open_stream("n1", LogsRequest("t1")):
            pass
