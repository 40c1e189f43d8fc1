"""How long a stream may stay open: until this manager stops, or its caller is not any more who it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from cluster.model.user import User
from manager import people
from manager.api.callers import Caller
from manager.api.core import Core
from manager.api.identify import is_still
from manager.picture import Change

LOOK = 60.0
"""Seconds between two looks at whether a credential has ended, at most: cluster time may jump."""


@contextmanager
def lasting(core: Core, caller: Caller) -> Iterator[asyncio.Event]:
    """Give an event that is set when a stream is to end: the caller was revoked, changed, or its credential ended."""
    end = asyncio.Event()

    def look(changes: list[Change]) -> None:
        if any(isinstance(change.new or change.old, User) for change in changes):
            _judge(core, caller, end)

    async def wait_for(something: Callable[[], Awaitable[object]]) -> None:
        await something()  # made only here: this task may be cancelled before it began
        end.set()

    waiting = [asyncio.create_task(wait_for(core.stopping.wait))]
    if caller.credential:
        waiting.append(asyncio.create_task(wait_for(lambda: _until_over(core, caller, end))))
    with core.follower.listening(look):
        try:
            yield end
        finally:
            for task in waiting:
                task.cancel()


async def _until_over(core: Core, caller: Caller, end: asyncio.Event) -> None:
    """Wait until a credential has ended by itself."""
    while not end.is_set():
        _judge(core, caller, end)
        found = people.holder(core.state, caller.credential, core.clock())
        left = LOOK if found is None or found[1].expires_at is None else found[1].expires_at - core.clock()
        await asyncio.sleep(max(0.0, min(LOOK, left)))


def _judge(core: Core, caller: Caller, end: asyncio.Event) -> None:
    if not is_still(caller, core.state, core.clock()):
        end.set()
