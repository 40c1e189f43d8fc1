"""Which members of etcd may go."""

from __future__ import annotations

import pytest

from manager.etcd import Member, remains_able


def member(ident: int, *, learner: bool = False) -> Member:
    return Member(ident, f"m{ident}", (), (), learner)


@pytest.mark.parametrize(
    ("voters", "alive", "without", "able"),
    [
        pytest.param([1, 2, 3], [1, 2, 3], 3, True, id="three become two"),
        pytest.param([1, 2, 3], [1, 2], 3, True, id="a dead one goes"),
        pytest.param([1, 2, 3], [1, 2], 2, False, id="a living one would leave one of two"),
        pytest.param([1, 2], [1, 2], 2, True, id="two become one"),
        pytest.param([1, 2], [2], 2, False, id="the only one that lives"),
        pytest.param([1], [1], 1, False, id="the only one"),
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3], 5, True, id="one of two dead ones"),
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3], 3, False, id="with two dead ones, none that lives"),
    ],
)
def test_a_member_goes_only_if_the_others_can_decide(
    voters: list[int], alive: list[int], without: int, able: bool
) -> None:
    members = [*map(member, voters), member(99, learner=True)]
    assert remains_able(members, [*alive, 99], without) is able
