"""The stream of the cluster's events."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from cluster.errors import UserError
from cluster.events import KEYS, NOUNS, ClusterEvent, matches
from manager.api.bodies import line
from manager.api.callers import Caller
from manager.api.core import Core, ReadyCore
from manager.api.lasting import lasting
from manager.api.rules import Permitted
from manager.picture import Change

router = APIRouter(prefix="/v1", tags=["cluster"])

AT_ONCE = 500
KEEP_ALIVE = 10.0
"""Seconds without a line after which one tells that nothing came that is wanted; a client that has gone is noticed by
it."""

_OF_ALL = ("node", "manager")


@dataclass(frozen=True, slots=True)
class Wanted:
    """`after` is the revision whose events a client has seen some of; `tail` is how many of those before now."""

    follow: bool = False
    since: float | None = None
    until: float = math.inf
    after: int | None = None
    tail: int | None = None
    filters: tuple[tuple[str, str], ...] = ()


@router.get("/events", response_class=StreamingResponse)
async def events(
    caller: Permitted,
    core: ReadyCore,
    follow: bool = False,
    since: float | None = None,
    until: float | None = None,
    after: Annotated[int | None, Query(ge=0)] = None,
    tail: Annotated[int | None, Query(ge=0)] = None,
    filter: Annotated[list[str] | None, Query()] = None,
) -> StreamingResponse:
    """What happens in the cluster, in order, and why: one event a line, as far back as managers remember.

    `filter` is KEY=VALUE, as `type=task`, `event=failed`, `stack=shop`. With `after`, a revision, a client goes on
    where it was cut, also at another manager. Lines of the type `stream` are about the stream: that events are lost
    here, up to which revision nothing came, that it was all.
    """
    end = math.inf if until is None else until
    wanted = Wanted(follow, since, end, after, tail, tuple(map(_filter, filter or ())))
    if after is not None:
        await core.caught_up(after)
    return StreamingResponse(_stream(core, caller, wanted), media_type="application/x-ndjson")


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in KEYS:
        raise UserError(f"filter: {text!r} is not KEY=VALUE", hint=f"The keys are {', '.join(KEYS)}.")
    if key == "type" and value not in NOUNS:
        raise UserError(f"filter: there are no events of the type {value!r}", hint=f"Types are {', '.join(NOUNS)}.")
    return key, value


async def _stream(core: Core, caller: Caller, wanted: Wanted) -> AsyncGenerator[bytes, None]:
    news = asyncio.Event()

    def note(changes: list[Change]) -> None:
        news.set()

    kept = core.events
    with core.follower.listening(note), lasting(core, caller) as end:
        ending = asyncio.create_task(_set_when(end, news))
        try:
            place, before = kept.end, _before(core, caller, wanted)
            while before:
                yield b"".join(line(before.popleft()) for _ in range(min(AT_ONCE, len(before))))
            silent_since = time.monotonic()
            while wanted.follow and not end.is_set():
                news.clear()
                if place < kept.begin:
                    yield line(kept.lost(f"{kept.begin - place} events came faster than they were read"))
                    place = kept.begin
                if some := kept.since(place, AT_ONCE):
                    place += len(some)
                    if told := b"".join(line(one) for one in some if _is_for(caller, one, wanted)):
                        yield told
                        silent_since = time.monotonic()
                    continue
                if core.clock() >= wanted.until:
                    break
                left = silent_since + KEEP_ALIVE - time.monotonic()
                if left <= 0 or not await _came(news, min(left, wanted.until - core.clock())):
                    yield line(ClusterEvent(core.state.revision, core.clock(), "stream", "at"))
                    silent_since = time.monotonic()
            if not end.is_set():
                yield line(ClusterEvent(core.state.revision, core.clock(), "stream", "end"))
        finally:
            ending.cancel()


def _before(core: Core, caller: Caller, wanted: Wanted) -> deque[ClusterEvent]:
    """Give what is kept of that which is asked for, and first of all whether there was more."""
    kept, told = core.events, deque[ClusterEvent](maxlen=wanted.tail)
    everything = kept.since(kept.begin, kept.end)
    for one in everything:
        is_newer = wanted.after is None or one.revision >= wanted.after
        if is_newer and (wanted.since is None or one.at >= wanted.since) and _is_for(caller, one, wanted):
            told.append(one)
    why = ""
    if wanted.after is not None:
        if wanted.after > core.state.revision:
            why = "it has not come as far; was the cluster restored?"
        elif wanted.after + 1 < kept.whole_from:
            why = "it does not remember as much"
    elif wanted.since is not None and kept.begin and wanted.since < everything[0].at:
        why = f"it keeps the newest {len(everything)}"
    found = deque(told)
    if why:
        found.appendleft(kept.lost(why))
    return found


def _is_for(caller: Caller, event: ClusterEvent, wanted: Wanted) -> bool:
    if event.type == "stream":
        return True
    mine = caller.sees(event.stack) if event.stack else event.type in _OF_ALL or not caller.is_kept
    return mine and event.at <= wanted.until and matches(event, wanted.filters)


async def _set_when(one: asyncio.Event, other: asyncio.Event) -> None:
    await one.wait()
    other.set()


async def _came(news: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await news.wait()
    except TimeoutError:
        return False
    return True
