"""Images that are to be on their nodes before tasks make way for those that need them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cluster.assignments import ServiceItem
from cluster.model.container import ContainerSpec
from cluster.model.node import SessionState
from cluster.model.service import ServiceMode, ServiceSpec, UpdateConfig
from cluster.model.task import Task
from cluster.protocol import FETCHES
from manager.decide.ahead import PATIENCE
from manager.sessions.assignments import own
from tests.manager.decide.builders import Lab, a_service, a_stack


def service(image: str, **fields: Any) -> ServiceSpec:
    return dataclasses.replace(a_service("web", replicas=2, image=image), **fields)


def updated(image: str = "app:2", **fields: Any) -> Lab:
    """Two tasks run on two of three nodes, a new version is wanted, and no node has its image."""
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", service("app:1", **fields)))
    lab.run_all()
    lab.fetches = False
    lab.deploy(a_stack("app", service(image, **fields)))
    lab.settle()
    return lab


def newest(lab: Lab) -> str:
    [state] = lab.state.services.values()
    wanted = lab.state.wanted(state)
    assert wanted is not None
    return f"{wanted[1].uid}/{wanted[1].version}"


def new(lab: Lab) -> list[Task]:
    return [task for task in lab.tasks() if task.version == 2]


def message(lab: Lab) -> str:
    [state] = lab.state.services.values()
    assert state.update is not None
    return state.update.message


def test_a_task_serves_until_its_node_has_the_new_image_and_its_successor_comes_there() -> None:
    lab = updated()
    assert not new(lab) and message(lab) == "waits for the image on n1, n2"
    lab.session("n2", images={newest(lab): ""})
    lab.settle()
    [first] = new(lab)
    lab.run_all()
    assert [task.node for task in new(lab)] == ["id-n2"] and first.slot == new(lab)[0].slot, "not on n3, which is empty"
    assert message(lab) == "waits for the image on n1"
    lab.session("n1", images={newest(lab): ""})
    lab.run_all()
    assert len(new(lab)) == 2 and not message(lab)


def test_nodes_are_told_of_the_version_to_come_while_they_have_tasks_of_another() -> None:
    lab = updated()

    def versions(node: str) -> set[str]:
        return {
            item.name for item in own(lab.state, f"id-{node}").values() if isinstance(item, ServiceItem) and item.coming
        }

    assert {node: newest(lab) in versions(node) for node in ("n1", "n2", "n3")} == {"n1": True, "n2": True, "n3": False}
    lab.session("n1", version=FETCHES - 1)
    assert newest(lab) not in versions("n1"), "one that could not tell is not asked"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"images": {"another/2": ""}, "version": FETCHES - 1}, id="its agent is too old to tell"),
        pytest.param({"state": SessionState.SILENT}, id="its agent is not heard"),
        pytest.param({"conditions": {"engine": "down"}}, id="its engine is down"),
    ],
)
def test_a_node_that_cannot_get_the_image_is_not_waited_for(changes: dict[str, Any]) -> None:
    lab = updated()
    lab.session("n1", **changes)
    lab.leader.ask_all(lab.now)
    lab.settle()
    assert len(new(lab)) == 1


def test_an_image_that_cannot_be_had_lets_the_update_go_on_and_fail() -> None:
    lab = updated()
    lab.session("n1", images={newest(lab): "no such image"})
    lab.settle()
    assert len(new(lab)) == 1


def test_a_node_that_tells_nothing_is_waited_for_only_so_long() -> None:
    lab = updated()
    lab.wait(PATIENCE - 1.0)
    assert not new(lab)
    lab.wait(1.0)
    assert len(new(lab)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"update": UpdateConfig(order="start-first")}, id="start-first leaves no gap"),
        pytest.param({"mode": ServiceMode.REPLICATED_JOB}, id="a job has no successors"),
    ],
)
def test_nothing_is_waited_for_where(fields: dict[str, Any]) -> None:
    assert new(updated(**fields))


def test_the_same_image_is_not_waited_for_unless_it_is_to_be_pulled_each_time() -> None:
    def other(**fields: Any) -> Lab:
        lab = Lab("n1", "n2", "n3")
        container = ContainerSpec(image="app:1", **fields)
        lab.deploy(a_stack("app", service("app:1", container=container)))
        lab.run_all()
        lab.fetches = False
        more = dataclasses.replace(container, environment={"A": "1"})
        lab.deploy(a_stack("app", service("app:1", container=more)))
        lab.settle()
        return lab

    assert new(other())
    assert not new(other(pull_policy="always"))
