"""One-off tasks: made once, let go when somebody is there, never replaced, and nothing of them stays."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.assignments import ServiceItem
from cluster.model.node import Manager
from cluster.model.oneoff import OneOff
from cluster.model.service import ServiceMode
from cluster.model.task import Desired, TaskState
from manager.decide.oneoffs import ALONE, KEPT
from manager.decide.reaper import ORPHANED_AFTER
from manager.decide.rehearsal import rehearse
from manager.decide.stacks import REVISIONS_KEPT
from manager.sessions.assignments import assignments
from tests.manager.decide.builders import NOW, Lab, a_copy, a_service, a_stack

IDENT = "0123456789abcdef"
NAME = "web-run-01234567"


def a_lab() -> Lab:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    return lab


def run(lab: Lab, **fields: object) -> OneOff:
    """What the API writes."""
    stack = lab.state.stacks["app"]
    head = lab.state.head(stack.uid)
    assert head is not None
    spec = dataclasses.replace(head.spec.services["web"], replicas=1, mode=ServiceMode.REPLICATED_JOB, ports=())
    one = OneOff(IDENT, stack.uid, "app", "web", NAME, head.n, spec, "ann", lab.now)
    one = dataclasses.replace(one, **fields)  # type: ignore[arg-type]
    lab.write(one)
    lab.settle()
    return one


def attend(lab: Lab, **fields: object) -> OneOff:
    return run(lab, attended=True, alone_since=lab.now, **fields)


def change(lab: Lab, **fields: object) -> None:
    lab.write(dataclasses.replace(lab.state.oneoffs[IDENT], **fields))  # type: ignore[arg-type]
    lab.settle()


def nothing_of_it_is_left(lab: Lab) -> bool:
    lab.run_all()
    state = lab.state
    gone = not state.oneoffs and IDENT not in state.services and not state.tasks_of.get(IDENT)
    return gone and not state.claims_of.get(IDENT) and lab.places("web") == {"n1": 1, "n2": 1}


def test_it_has_one_task_of_a_service_of_its_own_and_no_replica_fewer() -> None:
    lab = a_lab()
    run(lab)
    task = lab.task(NAME)
    assert (task.node is not None, task.held, len(task.endpoints)) == (True, False, 1)
    assert lab.places("web") == {"n1": 1, "n2": 1}
    assert task.node is not None
    given = assignments(lab.state, task.node)
    item = given[f"service/{IDENT}/1"]
    assert isinstance(item, ServiceItem) and item.spec.mode.is_job


@pytest.mark.parametrize(("kept", "for_seconds"), [(False, 0.0), (True, KEPT)])
@pytest.mark.parametrize("state", [TaskState.COMPLETE, TaskState.FAILED])
def test_it_is_never_done_twice_and_is_forgotten_after_its_end(
    state: TaskState, kept: bool, for_seconds: float
) -> None:
    lab = a_lab()
    run(lab, kept=kept)
    task = lab.task(NAME)
    lab.report(task, TaskState.RUNNING)
    lab.report(task, state, exit_code=1)
    lab.settle()
    if for_seconds:
        lab.wait(for_seconds - 1)
        assert [one.id for one in lab.tasks(NAME, live=False)] == [task.id]
        lab.wait(1)
    assert nothing_of_it_is_left(lab)


def test_an_attended_one_starts_when_a_terminal_is_joined_and_goes_when_it_is_removed() -> None:
    lab = a_lab()
    attend(lab)
    assert lab.task(NAME).held
    change(lab, manager="m1", alone_since=None)
    lab.run_all()
    assert lab.state.reported_state(lab.task(NAME)) is TaskState.READY
    lab.wait(10 * ALONE)
    assert lab.task(NAME).held, "it waits for the agent's word for as long as somebody is there"
    change(lab, joined=True)
    task = lab.task(NAME)
    assert not task.held
    lab.report(task, TaskState.COMPLETE, exit_code=0)
    lab.wait(10 * KEPT)
    assert IDENT in lab.state.oneoffs, "whoever is there may be reading yet"
    change(lab, removing=True)
    assert nothing_of_it_is_left(lab)


def test_one_that_nobody_comes_to_see_goes() -> None:
    lab = a_lab()
    attend(lab)
    lab.wait(ALONE - 1)
    assert lab.task(NAME)
    lab.wait(1)
    assert nothing_of_it_is_left(lab)


@pytest.mark.parametrize("back", [True, False])
def test_a_manager_that_is_cut_off_for_a_moment_takes_nothing_with_it(back: bool) -> None:
    lab = a_lab()
    attend(lab)
    lab.write(m2 := Manager("m2", "m2", "https://m2", NOW))
    change(lab, manager="m2", alone_since=None, joined=True)
    lab.write(delete=(m2,))
    lab.settle()
    assert lab.state.oneoffs[IDENT].alone_since == lab.now
    lab.wait(ALONE - 1)
    if back:
        lab.write(m2)
        lab.settle()
        assert lab.state.oneoffs[IDENT].alone_since is None
    lab.wait(1)
    assert bool(lab.tasks(NAME)) is back
    assert back or nothing_of_it_is_left(lab)


def test_nothing_takes_its_place_when_its_node_is_down_and_it_may_come_back() -> None:
    lab = a_lab()
    run(lab)
    lab.run_all()
    task = lab.task(NAME)
    name = str(task.node).removeprefix("id-")
    lab.fall_silent(name)
    lab.wait(60)
    assert lab.task(NAME).id == task.id and "is down" in lab.task(NAME).reason
    lab.return_(name)
    lab.settle()
    assert (lab.task(NAME).id, lab.task(NAME).reason) == (task.id, "")


def test_its_node_may_go_for_good() -> None:
    lab = a_lab()
    run(lab)
    lab.run_all()
    name = str(lab.task(NAME).node).removeprefix("id-")
    lab.write(delete=(lab.state.nodes[f"id-{name}"],))
    lab.wait(ORPHANED_AFTER)
    assert not lab.state.oneoffs and not lab.tasks(NAME, live=False)


def test_it_ends_where_its_node_is_drained() -> None:
    lab = a_lab()
    run(lab, kept=True)
    lab.run_all()
    task = lab.task(NAME)
    lab.node(str(task.node).removeprefix("id-"), availability="drain", drain_until=lab.now + 30)
    lab.settle()
    assert "is drained" in lab.task(NAME).reason
    lab.wait(30)
    [ended] = lab.tasks(NAME, live=False)
    assert (ended.id, ended.desired) == (task.id, Desired.SHUTDOWN)


def test_it_goes_with_its_stack_and_is_no_part_of_a_plan() -> None:
    lab = a_lab()
    run(lab)
    lab.run_all()
    copy = a_copy(lab.state)
    assert rehearse(copy, lab.state.stacks["app"].uid, lab.now).acts == ()
    lab.remove("app")
    lab.run_all()
    assert not lab.state.stacks and not lab.state.oneoffs and not lab.state.tasks


def test_one_that_is_asked_for_while_its_stack_goes_is_forgotten() -> None:
    lab = a_lab()
    stack = lab.state.stacks["app"]
    lab.remove("app")
    run(lab, stack_uid=stack.uid)
    lab.run_all()
    assert not lab.state.oneoffs and not lab.state.stacks


def test_the_revision_that_it_runs_is_kept() -> None:
    lab = a_lab()
    run(lab)
    lab.run_all()
    for n in range(REVISIONS_KEPT + 2):
        lab.deploy(a_stack("app", a_service("web", replicas=2, image=f"app:{n}")))
        lab.run_all()
    assert lab.task(NAME).version == 1
    assert lab.state.revisions[lab.state.stacks["app"].uid][1]
