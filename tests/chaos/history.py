"""What clients asked and were answered, and whether that is so in the end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    """The manager said no: nothing may have come of it."""
    UNKNOWN = "unknown"
    """No answer came: it may have been written, once."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write of a client. `mark` is in the record that it makes; instants are of one monotonic clock.

    `revision` is what the answer said, with `changed` whether it is a new one.
    """

    mark: str
    stack: str
    began: float
    ended: float
    outcome: Outcome
    revision: int = 0
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Read:
    """What a client was told of a stack: its newest revision and the mark in that."""

    stack: str
    revision: int
    mark: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A revision of a stack as it was put into etcd, at a revision of etcd."""

    stack: str
    n: int
    mark: str
    at: int


def contradictions(writes: Sequence[Write], reads: Iterable[Read], stored: Sequence[Stored]) -> Iterator[str]:
    """Tell what was answered to clients and is not so in etcd's history, and the other way round."""
    by_mark: dict[str, list[Stored]] = {}
    for one in stored:
        by_mark.setdefault(one.mark, []).append(one)
    yield from _numbers(stored)
    for mark, found in by_mark.items():
        if len(found) > 1:
            yield f"{mark} was written {len(found)} times: {found}"
    yield from _answers(writes, by_mark)
    yield from _order(writes)
    known = {(one.stack, one.n): one.mark for one in stored}
    for read in reads:
        if known.get((read.stack, read.revision)) != read.mark:
            yield f"a client read {read}, which etcd never had"


def _numbers(stored: Sequence[Stored]) -> Iterator[str]:
    """Revisions of a stack are numbered one by one, in the order in which they were written."""
    newest: dict[str, int] = {}
    for one in sorted(stored, key=lambda one: one.at):
        if one.n != newest.get(one.stack, 0) + 1:
            yield f"{one} came after revision {newest.get(one.stack, 0)}"
        newest[one.stack] = one.n


def _answers(writes: Sequence[Write], by_mark: Mapping[str, Sequence[Stored]]) -> Iterator[str]:
    for write in writes:
        found = by_mark.get(write.mark, ())
        if write.outcome is Outcome.ACKNOWLEDGED and write.changed:
            if [(one.stack, one.n) for one in found] != [(write.stack, write.revision)]:
                yield f"{write} was acknowledged, etcd had {list(found)}"
        elif write.outcome is Outcome.REFUSED and found:
            yield f"{write} was refused, and written: {list(found)}"


def _order(writes: Sequence[Write]) -> Iterator[str]:
    """Who asks after another one was answered comes after it."""
    made = [write for write in writes if write.outcome is Outcome.ACKNOWLEDGED and write.changed]
    for stack in sorted({write.stack for write in made}):
        of_stack = sorted((write for write in made if write.stack == stack), key=lambda write: write.revision)
        earliest_end = float("inf")
        for write in reversed(of_stack):
            if write.began > earliest_end:
                yield f"{write} began after a later revision had been acknowledged"
            earliest_end = min(earliest_end, write.ended)
