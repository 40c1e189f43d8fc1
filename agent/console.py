"""Joins the program that a task's container runs, for a person at the other end of a channel, or sends it a signal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.channel import Channel, while_listening
from agent.container import Json
from agent.engine import Engine, EngineDown, EngineRefused
from agent.terminal import attempt, seen, steering, typing
from cluster.channel import AttachRequest, Kind, SignalRequest
from cluster.errors import UserError
from cluster.protocol import STDERR

STOP_TIMEOUT = 3600.0
"""Seconds for the engine's answer to a stop: grace periods are anybody's choice."""

_NEVER = "0001-"
"""Begins the engine's instants of what has not happened."""


async def attach(engine: Engine, container: str, channel: Channel, request: AttachRequest) -> None:
    """Join a container until it ends, or the other side has gone: then it goes on by itself.

    It may be yet to start: then nothing of what it prints is missed.
    """
    joined = _Joined(engine, container, channel, request)
    if await while_listening(channel, joined.run()) == "done":
        await channel.over()


async def send_signal(engine: Engine, container: str, channel: Channel, request: SignalRequest) -> None:
    """Send a signal to a container's first program, or stop it. Raises UserError for a signal that there is not."""

    async def send() -> None:
        if not request.signal:
            await engine.stop(container, STOP_TIMEOUT)
        else:
            try:
                await _kill(engine, container, request.signal)
            except EngineRefused as error:
                raise UserError(f"no signal was sent: {error.message}") from error
        await channel.end()

    if await while_listening(channel, send()) == "done":
        await channel.over()


async def _kill(engine: Engine, container: str, signal: str) -> None:
    await engine.ask("send a signal", "POST", f"containers/{container}/kill", signal=signal)


class _Joined:
    def __init__(self, engine: Engine, container: str, channel: Channel, request: AttachRequest) -> None:
        self._engine, self._container = engine, container
        self._channel, self._request = channel, request
        self._what = f"container {container[:12]}"

    async def run(self) -> None:
        inspected = await self._inspect()
        config, begun = inspected.get("Config", {}), _has_begun(inspected["State"])
        tty, stdin = bool(config.get("Tty")), self._request.stdin and bool(config.get("OpenStdin"))
        streams = f"stream=1&stdout=1&stderr=1&stdin={int(stdin)}"
        path = f"containers/{self._container}/attach?{streams}"
        async with self._engine.upgraded("attach to a container", path, {}) as stream:
            self._channel.control = steering(self._what, self._resize, self._signal)
            async with typing(self._channel, stream, stdin=stdin), self._sizing(tty=tty):
                try:
                    await self._channel.send(Kind.START, b"tty" if tty else b"")
                    async for source, data in stream.output(tty=tty):
                        await self._channel.send(Kind.ERROR_OUTPUT if source == STDERR else Kind.OUTPUT, data)
                except OSError as error:
                    raise EngineDown(f"lost the engine while attached to a container: {error}") from error
        await self._channel.end(await self._exit_code(begun))

    @asynccontextmanager
    async def _sizing(self, *, tty: bool) -> AsyncIterator[None]:
        """Give the terminal its size meanwhile: only a program that has begun has one."""
        size = self._request.size if tty else None
        sizing = asyncio.create_task(attempt(self._what, self._size(*size))) if size is not None else None
        try:
            yield
        finally:
            if sizing is not None:
                sizing.cancel()
                await asyncio.gather(sizing, return_exceptions=True)

    async def _size(self, rows: int, columns: int) -> None:
        await seen(self._state, _has_begun)
        await self._resize(rows, columns)

    async def _exit_code(self, begun: bool) -> int:
        """Wait for the end. A program that could not be started has none: the task's status tells managers why."""
        try:
            ended = await seen(self._state, lambda state: not state.get("Running") and _has_begun(state))
        except EngineRefused:
            if begun:
                raise
            await asyncio.get_running_loop().create_future()  # until the manager hangs up
            raise
        return int(ended.get("ExitCode") or 0)

    async def _resize(self, rows: int, columns: int) -> None:
        path = f"containers/{self._container}/resize"
        await self._engine.ask("resize a terminal", "POST", path, h=str(rows), w=str(columns))

    async def _signal(self, name: str) -> None:
        await _kill(self._engine, self._container, name)

    async def _state(self) -> Json:
        state: Json = (await self._inspect())["State"]
        return state

    async def _inspect(self) -> Json:
        return await self._engine.ask("look at a container", "GET", f"containers/{self._container}/json")


def _has_begun(state: Json) -> bool:
    return not str(state.get("StartedAt", _NEVER)).startswith(_NEVER)
