"""Rates from two answers' counters, and their sums."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.rates import rows, summed
from cluster.usage import Counters, TaskUsage

FIRST = Counters("t1", 100.0, 10**9, 50, 100, 1000, 2000, 30, 40, 2)
LATER = Counters("t1", 102.0, 2 * 10**9, 60, 100, 5000, 3000, 30, 140, 3)


def usage(counters: Counters, name: str = "shop_web.1", node: str = "n1") -> TaskUsage:
    return TaskUsage(name, "shop", name.partition(".")[0], 1, node, counters)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(FIRST, LATER, (50.0, 2000.0, 500.0, 0.0, 50.0), id="by the time between the instants"),
        pytest.param(None, LATER, (None,) * 5, id="nothing is known of before"),
        pytest.param(FIRST, replace(LATER, at=100.0), (None,) * 5, id="the same instant"),
        pytest.param(FIRST, replace(LATER, at=90.0), (None,) * 5, id="a clock that was set back"),
        pytest.param(
            FIRST, replace(LATER, cpu=10, received=0), (None, None, 500.0, 0.0, 50.0), id="counters that began anew"
        ),
        pytest.param(
            FIRST, replace(LATER, received=None, sent=None), (50.0, None, None, 0.0, 50.0), id="the host's network"
        ),
        pytest.param(
            replace(FIRST, received=None, sent=None), LATER, (50.0, None, None, 0.0, 50.0), id="a sandbox come late"
        ),
    ],
)
def test_rates(before: Counters | None, now: Counters, expected: tuple[float | None, ...]) -> None:
    [row] = rows({} if before is None else {"t1": before}, [usage(now)])
    assert (row.cpu, row.received, row.sent, row.read, row.written) == expected
    assert (row.name, row.node, row.memory, row.pids) == ("shop_web.1", "n1", 60, 3)


def test_a_task_that_has_gone_has_no_row() -> None:
    assert rows({"t1": FIRST}, []) == []
    [row] = rows({"t1": FIRST}, [usage(replace(LATER, task="t2"))])
    assert row.cpu is None


def test_sums_are_of_what_is_known() -> None:
    told = [
        usage(LATER),
        usage(replace(LATER, task="t2"), "shop_web.2", "n2"),
        usage(replace(LATER, task="t3", received=None), "shop_db.1"),
    ]
    found = rows({"t1": FIRST, "t3": replace(FIRST, task="t3")}, told)
    db, web = summed(told, found, "service")
    assert (db.name, db.node, db.tasks, db.cpu, db.received) == ("shop_db", "", 1, 50.0, None)
    assert (web.name, web.tasks, web.cpu, web.memory, web.pids) == ("shop_web", 2, 50.0, 120, 6)
    one, two = summed(told, found, "node")
    assert (one.name, one.node, one.tasks, one.cpu, one.received) == ("n1", "n1", 2, 100.0, 2000.0)
    assert (two.name, two.tasks, two.cpu) == ("n2", 1, None)
