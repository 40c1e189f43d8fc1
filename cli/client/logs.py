"""Reads logs to their end, over whatever happens to managers meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cli.client.transport import Transport
from cluster.errors import NotFound, Unavailable
from cluster.logs import Position, since_when

if TYPE_CHECKING:
    from cluster.views import LogLine

_PATIENCE = 60.0
_PAUSE = 0.3

_HELD, _ROW = 16_000_000, 200
"""Bytes that are held back to be sorted, and about how many a line has besides its text."""


def in_order(batches: Iterator[list[LogLine]]) -> Iterator[list[LogLine]]:
    """Give all lines of logs that end by their time, if they are not too many: the rest comes as it comes.

    Notes are given at once.
    """
    held: list[LogLine] = []
    room = _HELD
    for batch in batches:
        if room <= 0:
            yield batch
            continue
        if notes := [one for one in batch if one.note]:
            yield notes
        lines = [one for one in batch if not one.note]
        held += lines
        room -= sum(len(one.line) + _ROW for one in lines)
        if room <= 0:
            yield _sorted(held)
            held = []
    if held:
        yield _sorted(held)


def last(batches: Iterator[list[LogLine]], count: int) -> Iterator[list[LogLine]]:
    """Give so many lines of each task, the last ones, and notes at once."""
    kept: dict[str, deque[LogLine]] = {}
    for batch in batches:
        if notes := [one for one in batch if one.note]:
            yield notes
        for one in batch:
            if not one.note:
                kept.setdefault(one.id, deque(maxlen=count)).append(one)
    yield _sorted(one for lines in kept.values() for one in lines)


def _sorted(lines: Iterable[LogLine]) -> list[LogLine]:
    """Sort by time; those of one output of a task stay in their order, should its clock have been set back."""
    newest: dict[tuple[str, str], str] = {}

    def instant(one: LogLine) -> str:
        output = one.id, one.stream
        newest[output] = max(newest.get(output, ""), one.at)
        return newest[output]

    return sorted(lines, key=instant)


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
