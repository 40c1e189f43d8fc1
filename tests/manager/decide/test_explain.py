"""What people are told of a service that is not as it should be."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.model.node import Availability, NodeState, NodeStatus
from cluster.model.service import (
    Dependency,
    PortSpec,
    Reservations,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
)
from cluster.model.task import TaskState
from cluster.views import Explanation, Trouble
from manager.decide.explain import explain
from manager.decide.revisions import Resolved
from tests.manager.decide.builders import Lab, a_service, a_stack
from tests.manager.decide.test_filters import GIB, a_lab, asking, describe


def explained(lab: Lab, name: str = "app_web", *, task: bool = False) -> Explanation:
    [service] = [s for s in lab.state.services.values() if s.full_name == name]
    return explain(lab.state, service, lab.now, lab.task(service.name) if task else None)


def reasons(found: Explanation) -> dict[str, list[tuple[str, str]]]:
    return {fit.node: [(reason.why, reason.change) for reason in fit.reasons] for fit in found.nodes}


def test_every_node_tells_all_its_reasons_and_what_would_mend_each() -> None:
    lab = a_lab("n1", "n2", "n3", "n4", memory=GIB, cpus=2)
    lab.node("n2", availability=Availability.DRAIN)
    lab.node("n3", labels={"disk": "ssd"})
    describe(lab, "n4", memory=8 * GIB, cpus=2)
    asked = asking(constraints=("node.labels.disk == ssd",), reservations=Reservations(memory=4 * GIB))
    lab.deploy(a_stack("app", asked))
    lab.settle()
    label = ("does not match node.labels.disk == ssd", "`stack node update --label-add disk=ssd {}`")
    memory = ("lacks memory (needs 4 GiB, free 1 GiB)", "reserve at most 1 GiB, which is all that {} has")

    def here(node: str, *pairs: tuple[str, str]) -> list[tuple[str, str]]:
        return [(why, change.format(node)) for why, change in pairs]

    assert reasons(explained(lab)) == {
        "n1": here("n1", label, memory),
        "n2": here("n2", ("is drained", "`stack node activate n2`"), label, memory),
        "n3": here("n3", memory),
        "n4": here("n4", label),
    }


def test_an_image_for_other_machines_is_told_node_by_node() -> None:
    lab = a_lab("n1", architecture="x86_64")
    lab.deploy(a_stack("app", asking()), images={"web": Resolved("sha256:1", ("linux/arm64/v8",))})
    lab.settle()
    found = explained(lab)
    why = "is not of the image's platform: image is for linux/arm64 only"
    assert found.troubles[0].why == f"no node fits: 1 of 1 {why}"
    assert reasons(found)["n1"] == [(why, "use an image that is made for linux/amd64 too, which n1 is")]


def test_a_change_that_is_proposed_mends_it() -> None:
    lab = a_lab("n1", memory=8 * GIB)
    lab.deploy(a_stack("app", asking(constraints=("node.labels.disk == ssd",), reservations=Reservations(memory=GIB))))
    lab.settle()
    found = explained(lab, task=True)
    assert found.troubles == (
        Trouble(
            "app_web.1",
            "no node fits: 1 of 1 does not match node.labels.disk == ssd",
            "any of the changes below would make a node fit",
        ),
    )
    lab.node("n1", labels={"disk": "ssd"})
    lab.run_all()
    found = explained(lab)
    assert (found.running, found.wanted, found.troubles) == (1, 1, ())
    assert [(fit.node, fit.tasks, fit.fits) for fit in found.nodes] == [("n1", 1, True)]


def test_a_port_that_another_service_has() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("first", a_service(ports=(PortSpec(80, 8080),))))
    lab.run_all()
    lab.deploy(a_stack("app", a_service(ports=(PortSpec(80, 8080),))))
    lab.run_all()
    [trouble] = explained(lab).troubles
    assert (trouble.about, trouble.why) == ("port 8080/tcp", "first_web publishes it")
    assert "publish another port" in trouble.change


def test_addresses_that_are_used_up() -> None:
    lab = Lab("n1", address_pool="10.128.0.0/28", subnet_prefix=29)
    lab.deploy(a_stack("app", a_service(replicas=9)))
    lab.run_all()
    found = explained(lab)
    assert any("no free address left" in t.why and "bigger subnet" in t.change for t in found.troubles)


@pytest.mark.parametrize(
    ("on", "change"),
    [
        pytest.param("db", "`stack explain app_db` tells what that one waits for", id="it is there"),
        pytest.param("moon", "add service moon to the file, or set `required: false` in depends_on", id="it is not"),
    ],
)
def test_a_service_that_waits_for_another_leads_to_that_one(on: str, change: str) -> None:
    lab = Lab("n1")
    web = dataclasses.replace(a_service(), depends_on={on: Dependency("service_healthy")})
    lab.deploy(a_stack("app", web, a_service("db", constraints=("node.hostname == n9",))))
    lab.settle()
    [trouble] = explained(lab).troubles
    assert trouble.why.startswith(f"waits for service {on}") and trouble.change == change


def test_a_volume_on_another_node() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",))))
    lab.run_all()
    lab.drain("n1")
    lab.run_all()
    told = reasons(explained(lab, "app_db"))
    assert told["n1"] == [("is drained", "`stack node activate n1`")]
    assert told["n2"][0][0] == "does not have volume app_data, which is on node n1"


@pytest.mark.parametrize(
    ("state", "fields", "why", "change"),
    [
        pytest.param(
            TaskState.REJECTED,
            {"message": "no such image: app:1"},
            "rejected on n1: no such image: app:1",
            "mend what the node says: its image, a mount, a device",
            id="the node could not start it",
        ),
        pytest.param(
            TaskState.FAILED,
            {"exit_code": 3, "log": ("no table", "giving up")},
            "failed on n1 with exit code 3: not restarted (restart_policy.condition is none); "
            "it said: no table | giving up",
            "`stack logs app_web` shows what it printed",
            id="it ended",
        ),
        pytest.param(
            TaskState.PREPARING,
            {"message": "pulling app:1"},
            "it is preparing on n1: pulling app:1",
            "",
            id="on its way",
        ),
    ],
)
def test_a_task_that_does_not_run(state: TaskState, fields: dict[str, object], why: str, change: str) -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service(restart=RestartPolicy(RestartCondition.NONE))))
    lab.settle()
    lab.report(dataclasses.replace(lab.task()), state, **fields)
    lab.settle()
    [trouble] = explained(lab).troubles
    assert (trouble.why, trouble.change) == (why, change)


def test_a_service_that_goes_says_only_that() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service()))
    lab.run_all()
    lab.remove("app")
    lab.settle()
    assert [trouble.why for trouble in explained(lab).troubles] == ["it is being removed"]


def test_a_global_service_is_to_run_once_on_each_node_that_suits() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service(mode=ServiceMode.GLOBAL)))
    lab.run_all()
    found = explained(lab)
    assert (found.running, found.wanted) == (3, 3)


def test_a_node_that_is_down_is_not_asked_for_its_agent() -> None:
    lab = Lab("n1", "n2")
    lab.fall_silent("n2")
    lab.write(NodeState("id-n2", NodeStatus.DOWN, lab.now, reason="nothing answers"))
    lab.deploy(a_stack("app", a_service()))
    lab.run_all()
    assert reasons(explained(lab)) == {"n1": [], "n2": [("is down", "bring n2 back: nothing answers")]}


def test_a_paused_update_is_told_with_the_two_ways_on() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service()))
    lab.run_all()
    lab.deploy(a_stack("app", a_service(image="app:2")))
    lab.settle()
    lab.report(lab.task("web"), TaskState.FAILED, exit_code=1, message="exited with code 1")
    lab.settle()
    told = explained(lab).troubles[0]
    assert told.about == "app_web" and told.why.startswith("its update is paused: ")
    assert told.change == "`stack update app_web --continue` goes on with it, `stack rollback app_web` goes back"
