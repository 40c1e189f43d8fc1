"""Where tasks go, and why they do not."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from cluster.model.node import Availability, Node, NodeDescription
from cluster.model.stack import StackSpec
from cluster.model.task import TaskState
from cluster.model.volume import VolumeSpec
from manager.decide import constraints, filters
from manager.decide.volumes import local_volumes
from tests.manager.decide.builders import NOW, Lab, a_description, a_service, a_stack


def test_tasks_spread_by_fewest_of_their_service_then_fewest_of_all_then_name() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("a", a_service("web", replicas=2)))
    lab.settle()
    assert lab.places() == {"n1": 1, "n2": 1}
    lab.deploy(a_stack("b", a_service("api", replicas=4)))
    lab.settle()
    assert lab.places("api") == {"n3": 2, "n1": 1, "n2": 1}, "n3 had least, and then all have one of api"


def test_a_node_that_rejected_the_service_is_tried_last() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web")))
    lab.settle()
    assert lab.places() == {"n1": 1}
    lab.report(lab.task(), TaskState.REJECTED, message="no such image")
    lab.settle()
    assert lab.places() == {"n2": 1}


def test_a_troubled_node_is_taken_last_and_one_without_engine_not_at_all() -> None:
    lab = Lab("n1", "n2")
    lab.session("n1", conditions={"clock": "its clock is wrong"})
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.settle()
    assert lab.places() == {"n2": 2}
    lab.session("n2", conditions={"engine": "the engine does not answer"})
    lab.deploy(a_stack("b", a_service("api", replicas=2)))
    lab.settle()
    assert lab.places("api") == {"n1": 2}


@pytest.mark.parametrize(
    ("prepare", "constraints", "reason"),
    [
        pytest.param(
            lambda lab: None, ("node.labels.x == y",), "2 of 2 do not match node.labels.x == y", id="constraints"
        ),
        pytest.param(
            lambda lab: lab.node("n1", labels={"x": "y"}, availability=Availability.DRAIN),
            ("node.labels.x == y",),
            "no node fits: 1 of 2 is drained, 1 does not match node.labels.x == y",
            id="different reasons for different nodes",
        ),
        pytest.param(
            lambda lab: (lab.node("n1", availability="pause"), lab.node("n2", availability="pause")),
            (),
            "2 are paused",
            id="paused nodes",
        ),
        pytest.param(
            lambda lab: (lab.fall_silent("n1"), lab.wait(3.0), lab.session("n2", conditions={"engine": "no answer"})),
            (),
            "no node fits: 1 of 2 is down, 1 has a Docker Engine that does not answer",
            id="a node that is down and one without engine",
        ),
        pytest.param(
            lambda lab: (lab.session("n1", manager="gone"), lab.session("n2", manager="gone")),
            (),
            "2 of 2 have no agent that answers",
            id="agents whose manager has gone",
        ),
    ],
)
def test_a_task_that_waits_says_why(prepare, constraints: tuple[str, ...], reason: str) -> None:  # type: ignore[no-untyped-def]
    lab = Lab("n1", "n2")
    lab.settle()
    prepare(lab)
    lab.deploy(a_stack("app", a_service("web", constraints=constraints)))
    lab.settle()
    task = lab.task()
    assert task.node is None and reason in task.reason
    assert lab.state.state_of(task) is TaskState.PENDING


def test_placing_one_more_task_looks_at_as_few_nodes_in_a_large_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    for count in (10, 100):
        lab = Lab(*(f"n{i}" for i in range(count)))
        asked = a_service("web", replicas=5, constraints=("node.hostname != n3",), spread=("node.labels.zone",))
        lab.deploy(a_stack("app", asked))
        lab.run_all()
        looked = Counter[str]()

        def counted(constraint: str, looked: Counter[str] = looked) -> constraints.Test:
            test = constraints.test_for(constraint)
            return lambda node, description: looked.update([node.id]) or test(node, description)

        with monkeypatch.context() as patched:
            patched.setattr(filters, "test_for", counted)
            lab.deploy(a_stack("app", dataclasses.replace(asked, replicas=6)))
            lab.settle()
        assert len(lab.tasks()) == 6 and all(task.node for task in lab.tasks())
        looks.append(looked.total())
    assert 0 < looks[1] <= looks[0]


def test_a_task_that_waits_goes_as_soon_as_a_node_fits() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web", constraints=("node.labels.x == y",))))
    lab.settle()
    lab.node("n1", labels={"x": "y"})
    lab.settle()
    assert (lab.task().node, lab.task().reason) == ("id-n1", "")


def test_an_empty_cluster_says_so() -> None:
    lab = Lab()
    lab.deploy(a_stack("app", a_service("web")))
    lab.settle()
    assert lab.task().reason == "no node fits: the cluster has none"


def test_a_volume_is_bound_to_the_first_node_that_gets_it_and_tasks_follow_it() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service("db", replicas=3, volumes=("app_data",))))
    lab.settle()
    assert lab.state.volumes["app_data"].node == "id-n1"
    assert lab.places() == {"n1": 3}


def test_a_volume_outlives_its_stack_and_is_found_again() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",), constraints=("node.hostname == n2",))))
    lab.run_all()
    lab.remove("app")
    lab.run_all()
    assert lab.state.volumes["app_data"].node == "id-n2"
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",))))
    lab.run_all()
    assert lab.places() == {"n2": 1}
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",), constraints=("node.hostname == n1",))))
    lab.run_all()
    assert lab.places() == {"n2": 1}, "its data is there"
    assert "volume app_data is on node n2, which does not match node.hostname == n1" in lab.task().reason


@pytest.mark.parametrize(
    ("volumes", "reason"),
    [
        pytest.param(("app_a", "app_b"), "different nodes: app_a on n1, app_b on n2", id="on two nodes"),
        pytest.param(("app_b",), "app_b is on node n2, which does not match node.hostname == n1", id="elsewhere"),
    ],
)
def test_volumes_that_cannot_be_had_together_are_named(volumes: tuple[str, ...], reason: str) -> None:
    lab = Lab("n1", "n2")
    first = a_service("a", volumes=("app_a",), constraints=("node.hostname == n1",))
    second = a_service("b", volumes=("app_b",), constraints=("node.hostname == n2",))
    lab.deploy(a_stack("app", first, second))
    lab.settle()
    assert lab.places() == {"n1": 1, "n2": 1}
    constraints = ("node.hostname == n1",) if len(volumes) == 1 else ()
    lab.deploy(a_stack("app", a_service("c", volumes=volumes, constraints=constraints)))
    lab.settle()
    assert reason in lab.task("c").reason


@pytest.mark.parametrize(
    ("volume", "local"),
    [
        pytest.param(VolumeSpec("d", "app_d"), True, id="the engine's local driver"),
        pytest.param(VolumeSpec("d", "app_d", driver="local"), True, id="the local driver by name"),
        pytest.param(VolumeSpec("d", "app_d", external=True), True, id="an external one is looked for like any other"),
        pytest.param(VolumeSpec("d", "app_d", driver_options={"type": "nfs"}), False, id="NFS is the same everywhere"),
        pytest.param(VolumeSpec("d", "app_d", driver="rexray"), False, id="a plug-in's volume"),
    ],
)
def test_only_what_lies_on_a_nodes_disk_binds_tasks_to_it(volume: VolumeSpec, local: bool) -> None:
    spec = a_service("db", volumes=("app_d",))
    stack = StackSpec("app", {"db": spec}, volumes={"d": volume})
    assert local_volumes(stack, spec) == (("app_d",) if local else ())


NODE = Node("id-n1", "n1", "manager", NOW, {"disk": "SSD"})
DESCRIPTION = NodeDescription("h", "a", "1", "b", os="linux", architecture="x86_64", engine_labels={"rack": "r1"})


@pytest.mark.parametrize(
    ("constraint", "met"),
    [
        pytest.param("node.hostname == n1", True, id="name"),
        pytest.param("node.hostname==n1", True, id="no blanks needed"),
        pytest.param("node.hostname != n1", False, id="not the name"),
        pytest.param("node.id == id-n1", True, id="id"),
        pytest.param("node.role == manager", True, id="role"),
        pytest.param("node.labels.disk == ssd", True, id="labels, in any case"),
        pytest.param("node.labels.disk != ssd", False, id="not the label"),
        pytest.param("node.labels.gpu != yes", True, id="a label that is not there is not equal"),
        pytest.param("node.labels.gpu == yes", False, id="a label that is not there"),
        pytest.param("engine.labels.rack == r1", True, id="the engine's labels"),
        pytest.param("node.platform.os == linux", True, id="operating system"),
        pytest.param("node.platform.arch == arm64", False, id="architecture"),
        pytest.param("node.mood == good", False, id="what nobody knows is met by no node"),
        pytest.param("node.mood != good", False, id="nor is its contrary"),
        pytest.param("node.hostname", False, id="no comparison"),
    ],
)
def test_constraints(constraint: str, met: bool) -> None:
    assert constraints.test_for(constraint)(NODE, DESCRIPTION) is met


def test_constraints_on_a_node_that_never_connected_use_what_is_known() -> None:
    assert constraints.test_for("node.hostname == n1")(NODE, None)
    assert not constraints.test_for("node.platform.os == linux")(NODE, None)
    assert a_description("n1").os == "linux"
