"""A node whose clock is wrong is told of, and none that is only late."""

from __future__ import annotations

import pytest

from manager.sessions.time_of_day import APART, SURE, TimeOfDay


@pytest.mark.parametrize(
    ("ahead", "told"),
    [
        (APART, ""),
        (-APART, ""),
        (120.0, "its clock is 120 s ahead of its manager's"),
        (-3600.0, "its clock is 60 min behind its manager's"),
    ],
)
def test_a_clock_that_is_far_off_is_told(ahead: float, told: str) -> None:
    clock = TimeOfDay()
    assert clock.note(ahead, 100.0) == ""
    assert clock.note(ahead, 100.0 + SURE) == told
    assert clock.note(ahead + 3.0, 101.0 + SURE) == told, "small changes are not"
    assert clock.note(0.1, 102.0 + SURE) == ""
    assert clock.note(ahead, 103.0 + SURE) == "", "and it begins anew"


def test_beats_of_a_while_ago_are_nothing() -> None:
    clock = TimeOfDay()
    assert not any(clock.note(-late, 100.0 + 0.01 * n) for n, late in enumerate(range(60, -1, -1)))


def test_another_difference_is_another_trouble() -> None:
    clock = TimeOfDay()
    clock.note(60.0, 100.0)
    assert "60 s" in clock.note(60.0, 200.0)
    assert "80 s" in clock.note(80.0, 201.0)
