"""Volumes that are removed with their stack: asked of their node, and waited for."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.model.task import TaskState
from cluster.model.volume import Volume, VolumeSpec
from tests.manager.decide.builders import Lab, a_service, a_stack

DB = a_service("db", volumes=("app_data",), constraints=("node.hostname == n1",))
APP = a_stack("app", DB)


def deployed(*nodes: str) -> Lab:
    lab = Lab(*nodes)
    lab.deploy(APP)
    lab.run_all()
    return lab


def confirm(lab: Lab) -> None:
    """The node says that the volume is gone."""
    lab.write(delete=(lab.state.volumes["app_data"],))
    lab.settle()


def remove_all_but_the_volume(lab: Lab) -> None:
    lab.remove("app", volumes=True)
    lab.settle()
    assert not lab.state.volumes["app_data"].removing, "not while a task may use it"
    lab.report(lab.tasks(live=False)[0], TaskState.SHUTDOWN, container="")
    lab.settle()


def test_a_stack_is_there_until_its_volumes_are_gone() -> None:
    lab = deployed("n1")
    remove_all_but_the_volume(lab)
    assert lab.state.volumes["app_data"].removing
    assert not lab.state.tasks and "app" in lab.state.stacks
    confirm(lab)
    assert "app" not in lab.state.stacks and "revision" not in lab.keys()


@pytest.mark.parametrize("down_first", [True, False], ids=["down before it is removed", "down while it is removed"])
def test_a_node_that_is_down_does_not_hold_a_removal_up(down_first: bool) -> None:
    lab = deployed("n1", "n2", "n3", "n4")
    if down_first:
        lab.fall_silent("n1")
        lab.wait(60)
        lab.remove("app", volumes=True)
        lab.settle()
    else:
        remove_all_but_the_volume(lab)
        assert "app" in lab.state.stacks
        lab.fall_silent("n1")
        lab.wait(60)
    assert "app" not in lab.state.stacks
    assert lab.state.volumes["app_data"].removing, "the node removes it when it is back"

    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",))))
    lab.settle()
    assert lab.task().reason == "volume app_data is being removed on node n1"
    lab.return_("n1")
    lab.run_all()
    assert lab.places() == {"n1": 1} or lab.places() == {"n2": 1}
    assert not lab.state.volumes["app_data"].removing


def test_a_later_stack_that_is_removed_too_waits_for_the_same_volume() -> None:
    lab = deployed("n1", "n2", "n3", "n4")
    lab.fall_silent("n1")
    lab.wait(60)
    lab.remove("app", volumes=True)
    lab.settle()
    lab.deploy(APP)
    lab.return_("n1")
    lab.remove("app", volumes=True)
    lab.settle()
    assert "app" in lab.state.stacks
    confirm(lab)
    assert "app" not in lab.state.stacks


def test_a_node_that_is_taken_out_takes_its_volumes_with_it() -> None:
    lab = deployed("n1", "n2")
    remove_all_but_the_volume(lab)
    lab.write(delete=(lab.state.nodes["id-n1"],))
    lab.settle()
    assert not lab.state.volumes and "app" not in lab.state.stacks


def test_volumes_that_an_earlier_stack_of_the_name_left_go_too() -> None:
    lab = deployed("n1")
    lab.remove("app")
    lab.run_all()
    assert "app_data" in lab.state.volumes
    lab.deploy(APP)
    lab.run_all()
    remove_all_but_the_volume(lab)
    assert lab.state.volumes["app_data"].removing
    confirm(lab)
    assert "app" not in lab.state.stacks


def test_a_volume_that_another_stack_uses_stays() -> None:
    lab = deployed("n1")
    lab.deploy(a_stack("other", a_service("reader", volumes=("app_data",))))
    lab.run_all()
    lab.remove("app", volumes=True)
    lab.run_all()
    assert set(lab.state.stacks) == {"other"}
    assert not lab.state.volumes["app_data"].removing


def test_an_external_volume_is_only_forgotten() -> None:
    lab = Lab("n1")
    lab.deploy(dataclasses.replace(APP, volumes={"app_data": VolumeSpec("app_data", "app_data", external=True)}))
    lab.run_all()
    lab.remove("app", volumes=True)
    lab.run_all()
    puts = [put for _, plan in lab.plans for step in plan.steps for put in step.puts]
    assert not lab.state.volumes
    assert not any(put.removing for put in puts if isinstance(put, Volume)), "its data is not ours to remove"
