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


def read(
    transport: Transport,
    names: Sequence[str],
    decode: Callable[[bytes], LogLine],
    *,
    follow: bool,
    tail: int | None,
    since: float | None,
    until: float | None = None,
) -> Iterator[list[LogLine]]:
    """Give each line once, and each note once in a row; together what came together.

    Raises Unavailable when no manager answers for a minute.
    """
    began, heard = time.time(), time.monotonic()
    query: dict[str, Any] = {"follow": str(follow).lower(), "tail": tail, "since": since, "until": until, "of": names}
    positions: dict[str, Position] = {}
    noted: dict[str, str] = {}
    connected = False

    def is_new(one: LogLine) -> bool:
        if one.note:
            known = noted.get(one.id)
            noted[one.id] = one.note
            return known != one.note
        if (position := positions.get(one.id)) is None:
            position = positions[one.id] = Position()
        if not position.is_new(one.stream, one.at):
            return False
        noted.pop(one.id, None)
        return True

    while True:
        try:
            for texts in transport.batches("/v1/logs", query):
                connected, heard = True, time.monotonic()
                came = [decode(text) for text in texts if text]
                ended = bool(came) and came[-1].end
                if new := [one for one in came if not one.end and is_new(one)]:
                    yield new
                if ended:
                    return
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
