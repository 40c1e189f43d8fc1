"""Joins the engine's stream of a program with a person's channel: what both of an exec and of an attach consist of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from agent.channel import Channel, Control
from agent.container import Json
from agent.engine import EngineRefused, EngineTrouble
from agent.hijack import Hijacked
from cluster.channel import SIGNALS, Kind, read_size

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5


@asynccontextmanager
async def typing(channel: Channel, stream: Hijacked, *, stdin: bool) -> AsyncIterator[None]:
    """Pass what the person types on to the program meanwhile, if that is wanted."""
    passing = asyncio.create_task(_pass_input(channel, stream)) if stdin else None
    try:
        yield
    finally:
        if passing is not None:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)


async def _pass_input(channel: Channel, stream: Hijacked) -> None:
    try:
        async for data in channel.input():
            await stream.write(data)
        stream.write_end()
    except OSError:
        # The program takes no more, which is no error of its; what still comes is thrown away.
        async for _ in channel.input():
            pass


def steering(
    what: str, resize: Callable[[int, int], Awaitable[object]], signal: Callable[[str], Awaitable[object]]
) -> Control:
    """What to do with RESIZE and SIGNAL of a channel. What fails is logged: the program goes on as it is.

    `signal` is called with names such as SIGINT, only with those that may be sent.
    """

    async def steer(kind: Kind, content: bytes) -> None:
        if kind is Kind.RESIZE:
            await attempt(what, resize(*read_size(content)))
        elif (name := content.decode(errors="replace")) in SIGNALS:
            await attempt(what, signal(f"SIG{name}"))

    return steer


async def attempt(what: str, steered: Awaitable[object]) -> None:
    """Steer a program if that can be done: it may have ended, or go on without."""
    try:
        await steered
    except (EngineRefused, EngineTrouble, TimeoutError) as error:
        log.info("%s cannot be steered: %s", what, error)


async def seen(look: Callable[[], Awaitable[Json]], until: Callable[[Json], bool]) -> Json:
    """Look until something is so, of which the engine has no event that names it: the end of a command, its start."""
    pause = _FIRST_PAUSE
    while not until(state := await look()):
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return state
