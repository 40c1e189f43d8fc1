"""What came in between makes a plan that it would make wrong fail, not only late."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from cluster.model.node import Availability
from manager.decide.agenda import About, Question
from tests.manager.decide.builders import Lab, a_service, a_stack


def redeploy(lab: Lab) -> None:
    lab.deploy(a_stack("app", a_service("web", image="app:2", volumes=("app_data",))))


def drain(lab: Lab) -> None:
    lab.node("n1", availability=Availability.DRAIN)


def take_out(lab: Lab) -> None:
    lab.write(delete=(lab.state.nodes["id-n1"],))


def lose_the_network(lab: Lab) -> None:
    lab.write(delete=tuple(lab.state.networks.values()))


def count_a_task(lab: Lab) -> None:
    [service] = lab.state.services.values()
    lab.write(dataclasses.replace(service, tasks_made=1))


@pytest.mark.parametrize("between", [redeploy, drain, take_out, lose_the_network, count_a_task])
def test_a_task_is_not_placed_for_what_is_no_more(between: Callable[[Lab], None]) -> None:
    lab = Lab("n1")
    lab.settle()
    lab.deploy(a_stack("app", a_service("web", volumes=("app_data",))))
    while (question := lab.leader.agenda.take(lab.now)) is not None and question.about is not About.SERVICE:
        lab.commit(lab.leader.decide(question, lab.now))
    assert isinstance(question, Question)
    plan = lab.leader.decide(question, lab.now)
    commit = lab.leader.commit(plan, (), lab.now)
    between(lab)
    transaction = commit.next()
    assert transaction is not None and any("on id-n1" in step.why for step in transaction.steps)
    assert not lab.store.txn(transaction.compares, transaction.operations).succeeded


def test_what_does_not_matter_to_it_does_not_hold_it_up() -> None:
    lab = Lab("n1", "n2")
    lab.settle()
    lab.deploy(a_stack("app", a_service("web", constraints=("node.hostname == n1",))))
    while (question := lab.leader.agenda.take(lab.now)) is not None and question.about is not About.SERVICE:
        lab.commit(lab.leader.decide(question, lab.now))
    assert question is not None
    commit = lab.leader.commit(lab.leader.decide(question, lab.now), (), lab.now)
    lab.node("n2", labels={"a": "b"})
    transaction = commit.next()
    assert transaction is not None
    assert lab.store.txn(transaction.compares, transaction.operations).succeeded
