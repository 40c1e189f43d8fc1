"""How a task that serves is taken away: withdrawn, confirmed by all who could send to it, and only then ended."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.model.cluster import Claim
from cluster.model.network import INGRESS
from cluster.model.node import SessionState
from cluster.model.service import PortSpec
from cluster.model.task import Desired, Task
from cluster.model.update import Late, Withdrawn
from manager.decide.handover import LINGER, PATIENCE, concerned
from tests.manager.decide.builders import Lab, a_service, a_stack


def scaled_down(*, nodes: int = 3, replicas: int = 3) -> tuple[Lab, Task]:
    """One task of many is taken away, and nobody has said anything yet."""
    lab = Lab(*(f"n{i + 1}" for i in range(nodes)))
    lab.deploy(a_stack("app", a_service("web", replicas=replicas)))
    lab.run_all()
    lab.hands_over = False
    lab.deploy(a_stack("app", a_service("web", replicas=replicas - 1)))
    lab.settle()
    [task] = [task for task in lab.tasks() if task.leaving_at is not None]
    return lab, task


def now(lab: Lab, task: Task) -> Task:
    return lab.state.tasks[task.id]


def test_it_is_withdrawn_first_and_serves_on() -> None:
    lab, task = scaled_down()
    assert (task.desired, task.leaving_at) == (Desired.RUNNING, lab.now)
    assert not lab.state.is_ready(task) and lab.state.serves(task)


def test_it_ends_a_moment_after_all_have_let_go_of_it() -> None:
    lab, task = scaled_down()
    lab.wait(0.5)
    lab.confirm(task)
    lab.settle()
    assert now(lab, task).desired is Desired.RUNNING, "what was on its way has its time"
    lab.wait(LINGER)
    assert (now(lab, task).desired, now(lab, task).reason) == (Desired.REMOVE, "scaled down")


def test_who_does_not_confirm_in_time_is_named_and_passed_over() -> None:
    lab, task = scaled_down()
    lab.wait(PATIENCE + LINGER - 0.1)
    assert now(lab, task).desired is Desired.RUNNING
    lab.wait(0.1)
    assert now(lab, task).desired is Desired.REMOVE
    assert "n1, n2, n3" in now(lab, task).reason


def test_only_who_is_late_is_named() -> None:
    lab, task = scaled_down()
    lab.wait(1.0)
    lab.write(Withdrawn("m1", {}, {task.id: Late(lab.now, ("id-n2",))}))
    lab.wait(PATIENCE + LINGER - 1.0)
    assert now(lab, task).desired is Desired.REMOVE
    assert "without word from n2 that" in now(lab, task).reason


@pytest.mark.parametrize("heard_after", [0.0, 5.0])
def test_what_is_on_its_way_has_its_time_also_after_a_word_that_came_late(heard_after: float) -> None:
    """Neither agents nor the leader are as quick as their patience is long on a host that is short of CPU."""
    lab, task = scaled_down()
    lab.now += PATIENCE + LINGER - 0.01 + heard_after
    lab.confirm(task)
    lab.wait(LINGER - 0.01)
    assert now(lab, task).desired is Desired.RUNNING
    lab.wait(0.01)
    assert (now(lab, task).desired, now(lab, task).reason) == (Desired.REMOVE, "scaled down")


def test_a_node_without_a_session_is_not_waited_for_but_named() -> None:
    lab, task = scaled_down()
    lab.session("n2", state=SessionState.CLOSED, reachable=True)
    lab.confirm(task)
    lab.wait(LINGER)
    assert now(lab, task).desired is Desired.REMOVE
    assert "without word from n2 that" in now(lab, task).reason


def test_a_word_from_before_a_session_says_nothing_of_it() -> None:
    lab, task = scaled_down()
    lab.confirm(task)
    lab.return_("n2")
    lab.wait(LINGER)
    assert now(lab, task).desired is Desired.RUNNING
    lab.confirm(task)
    lab.wait(LINGER)
    assert now(lab, task).desired is Desired.REMOVE


def test_a_clock_that_is_ahead_holds_nothing_up() -> None:
    lab, task = scaled_down()
    lab.write(Withdrawn("m1", {task.id: lab.now + 600.0}))
    lab.wait(PATIENCE + LINGER)
    assert now(lab, task).desired is Desired.REMOVE


def test_the_last_one_that_serves_is_not_withdrawn_as_nobody_could_take_over() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    lab.hands_over = False
    lab.deploy(a_stack("app", a_service("web", image="app:2")))
    lab.settle()
    [old] = [task for task in lab.tasks(live=False) if task.version == 1]
    assert (old.desired, old.leaving_at) == (Desired.SHUTDOWN, None)


def test_what_was_withdrawn_is_not_taken_back_when_more_are_wanted_again() -> None:
    lab, task = scaled_down()
    lab.deploy(a_stack("app", a_service("web", replicas=3)))
    lab.hands_over = True
    lab.run_all()
    assert task.id not in {t.id for t in lab.tasks()} and len(lab.tasks()) == 3


@pytest.mark.parametrize("published", [True, False])
def test_a_published_port_concerns_every_node_and_a_network_those_in_it(published: bool) -> None:
    lab = Lab("n1", "n2", "n3")
    ports = (PortSpec(80, 8080),) if published else ()
    one = dataclasses.replace(a_service("web", ports=ports), constraints=("node.hostname == n1",))
    lab.deploy(a_stack("app", one, a_service("db", networks=("back",))))
    lab.run_all()
    nodes = concerned(lab.state, lab.task("web"))
    assert nodes == ({"id-n1", "id-n2", "id-n3"} if published else {"id-n1"})
    assert (INGRESS in lab.state.networks) == published
    assert any(isinstance(record, Claim) for _, record in lab.state.records())
