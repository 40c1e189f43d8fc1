"""Stacks from their first revision to their last key."""

from __future__ import annotations

from cluster.model.network import INGRESS, NetworkSpec
from cluster.model.service import PortSpec
from manager.decide.agenda import About
from manager.decide.stacks import REVISIONS_KEPT
from tests.manager.decide.builders import Lab, a_service, a_stack

CLUSTER = {"cluster", "clock", "node", "nodestate", "session", "manager"}


def test_a_deploy_makes_networks_before_services_in_one_transaction() -> None:
    lab = Lab("n1")
    lab.settle()
    lab.deploy(a_stack("app", a_service("web", networks=("front", "back")), a_service("db", networks=("back",))))
    lab.settle()
    steps = [step.why for _, plan in lab.plans for step in plan.steps]
    begin = steps.index("make network app_back")
    assert steps[begin : begin + 4] == [
        "make network app_back",
        "make network app_front",
        "make service app_db",
        "make service app_web",
    ]


def test_a_removed_stack_leaves_only_where_its_volumes_are() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=5), a_service("db", volumes=("app_data",))))
    lab.run_all()
    lab.remove("app")
    lab.run_all()
    assert lab.keys() == CLUSTER | {"volume"}


def test_a_removed_stack_leaves_nothing_when_its_volumes_go_too() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("db", volumes=("app_data",))))
    lab.run_all()
    lab.remove("app", volumes=True)
    lab.run_all()
    assert lab.keys() == CLUSTER


def test_a_stack_that_is_removed_before_anything_was_decided_goes_too() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web")))
    lab.remove("app")
    lab.settle()
    assert lab.keys() == CLUSTER


def test_a_stack_without_services_is_a_stack() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app"))
    lab.settle()
    assert list(lab.state.stacks) == ["app"]
    lab.remove("app")
    lab.settle()
    assert lab.keys() == CLUSTER


def test_a_network_that_others_use_keeps_its_stack_until_they_let_go() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("a", a_service("web")))
    external = NetworkSpec("default", "a_default", external=True)
    lab.deploy(a_stack("b", a_service("api"), networks=(external,)))
    lab.run_all()
    lab.remove("a")
    lab.run_all()
    assert set(lab.state.stacks) == {"a", "b"} and len(lab.state.networks) == 1
    lab.remove("b")
    lab.run_all()
    assert lab.keys() == CLUSTER


def test_a_network_changes_in_place_where_it_can() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    [before] = lab.state.networks.values()
    lab.deploy(a_stack("app", a_service("web"), networks=(NetworkSpec("default", "app_default", internal=True),)))
    lab.run_all()
    [after] = lab.state.networks.values()
    assert after.internal and (after.id, after.vni, after.subnets) == (before.id, before.vni, before.subnets)


def test_old_revisions_are_forgotten_but_those_that_tasks_run() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web"), a_service("api")))
    for replicas in range(2, REVISIONS_KEPT + 6):
        lab.deploy(a_stack("app", a_service("web"), a_service("api", replicas=replicas % 3)))
        lab.run_all()
    [revisions] = lab.state.revisions.values()
    newest = max(revisions)
    assert set(revisions) == {1, *range(newest - REVISIONS_KEPT + 1, newest + 1)}


def test_a_new_stack_of_the_same_name_is_another_stack() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    before = lab.state.stacks["app"].uid, lab.task().id
    lab.remove("app")
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    assert lab.state.stacks["app"].uid != before[0] and lab.task().id != before[1]


def test_a_port_published_while_nodes_let_go_of_the_last_one_is_published_on_all_of_them() -> None:
    lab = Lab("n1", "n2", "n3")
    published = a_stack("app", a_service("web", replicas=0, ports=(PortSpec(80, 8080),)))
    lab.deploy(published)
    lab.settle()

    def on() -> int:
        return sum(verdict.ingress is not None for verdict in lab.state.node_states.values())

    assert on() == 3
    lab.deploy(a_stack("app", a_service("web", replicas=0)))
    while (question := lab.leader.agenda.take(lab.now)) is not None and (on() or question.about is About.NODE):
        lab.commit(lab.leader.decide(question, lab.now))
    assert on() == 0 and INGRESS in lab.state.networks
    lab.deploy(published)
    lab.settle()
    assert on() == 3
