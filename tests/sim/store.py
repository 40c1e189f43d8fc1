"""etcd as a dictionary: revisions, transactions, leases, history and its compaction; no clock, no network.

`test_store.py` gives it and a real etcd the same transactions and compares.
"""

from __future__ import annotations

from collections.abc import Sequence

from manager.etcd.records import (
    Compare,
    Delete,
    DeletePrefix,
    Event,
    Get,
    KeyValue,
    Operation,
    Put,
    Response,
    TxnResult,
)


class Compacted(Exception):
    """That much history is no longer kept."""


class Store:
    def __init__(self) -> None:
        self.revision = 1
        self.keys: dict[str, KeyValue] = {}
        self.history: list[tuple[int, tuple[Event, ...]]] = []
        self.compacted = 0

    def txn(
        self, compares: Sequence[Compare], ops: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> TxnResult:
        written = [op.key for op in ops if isinstance(op, Put | Delete)]
        assert len(written) == len(set(written)), "etcd refuses a transaction that writes a key twice"
        assert len(ops) <= 128 and len(compares) <= 128, "etcd refuses so big a transaction"
        succeeded = all(map(self._holds, compares))
        events: dict[str, Event] = {}
        responses = tuple(self._do(op, events) for op in (ops if succeeded else otherwise))
        self._commit(events)
        return TxnResult(succeeded, self.revision, responses)

    def expire(self, lease: int) -> None:
        """The time of a lease runs out: its keys are gone, each at a revision of its own as in etcd."""
        for key in sorted(key for key, item in self.keys.items() if item.lease == lease):
            self.txn((), (Delete(key),))

    def listing(self, prefix: str) -> list[KeyValue]:
        return [item for key, item in sorted(self.keys.items()) if key.startswith(prefix)]

    def since(self, revision: int) -> list[tuple[int, tuple[Event, ...]]]:
        """The changes after a revision, in order."""
        if revision < self.compacted:
            raise Compacted
        newer = 0
        while newer < len(self.history) and self.history[-1 - newer][0] > revision:
            newer += 1
        return self.history[len(self.history) - newer :]

    def compact(self) -> None:
        self.compacted = self.revision

    def _holds(self, compare: Compare) -> bool:
        item = self.keys.get(compare.key)
        actual: int | bytes | None
        match compare.field:
            case "create_revision":
                actual = item.create_revision if item else 0
            case "mod_revision":
                actual = item.mod_revision if item else 0
            case "value":
                actual = item.value if item else None
        if compare.relation == "=":
            return actual == compare.operand
        assert isinstance(actual, int) and isinstance(compare.operand, int)
        return actual > compare.operand

    def _do(self, op: Operation, events: dict[str, Event]) -> Response:
        at = self.revision + 1
        match op:
            case Put(key, value, lease):
                before = self.keys.get(key)
                created, version = (before.create_revision, before.version + 1) if before else (at, 1)
                self.keys[key] = KeyValue(key, value, created, at, version, lease)
                events[key] = Event(key, at, self.keys[key])
                return None
            case Delete(key):
                if self.keys.pop(key, None) is None:
                    return 0
                events[key] = Event(key, at, None)
                return 1
            case DeletePrefix(prefix):
                doomed = [key for key in self.keys if key.startswith(prefix)]
                for key in doomed:
                    self._do(Delete(key), events)
                return len(doomed)
            case Get(key):
                return self.keys.get(key)

    def _commit(self, events: dict[str, Event]) -> None:
        if events:
            self.revision += 1
            self.history.append((self.revision, tuple(events.values())))
