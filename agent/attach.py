"""Joins the program that a task's container runs, for a person at the other end of a channel, or sends it a signal."""

from __future__ import annotations

import asyncio
import logging

from agent.channel import Channel, while_listening
from agent.container import Json
from agent.engine import Engine, EngineDown, EngineRefused, EngineTrouble
from agent.hijack import Hijacked
from cluster.channel import SIGNALS, AttachRequest, Kind, SignalRequest, read_size
from cluster.errors import UserError
from cluster.protocol import STDERR

log = logging.getLogger(__name__)

STOP_TIMEOUT = 3600.0
"""Seconds for the engine's answer to a stop: grace periods are anybody's choice."""

_LONGEST_PAUSE = 0.5


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
                await engine.ask("send a signal", "POST", f"containers/{container}/kill", signal=request.signal)
            except EngineRefused as error:
                raise UserError(f"no signal was sent: {error.message}") from error
        await channel.end()

    if await while_listening(channel, send()) == "done":
        await channel.over()


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
            self._channel.control = self._steer
            typing = asyncio.create_task(self._pass_input(stream)) if stdin else None
            try:
                await self._channel.send(Kind.START, b"tty" if tty else b"")
                if tty and self._request.size is not None:
                    await self._steer_size(*self._request.size)
                async for source, data in stream.output(tty=tty):
                    await self._channel.send(Kind.ERROR_OUTPUT if source == STDERR else Kind.OUTPUT, data)
            except OSError as error:
                raise EngineDown(f"lost the engine while attached to a container: {error}") from error
            finally:
                if typing is not None:
                    typing.cancel()
                    await asyncio.gather(typing, return_exceptions=True)
        await self._channel.end(await self._exit_code())

    async def _pass_input(self, stream: Hijacked) -> None:
        try:
            async for data in self._channel.input():
                await stream.write(data)
            stream.write_end()
        except OSError:
            async for _ in self._channel.input():
                pass  # the program takes no more, which is no error of its

    async def _exit_code(self) -> int:
        pause = 0.005
        while (state := (await self._inspect())["State"]).get("Running"):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return int(state.get("ExitCode") or 0)

    async def _steer(self, kind: Kind, content: bytes) -> None:
        try:
            if kind is Kind.RESIZE:
                await self._steer_size(*read_size(content))
            elif (name := content.decode(errors="replace")) in SIGNALS:
                path = f"containers/{self._container}/kill"
                await self._engine.ask("send a signal", "POST", path, signal=f"SIG{name}")
        except (EngineRefused, EngineTrouble) as error:
            log.info("container %s cannot be steered: %s", self._container[:12], error)

    async def _steer_size(self, rows: int, columns: int) -> None:
        path = f"containers/{self._container}/resize"
        await self._engine.ask("resize a terminal", "POST", path, h=str(rows), w=str(columns))

    async def _inspect(self) -> Json:
        return await self._engine.ask("look at a container", "GET", f"containers/{self._container}/json")
