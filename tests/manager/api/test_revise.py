"""What a deploy writes, and what it refuses, without a store."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from cluster import codec
from cluster.codec import Record
from cluster.errors import Conflict, NotFound, UserError
from cluster.model.cluster import Claim, Cluster
from cluster.model.container import ContainerSpec, Mount
from cluster.model.network import INGRESS, Network, NetworkSpec, network_id
from cluster.model.node import Node, NodeDescription, Session, SessionState
from cluster.model.service import NetworkAttachment, PortSpec, ServiceSpec, ServiceState
from cluster.model.stack import StackRevision, StackSpec
from cluster.model.update import UpdateState, UpdateStatus
from cluster.model.volume import VolumeSpec
from cluster.protocol import VERSION
from cluster.views import DeployRequest, RevisionReply, RollbackRequest, ScaleRequest, UpdateRequest
from manager.api import revise
from manager.picture import ClusterState, Event

WEB = ServiceSpec("web", ContainerSpec("web:1"))
PORT = PortSpec(80, 8080)


def picture(*records: Record) -> ClusterState:
    state = ClusterState()
    state.apply([Event(codec.key_of(record), codec.encode(record), 5) for record in records], 5)
    return state


def shop(*services: ServiceSpec, **more: Any) -> StackSpec:
    return StackSpec("shop", {service.name: service for service in services or (WEB,)}, **more)


def deployed(spec: StackSpec, state: ClusterState | None = None, operation: str = "op1") -> revise.Write:
    uids = (f"u{number}" for number in itertools.count())
    request = DeployRequest(spec, operation)
    outcome = revise.deploy(state or picture(), spec.name, request, "ann", 9.0, lambda: next(uids))
    assert isinstance(outcome, revise.Write)
    return outcome


def test_a_first_deploy_is_guarded_by_all_that_it_makes() -> None:
    write = deployed(shop(replace(WEB, ports=(PORT,))))
    assert {codec.key_of(record) for record in write.records} == set(write.guards)
    assert set(write.guards.values()) == {0}
    assert "/stackyard/state/claim/port/tcp/8080" in write.guards


def test_a_later_deploy_is_guarded_by_the_stack_as_it_was() -> None:
    state = picture(*deployed(shop()).records)
    write = deployed(shop(replace(WEB, container=ContainerSpec("web:2"))), state, "op2")
    assert write.guards == {"/stackyard/state/stack/shop": 5, "/stackyard/state/revision/u0/00000002": 0}


def test_an_external_network_must_stay_until_the_deploy_is_written() -> None:
    spec = shop(networks={"old": NetworkSpec("old", "common", external=True)})
    state = picture(Network("n1", "common", "s9", "common", 4097, ("10.0.0.0/24",)))
    assert deployed(spec, state).guards["/stackyard/state/network/n1"] == 5


def test_a_subnet_that_a_node_routes_elsewhere_is_refused_with_node_and_route() -> None:
    network = NetworkSpec("default", "shop_default", subnets=("10.9.0.0/16",))
    session = Session("n1", 1, "m1", SessionState.OPEN, 0.0, NodeDescription("h", "10.0.0.1", "1", "b"))
    records = (
        Cluster("c1", 0.0, version=VERSION),
        Node("n1", "alpha", "worker", 0.0),
        replace(session, routes={"10.9.8.0/24": "eth1"}),
    )
    told = r"^networks\.default: .* overlaps with the route 10\.9\.8\.0/24 \(eth1\) of node alpha"
    with pytest.raises(Conflict, match=told):
        deployed(shop(networks={"default": network}), picture(*records))
    first = deployed(shop()).records
    there = Network(network_id("u0", network), "shop_default", "u0", "default", 4097, network.subnets)
    deployed(shop(networks={"default": network}), picture(*records, *first, there), "op2")


def test_a_network_in_use_is_not_made_anew_with_its_subnet() -> None:
    before = NetworkSpec("default", "shop_default", subnets=("10.9.0.0/16",))
    there = Network(network_id("u0", before), "shop_default", "u0", "default", 4097, before.subnets)
    records = (Cluster("c1", 0.0, version=VERSION), *deployed(shop(networks={"default": before})).records, there)
    changed = shop(networks={"default": replace(before, gateways=("10.9.255.1",))})
    deployed(changed, picture(*records), "op2")
    with pytest.raises(Conflict, match="it is in use, and cannot be made anew with its subnet"):
        deployed(changed, picture(*records, Claim("address", f"{there.id}/10.9.0.2", "t1")), "op3")
    deployed(shop(networks={"default": replace(before, subnets=("10.8.0.0/16",))}), picture(*records), "op4")


def test_a_port_may_move_between_services_of_a_stack() -> None:
    first = deployed(shop(replace(WEB, ports=(PORT,))))
    state = picture(*first.records, ServiceState("u1", "u0", "shop", "web"))
    other = ServiceSpec("other", ContainerSpec("o"), ports=(PORT,))
    write = deployed(shop(WEB, other), state, "op2")
    assert not [record for record in write.records if isinstance(record, Claim)], "the leader passes it on"


def test_a_port_of_a_stack_that_is_going_is_told_as_such() -> None:
    first = deployed(shop(replace(WEB, ports=(PORT,))))
    state = picture(*first.records)
    going = revise.remove(state, "shop", volumes=False)
    assert isinstance(going, revise.Write)
    state = picture(*first.records, *going.records)
    spec = StackSpec("other", {"web": replace(WEB, ports=(PORT,))})
    with pytest.raises(Conflict, match=r"shop_web \(which is being removed\)"):
        revise.deploy(state, "other", DeployRequest(spec, "op2"), "ann", 9.0, lambda: "u9")


def test_a_port_that_a_program_of_a_host_listens_on_is_refused_until_it_is_published() -> None:
    session = Session("n1", 1, "m1", SessionState.OPEN, 0.0, NodeDescription("h", "10.0.0.1", "1", "b"))
    nodes = [Node(f"n{n}", name, "worker", 0.0) for n, name in enumerate(("beta", "alpha", "gamma"), 1)]
    listening = [replace(session, node=node.id, listening=("tcp/8080", "udp/53")) for node in nodes[:2]]
    spec = shop(replace(WEB, ports=(PORT,)))
    with pytest.raises(Conflict, match=r"^services\.web: port 8080/tcp is held by a program of node alpha and 1 more"):
        deployed(spec, picture(*nodes, *listening))
    deployed(shop(replace(WEB, ports=(replace(PORT, protocol="udp"),))), picture(*nodes, *listening))
    again = shop(replace(WEB, ports=(PORT,), replicas=3))
    deployed(again, picture(*nodes, *listening, *deployed(spec).records), "op2")


def test_scaling_keeps_all_else_and_says_what_it_did() -> None:
    state = picture(*deployed(shop()).records)
    write = revise.change(state, "shop", ScaleRequest({"web": 4}, "op2"), "bob", 9.0, lambda: "x")
    assert isinstance(write, revise.Write)
    revision: Any = write.records[0]
    assert revision.spec == shop(replace(WEB, replicas=4)) and revision.reason == "scale web=4"
    same = revise.change(state, "shop", ScaleRequest({"web": 1}, "op3"), "bob", 9.0, lambda: "x")
    assert same == RevisionReply("shop", "u0", 1, changed=False)
    with pytest.raises(NotFound, match="no service db"):
        revise.change(state, "shop", ScaleRequest({"db": 1}, "op4"), "bob", 9.0, lambda: "x")


def test_removing_again_is_fine_and_may_add_the_volumes() -> None:
    state = picture(*deployed(shop()).records)
    going = revise.remove(state, "shop", volumes=False)
    assert isinstance(going, revise.Write)
    state = picture(*deployed(shop()).records, *going.records)
    assert revise.remove(state, "shop", volumes=False) == RevisionReply("shop", "u0", 1, changed=False)
    more = revise.remove(state, "shop", volumes=True)
    assert isinstance(more, revise.Write)
    stack: Any = more.records[0]
    assert stack.removing and stack.remove_volumes


def ports(*ports: PortSpec) -> StackSpec:
    return shop(replace(WEB, ports=ports))


REFUSED: dict[str, tuple[StackSpec, str]] = {
    "a stack's name with a slash": (StackSpec("a/b", {}), "no name for a stack"),
    "a stack's name in capitals": (StackSpec("Shop", {}), "no name for a stack"),
    "a service under another name": (StackSpec("shop", {"db": WEB}), "services.db"),
    "a service's name with a space": (shop(replace(WEB, name="a b")), "services.a b"),
    "no image": (shop(replace(WEB, container=ContainerSpec(""))), "services.web.image"),
    "an image with a space": (shop(replace(WEB, container=ContainerSpec("a b"))), "services.web.image"),
    "fewer than no replicas": (shop(replace(WEB, replicas=-1)), "services.web.deploy.replicas"),
    "a million replicas": (shop(replace(WEB, replicas=1_000_000)), "services.web.deploy.replicas"),
    "a network that the stack has not": (shop(replace(WEB, networks=(NetworkAttachment("x"),))), "no network x"),
    "a volume that the stack has not": (
        shop(replace(WEB, container=ContainerSpec("i", mounts=(Mount("volume", "/data", "shop_x"),)))),
        "no volume shop_x",
    ),
    "a network under another key": (shop(networks={"a": NetworkSpec("b", "shop_b")}), "networks.a"),
    "a volume under another key": (shop(volumes={"a": VolumeSpec("b", "shop_b")}), "volumes.a"),
    "a port out of range": (ports(PortSpec(80, 70000)), "out of range"),
    "the port of managers": (
        ports(PortSpec(80, 2377)),
        "the cluster reaches its managers by port 2377/tcp",
    ),
    "the port of networks, on a node": (
        ports(PortSpec(80, 4789, "udp", "host")),
        "reaches its networks by port 4789",
    ),
    "port 0": (ports(PortSpec(0, 8080)), "out of range"),
    "a node's own port without a number": (ports(PortSpec(80, 0, mode="host")), "out of range"),
    "a port twice in a service": (ports(PORT, PortSpec(81, 8080)), "published twice"),
    "exactly the same port twice": (ports(PORT, PORT), "published twice"),
    "a port in two services": (
        shop(replace(WEB, ports=(PORT,)), ServiceSpec("db", ContainerSpec("d"), ports=(PORT,))),
        "published twice",
    ),
    "an external network that is not there": (
        shop(networks={"x": NetworkSpec("x", "common", external=True)}),
        "external network common does not exist",
    ),
    "what is no subnet": (shop(networks={"a": NetworkSpec("a", "shop_a", subnets=("10.0.0.1/8",))}), "networks.a.ipam"),
    "a gateway that is elsewhere": (
        shop(networks={"a": NetworkSpec("a", "shop_a", subnets=("10.0.0.0/8",), gateways=("11.0.0.1",))}),
        "11.0.0.1 is in none of the network's subnets",
    ),
    "the network of published ports as an external one": (
        shop(networks={"x": NetworkSpec("x", INGRESS, external=True)}),
        "external network ingress does not exist",
    ),
}


@pytest.mark.parametrize(("spec", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_specs_that_are_refused(spec: StackSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        deployed(spec, picture(Network(INGRESS, INGRESS, "", INGRESS, 4096, ("10.192.0.0/16",))))


def test_the_same_port_on_two_addresses_of_a_host_is_fine() -> None:
    near, far = (PortSpec(80, 8080, mode="host", host_ip=ip) for ip in ("127.0.0.1", "10.0.0.1"))
    assert deployed(ports(near, far)).reply.changed
    assert deployed(ports(PORT, PortSpec(80, 8080, "udp"))).reply.changed


def test_a_port_without_a_number_is_claimed_by_the_leader_and_clashes_with_none() -> None:
    web, db = replace(WEB, ports=(PortSpec(80, 0), PortSpec(81, 0))), ServiceSpec("db", ContainerSpec("d"))
    write = deployed(shop(web, replace(db, ports=(PortSpec(80, 0),))))
    assert not any(isinstance(record, Claim) for record in write.records)


# Going back, and going on


def image(name: str, number: int, **more: Any) -> ServiceSpec:
    return ServiceSpec(name, ContainerSpec(f"{name}:{number}"), **more)


def history(*specs: StackSpec) -> ClusterState:
    """A stack that was each of these in turn."""
    records: dict[str, Record] = {}
    for number, spec in enumerate(specs):
        write = deployed(spec, picture(*records.values()), f"op{number}")
        records.update((codec.key_of(record), record) for record in write.records)
    return picture(*records.values())


def back(state: ClusterState, revision: int | None = None, *services: str) -> StackRevision:
    outcome = revise.change(state, "shop", RollbackRequest("back", revision, services), "bob", 9.0, lambda: "new")
    assert isinstance(outcome, revise.Write)
    found = next(record for record in outcome.records if isinstance(record, StackRevision))
    assert found.author == "bob"
    return found


def test_a_rollback_is_a_new_revision_with_an_older_spec_and_the_tasks_of_then() -> None:
    state = history(shop(image("web", 1)), shop(image("web", 2)), shop(image("web", 3)))
    revision = back(state, 1)
    assert (revision.n, revision.spec) == (4, shop(image("web", 1)))
    version = revision.services["web"]
    assert (version.version, version.rollback) == (1, True)
    assert revision.reason == "back to revision 1"


def test_without_a_number_it_goes_back_to_when_the_stack_was_different() -> None:
    scaled = shop(image("web", 2, replicas=3))
    assert back(history(shop(image("web", 1)), shop(image("web", 2)), scaled)).spec == shop(image("web", 2))


def test_one_service_goes_back_and_the_others_stay() -> None:
    first, second = shop(image("web", 1), image("db", 1)), shop(image("web", 2), image("db", 2))
    third = shop(image("web", 2), image("db", 3))
    revision = back(history(first, second, third), None, "web")
    assert revision.spec == shop(image("web", 1), image("db", 3))
    assert revision.services["db"].version == 3
    assert revision.reason == "web back to revision 1"


def test_a_service_that_is_gone_comes_back_as_another_one() -> None:
    state = history(shop(image("web", 1), image("db", 1)), shop(image("web", 1)))
    revision = back(state, None, "db")
    assert revision.services["db"].uid == "new", "ids of its tasks must not come again"


@pytest.mark.parametrize(
    ("revision", "services", "error", "words"),
    [
        pytest.param(7, (), NotFound, "no revision 7", id="a revision that is not kept"),
        pytest.param(1, ("cache",), NotFound, "no service cache", id="a service that never was"),
        pytest.param(None, (), UserError, "never different", id="nothing to go back to"),
    ],
)
def test_what_cannot_be_gone_back_to(
    revision: int | None, services: tuple[str, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        back(history(shop(image("web", 1))), revision, *services)


def paused() -> ClusterState:
    state = history(shop(image("web", 1), image("db", 1)), shop(image("web", 2), image("db", 2)))
    uid = state.revisions["u0"][2].services["web"].uid
    service = ServiceState(uid, "u0", "shop", "web", update=UpdateStatus(UpdateState.PAUSED, 2, 1.0, 2.0))
    return picture(*(record for _, record in state.records()), service)


def attempts(outcome: revise.Write | RevisionReply) -> dict[str, int]:
    assert isinstance(outcome, revise.Write)
    revision = next(record for record in outcome.records if isinstance(record, StackRevision))
    return {name: version.attempt for name, version in revision.services.items()}


def test_a_paused_update_goes_on_when_told_to_or_with_the_same_deploy_again() -> None:
    state = paused()
    told = revise.change(state, "shop", UpdateRequest("on", proceed=True), "bob", 9.0, lambda: "new")
    assert attempts(told) == {"web": 1, "db": 0}
    assert attempts(deployed(shop(image("web", 2), image("db", 2)), state, "again")) == {"web": 1, "db": 0}


def test_another_version_does_not_go_on_with_a_paused_update_and_the_paused_one_again_does() -> None:
    state = paused()
    other = deployed(shop(image("web", 3), image("db", 2)), state, "other")
    assert attempts(other) == {"web": 0, "db": 0}
    assert isinstance(other, revise.Write)
    state = picture(*{codec.key_of(one): one for one in [*(r for _, r in state.records()), *other.records]}.values())
    assert attempts(deployed(shop(image("web", 2), image("db", 2)), state, "again")) == {"web": 1, "db": 0}


def test_only_a_paused_update_goes_on() -> None:
    with pytest.raises(Conflict, match="db is paused"):
        revise.change(paused(), "shop", UpdateRequest("on", ("db",), proceed=True), "bob", 9.0, lambda: "new")


def test_a_forced_update_gives_a_service_new_tasks() -> None:
    state = history(shop(image("web", 1), image("db", 1)))
    outcome = revise.change(state, "shop", UpdateRequest("new", ("web",), force=True), "bob", 9.0, lambda: "new")
    assert isinstance(outcome, revise.Write)
    revision = next(record for record in outcome.records if isinstance(record, StackRevision))
    assert {name: version.version for name, version in revision.services.items()} == {"web": 2, "db": 1}
