"""Who gets which VXLAN id, subnet and address."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.model.cluster import Claim
from cluster.model.network import NetworkSpec
from cluster.model.service import NetworkAttachment, PortSpec, ServiceSpec
from cluster.model.task import TaskState
from cluster.protocol import IPV6
from manager.decide.allocator import FIRST_VNI, AddressAllocator, NetworkAllocator, NoRoom, _in_turn
from tests.manager.decide.builders import Lab, a_service, a_stack


def a_network(*subnets: str) -> NetworkSpec:
    return NetworkSpec("default", "app_default", subnets=subnets)


def test_networks_get_ids_and_subnets_in_turn_and_not_the_last_ones_again() -> None:
    lab = Lab("n1")
    seen = []
    for name in ("a", "b", "a"):
        lab.deploy(a_stack(name, a_service("web")))
        lab.run_all()
        [network] = lab.state.networks.values()
        seen.append((network.vni - FIRST_VNI, network.subnets[0]))
        lab.remove(name)
        lab.run_all()
    assert seen == [(0, "10.128.0.0/20"), (1, "10.128.16.0/20"), (2, "10.128.32.0/20")]


def test_the_pool_begins_again_at_its_start_and_passes_over_what_is_in_use() -> None:
    lab = Lab("n1", address_pool="10.128.0.0/26", subnet_prefix=28)
    for name in ("a", "b", "c", "d"):
        lab.deploy(a_stack(name, a_service("web")))
        lab.run_all()
    lab.remove("b")
    lab.run_all()
    lab.deploy(a_stack("e", a_service("web")))
    lab.run_all()
    names = {network.name: network.subnets[0] for network in lab.state.networks.values()}
    assert names["e_default"] == "10.128.0.16/28"
    lab.deploy(a_stack("f", a_service("api")))
    lab.settle()
    assert lab.task("api").reason == "network f_default: no /28 is left in the address pool 10.128.0.0/26"
    lab.remove("c")
    lab.run_all()
    assert lab.task("api").node == "id-n1"


@pytest.mark.parametrize(
    ("subnet", "reason"),
    [
        pytest.param("10.128.0.0/24", "overlaps with network a_default", id="another network's"),
        pytest.param("10.192.7.0/24", "overlaps with network ingress", id="that of published ports"),
        pytest.param("10.9.0.1/24", "has host bits set", id="no subnet"),
    ],
)
def test_a_subnet_that_cannot_be_had_is_told_to_the_tasks_that_wait(subnet: str, reason: str) -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("a", a_service("web")))
    lab.run_all()
    lab.deploy(a_stack("b", a_service("api"), networks=(a_network(subnet),)))
    lab.settle()
    assert reason in lab.task("api").reason


def test_a_subnet_that_was_asked_for_is_passed_over_by_the_pool() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("a", a_service("web"), networks=(a_network("10.128.0.0/24"),)))
    lab.deploy(a_stack("b", a_service("web")))
    lab.run_all()
    assert {n.name: n.subnets for n in lab.state.networks.values()}["b_default"] == ("10.128.16.0/20",)


def test_an_external_network_is_found_by_name_or_told_missing() -> None:
    lab = Lab("n1")
    external = NetworkSpec("default", "a_default", external=True)
    lab.deploy(a_stack("b", a_service("api"), networks=(external,)))
    lab.settle()
    assert lab.task("api").reason == "external network a_default does not exist"
    lab.deploy(a_stack("a", a_service("web")))
    lab.run_all()
    assert lab.task("api").endpoints[0].network == lab.task("web").endpoints[0].network


def test_tasks_in_an_external_network_follow_when_another_takes_its_place() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("a", a_service("web")))
    lab.deploy(a_stack("b", a_service("api"), networks=(NetworkSpec("default", "a_default", external=True),)))
    lab.run_all()
    for subnet in ("10.9.0.0/24", "10.9.1.0/24", "10.9.2.0/24"):
        lab.deploy(a_stack("a", a_service("web"), networks=(NetworkSpec("default", "a_default", subnets=(subnet,)),)))
        lab.run_all()
        [network] = lab.state.networks.values()
        assert network.subnets == (subnet,)
        assert {lab.task(name).endpoints[0].network for name in ("web", "api")} == {network.id}


def test_addresses_are_given_in_turn_and_a_freed_one_comes_last() -> None:
    lab = Lab("n1")
    small = (a_network("10.9.0.0/29"),)
    lab.deploy(a_stack("app", a_service("web"), networks=small))
    lab.run_all()
    seen = [lab.task().endpoints[0].addresses[0]]
    for _ in range(6):
        lab.report(lab.task(), TaskState.FAILED, exit_code=1)
        lab.wait(120.0)
        lab.run_all()
        seen.append(lab.task().endpoints[0].addresses[0])
    assert seen == [f"10.9.0.{last}" for last in (3, 4, 5, 6, 3, 4, 5)], "the first is the service's own"


def test_a_full_network_makes_tasks_wait_and_a_freed_address_lets_them_go() -> None:
    lab = Lab("n1")
    small = (a_network("10.9.0.0/29"),)
    lab.deploy(a_stack("app", a_service("web", replicas=7), networks=small))
    lab.run_all()
    waiting = [task for task in lab.tasks() if task.node is None]
    assert len(waiting) == 3, "one of the five is the service's own"
    assert {t.reason for t in waiting} == {"network app_default has no free address left in 10.9.0.0/29"}
    lab.deploy(a_stack("app", a_service("web", replicas=4), networks=small))
    lab.run_all()
    assert all(task.node for task in lab.tasks())


def test_both_families_are_given_out_together() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web", replicas=2), networks=(a_network("10.9.0.0/24", "fd00:9::/64"),)))
    lab.run_all()
    assert [task.endpoints[0].addresses for task in lab.tasks()] == [
        ("10.9.0.3", "fd00:9::3"),
        ("10.9.0.4", "fd00:9::4"),
    ]


def test_the_gateway_that_was_asked_for_is_no_endpoint_s() -> None:
    lab = Lab("n1")
    spec = dataclasses.replace(a_network("10.9.0.0/29"), gateways=("10.9.0.4",))
    lab.deploy(a_stack("app", a_service("web", replicas=3), networks=(spec,)))
    lab.run_all()
    assert [task.endpoints[0].addresses for task in lab.tasks()] == [("10.9.0.3",), ("10.9.0.5",), ("10.9.0.6",)]
    [network] = lab.state.networks.values()
    assert network.gateway_of("10.9.0.0/29") == "10.9.0.4"
    lab.deploy(a_stack("app", a_service("web", replicas=3), networks=(a_network("10.9.1.0/29"),)))
    lab.run_all()
    [network] = lab.state.networks.values()
    assert network.gateway_of("10.9.1.0/29") == "10.9.1.1"


def test_another_gateway_in_the_same_subnet_waits_for_the_network_as_it_was_and_says_so() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web"), networks=(a_network("10.9.0.0/24"),)))
    lab.run_all()
    spec = dataclasses.replace(a_network("10.9.0.0/24"), gateways=("10.9.0.254",))
    with pytest.raises(NoRoom, match=r"10\.9\.0\.0/24 overlaps with network app_default") as told:
        lab_allocator(lab).network("another", spec)
    assert "change the subnet along with the rest" in told.value.remedy


def lab_allocator(lab: Lab) -> NetworkAllocator:
    assert lab.state.cluster is not None
    return NetworkAllocator(lab.state, lab.state.cluster)


def test_a_subnet_that_a_node_routes_elsewhere_is_refused_until_it_does_not() -> None:
    lab = Lab("n1", "n2")
    lab.session("n2", routes={"10.9.0.128/25": "eth1", "10.0.0.0/8": "vpn0"})
    lab.deploy(a_stack("app", a_service("web"), networks=(a_network("10.9.0.0/24"),)))
    lab.settle()
    reason = "network app_default: subnet 10.9.0.0/24 overlaps with the route 10.9.0.128/25 (eth1) of node n2"
    assert lab.task().reason == reason
    lab.session("n2", routes={})
    lab.run_all()
    assert lab.task().endpoints[0].addresses == ("10.9.0.3",)
    lab.session("n2", routes={"10.9.0.128/25": "eth1"})
    lab.deploy(a_stack("app", a_service("web", replicas=2), networks=(a_network("10.9.0.0/24"),)))
    lab.run_all()
    assert len([task for task in lab.tasks() if task.node]) == 2, "what is there already stays"


def test_routes_of_nodes_are_passed_over_by_the_pool_but_for_those_as_wide_as_it() -> None:
    lab = Lab("n1", "n2")
    lab.session("n1", routes={"10.128.0.0/24": "docker0", "10.0.0.0/8": "vpn0", "fd00::/8": "eth0", "nonsense": ""})
    lab.session("n2", routes={"10.128.16.0/20": "eth1"})
    lab.deploy(a_stack("a", a_service("web")))
    lab.run_all()
    [network] = lab.state.networks.values()
    assert network.subnets == ("10.128.32.0/20",)


def test_a_pool_that_nodes_route_elsewhere_is_told() -> None:
    lab = Lab("n1", address_pool="10.128.0.0/26", subnet_prefix=27)
    lab.session("n1", routes={"10.128.0.0/27": "eth1", "10.128.0.32/30": "eth2"})
    lab.deploy(a_stack("a", a_service("web")))
    lab.settle()
    assert lab.task().reason == (
        "network a_default: no /27 is left in the address pool 10.128.0.0/26, some of which nodes route elsewhere"
    )


@pytest.mark.parametrize(
    ("routes", "subnet"),
    [({}, "10.192.0.0/16"), ({"10.192.7.0/24": "eth1"}, "10.128.0.0/16"), ({"10.0.0.0/8": "vpn0"}, "10.192.0.0/16")],
    ids=["free", "in use", "all of 10.0.0.0/8"],
)
def test_the_network_of_published_ports_goes_elsewhere_when_its_subnet_is_in_use(
    routes: dict[str, str], subnet: str
) -> None:
    lab = Lab("n1")
    lab.session("n1", routes=routes)
    lab.deploy(a_stack("a", a_service("web", ports=(PortSpec(80, 8080),), networks=())))
    lab.run_all()
    assert lab.state.networks["ingress"].subnets == (subnet,)


def test_a_network_with_ipv6_has_a_subnet_of_the_cluster_s_own_besides() -> None:
    lab = Lab("n1")
    assert lab.state.cluster is not None
    pool = ipaddress.ip_network(lab.state.cluster.ipv6_pool)
    assert pool.prefixlen == 48 and pool.subnet_of(ipaddress.ip_network("fd00::/8"))  # type: ignore[arg-type]
    seen = []
    for name in ("a", "b", "a"):
        network = dataclasses.replace(a_network(), name=f"{name}_default", ipv6=True)
        lab.deploy(a_stack(name, a_service("web"), networks=(network,)))
        lab.run_all()
        [made] = lab.state.networks.values()
        seen.append(made.subnets)
        lab.remove(name)
        lab.run_all()
    nth = [str(ipaddress.ip_network((int(pool[0]) + (n << 64), 64))) for n in range(3)]
    assert seen == [("10.128.0.0/20", nth[0]), ("10.128.16.0/20", nth[1]), ("10.128.32.0/20", nth[2])]


def test_tasks_get_ipv6_addresses_when_their_network_is_given_some() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    assert len(lab.task().endpoints[0].addresses) == 1
    lab.deploy(a_stack("app", a_service("web"), networks=(dataclasses.replace(a_network(), ipv6=True),)))
    lab.run_all()
    assert [":" in address for address in lab.task().endpoints[0].addresses] == [False, True]
    assert len(lab.state.networks) == 1


@pytest.mark.parametrize(
    ("asked", "versions"),
    [(("fd09::/64",), [4, 6]), (("10.9.0.0/24",), [4, 6]), (("fd09::/64", "10.9.0.0/24"), [6, 4])],
    ids=["IPv6 only", "IPv4 only", "both"],
)
def test_what_is_not_asked_for_of_either_family_is_chosen(asked: tuple[str, ...], versions: list[int]) -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("web"), networks=(dataclasses.replace(a_network(*asked), ipv6=True),)))
    lab.run_all()
    assert [ipaddress.ip_network(s).version for n in lab.state.networks.values() for s in n.subnets] == versions
    [endpoint] = lab.task().endpoints
    assert endpoint.mac.startswith("02:42:") and len(endpoint.addresses) == 2


@pytest.mark.parametrize("version", [IPV6, IPV6 - 1])
def test_published_ports_have_ipv6_addresses_where_a_node_has_some(version: int) -> None:
    lab = Lab("n1", "n2")
    lab.session("n1", routes={"2001:db8::/64": "eth0"})
    lab.session("n2", version=version)
    lab.deploy(a_stack("a", a_service("web", ports=(PortSpec(80, 8080),), networks=())))
    lab.run_all()
    expected = [False, True] if version == IPV6 else [False]
    assert [":" in subnet for subnet in lab.state.networks["ingress"].subnets] == expected
    node = lab.state.node_states["id-n1"].ingress
    assert node is not None and [":" in address for address in node.addresses] == expected


@given(used=st.sets(st.integers(2, 14)), newest=st.none() | st.integers(0, 20))
def test_each_free_address_is_given_once_and_none_other(used: set[int], newest: int | None) -> None:
    given_out = list(_in_turn(2, 14, used, None if newest is None else (1, newest)))
    assert sorted(given_out) == sorted(set(range(2, 15)) - used)
    if newest is not None and 2 <= newest < 14:
        after = [n for n in range(newest + 1, 15) if n not in used]
        assert given_out[: len(after)] == after


def test_gateway_network_and_broadcast_addresses_are_never_given_out() -> None:
    lab = Lab("n1")
    lab.deploy(
        a_stack(
            "app", dataclasses.replace(a_service("web"), endpoint_mode="dnsrr"), networks=(a_network("10.9.0.0/28"),)
        )
    )
    lab.settle()
    [network] = lab.state.networks.values()
    allocator, seen = AddressAllocator(lab.state), set()
    with pytest.raises(NoRoom):
        while True:
            endpoint, claims = allocator.endpoint(network, "me")
            assert claims == [Claim("address", f"{network.id}/{endpoint.addresses[0]}", "me")]
            seen.add(int(ipaddress.ip_address(endpoint.addresses[0])) - int(ipaddress.ip_address("10.9.0.0")))
    assert seen == set(range(3, 15))


def a_pool(**more: Any) -> NetworkSpec:
    return dataclasses.replace(a_network("10.9.0.0/24"), **more)


def addresses_of(lab: Lab) -> list[str]:
    return sorted(address for task in lab.state.tasks.values() for e in task.endpoints for address in e.addresses)


def without_vip(name: str = "web", *asked: str, **more: Any) -> ServiceSpec:
    service = dataclasses.replace(a_service(name, **more), endpoint_mode="dnsrr")
    return dataclasses.replace(service, networks=(NetworkAttachment("default", (name,), asked),))


def test_addresses_are_given_out_of_the_range_and_none_that_is_kept_free() -> None:
    lab = Lab("n1")
    pool = a_pool(ranges=("10.9.0.252/30",), reserved=("10.9.0.253",))
    lab.deploy(a_stack("app", without_vip(replicas=3), networks=(pool,)))
    lab.run_all()
    assert addresses_of(lab) == ["10.9.0.252", "10.9.0.254"]
    [waits] = [task for task in lab.state.tasks.values() if task.node is None]
    assert waits.reason == "network app_default has no free address left in 10.9.0.252/30, the range of 10.9.0.0/24"
    lab.deploy(a_stack("app", without_vip(replicas=3), networks=(a_pool(reserved=("10.9.0.2",)),)))
    lab.run_all()
    assert len(addresses_of(lab)) == 3 and "10.9.0.2" not in addresses_of(lab)
    assert len(lab.state.networks) == 1, "a range may change while the network lives"


def test_a_task_has_the_address_that_its_service_asks_for_and_nobody_else_gets_it() -> None:
    lab = Lab("n1")
    asking, other = without_vip("web", "10.9.0.3"), without_vip("other", replicas=3)
    lab.deploy(a_stack("app", other, asking, networks=(a_pool(),)))
    lab.run_all()
    assert lab.task("web").endpoints[0].addresses == ("10.9.0.3",)
    assert addresses_of(lab) == ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5"]
    before = lab.task("web").id
    changed = dataclasses.replace(asking, container=dataclasses.replace(asking.container, image="app:2"))
    lab.deploy(a_stack("app", other, changed, networks=(a_pool(),)))
    lab.run_all()
    [now] = [task for task in lab.state.tasks.values() if lab.state.is_live(task) and task.version == 2]
    assert now.id != before and now.endpoints[0].addresses == ("10.9.0.3",)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("10.9.0.2", "address 10.9.0.2 of network app_default is taken by task app_first.1"),
        ("10.8.0.2", "address 10.8.0.2 is in no subnet of network app_default (10.9.0.0/24)"),
        ("10.9.0.7", "address 10.9.0.7 of network app_default is kept free"),
        ("10.9.0.1", "address 10.9.0.1 of network app_default is kept free"),
    ],
)
def test_an_address_that_cannot_be_had_is_waited_for_with_the_reason(asked: str, reason: str) -> None:
    lab = Lab("n1")
    first, pool = without_vip("first"), a_pool(reserved=("10.9.0.7",))
    lab.deploy(a_stack("app", first, networks=(pool,)))
    lab.run_all()
    lab.deploy(a_stack("app", first, without_vip("web", asked), networks=(pool,)))
    lab.run_all()
    [waits] = [task for task in lab.state.tasks.values() if task.node is None]
    assert waits.reason == reason
