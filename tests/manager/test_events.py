"""The ring of events: it keeps the newest, and knows what it has lost."""

from __future__ import annotations

import time
from typing import Any

from cluster.codec import key_of
from cluster.model.node import Node
from manager.events import EventLog
from manager.picture import Change, ClusterState


class Following:
    """What a log needs of a follower."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.listed_at = 0


def joined(revision: int) -> Change:
    node = Node(f"n{revision}", f"n{revision}", "worker", float(revision))
    return Change(key_of(node), None, node, revision)


def a_log(kept: int = 5) -> tuple[EventLog, Following]:
    follower: Any = Following()
    return EventLog(follower, time.time, "m1", kept), follower


def test_it_keeps_the_newest_and_counts_all() -> None:
    log, _ = a_log()
    for revision in range(1, 9):
        log.note([joined(revision)])
    assert (log.begin, log.end, log.whole_from) == (3, 8, 4)
    assert [event.revision for event in log.since(log.begin, 2)] == [4, 5]
    assert [event.revision for event in log.since(0, 100)] == [4, 5, 6, 7, 8]
    assert [event.revision for event in log.since(7, 100)] == [8] and log.since(8, 100) == []


def test_more_than_it_keeps_may_come_at_once() -> None:
    log, _ = a_log()
    log.note([joined(revision) for revision in range(1, 9)])
    assert (log.begin, log.end, log.whole_from) == (3, 8, 4)


def test_what_was_read_as_a_whole_is_marked() -> None:
    log, follower = a_log()
    follower.listed_at = 20
    log.note([joined(7), joined(3)])
    told = log.since(0, 100)
    assert [event.revision for event in told[:2]] == [3, 7]
    assert (told[2].type, told[2].action) == ("stream", "lost") and len(told) == 3
    assert log.whole_from == 21
    log.note([joined(21)])
    assert log.whole_from == 21 and log.end == 4


def test_nothing_is_missing_where_nothing_was() -> None:
    log, follower = a_log()
    follower.listed_at = 1
    log.note([])
    assert log.end == 0
