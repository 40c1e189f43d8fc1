"""What is done to keep etcd small, in which order, and what is said of members that are not well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.model.node import Manager
from manager.decide.upkeep import (
    FULL,
    KEEP_HISTORY,
    LOOKS,
    Answers,
    Compact,
    Defragment,
    Disarm,
    Mark,
    Seen,
    Step,
    compaction,
    findings,
    next_step,
    of_nodes,
    troubles,
)
from tests.manager.decide.builders import NOW, Lab

MIB = 2**20
SMALL = (10 * MIB, 1 * MIB)
LARGE = (200 * MIB, 50 * MIB)
EVEN = (200 * MIB, 199 * MIB)


def a_member(number: int, file: tuple[int, int], *, leads: bool = False, full: bool = False) -> Seen:
    alarms = {1: FULL} if full else {}
    return Seen(number, f"m{number}", serves=True, leads=leads, size=file[0], used=file[1], revision=70, alarms=alarms)


@pytest.mark.parametrize(
    ("mark", "before", "stored"),
    [
        pytest.param(None, None, Mark(70, NOW), id="the first look only says where history stands"),
        pytest.param(Mark(5, NOW - KEEP_HISTORY + 1), None, None, id="what is young stays"),
        pytest.param(Mark(5, NOW - KEEP_HISTORY), 5, Mark(70, NOW), id="what is older than the mark goes"),
        pytest.param(Mark(71, NOW - 9 * KEEP_HISTORY), None, Mark(70, NOW), id="a mark that a restore brought along"),
    ],
)
def test_history_is_kept_for_a_time(mark: Mark | None, before: int | None, stored: Mark | None) -> None:
    assert compaction(mark, NOW, 70) == (before, stored)


@pytest.mark.parametrize(
    ("members", "step"),
    [
        pytest.param([], None, id="nothing is known"),
        pytest.param([a_member(1, EVEN)], None, id="a file that is used"),
        pytest.param([a_member(1, SMALL)], None, id="a file that is small anyway"),
        pytest.param([a_member(1, LARGE)], Defragment(1), id="a file that is mostly empty"),
        pytest.param(
            [a_member(1, LARGE, leads=True), a_member(2, EVEN), a_member(3, LARGE)],
            Defragment(3),
            id="raft's leader comes last",
        ),
        pytest.param(
            [a_member(1, LARGE, leads=True), a_member(2, EVEN), a_member(3, EVEN)],
            Defragment(1),
            id="but it does",
        ),
        pytest.param([a_member(1, LARGE), Seen(2, "m2")], None, id="never while a member is away"),
        pytest.param(
            [a_member(1, LARGE), replace(a_member(2, EVEN), serves=False)],
            None,
            id="nor while one serves nobody, as one that is being defragmented",
        ),
    ],
)
def test_members_are_defragmented_one_by_one(members: list[Seen], step: Step | None) -> None:
    assert next_step(members, 0) == step


def test_a_full_etcd_gets_room_step_by_step() -> None:
    first, second = a_member(1, SMALL, leads=True, full=True), a_member(2, SMALL, full=True)
    assert next_step([first, second], 0) == Compact(70)
    assert next_step([first, second], 70) == Defragment(2)
    done = replace(second, size=second.used)
    assert next_step([first, done], 70) == Defragment(1)
    assert next_step([replace(first, size=first.used), done], 70) == Disarm(1)
    assert next_step([first, Seen(2, "m2")], 70) is None, "not while a member is away"
    assert next_step([first, Seen(2, "m2")], 0) == Compact(70), "which does not keep history from going"


def test_what_is_wrong_is_said_by_member() -> None:
    answers = Answers()
    well, away, slow = a_member(1, EVEN, full=True), Seen(2, "m2"), a_member(3, EVEN)
    assert troubles([replace(well, alarms={}), slow], {}, answers) == {}
    for _ in range(LOOKS):
        answers.note(3, 2.5)
        answers.note(1, 0.01)
    told = troubles([well, away, slow], {2: "its etcd does not answer"}, answers)
    assert sorted(told) == ["m1", "m2", "m3"]
    assert "199.0 MiB of 200.0 MiB in use" in told["m1"] and "nothing can be changed" in told["m1"]
    assert told["m2"] == "its etcd does not answer"
    assert "slow: 12 of the last 12" in told["m3"]
    assert {finding.about: finding.kind for finding in findings(told)} == dict.fromkeys(told, "etcd")
    assert all(finding.remedy for finding in findings(told))


def test_a_few_slow_answers_are_nothing() -> None:
    answers = Answers()
    for took in (*[0.01] * 6, *[3.0, None] * 3):
        answers.note(3, took)
    assert troubles([a_member(3, EVEN)], {}, answers) == {}
    answers.note(3, 3.0)
    assert "slow: 7 of the last 12" in troubles([a_member(3, EVEN)], {}, answers)["m3"]
    for _ in range(2):
        answers.note(3, 0.01)
    assert troubles([a_member(3, EVEN)], {}, answers) != {}, "quick ones have to take their places"
    for _ in range(5):
        answers.note(3, 0.01)
    assert troubles([a_member(3, EVEN)], {}, answers) == {}
    answers.keep([])
    assert answers.slow(3) == 0


def test_nodes_are_told_of_their_own_member_or_managers_of_anothers() -> None:
    lab = Lab("n1", "n2")
    lab.write(Manager("x", "n2", "https://n2", NOW))
    assert of_nodes(lab.state, {"n1": "slow"}) == {"id-n1": "slow"}
    assert of_nodes(lab.state, {"default": "slow", "n2": "full"}) == {"id-n2": "default: slow; full"}
