"""Volumes whose names are templates: each slot or node has its own, and tasks go where theirs is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cluster.model.service import ServiceMode, UpdateConfig
from cluster.model.stack import StackSpec
from cluster.model.volume import VolumeSpec
from manager.decide.explain import explain
from manager.decide.volumes import may_be_called
from tests.manager.decide.builders import Lab, a_service, a_stack

BY_SLOT = "app_data-{{.Task.Slot}}"
BY_NODE = "app_data-{{.Node.Hostname}}"


def stack(name: str, *volumes: str, replicas: int = 3, external: bool = False, **fields: Any) -> StackSpec:
    spec = a_stack(name, dataclasses.replace(a_service("db", replicas=replicas, volumes=volumes), **fields))
    return dataclasses.replace(spec, volumes={v: VolumeSpec(v, v, external=external) for v in volumes})


def where(lab: Lab) -> dict[str, str]:
    return {name: volume.node.removeprefix("id-") for name, volume in lab.state.volumes.items()}


def slots(lab: Lab) -> dict[int, str | None]:
    return {task.slot: None if task.node is None else task.node.removeprefix("id-") for task in lab.tasks()}


@pytest.mark.parametrize(
    ("name", "made"),
    [
        pytest.param("app_data", {"app_data": "n1"}, id="no template: all of them share it"),
        pytest.param(BY_SLOT, {"app_data-1": "n1", "app_data-2": "n2", "app_data-3": "n3"}, id="one a slot"),
        pytest.param(BY_NODE, {"app_data-n1": "n1", "app_data-n2": "n2", "app_data-n3": "n3"}, id="one a node"),
        pytest.param(
            '{{.Service.Name}}-{{index .Service.Labels "zone"}}', {"app_db-west": "n1"}, id="one for the service"
        ),
        pytest.param('{{index .Service.Labels "none"}}', {}, id="an empty name is no volume of a name"),
        pytest.param("x-{{.Service.Mood}}", {}, id="one without a value is told by the node"),
    ],
)
def test_each_task_has_the_volume_that_its_name_comes_to(name: str, made: dict[str, str]) -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(stack("app", name, labels={"zone": "west"}))
    lab.run_all()
    assert where(lab) == made
    expected = {"n1": 3} if len(made) == 1 else {"n1": 1, "n2": 1, "n3": 1}
    assert lab.places() == expected


def test_a_task_of_each_is_a_volume_of_each() -> None:
    lab = Lab("n1")
    lab.deploy(stack("app", "app_{{.Task.ID}}", replicas=2))
    lab.run_all()
    assert set(where(lab)) == {f"app_{task.id}" for task in lab.tasks()}


def test_a_slot_goes_on_where_its_own_volume_is_and_waits_for_that_node() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(stack("app", BY_SLOT))
    lab.run_all()
    lab.deploy(stack("app", BY_SLOT, replicas=1))
    lab.run_all()
    lab.node("n3", labels={"x": "y"})
    lab.deploy(stack("app", BY_SLOT, constraints=("node.hostname != n2",)))
    lab.run_all()
    assert slots(lab) == {1: "n1", 2: None, 3: "n3"}
    waiting = lab.tasks()[1]
    assert waiting.reason == "volume app_data-2 is on node n2, which does not match node.hostname != n2"
    [service] = lab.state.services.values()
    fits = {fit.node: [r.why for r in fit.reasons] for fit in explain(lab.state, service, lab.now, waiting).nodes}
    assert fits == {
        "n1": ["does not have volume app_data-2, which is on node n2"],
        "n2": ["does not match node.hostname != n2"],
        "n3": ["does not have volume app_data-2, which is on node n2"],
    }


def test_only_the_slots_whose_volume_is_on_a_lost_node_wait_for_it() -> None:
    lab = Lab("n1", "n2", "n3", "n4")
    lab.deploy(stack("app", BY_SLOT))
    lab.run_all()
    lab.fall_silent("n2")
    lab.wait(10.0)
    assert slots(lab) == {1: "n1", 2: "n2", 3: "n3"}
    assert lab.tasks()[1].reason == "waits for node n2, which is down: volume app_data-2 is there"


def test_one_a_node_ties_no_task_to_its_node() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(stack("app", BY_NODE, replicas=1))
    lab.run_all()
    lab.fall_silent("n1")
    lab.wait(10.0)
    lab.run_all()
    assert slots(lab) == {1: "n2"}
    assert where(lab) == {"app_data-n1": "n1", "app_data-n2": "n2"}


def test_a_name_that_is_taken_on_another_node_is_told() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(stack("first", "app_data-n2", replicas=1))
    lab.run_all()
    lab.drain("n1")
    lab.deploy(stack("app", BY_NODE, replicas=1))
    lab.run_all()
    waiting = lab.state.tasks_of[next(s.uid for s in lab.state.services.values() if s.stack == "app")]
    [task] = [lab.state.tasks[ident] for ident in waiting]
    assert task.reason == "volume app_data-n2 is on node n1, the task would be on n2"


def test_an_update_stops_first_as_old_and_new_would_have_the_same_volume() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(stack("app", BY_SLOT, replicas=2, update=UpdateConfig(order="start-first")))
    lab.run_all()
    before = slots(lab)
    lab.deploy(stack("app", BY_SLOT, replicas=2, update=UpdateConfig(order="start-first"), labels={"a": "b"}))
    lab.run_all()
    assert slots(lab) == before, "labels alone make no new tasks, and names by them stay as they were"
    changed = stack("app", BY_SLOT, replicas=2, update=UpdateConfig(order="start-first"))
    service = changed.services["db"]
    newer = dataclasses.replace(service, container=dataclasses.replace(service.container, image="app:2"))
    lab.deploy(dataclasses.replace(changed, services={"db": newer}))
    lab.settle()
    assert not any(task.yields for task in lab.state.tasks.values())
    lab.run_all()
    assert slots(lab) == before


def test_all_of_them_go_with_their_stack_when_asked() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(stack("app", BY_SLOT, "app_plain"))
    lab.run_all()
    assert len(where(lab)) == 4
    lab.remove("app", volumes=True)
    lab.run_all()
    assert where(lab) == {} and not lab.state.stacks


@pytest.mark.parametrize("external", [True, False])
def test_external_ones_are_only_forgotten_and_those_of_another_stack_stay(external: bool) -> None:
    lab = Lab("n1")
    lab.deploy(stack("app", BY_SLOT, replicas=1, external=external))
    lab.run_all()
    if not external:
        lab.deploy(stack("other", BY_SLOT, replicas=1, external=True))
        lab.run_all()
    lab.remove("app", volumes=True)
    removed = []
    for _ in range(20):
        lab.settle()
        removed += [volume.name for volume in lab.state.volumes.values() if volume.removing]
        lab.run_all()
    assert not removed and "app" not in lab.state.stacks
    assert where(lab) == ({} if external else {"app_data-1": "n1"})


def test_a_global_service_has_its_own_on_each_node() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(stack("app", BY_NODE, mode=ServiceMode.GLOBAL))
    lab.run_all()
    assert lab.places() == {"n1": 1, "n2": 1} and where(lab) == {}


@pytest.mark.parametrize(
    ("written", "name", "may"),
    [
        pytest.param("data", "data", True, id="as it is written"),
        pytest.param("data", "data-1", False, id="another one"),
        pytest.param(BY_SLOT, "app_data-7", True, id="with a value"),
        pytest.param(BY_SLOT, "app_date-7", False, id="another text before"),
        pytest.param("{{.Task.Slot}}-data", "7-dat", False, id="another text behind"),
        pytest.param("a{{if .Task.Slot}}b{{else}}c{{end}}", "ab", True, id="one of two"),
    ],
)
def test_whether_a_name_may_come_of_a_template(written: str, name: str, may: bool) -> None:
    assert may_be_called(written, name) is may
