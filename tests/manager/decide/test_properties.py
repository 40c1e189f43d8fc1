"""What holds for every decision, whatever the cluster has been through."""

from __future__ import annotations

import copy
import dataclasses
import functools
import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.codec import encode, key_of
from cluster.model.cluster import Claim
from cluster.model.node import Availability
from cluster.model.service import Dependency, PortSpec, RestartCondition, RestartPolicy, ServiceMode, ServiceSpec
from cluster.model.task import Task, TaskState, TaskStatus
from manager.decide.agenda import Question
from manager.decide.plan import Plan, Step
from manager.invariants import broken
from manager.leader import Leader
from manager.picture import ClusterState, Event
from tests.manager.decide.builders import Lab, a_copy, a_service, a_stack

NODES = ("n1", "n2", "n3")
ON = (
    Dependency("service_started"),
    Dependency("service_healthy", restart=True),
    Dependency("service_completed_successfully", required=False),
)
HAPPENINGS = ("deploy", "deploy", "remove", "settle", "run", "silent", "back", "fail", "availability", "wait")


def is_heard(lab: Lab, task: Task) -> bool:
    return lab.state.is_heard(lab.state.sessions.get(task.node or ""))


@st.composite
def labs(draw: st.DrawFn) -> Lab:
    """Clusters in the middle of something: what they have been through was decided on only in part."""
    lab = Lab(*NODES, address_pool="10.128.0.0/26", subnet_prefix=28)
    for _ in range(draw(st.integers(1, 8))):
        match draw(st.sampled_from(HAPPENINGS)):
            case "deploy":
                found = draw(st.lists(services(), max_size=3, unique_by=lambda s: s.name))
                lab.deploy(a_stack("app", *in_order(draw, found)), force=draw(st.sampled_from([(), ("web",)])))
            case "remove" if "app" in lab.state.stacks:
                lab.remove("app", volumes=draw(st.booleans()))
                lab.run_all()
            case "settle":
                lab.settle()
            case "run":
                lab.run_all(until=functools.partial(is_heard, lab))
            case "silent":
                lab.fall_silent(draw(st.sampled_from(NODES)), reachable=draw(st.sampled_from([None, True, False])))
            case "back":
                lab.return_(draw(st.sampled_from(NODES)))
            case "fail":
                for task in lab.tasks():
                    if task.node is not None and draw(st.booleans()):
                        lab.report(task, draw(st.sampled_from([TaskState.FAILED, TaskState.COMPLETE])))
            case "availability":
                lab.node(draw(st.sampled_from(NODES)), availability=draw(st.sampled_from(Availability)))
            case "wait":
                lab.now += draw(st.sampled_from([1.0, 5.0, 60.0, 100_000.0]))
    return lab


def services() -> st.SearchStrategy[ServiceSpec]:
    ports = st.sampled_from([(), (PortSpec(80, 8080),), (PortSpec(80, 0),), (PortSpec(80, 9090, mode="host"),)])
    policies = st.sampled_from([None, RestartPolicy(RestartCondition.NONE), RestartPolicy(max_attempts=1)])
    return st.builds(
        a_service,
        st.sampled_from(["web", "db", "job"]),
        replicas=st.integers(0, 4),
        image=st.sampled_from(["app:1", "app:2"]),
        networks=st.sampled_from([(), ("default",), ("default", "back")]),
        ports=ports,
        volumes=st.sampled_from([(), (), ("app_data",)]),
        constraints=st.sampled_from([(), (), ("node.hostname == n1",)]),
        restart=policies,
        mode=st.sampled_from([ServiceMode.REPLICATED, ServiceMode.REPLICATED, *ServiceMode]),
        max_concurrent=st.sampled_from([None, 1, 2]),
    )


def in_order(draw: st.DrawFn, services: list[ServiceSpec]) -> list[ServiceSpec]:
    """Have some services wait for some of those before them."""
    dependencies = st.sampled_from([None, None, *ON])
    found: list[ServiceSpec] = []
    for service in services:
        drawn = {other.name: draw(dependencies) for other in found}
        on = {name: dependency for name, dependency in drawn.items() if dependency is not None}
        found.append(dataclasses.replace(service, depends_on=on))
    return found


def questions(lab: Lab) -> Iterator[tuple[Question, Plan]]:
    leader = Leader(lab.state, lab.now)
    leader.hearing = lab.leader.hearing
    while (question := leader.agenda.take(lab.now)) is not None:
        yield question, leader.decide(question, lab.now)


def applied(state: ClusterState, step: Step) -> None:
    at = state.revision + 1
    events = [Event(key_of(record), encode(record), at) for record in step.puts]
    state.apply([*events, *(Event(key, None, at) for key in step.deletes)], at)


@settings(max_examples=120, deadline=None)
@given(labs())
def test_every_prefix_of_every_plan_leaves_a_legal_state(lab: Lab) -> None:
    for question, plan in questions(lab):
        state = a_copy(lab.state)
        for step in plan.steps:
            applied(state, step)
            assert not broken(state), (question, step, broken(state))


@settings(max_examples=120, deadline=None)
@given(labs())
def test_a_plan_that_was_carried_out_leaves_nothing_more_to_decide(lab: Lab) -> None:
    lab.settle()
    assert not [(question, plan) for question, plan in questions(lab) if plan.steps]


@settings(max_examples=120, deadline=None)
@given(labs(), st.integers(0, 2**32))
def test_the_order_in_which_records_came_makes_no_difference(lab: Lab, seed: int) -> None:
    other = copy.copy(lab)
    other.state = a_copy(lab.state, random.Random(seed))
    assert dict(questions(lab)) == dict(questions(other))


@settings(max_examples=120, deadline=None)
@given(labs())
def test_what_a_task_may_still_use_is_not_freed(lab: Lab) -> None:
    for _, plan in questions(lab):
        given_up = {record.task for step in plan.steps for record in step.puts if isinstance(record, TaskStatus)}
        for step in plan.steps:
            for key in step.deletes:
                claim = lab.state.get(key)
                task = lab.state.tasks.get(claim.owner) if isinstance(claim, Claim) else None
                assert task is None or lab.state.has_ended(task) or task.id in given_up, step


@settings(max_examples=120, deadline=None)
@given(labs())
def test_every_key_that_is_written_is_guarded(lab: Lab) -> None:
    for _, plan in questions(lab):
        for step in plan.steps:
            expected = dict(step.expects)
            assert {*map(key_of, step.puts), *step.deletes} <= set(expected)
            assert all(lab.state.revision_of(key) == at for key, at in expected.items())
