"""What a decision comes to: steps that each belong in one transaction, and the instant to look again."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from cluster.codec import Record, key_of
from cluster.errors import Inconsistent
from manager.picture import ClusterState


@dataclass(frozen=True, slots=True)
class Step:
    """Writes that are only right together. The state after each prefix of a plan's steps is a legal one.

    `beside` are keys outside of the state that are deleted with those that tell of them.

    `expects` are the keys that must be as they were when this was decided, with the revision that wrote them last (0:
    absent). Every key that the step writes is among them. A key that an earlier step of the same plan wrote must be as
    that step left it.
    """

    why: str
    puts: tuple[Record, ...]
    deletes: tuple[str, ...]
    expects: tuple[tuple[str, int], ...]
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order. `wake_at` is the instant at which the same question has another answer without any change."""

    steps: tuple[Step, ...] = ()
    wake_at: float | None = None


Deciding: TypeAlias = Generator[None, None, Plan]
"""A plan in the making. What is done between two yields takes a few milliseconds at most; the picture must not change
before the plan is there."""


def drained(deciding: Deciding) -> Plan:
    """Make a plan in one go."""
    while True:
        try:
            next(deciding)
        except StopIteration as end:
            plan: Plan = end.value
            return plan


LONGEST = 64
"""Steps after which a plan is cut off and the rest is left for the next one: what is decided is never long out of date,
and other questions have their turn."""

PER_SLOT = 16
"""Slots of a service for each step that its plans may have beyond LONGEST: all of its slots are gone through for each
plan, so that with many short ones a service of thousands would take twice as long."""

LARGEST = 90
"""Keys of one step: what etcd takes in a transaction, less what every transaction carries."""


class Draft:
    """The steps of a plan so far, against one state of the cluster, about a service of so many slots if about one.

    A record is written at most once in a plan.
    """

    def __init__(self, state: ClusterState, slots: int = 0) -> None:
        self._state = state
        self._longest = max(LONGEST, slots // PER_SLOT)
        self._steps: list[Step] = []
        self._written: set[str] = set()
        self._wake_at: float | None = None

    def step(
        self,
        why: str,
        *,
        puts: Iterable[Record] = (),
        deletes: Iterable[str] = (),
        guards: Iterable[str] = (),
        beside: Iterable[str] = (),
    ) -> None:
        """Add a step; `guards` are the keys whose change would make it wrong, besides those that it writes.

        A full plan takes no more.
        """
        if self.full:
            return
        puts, deletes = tuple(puts), tuple(deletes)
        keys = [*map(key_of, puts), *deletes]
        for key in keys:
            if key in self._written:
                raise Inconsistent(f"a plan writes {key} twice (the second time to {why})")
            self._written.add(key)
        expects = {key: self._state.revision_of(key) for key in (*keys, *guards)}
        if len(expects) > LARGEST:
            raise Inconsistent(f"{len(expects)} records belong together, {LARGEST} is the most: {why}")
        self._steps.append(Step(why, puts, deletes, tuple(expects.items()), tuple(beside)))

    def wake(self, at: float) -> None:
        """Ask to be decided again at an instant."""
        self._wake_at = at if self._wake_at is None else min(at, self._wake_at)

    @property
    def room(self) -> int:
        """Tell how many more steps there can be; without room, the plan asks to be decided again at once."""
        return self._longest - len(self._steps)

    @property
    def full(self) -> bool:
        return not self.room

    def plan(self) -> Plan:
        return Plan(tuple(self._steps), 0.0 if self.full else self._wake_at)
