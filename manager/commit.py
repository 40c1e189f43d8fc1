"""From a plan to transactions: fenced, guarded, of at most 100 operations. Does no I/O.

The caller sends one transaction after another and tells how each ended. Whatever does not succeed ends the commit: the
steps so far are a legal state, and the rest is decided again.

All transactions of leaders form one chain: each one rewrites the record of the time and only holds while that record is
as the decision saw it. So each is decided on everything that leaders wrote before it. A transaction whose answer was
lost needs no repeating: if it came through, the picture will show it, and nothing else gets in before that; if it is
still on its way, the next one that gets in shuts it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.codec import encode, key_for, key_of
from cluster.errors import Inconsistent
from cluster.model.cluster import ClockMark
from manager.decide.plan import Plan, Step
from manager.etcd.records import MAX_OPERATIONS, Compare, Operation, absent, delete, put, unchanged


@dataclass(frozen=True, slots=True)
class Transaction:
    """`steps` are those that it carries out."""

    compares: tuple[Compare, ...]
    operations: tuple[Operation, ...]
    steps: tuple[Step, ...]


CLOCK = key_for(ClockMark, "this")


class Commit:
    """One plan on its way into etcd. `fence` is the leader's; the last mark of time was stored at `marked_at`."""

    def __init__(self, plan: Plan, fence: Sequence[Compare], mark: ClockMark, marked_at: int) -> None:
        self._steps = list(plan.steps)
        self._fence = tuple(fence)
        self._mark = put(CLOCK, encode(mark))
        self._written = {CLOCK: marked_at}
        self._sent: tuple[str, ...] = ()
        self._deleted: frozenset[str] = frozenset()

    def next(self) -> Transaction | None:
        """Give the next transaction, None after the last."""
        if not self._steps:
            return None
        compares = {CLOCK: self._compare(CLOCK, 0)}
        operations: list[Operation] = [self._mark]
        written = {CLOCK}
        steps: list[Step] = []
        while self._steps:
            step = self._steps[0]
            more = {key: self._compare(key, at) for key, at in step.expects if key not in written}
            size = len(step.puts) + len(step.deletes) + len(step.beside)
            guards = len(compares | more) + len(self._fence)
            if len(operations) + size > MAX_OPERATIONS or guards > MAX_OPERATIONS:
                if not steps:
                    raise Inconsistent(f"a step is too big for one transaction: {step.why}")
                break
            compares |= more
            operations += [put(key_of(record), encode(record)) for record in step.puts]
            operations += [delete(key) for key in (*step.deletes, *step.beside)]
            written.update(key_of(record) for record in step.puts)
            written.update(step.deletes)
            steps.append(self._steps.pop(0))
        self._sent = tuple(written)
        self._deleted = frozenset(key for step in steps for key in step.deletes)
        return Transaction((*self._fence, *compares.values()), tuple(operations), tuple(steps))

    def succeeded(self, revision: int) -> None:
        """Take note that the last transaction was carried out at a revision."""
        self._written.update((key, 0 if key in self._deleted else revision) for key in self._sent)

    def _compare(self, key: str, at: int) -> Compare:
        at = self._written.get(key, at)
        return unchanged(key, at) if at else absent(key)
