"""Runs a command in a container for a person at the other end of a channel.

Its end is the command's: the exit code goes down once all output has. When the person's end goes first, the command
sees the end of its input and SIGHUP, as from a terminal that was closed; the engine would leave it running for ever.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from typing import Any

from agent.channel import Channel, while_listening
from agent.engine import Engine, EngineDown, EngineRefused
from agent.hijack import Hijacked
from agent.processes import send_signal
from agent.terminal import attempt, seen, steering, typing
from cluster.channel import BeginRequest, ExecRequest, Kind
from cluster.errors import StackyardError
from cluster.protocol import STDERR

log = logging.getLogger(__name__)

SIZES_AT_START = (1, 42)
"""From this version on the engine's API takes a terminal's size at its start."""

HANG_UP_TIMEOUT = 5.0
START_TIMEOUT = 10.0
_NOT_STARTED = b"OCI runtime exec failed"
_MISSING = re.compile(rb"executable file not found|no such file or directory")

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The exit codes for a command that there is not, as in a shell (some engines tell 126), and for one that fails."""

_ALONE = {"Detach": True}


async def run_command(engine: Engine, container: str, channel: Channel, request: ExecRequest) -> None:
    """Run a command and tell how it ended. Raises EngineRefused and others when it cannot be started."""
    command = _Command(engine, container, channel, request)
    await command.create()
    finished = False
    try:
        finished = await while_listening(channel, command.run()) == "done"
    finally:
        if not finished:
            await command.hang_up()
    if finished:
        await channel.over()


async def begin_command(engine: Engine, container: str, channel: Channel, request: BeginRequest) -> None:
    """Begin a command that goes on by itself, and tell that it has begun, or by its code why not."""
    code = 0
    try:
        await engine.ask("start a command", "POST", f"exec/{await _created(engine, container, request)}/start", _ALONE)
    except EngineRefused as error:
        if _NOT_STARTED not in (said := error.message.encode()):
            raise
        await channel.send(Kind.ERROR_OUTPUT, said + b"\n")
        code = NOT_FOUND if _MISSING.search(said) else NOT_EXECUTABLE
    await channel.end(code)
    await channel.over()


async def _created(engine: Engine, container: str, wanted: ExecRequest | BeginRequest, *, stdin: bool = False) -> str:
    body: dict[str, Any] = {
        "AttachStdin": stdin,
        "AttachStdout": isinstance(wanted, ExecRequest),
        "AttachStderr": isinstance(wanted, ExecRequest),
        "Tty": wanted.tty,
        "Cmd": list(wanted.command),
        "Env": list(wanted.env),
        "WorkingDir": wanted.workdir,
        "User": wanted.user,
        "Privileged": wanted.privileged,
    }
    return str((await engine.ask("prepare a command", "POST", f"containers/{container}/exec", body))["Id"])


class _Command:
    def __init__(self, engine: Engine, container: str, channel: Channel, request: ExecRequest) -> None:
        self._engine, self._container, self._channel, self._request = engine, container, channel, request
        self._id = ""
        self._missing = False

    async def create(self) -> None:
        self._id = await _created(self._engine, self._container, self._request, stdin=self._request.stdin)

    async def run(self) -> None:
        wanted = self._request
        body: dict[str, Any] = {"Detach": False, "Tty": wanted.tty}
        facts = self._engine.facts
        size_at_start = wanted.tty and wanted.size is not None and facts is not None and facts.api >= SIZES_AT_START
        if size_at_start:
            body["ConsoleSize"] = wanted.size
        async with self._engine.upgraded("start a command", f"exec/{self._id}/start", body) as stream:
            what = f"a command in container {self._container[:12]}"
            self._channel.control = steering(what, self._resize, self._signal)
            async with typing(self._channel, stream, stdin=wanted.stdin):
                try:
                    await self._channel.send(Kind.START)
                    if wanted.tty and wanted.size is not None and not size_at_start:
                        await attempt(what, self._resize(*wanted.size))
                    await self._pass_output(stream)
                except OSError as error:
                    raise EngineDown(f"lost the engine while a command ran: {error}") from error
        await self._channel.end(await self._exit_code())

    async def hang_up(self) -> None:
        """Tell a command that nobody is there any more. Its input has ended with the engine's stream."""
        try:
            async with asyncio.timeout(HANG_UP_TIMEOUT):
                await self._signal("SIGHUP")
        except (StackyardError, TimeoutError) as error:
            log.warning("a command in container %s may go on unattended: %s", self._container[:12], error)

    async def _pass_output(self, stream: Hijacked) -> None:
        first = True
        async for source, data in stream.output(tty=self._request.tty):
            if first and data.startswith(_NOT_STARTED) and not (await self._inspect()).get("Pid"):
                source = STDERR  # it is the engine's word, for a person and not for who reads the output
                self._missing = _MISSING.search(data) is not None
            first = False
            await self._channel.send(Kind.ERROR_OUTPUT if source == STDERR else Kind.OUTPUT, data)

    async def _exit_code(self) -> int:
        """Wait for the exit code: a command may close its output long before it ends."""
        state = await seen(self._inspect, lambda state: not state.get("Running") and state.get("ExitCode") is not None)
        return NOT_FOUND if self._missing else int(state["ExitCode"])

    async def _resize(self, rows: int, columns: int) -> None:
        await self._begun()
        await self._engine.ask("resize a terminal", "POST", f"exec/{self._id}/resize", h=str(rows), w=str(columns))

    async def _signal(self, name: str) -> None:
        state = await self._begun()
        if state.get("Running") and (pid := state.get("Pid")):
            await asyncio.to_thread(send_signal, self._engine.socket, self._container, pid, signal.Signals[name])

    async def _begun(self) -> dict[str, Any]:
        """Look at the command once it has a process, or has run: to the engine it is running before it has begun."""
        async with asyncio.timeout(START_TIMEOUT):
            return await seen(self._inspect, lambda state: state.get("Pid") or state.get("ExitCode") is not None)

    async def _inspect(self) -> dict[str, Any]:
        return await self._engine.ask("look at a command", "GET", f"exec/{self._id}/json")
