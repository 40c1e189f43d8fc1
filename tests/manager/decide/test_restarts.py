"""Whether and when a task that ended is followed by another one."""

from __future__ import annotations

import pytest

from cluster.model.service import RestartPolicy
from cluster.model.task import Task, TaskState, TaskStatus
from manager.decide.restarts import LONGEST_WAIT, RAN_WELL, Rests, Successor, after_end
from tests.manager.decide.builders import Lab, a_service, a_stack

AT = 1000.0


def end(
    failures: int = 0, *, ran: float = 1.0, began: float | None = None, policy: RestartPolicy | None = None
) -> Successor | Rests:
    """The answer to a failure of a task that ran for so long, after so many failures in a row."""
    task = Task("t", "s", "v", 1, 1, 1, created_at=AT - ran, node="n", failures=failures, first_failure_at=began)
    return after_end(task, TaskStatus("t", TaskState.FAILED, AT, exit_code=1), policy or RestartPolicy(), AT)


def wait(answer: Successor | Rests) -> float:
    assert isinstance(answer, Successor)
    return answer.not_before - AT if answer.not_before else 0.0


@pytest.mark.parametrize(
    ("failures", "least", "most"),
    [
        pytest.param(0, 0.0, 0.0, id="the first failure is answered at once"),
        pytest.param(1, 1.0, 1.25, id="the second after about a second"),
        pytest.param(2, 2.0, 2.5, id="the third after about two"),
        pytest.param(5, 16.0, 20.0, id="and so on"),
        pytest.param(7, 60.0, 60.0, id="up to a minute"),
        pytest.param(10_000, 60.0, 60.0, id="and never more"),
    ],
)
def test_waits_grow_with_failures_in_a_row(failures: int, least: float, most: float) -> None:
    answer = end(failures)
    assert least <= wait(answer) <= most
    assert isinstance(answer, Successor) and answer.failures == failures + 1


def test_a_task_that_ran_well_starts_the_row_anew() -> None:
    answer = end(8, ran=RAN_WELL, began=1.0)
    assert answer == Successor(failures=1, first_failure_at=AT)


def test_time_spent_waiting_does_not_count_as_running() -> None:
    task = Task("t", "s", "v", 1, 1, 1, created_at=AT - 100, not_before=AT - 1, node="n", failures=4)
    answer = after_end(task, TaskStatus("t", TaskState.FAILED, AT), RestartPolicy(), AT)
    assert isinstance(answer, Successor) and answer.failures == 5


def test_the_same_task_always_waits_as_long_and_others_differ() -> None:
    assert end(3) == end(3)
    other = Task("u", "s", "v", 1, 1, 1, created_at=AT - 1, node="n", failures=3)
    assert after_end(other, TaskStatus("u", TaskState.FAILED, AT), RestartPolicy(), AT) != end(3)


@pytest.mark.parametrize(
    ("failures", "delay", "expected"),
    [
        pytest.param(0, 5.0, 5.0, id="also before the first"),
        pytest.param(1, 5.0, 5.0, id="while it is longer than the back-off"),
        pytest.param(9, 90.0, 90.0, id="even if longer than the longest"),
        pytest.param(9, 5.0, LONGEST_WAIT, id="else the back-off holds"),
    ],
)
def test_a_delay_that_was_asked_for_is_the_least(failures: int, delay: float, expected: float) -> None:
    assert wait(end(failures, policy=RestartPolicy(delay=delay))) == expected


@pytest.mark.parametrize(
    ("failures", "ran", "began", "window", "rests"),
    [
        pytest.param(2, 1.0, AT - 10, 0.0, False, id="attempts are left"),
        pytest.param(3, 1.0, AT - 10, 0.0, True, id="attempts are used up"),
        pytest.param(3, 3600.0, AT - 9000, 0.0, True, id="without a window they count for ever"),
        pytest.param(3, 1.0, AT - 10, 60.0, True, id="used up within the window"),
        pytest.param(3, 1.0, AT - 61, 60.0, False, id="the window is over, so they count anew"),
    ],
)
def test_attempts_can_be_limited(failures: int, ran: float, began: float, window: float, rests: bool) -> None:
    policy = RestartPolicy(max_attempts=3, window=window)
    answer = end(failures, ran=ran, began=began, policy=policy)
    assert isinstance(answer, Rests) is rests
    if isinstance(answer, Rests):
        assert "3 restarts are used up" in answer.reason


def test_a_slot_that_rests_goes_on_resting() -> None:
    task = Task("t", "s", "v", 1, 1, 1, created_at=AT - 1, node="n", failures=3, first_failure_at=AT - 10)
    status = TaskStatus("t", TaskState.FAILED, AT)
    policy = RestartPolicy(max_attempts=3, window=60.0)
    assert {after_end(task, status, policy, AT + later) for later in (0.0, 100.0, 1e6)} == {end(3, began=1, policy=RestartPolicy(max_attempts=3))}  # fmt: skip  # noqa: E501


def test_a_crashing_service_is_restarted_ever_more_slowly_and_a_new_leader_goes_on_with_it() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    waits = []
    for _ in range(9):
        failed_at = lab.now
        lab.report(lab.task(), TaskState.FAILED, exit_code=1, log=("it began", "no such table"))
        lab.settle()
        lab.leader = type(lab.leader)(lab.state, lab.now)
        lab.settle()
        while lab.task().node is None:
            assert lab.task().reason.endswith(f"restart {lab.task().failures}: exit code 1, it said: no such table")
            wake = lab.leader.agenda.next_wake()
            assert wake is not None
            lab.now = wake
            lab.settle()
        waits.append(lab.now - failed_at)
        lab.now += 1.0
        lab.run_all()
    assert waits[0] == 0.0 and waits == sorted(waits) and waits[-1] == LONGEST_WAIT


def test_a_replacement_for_a_lost_node_counts_no_failure_but_keeps_the_row() -> None:
    task = Task("t", "s", "v", 1, 1, 1, created_at=AT, node="n", failures=4, first_failure_at=5.0)
    answer = after_end(task, TaskStatus("t", TaskState.ORPHANED, AT), RestartPolicy(), AT)
    assert answer == Successor(failures=4, first_failure_at=5.0)
