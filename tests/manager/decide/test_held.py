"""Tasks that are made ready while those whose place they take have yet to end, and started when these have."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cluster.model.container import ContainerSpec
from cluster.model.node import Availability
from cluster.model.service import PortSpec, Reservations, ServiceMode, ServiceSpec, UpdateConfig
from cluster.model.task import Desired, Task, TaskState
from cluster.model.update import UpdateState
from cluster.protocol import HOLDS
from manager.decide.handover import leaving
from manager.decide.placement import WAITS
from manager.invariants import broken
from manager.sessions.assignments import assignments
from tests.manager.decide.builders import Lab, a_service, a_stack


def service(image: str = "app:1", **fields: Any) -> ServiceSpec:
    return dataclasses.replace(a_service("web", replicas=3, image=image, networks=("default",)), **fields)


def rolled(*nodes: str, **fields: Any) -> tuple[Lab, Task, Task]:
    """An update has begun, the first old task is withdrawn, and nobody has said anything yet."""
    lab = Lab(*nodes or ("n1", "n2", "n3"))
    lab.deploy(a_stack("app", service(**fields)))
    lab.run_all()
    lab.hands_over = False
    lab.deploy(a_stack("app", dataclasses.replace(service("app:2"), **fields)))
    lab.settle()
    [new] = [task for task in lab.tasks() if task.version == 2]
    [old] = [task for task in lab.tasks(live=False) if task.slot == new.slot and task.n < new.n]
    assert (new.node, new.reason) == (None, WAITS), "to let go of the old one comes first"
    lab.confirm(old)
    lab.settle()
    return lab, old, now(lab, new)


def now(lab: Lab, task: Task) -> Task:
    return lab.state.tasks[task.id]


def let_go(lab: Lab) -> None:
    """The leader decides, and everybody has let go of what it withdrew."""
    lab.settle()
    lab.confirm(*leaving(lab.state.tasks.values()))
    lab.settle()


def leave(lab: Lab, task: Task) -> None:
    """Everybody lets go of a task, and it is asked to end."""
    if now(lab, task).desired is Desired.RUNNING:
        lab.hands_over = True
        lab.settle()
        lab.hands_over = False
    assert now(lab, task).desired is not Desired.RUNNING


def test_it_has_its_node_and_addresses_at_once_and_starts_when_the_one_before_has_ended() -> None:
    lab, old, new = rolled()
    assert lab.state.serves(old) and new.held and new.node is not None and new.endpoints and not new.reason
    lab.report(new, TaskState.READY)
    leave(lab, old)
    assert now(lab, new).held
    lab.report(old, TaskState.SHUTDOWN)
    lab.settle()
    assert now(lab, new) == dataclasses.replace(new, held=False)


def test_it_takes_the_place_of_the_one_that_leaves() -> None:
    lab, old, new = rolled()
    assert new.node == old.node, "the others have one each"
    lab.hands_over = True
    lab.run_all()
    assert lab.places() == {"n1": 1, "n2": 1, "n3": 1} and {t.version for t in lab.tasks()} == {2}


def test_it_starts_when_the_node_of_the_one_before_is_lost() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", service(constraints=("node.hostname == n1",))))
    lab.run_all()
    lab.hands_over = False
    lab.deploy(a_stack("app", service("app:2", constraints=("node.hostname == n2",))))
    let_go(lab)
    [new] = [task for task in lab.tasks() if task.version == 2]
    assert new.held and new.node == "id-n2"
    lab.fall_silent("n1")
    lab.wait(60.0)
    assert not now(lab, new).held and now(lab, new).desired is Desired.RUNNING


def test_it_is_made_anew_when_its_own_node_is_lost() -> None:
    lab, _, new = rolled()
    assert new.node is not None
    lab.hands_over = True
    lab.fall_silent(new.node.removeprefix("id-"))
    lab.wait(60.0)
    assert now(lab, new).desired is Desired.SHUTDOWN
    lab.run_all(until=lambda task: task.node != new.node)
    assert {task.version for task in lab.tasks() if lab.state.is_ready(task)} == {2}
    assert not any(task.held for task in lab.tasks())


def test_a_deploy_takes_over_before_it_is_let_go() -> None:
    lab, old, new = rolled()
    lab.report(new, TaskState.READY)
    lab.deploy(a_stack("app", service("app:3")))
    lab.settle()
    assert now(lab, new).desired is Desired.SHUTDOWN
    [third] = [task for task in lab.tasks() if task.version == 3]
    assert third.held and third.slot == new.slot
    leave(lab, old)
    lab.report(old, TaskState.SHUTDOWN)
    lab.settle()
    assert now(lab, third).held, "what was made ready has yet to go"
    lab.report(new, TaskState.SHUTDOWN)
    lab.settle()
    assert not now(lab, third).held
    lab.hands_over = True
    lab.run_all()
    assert [task.version for task in lab.tasks()] == [3, 3, 3]


def test_what_cannot_be_made_ready_stops_the_update_at_once() -> None:
    lab, old, new = rolled()
    lab.report(new, TaskState.REJECTED, message="no such image")
    lab.settle()
    [found] = lab.state.services.values()
    assert found.update is not None and found.update.state is UpdateState.PAUSED
    assert now(lab, old).desired is Desired.RUNNING


def test_it_goes_with_its_slot() -> None:
    lab, _, new = rolled()
    lab.report(new, TaskState.READY)
    lab.deploy(a_stack("app", dataclasses.replace(service("app:2"), replicas=0)))
    lab.hands_over = True
    lab.run_all()
    assert not lab.state.tasks


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"ports": (PortSpec(80, 8080, mode="host"),)}, id="a host port"),
        pytest.param({"container": ContainerSpec("app:2", mac_address="02:42:ac:11:00:09")}, id="a MAC address"),
        pytest.param({"mode": ServiceMode.REPLICATED_JOB}, id="the work of a job"),
    ],
)
def test_what_only_one_can_have_is_waited_for(fields: dict[str, Any]) -> None:
    lab = Lab("n1", "n2", "n3")
    container = fields.pop("container", None)
    lab.deploy(a_stack("app", service(**fields)))
    lab.run_all()
    lab.hands_over = False
    changed = service("app:2", **fields)
    lab.deploy(a_stack("app", dataclasses.replace(changed, container=container or changed.container)))
    let_go(lab)
    new = [task for task in lab.tasks() if task.version == 2]
    assert new and not any(task.held for task in new)


def test_a_volume_is_waited_for() -> None:
    lab = Lab("n1", "n2")
    for image in ("app:1", "app:2"):
        lab.deploy(a_stack("app", a_service("web", image=image, volumes=("data",))))
        lab.settle()
        if image == "app:1":
            lab.run_all()
    [new] = [task for task in lab.tasks() if task.version == 2]
    assert (new.node, new.held, new.reason) == (None, False, WAITS)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"max_replicas_per_node": 1}, id="tasks of the service"),
        pytest.param({"reservations": Reservations(generic={"gpu": 1})}, id="resources"),
    ],
)
def test_where_there_is_no_room_beside_the_one_before_it_waits(fields: dict[str, Any]) -> None:
    lab = Lab()
    for name in ("n1", "n2", "n3"):
        lab.join(name, resources={"gpu": 1})
    lab.deploy(a_stack("app", service(**fields)))
    lab.run_all()
    lab.hands_over = False
    lab.deploy(a_stack("app", service("app:2", **fields)))
    let_go(lab)
    [new] = [task for task in lab.tasks() if task.version == 2]
    assert (new.node, new.held, new.reason) == (None, False, WAITS)
    lab.hands_over = True
    lab.run_all()
    assert [task.version for task in lab.tasks()] == [2, 2, 2] and not broken(lab.state)
    assert lab.places() == {"n1": 1, "n2": 1, "n3": 1}


def test_while_any_agent_is_too_old_nothing_is_held() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.session("n3", version=HOLDS - 1)
    lab.deploy(a_stack("app", service()))
    lab.run_all()
    lab.hands_over = False
    lab.deploy(a_stack("app", service("app:2")))
    let_go(lab)
    [new] = [task for task in lab.tasks() if task.version == 2]
    assert (new.node, new.held, new.reason) == (None, False, WAITS)


def test_an_agent_that_came_back_as_an_older_program_is_told_of_none() -> None:
    lab, _, new = rolled()
    assert new.node is not None
    assert f"task/{new.id}" in assignments(lab.state, new.node)
    lab.session(new.node.removeprefix("id-"), version=HOLDS - 1)
    assert f"task/{new.id}" not in assignments(lab.state, new.node)


def test_its_node_is_drained_before_it_is_let_go() -> None:
    lab, _, new = rolled()
    assert new.node is not None
    lab.node(new.node.removeprefix("id-"), availability=Availability.DRAIN)
    lab.hands_over = True
    lab.run_all()
    assert [task.version for task in lab.tasks()] == [2, 2, 2]
    assert new.node.removeprefix("id-") not in lab.places()


def test_several_at_a_time_keep_the_spread() -> None:
    lab = Lab("n1", "n2", "n3")
    config = UpdateConfig(parallelism=2)
    for image in ("app:1", "app:2", "app:3"):
        lab.deploy(a_stack("app", dataclasses.replace(service(image), replicas=10, update=config)))
        lab.run_all()
        assert sorted(lab.places().values()) == [3, 3, 4]
        assert {task.version for task in lab.tasks()} == {int(image[-1])}
