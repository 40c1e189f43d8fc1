"""Encrypted networks: their tasks only come to nodes that can encrypt, and say so where there are none."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.model.network import NetworkSpec, TunnelKey, network_id
from cluster.model.service import ServiceMode
from cluster.protocol import TUNNELS
from manager.decide.explain import explain
from tests.manager.decide.builders import NOW, Lab, a_description, a_service, a_stack

KEYS = (TunnelKey("k" * 44, 24789),)
TROUBLE = "the kernel has no WireGuard: load its module"


def a_lab(**trouble: str) -> Lab:
    """A cluster of nodes by name, that cannot encrypt because of some trouble, or can ("")."""
    lab = Lab(*trouble)
    for name, text in trouble.items():
        told = dataclasses.replace(a_description(name), tunnels=() if text else KEYS, tunnels_trouble=text)
        lab.session(name, description=told)
    return lab


def encrypted() -> NetworkSpec:
    return NetworkSpec("default", "app_default", encrypted=True)


def test_the_record_says_that_a_network_is_encrypted() -> None:
    lab = a_lab(n1="")
    lab.deploy(a_stack("app", a_service("web"), networks=(encrypted(),)))
    lab.run_all()
    assert [network.encrypted for network in lab.state.networks.values()] == [True]


def test_tasks_only_come_to_nodes_that_encrypt() -> None:
    lab = a_lab(n1=TROUBLE, n2="", n3=TROUBLE)
    lab.deploy(a_stack("app", a_service("web", replicas=4), networks=(encrypted(),)))
    lab.run_all()
    assert lab.places() == {"n2": 4}


def test_where_none_can_the_tasks_wait_and_tell_why_and_what_to_do() -> None:
    lab = a_lab(n1=TROUBLE, n2=TROUBLE)
    lab.deploy(a_stack("app", a_service("web"), networks=(encrypted(),)))
    lab.settle()
    assert lab.task("web").node is None
    assert lab.task("web").reason == f"no node fits: 2 of 2 cannot encrypt network app_default ({TROUBLE})"
    [service] = lab.state.services.values()
    [trouble] = explain(lab.state, service, NOW).nodes[0].reasons
    assert TROUBLE in trouble.change and "`encrypted`" in trouble.change


def test_an_agent_of_an_older_version_gets_none() -> None:
    lab = a_lab(n1="")
    lab.session("n1", description=dataclasses.replace(a_description("n1"), tunnels=KEYS), version=TUNNELS - 1)
    lab.deploy(a_stack("app", a_service("web"), networks=(encrypted(),)))
    lab.settle()
    assert "its agent is of a version that cannot" in lab.task("web").reason


def test_global_services_are_on_the_nodes_that_encrypt() -> None:
    lab = a_lab(n1="", n2=TROUBLE, n3="")
    service = dataclasses.replace(a_service("web"), mode=ServiceMode.GLOBAL)
    lab.deploy(a_stack("app", service, networks=(encrypted(),)))
    lab.run_all()
    assert lab.places() == {"n1": 1, "n3": 1}


def test_a_network_is_encrypted_or_another_one() -> None:
    clear = NetworkSpec("default", "app_default")
    assert network_id("s1", clear) != network_id("s1", encrypted())
    lab = a_lab(n1="", n2=TROUBLE)
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", replicas=2), networks=(encrypted(),)))
    lab.run_all()
    assert lab.places() == {"n1": 2}
    assert [network.encrypted for network in lab.state.networks.values()] == [True]


@pytest.mark.parametrize("made", [True, False], ids=["encrypted", "clear"])
def test_an_external_network_is_used_as_it_was_made(made: bool) -> None:
    lab = a_lab(n1="", n2=TROUBLE)
    shared = NetworkSpec("default", "shared", encrypted=made)
    lab.deploy(a_stack("base", dataclasses.replace(a_service("db"), constraints=("node.hostname == n1",)),
                       networks=(shared,)))  # fmt: skip
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web", replicas=4), networks=(NetworkSpec("default", "shared", True),)))
    lab.run_all()
    assert {task.node for task in lab.tasks("web")} == ({"id-n1"} if made else {"id-n1", "id-n2"})


def test_what_is_to_be_encrypted_is_not_put_into_a_clear_network_of_others() -> None:
    lab = a_lab(n1="")
    lab.deploy(a_stack("base", a_service("db"), networks=(NetworkSpec("default", "shared"),)))
    lab.run_all()
    lab.deploy(a_stack("app", a_service("web"), networks=(NetworkSpec("default", "shared", True, encrypted=True),)))
    lab.settle()
    assert lab.task("web").reason == "external network shared is not encrypted"
