"""How a reported status and a stored one come together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model.task import TaskState, TaskStatus
from manager.sessions.ledger import merge

STARTING = TaskStatus("t1", TaskState.STARTING, 4.0, container="c1")
RUNNING = TaskStatus("t1", TaskState.RUNNING, 5.0, container="c1", running_at=5.0)
FAILED = replace(RUNNING, state=TaskState.FAILED, exit_code=1)

CASES: dict[str, tuple[TaskStatus | None, TaskStatus, TaskStatus | None]] = {
    "the first report is stored": (None, RUNNING, RUNNING),
    "the same again is not stored again": (RUNNING, RUNNING, None),
    "a step forward is stored": (RUNNING, FAILED, FAILED),
    "when it first ran is noted": (STARTING, replace(RUNNING, running_at=None), RUNNING),
    "and stays": (RUNNING, replace(FAILED, running_at=None), FAILED),
    "also when it runs again": (RUNNING, replace(RUNNING, at=9.0, restarts=1), replace(RUNNING, at=9.0, restarts=1)),
    "what never ran has no such instant": (None, replace(FAILED, running_at=None), replace(FAILED, running_at=None)),
    "a step back is not": (FAILED, RUNNING, None),
    "news of the same state are stored": (RUNNING, replace(RUNNING, restarts=1), replace(RUNNING, restarts=1)),
    "of two ends the first one holds": (FAILED, replace(FAILED, state=TaskState.SHUTDOWN, exit_code=0), None),
    "that the container is gone is stored": (FAILED, replace(FAILED, container=""), replace(FAILED, container="")),
    "a task that was given up, then cleared away": (
        replace(FAILED, state=TaskState.ORPHANED, exit_code=None),
        replace(FAILED, state=TaskState.SHUTDOWN, container=""),
        replace(FAILED, state=TaskState.ORPHANED, exit_code=None, container=""),
    ),
}


@pytest.mark.parametrize(("before", "after", "stored"), CASES.values(), ids=CASES.keys())
def test_merge(before: TaskStatus | None, after: TaskStatus, stored: TaskStatus | None) -> None:
    assert merge(before, after) == stored


@given(st.lists(st.builds(TaskStatus, st.just("t1"), st.sampled_from(TaskState), st.just(1.0)), max_size=20))
def test_whatever_is_reported_the_state_only_grows(reports: list[TaskStatus]) -> None:
    stored: TaskStatus | None = None
    for report in reports:
        merged = merge(stored, report)
        if merged is not None:
            assert stored is None or merged.state.rank >= stored.state.rank
            assert stored is None or not stored.state.terminal or merged.state is stored.state
            stored = merged
