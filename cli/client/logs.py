"""Reads logs to their end, over whatever happens to managers meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cli.client.transport import Transport
from cluster.errors import NotFound, Unavailable
from cluster.logs import Position, since_when

if TYPE_CHECKING:
    from cluster.views import LogLine

_PATIENCE = 60.0
_PAUSE = 0.3
_SILENCE = 30.0  # a stream has an empty line every ten seconds


def read(
    transport: Transport,
    names: Sequence[str],
    decode: Callable[[bytes], LogLine],
    *,
    follow: bool,
    tail: int | None,
    since: float | None,
    until: float | None = None,
) -> Iterator[LogLine]:
    """Give each line once, and each note once in a row. Raises Unavailable when no manager answers for a minute."""
    began, heard = time.time(), time.monotonic()
    query: dict[str, Any] = {"follow": str(follow).lower(), "tail": tail, "since": since, "until": until, "of": names}
    positions: dict[str, Position] = {}
    noted: dict[str, str] = {}
    connected = False
    while True:
        try:
            for text in transport.lines("/v1/logs", query, silence=lambda: _SILENCE):
                connected, heard = True, time.monotonic()
                if not text.strip():
                    continue
                one = decode(text)
                if one.end:
                    return
                if one.note:
                    if noted.get(one.id) != one.note:
                        noted[one.id] = one.note
                        yield one
                elif positions.setdefault(one.id, Position()).is_new(one.stream, one.at):
                    noted.pop(one.id, None)
                    yield one
        except NotFound:
            if not connected:
                raise
            return  # it was removed meanwhile, and nothing is printed any more
        except Unavailable:
            if not connected or time.monotonic() - heard > _PATIENCE:
                raise
        time.sleep(_PAUSE)
        after = [f"{task}@{position.since:.6f}" for task, position in positions.items() if position.since is not None]
        if follow:
            query |= {"tail": None, "since": since_when(tail, since, began)}
        query["after"] = after
        for position in positions.values():
            position.again()
