"""Cluster time never runs back, follows the wall clock gently, and does not follow it far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.clock import CATCH_UP, JUMP, ClusterClock


def test_it_is_the_wall_clock_when_all_is_well() -> None:
    clock = ClusterClock(1000.0, 5.0)
    assert clock.now(1007.0, 12.0) == 1007.0


def test_it_begins_at_what_a_leader_stored_when_the_wall_clock_is_behind() -> None:
    clock = ClusterClock(1000.0, 5.0, highest_stored=1600.0)
    assert clock.now(1001.0, 6.0) == 1601.0


@pytest.mark.parametrize(
    ("wall", "expected", "held"),
    [
        pytest.param(1010.0 - 500.0, 1010.0, 0.0, id="a wall clock that jumps back is waited for"),
        pytest.param(1010.0 + 30.0, 1010.0 + 10.0 * CATCH_UP, 0.0, id="one that is ahead is caught up with slowly"),
        pytest.param(1010.0 + 3600.0, 1010.0, 3600.0, id="one that jumped far ahead is not followed, and that is told"),
        pytest.param(1010.0 + 0.5, 1010.5, 0.0, id="one that is hardly ahead is soon caught up with"),
    ],
)
def test_jumps_of_the_wall_clock(wall: float, expected: float, held: float) -> None:
    clock = ClusterClock(1000.0, 0.0)
    assert clock.now(wall, 10.0) == expected
    assert clock.held == held


def test_what_another_leader_stored_is_learnt() -> None:
    clock = ClusterClock(1000.0, 0.0)
    clock.learn(2000.0, 0.0)
    assert clock.now(1001.0, 1.0) == 2001.0
    clock.learn(1500.0, 1.0)
    assert clock.now(1002.0, 2.0) == 2002.0


def test_time_that_was_not_read_passes_once() -> None:
    clock = ClusterClock(1000.0, 0.0)
    clock.learn(4600.0, 3600.0)
    assert clock.now(4601.0, 3601.0) == 4601.0


@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(0, 1e4)), max_size=30))
def test_it_never_runs_back_and_never_jumps(steps: list[tuple[float, float]]) -> None:
    wall, monotonic = 1e9, 0.0
    clock = ClusterClock(wall, monotonic)
    before = clock.now(wall, monotonic)
    for jump, passed in steps:
        wall += jump + passed
        monotonic += passed
        now = clock.now(wall, monotonic)
        assert before <= now <= before + passed * (1 + CATCH_UP) + 1e-3
        assert clock.held == 0.0 or clock.held > JUMP
        before = now
