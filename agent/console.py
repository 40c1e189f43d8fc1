"""Joins the program that a task's container runs, for a person at the other end of a channel, or sends it a signal."""

from __future__ import annotations

from agent.channel import Channel, while_listening
from agent.container import Json
from agent.engine import Engine, EngineDown, EngineRefused
from agent.terminal import seen, steering, typing
from cluster.channel import AttachRequest, Kind, SignalRequest
from cluster.errors import UserError
from cluster.protocol import STDERR

STOP_TIMEOUT = 3600.0
"""Seconds for the engine's answer to a stop: grace periods are anybody's choice."""


async def attach(engine: Engine, container: str, channel: Channel, request: AttachRequest) -> None:
    """Join a container until it ends, or the other side has gone: then it goes on by itself."""
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

    async def run(self) -> None:
        config = (await self._inspect()).get("Config", {})
        tty, stdin = bool(config.get("Tty")), self._request.stdin and bool(config.get("OpenStdin"))
        streams = f"stream=1&stdout=1&stderr=1&stdin={int(stdin)}"
        path = f"containers/{self._container}/attach?{streams}"
        async with self._engine.upgraded("attach to a container", path, {}) as stream:
            what = f"container {self._container[:12]}"
            self._channel.control = steering(what, self._resize, self._signal)
            async with typing(self._channel, stream, stdin=stdin):
                try:
                    await self._channel.send(Kind.START, b"tty" if tty else b"")
                    if tty and self._request.size is not None:
                        await self._resize(*self._request.size)
                    async for source, data in stream.output(tty=tty):
                        await self._channel.send(Kind.ERROR_OUTPUT if source == STDERR else Kind.OUTPUT, data)
                except OSError as error:
                    raise EngineDown(f"lost the engine while attached to a container: {error}") from error
        ended = await seen(self._state, lambda state: not state.get("Running"))
        await self._channel.end(int(ended.get("ExitCode") or 0))

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
