"""What waits to be written into the audit log, and what it looks like there."""

from __future__ import annotations

import pytest

from cluster.people import AuditEntry
from manager.audit import AT_ONCE, DONE, REFUSED, Waiting, decoded
from manager.etcd import KeyValue


def refusal(number: int, at: float = 1.0) -> AuditEntry:
    return AuditEntry(f"{at}-{number}", at, "anonymous", "", "deploy", 401, about=f"stack{number}")


@pytest.mark.parametrize("calls", [10, 100_000])
def test_whoever_is_refused_without_end_fills_nothing(calls: int) -> None:
    waiting = Waiting()
    waiting.take(0.0)
    for number in range(calls):
        waiting.add(REFUSED, refusal(number))
    written = waiting.take(0.0)
    assert len(written) == min(calls, AT_ONCE)
    assert len(waiting.take(10.0)) == (0 if calls < AT_ONCE else 10)
    total = sum(entry.count for entry in (*written.values(), *waiting.take(1e6).values(), *waiting.take(2e6).values()))
    assert total == calls - (0 if calls < AT_ONCE else 10)


def test_the_same_again_is_one_entry() -> None:
    waiting = Waiting()
    for at in (1.0, 2.0, 3.0):
        waiting.add(REFUSED, refusal(1, at))
    (entry,) = waiting.take(5.0).values()
    assert (entry.at, entry.count, entry.until) == (1.0, 3, 3.0)


def test_what_could_not_be_written_waits_on() -> None:
    waiting = Waiting()
    waiting.add(DONE, refusal(1, 1.0))
    batch = waiting.take(5.0)
    waiting.add(DONE, refusal(1, 2.0))
    waiting.put_back(batch)
    (entry,) = waiting.take(6.0).values()
    assert (entry.at, entry.count) == (1.0, 2)


def test_an_entry_as_the_first_version_wrote_it() -> None:
    value = b"""{"schema": 1, "entry": {"id": "00001700000000000000-0a1b2c3d", "at": 1700000000.0, "kind": "client",
    "who": "ann", "does": "deploy", "status": 200, "about": "shop", "stack": "shop", "before": "revision 1",
    "after": "revision 2", "why": "", "credential": "0123456789ab", "address": "192.0.2.1", "count": 2,
    "until": 1700000001.0}}"""
    entry = decoded(KeyValue("k", value, 1, 1, 1))
    assert (entry.who, entry.does, entry.after, entry.count) == ("ann", "deploy", "revision 2", 2)
