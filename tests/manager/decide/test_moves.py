"""Tasks that leave nodes that are fine: drains with their deadlines, and what a lost node means to a service."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cluster.model.node import Availability
from cluster.model.service import OnDisconnect, Reservations, ServiceMode, ServiceSpec, UpdateConfig
from cluster.model.task import Desired, Task, TaskState
from manager.decide.liveness import DOWN_AFTER, MISSED_BEATS
from manager.roster import ENGINE
from tests.manager.decide.builders import Lab, a_description, a_service, a_stack
from tests.manager.decide.test_filters import GIB, a_lab, asking


def drain(lab: Lab, name: str, *, within: float | None = None) -> None:
    until = None if within is None else lab.now + within
    lab.node(name, availability=Availability.DRAIN, drain_until=until)


def ready(lab: Lab) -> list[Task]:
    return [task for task in lab.state.tasks.values() if lab.state.is_ready(task)]


def filling(**fields: Any) -> ServiceSpec:
    """A service of which a node has room for one task."""
    return asking(replicas=2, reservations=Reservations(memory=GIB), **fields)


def test_a_task_stays_on_a_drained_node_until_there_is_room_and_says_so() -> None:
    lab = a_lab("n1", "n2", memory=GIB)
    lab.deploy(a_stack("app", filling()))
    lab.run_all()
    drain(lab, "n1")
    lab.run_all()
    assert len(ready(lab)) == 2 and lab.places() == {"n1": 1, "n2": 1}
    [stays] = [task.reason for task in lab.tasks() if task.node == "id-n1"]
    lacking = "no node fits: 1 of 2 is drained, 1 lacks memory (needs 1 GiB, free 0 B)"
    assert stays == f"node n1 is drained; it stays until there is room: {lacking}"
    lab.join("n3")
    lab.session("n3", description=lab.state.sessions["id-n2"].description)
    lab.run_all()
    assert lab.places() == {"n2": 1, "n3": 1}


def test_when_the_deadline_has_come_what_is_left_goes_at_once_and_it_says_so() -> None:
    lab = a_lab("n1", "n2", memory=2 * GIB)
    lab.deploy(a_stack("app", asking(replicas=4, reservations=Reservations(memory=GIB))))
    lab.run_all()
    drain(lab, "n1", within=60.0)
    lab.run_all()
    assert lab.places() == {"n1": 2, "n2": 2}
    lab.wait(59.0)
    assert lab.places() == {"n1": 2, "n2": 2}
    lab.wait(1.0)
    assert lab.places() == {None: 2, "n2": 2}, "both at once, though parallelism is 1"
    gone = [task for task in lab.tasks(live=False) if task.node == "id-n1"]
    assert {task.reason for task in gone} == {"node n1 is drained, and its deadline has come"}
    lab.run_all()
    assert {task.desired for task in gone} <= {Desired.SHUTDOWN, Desired.RUNNING}


@pytest.mark.parametrize("parallelism", [1, 2, 3, 0])
def test_a_drain_keeps_to_what_update_config_allows_at_every_step(parallelism: int) -> None:
    lab = Lab("n1", "n2", "n3")
    spec = dataclasses.replace(a_service(replicas=12), update=UpdateConfig(parallelism=parallelism))
    lab.deploy(a_stack("app", spec))
    lab.run_all()
    drain(lab, "n1")
    least = len(ready(lab))
    while lab.places().get("n1"):
        lab.settle()
        least = min(least, len(ready(lab)))
        lab.run_all(until=lambda task: task.n % 2 == 0)
        lab.run_all()
    assert least == 12 - (parallelism or 4)
    assert len(ready(lab)) == 12


def test_a_paused_node_keeps_what_it_has_and_gets_no_more() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service(replicas=2)))
    lab.run_all()
    lab.node("n1", availability=Availability.PAUSE)
    lab.deploy(a_stack("app", a_service(replicas=5)))
    lab.run_all()
    assert lab.places() == {"n1": 1, "n2": 4}


def test_a_drain_that_is_taken_back_leaves_the_rest_where_it_is() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service(replicas=6)))
    lab.run_all()
    drain(lab, "n1", within=60.0)
    lab.settle()
    lab.node("n1", availability=Availability.ACTIVE, drain_until=None)
    lab.run_all()
    lab.wait(120.0)
    lab.run_all()
    assert sum(lab.places().values()) == 6 and lab.places()["n1"] >= 2


# Nodes that are no longer what the service asks for


def stepwise(lab: Lab, replicas: int) -> int:
    """Let agents obey, a few tasks at a time; give the least number of tasks that were ready."""
    least = replicas
    for _ in range(20):
        lab.settle()
        least = min(least, len(ready(lab)))
        lab.run_all(until=lambda task: task.n % 2 == 0)
        lab.run_all()
        lab.wait(1.0)
    return least


def constrained(*constraints: str, parallelism: int = 1, **fields: Any) -> ServiceSpec:
    made = asking(replicas=6, constraints=constraints, **fields)
    return dataclasses.replace(made, update=UpdateConfig(parallelism=parallelism))


@pytest.mark.parametrize("parallelism", [1, 2])
def test_tasks_leave_nodes_that_changed_constraints_rule_out_in_turn_and_others_stay(parallelism: int) -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", constrained(parallelism=parallelism)))
    lab.run_all()
    stay = {task.id for task in lab.tasks() if task.node != "id-n1"}
    lab.deploy(a_stack("app", constrained("node.hostname != n1", parallelism=parallelism)))
    assert stepwise(lab, 6) == 6 - parallelism
    assert lab.places() == {"n2": 3, "n3": 3}
    assert stay < {task.id for task in lab.tasks()} and {task.version for task in lab.tasks()} == {1}
    reasons = {task.reason for task in lab.tasks(live=False) if task.node == "id-n1"}
    assert reasons == {"node n1 does not match node.hostname != n1"}


def test_tasks_leave_a_node_whose_label_was_taken_away() -> None:
    lab = Lab("n1", "n2")
    for name in ("n1", "n2"):
        lab.node(name, labels={"disk": "ssd"})
    lab.deploy(a_stack("app", constrained("node.labels.disk == ssd")))
    lab.run_all()
    lab.node("n2", labels={})
    assert stepwise(lab, 6) == 5
    assert lab.places() == {"n1": 6}


@pytest.mark.parametrize("mode", [ServiceMode.REPLICATED, ServiceMode.GLOBAL])
def test_labels_of_an_engine_count_when_it_answers(mode: ServiceMode) -> None:
    lab = a_lab("n1", "n2", engine_labels={"rack": "r1"})
    lab.deploy(a_stack("app", asking(replicas=2, mode=mode, constraints=("engine.labels.rack == r1",))))
    lab.run_all()
    before = [task.id for task in lab.tasks()]
    unknown = a_description("n1")
    lab.session("n1", description=unknown, conditions={ENGINE: "the engine does not answer"})
    lab.run_all()
    assert [task.id for task in lab.tasks()] == before, "an engine that is away has not lost its labels"
    lab.session("n1", description=unknown, conditions={})
    lab.run_all()
    assert lab.places() == ({"n2": 1} if mode.is_global else {"n2": 2})


def test_a_task_stays_where_constraints_rule_it_out_until_there_is_another_place() -> None:
    lab = a_lab("n1", "n2", memory=GIB)
    lab.node("n2", labels={"zone": "b"})
    lab.deploy(a_stack("app", filling()))
    lab.run_all()
    lab.deploy(a_stack("app", filling(constraints=("node.labels.zone == b",))))
    lab.run_all()
    assert len(ready(lab)) == 2 and lab.places() == {"n1": 1, "n2": 1}
    [stays] = [task.reason for task in lab.tasks() if task.node == "id-n1"]
    why = "node n1 does not match node.labels.zone == b; it stays until there is room: no node fits: 1 of 2"
    assert stays.startswith(why)
    lab.join("n3")
    lab.session("n3", description=lab.state.sessions["id-n2"].description)
    lab.node("n3", labels={"zone": "b"})
    lab.run_all()
    assert lab.places() == {"n2": 1, "n3": 1}


def test_a_node_keeps_no_more_than_a_lowered_bound_allows() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", constrained()))
    lab.run_all()
    lab.join("n3")
    lab.deploy(a_stack("app", constrained(max_replicas_per_node=2)))
    assert stepwise(lab, 6) == 5
    assert lab.places() == {"n1": 2, "n2": 2, "n3": 2}
    lab.deploy(a_stack("app", constrained(max_replicas_per_node=1)))
    assert stepwise(lab, 6) == 6, "there is no place for more, so they stay"
    reasons = sorted(task.reason for task in lab.tasks() if task.reason)
    told = "has more tasks of the service than it may (max_replicas_per_node: 1); it stays until there is room"
    assert len(reasons) == 3 and reasons[0].startswith(f"node n1 {told}")


def test_a_job_ends_where_it_is() -> None:
    lab = Lab("n1", "n2")
    job = asking(replicas=2, mode=ServiceMode.REPLICATED_JOB)
    lab.deploy(a_stack("app", job))
    lab.run_all()
    before = [(task.id, task.node) for task in lab.tasks()]
    lab.deploy(a_stack("app", dataclasses.replace(job, constraints=("node.hostname == n2",))))
    lab.run_all()
    assert [(task.id, task.node) for task in lab.tasks()] == before


# x-on-disconnect


def lost(wish: OnDisconnect) -> Lab:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", dataclasses.replace(a_service(replicas=3), on_disconnect=wish)))
    lab.run_all()
    lab.wait(60.0)
    lab.fall_silent("n1")
    lab.settle()
    lab.wait(DOWN_AFTER - MISSED_BEATS)
    return lab


def test_without_a_wish_tasks_are_replaced_when_their_node_is_called_down() -> None:
    assert lost(OnDisconnect()).places().get("n1") is None


def test_a_service_may_wait_longer_for_a_lost_node() -> None:
    lab = lost(OnDisconnect(replace_after=30.0))
    lab.wait(30.0 - DOWN_AFTER - 0.1)
    assert lab.places() == {"n1": 1, "n2": 1, "n3": 1}
    lab.wait(0.1)
    assert sum(lab.places().values()) == 3 and "n1" not in lab.places()


def test_a_service_may_wait_for_ever_and_its_task_is_the_same_when_the_node_is_back() -> None:
    lab = lost(OnDisconnect(replace=False))
    before = {task.id for task in lab.tasks()}
    lab.wait(24 * 3600.0)
    [waits] = [task for task in lab.tasks() if task.node == "id-n1"]
    assert waits.reason == "waits for node n1, which is down (x-on-disconnect)"
    lab.return_("n1")
    lab.run_all()
    assert {task.id for task in lab.tasks()} == before and len(ready(lab)) == 3
    assert not any(task.reason for task in lab.tasks())


def newer(lab: Lab, wish: OnDisconnect) -> None:
    service = dataclasses.replace(a_service(replicas=3, image="app:2"), on_disconnect=wish)
    lab.deploy(a_stack("app", dataclasses.replace(service, update=UpdateConfig(parallelism=0))))
    lab.settle()


@pytest.mark.parametrize("wish", [OnDisconnect(replace=False), OnDisconnect(replace_after=300.0, stop_after=60.0)])
def test_an_update_starts_no_second_task_beside_one_out_of_reach_that_is_waited_for(wish: OnDisconnect) -> None:
    lab = lost(wish)
    newer(lab, wish)
    [waits] = [task for task in lab.tasks() if "n1" in task.reason]
    assert waits.node is None and waits.reason == "waits for node n1, which is down (x-on-disconnect)"
    lab.wait(300.0)
    [same] = [task for task in lab.tasks() if task.slot == waits.slot]
    assert (same.node is None) == (not wish.replace)


def test_a_service_that_does_not_wish_to_wait_any_more_does_not() -> None:
    lab = lost(OnDisconnect(replace=False))
    newer(lab, OnDisconnect())
    lab.run_all()
    assert sum(lab.places().values()) == 3 and "n1" not in lab.places()


def test_a_task_made_ready_is_not_started_when_the_node_of_the_one_before_falls_silent() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", dataclasses.replace(a_service(replicas=1), on_disconnect=OnDisconnect(replace=False))))
    lab.run_all()
    [old] = lab.tasks()
    lab.wait(60.0)
    there = lab.state.nodes[str(old.node)].name
    drain(lab, there)
    lab.settle()
    [new] = lab.tasks()
    assert new.held and new.node != old.node, "the old one has yet to end"
    lab.fall_silent(there)
    lab.settle()
    lab.wait(DOWN_AFTER - MISSED_BEATS)
    [new] = lab.tasks()
    assert new.held and new.reason.endswith("which is down (x-on-disconnect)")


def test_a_drained_task_ends_before_its_successor_starts_unless_order_is_start_first() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service(replicas=1)))
    lab.run_all()
    [old] = lab.tasks()
    drain(lab, lab.state.nodes[str(old.node)].name)
    lab.settle()
    [new] = lab.tasks()
    assert new.node != old.node and new.held
    lab.report(old, TaskState.SHUTDOWN)
    lab.settle()
    assert [task.held for task in lab.tasks()] == [False]
