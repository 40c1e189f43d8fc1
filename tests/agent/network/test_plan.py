"""What a node's kernel should hold, from the assignments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.network.plan import Wire, plan, wires
from cluster.assignments import Item, NetworkItem, PeerItem, TaskItem
from cluster.errors import Failed
from cluster.model.network import INGRESS, Endpoint, Network
from cluster.model.task import Task

FRONT = Network("front", "front", "s", "front", 0x1234, ("10.1.0.0/16", "fd00::/64"))
GATE = Network(INGRESS, INGRESS, "", INGRESS, 4096, ("10.2.0.0/16",))


def peer(last: int, node: str, network: Network = FRONT) -> PeerItem:
    addresses = (f"10.1.0.{last}", f"FD00:0::{last}")
    mac = Endpoint("", addresses).mac
    return PeerItem(network.id, f"t{last}", node, f"192.0.2.{node[1:]}", addresses, mac, True)


def task(name: str, *endpoints: Endpoint) -> TaskItem:
    return TaskItem(Task(name, "s", "uid", 1, 1, 1, 0.0, "n1", endpoints=endpoints))


def test_endpoints_elsewhere_become_rows_and_those_here_do_not() -> None:
    overlay = plan("n1", "192.0.2.1", 1500, [NetworkItem(FRONT), peer(1, "n1"), peer(2, "n2"), peer(3, "n3")]).overlays

    assert overlay["front"].remote == {"02:42:0a:01:00:02": "192.0.2.2", "02:42:0a:01:00:03": "192.0.2.3"}
    assert overlay["front"].neighbours == {
        "10.1.0.2": "02:42:0a:01:00:02", "fd00::2": "02:42:0a:01:00:02",
        "10.1.0.3": "02:42:0a:01:00:03", "fd00::3": "02:42:0a:01:00:03",
    }  # fmt: skip
    assert overlay["front"].bridge_mac == "02:53:59:00:12:34"


@pytest.mark.parametrize(
    ("underlay", "vtep", "asked", "expected"),
    [
        pytest.param(1500, "192.0.2.1", None, 1450, id="what fits behind the headers"),
        pytest.param(9000, "2001:db8::1", None, 8930, id="longer headers over IPv6"),
        pytest.param(9000, "192.0.2.1", 1400, 1400, id="less if asked for"),
        pytest.param(1500, "192.0.2.1", 9000, 1450, id="never more than fits"),
    ],
)
def test_the_mtu(underlay: int, vtep: str, asked: int | None, expected: int) -> None:
    network = Network("net", "net", "s", "net", 1, ("10.1.0.0/16",), mtu=asked)
    assert plan("n1", vtep, underlay, [NetworkItem(network)]).overlays["net"].mtu == expected


def test_a_sandbox_has_its_links_in_order_with_the_ingress_network_last() -> None:
    ingress = Endpoint(INGRESS, ("10.2.0.7",))
    front = Endpoint("front", ("10.1.3.9", "fd00::9"))
    items: list[Item] = [NetworkItem(FRONT), NetworkItem(GATE), task("t" * 25, ingress, front)]

    assert plan("n1", "192.0.2.1", 1500, items).sandboxes["t" * 25] == (
        Wire(
            "front", "eth0", 2, "v-" + "t" * 13, 0x01010309, "02:42:0a:01:03:09", 1450,
            (("10.1.3.9", 16), ("fd00::9", 64)), ("10.1.0.1", "fd00::1"),
        ),
        Wire(
            INGRESS, "eth1", 3, "v-" + "t" * 13, 0x01020007, "02:42:0a:02:00:07", 1450,
            (("10.2.0.7", 16),), gate="10.2.0.1",
        ),
    )  # fmt: skip


def test_the_node_has_its_own_link_where_it_has_addresses() -> None:
    found = plan("n1", "192.0.2.1", 1500, [NetworkItem(GATE, ("10.2.9.1",)), NetworkItem(FRONT)])
    wire = found.overlays[INGRESS].node
    assert wire is not None and (wire.inner, wire.outer, wire.addresses) == ("sy-ingress", "node", (("10.2.9.1", 16),))
    gate = found.overlays["front"].node
    assert gate is not None
    own, link_local = (("10.1.0.1", 16), ("fd00::1", 64)), ("fe80::42:aff:fe01:1", 64)
    assert gate.addresses == (*own, link_local), "the gateway of its containers"
    assert found.ports is not None


def test_an_internal_network_has_no_gateway_and_a_sandbox_leads_outside_by_the_first_that_has() -> None:
    walled = replace(FRONT, id="walled", internal=True)
    items: list[Item] = [NetworkItem(n) for n in (walled, FRONT, GATE)]
    items.append(task("t" * 25, Endpoint(INGRESS, ("10.2.0.7",)), Endpoint("walled", ("10.1.3.8",)),
                      Endpoint("front", ("10.1.3.9",))))  # fmt: skip
    found = plan("n1", "192.0.2.1", 1500, items)
    assert found.overlays["walled"].node is None
    assert [bool(wire.gateways) for wire in found.sandboxes["t" * 25]] == [False, True, False]


def test_without_the_ingress_network_there_are_no_rules() -> None:
    assert plan("n1", "192.0.2.1", 1500, [NetworkItem(FRONT)]).ports is None


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        pytest.param(Endpoint("other", ("10.9.0.1",)), "network other", id="an unknown network"),
        pytest.param(Endpoint("front", ("10.9.0.1",)), "in none of the subnets", id="an address outside the subnets"),
    ],
)
def test_a_sandbox_that_cannot_be_laid_out_is_refused_alone(endpoint: Endpoint, message: str) -> None:
    good = task("good", Endpoint("front", ("10.1.0.1",)))
    found = plan("n1", "192.0.2.1", 1500, [NetworkItem(FRONT), task("bad", endpoint), good])
    assert found.sandboxes.keys() == {"good"}
    with pytest.raises(Failed, match=message):
        wires("bad", (endpoint,), found.overlays)


def test_peers_of_a_network_that_is_not_here_are_passed_over() -> None:
    assert plan("n1", "192.0.2.1", 1500, [peer(2, "n2")]).overlays == {}


def test_on_a_kernel_without_ipv6_networks_have_ipv4_addresses_only() -> None:
    items: list[Item] = [NetworkItem(FRONT), peer(2, "n2"), task("t" * 25, Endpoint("front", ("10.1.3.9", "fd00::9")))]
    found = plan("n1", "192.0.2.1", 1500, items, ipv6=False)
    overlay = found.overlays["front"]
    assert (overlay.subnets, set(overlay.neighbours)) == (("10.1.0.0/16",), {"10.1.0.2"})
    assert overlay.node is not None and overlay.node.addresses == (("10.1.0.1", 16),)
    assert found.sandboxes["t" * 25][0].addresses == (("10.1.3.9", 16),)


@pytest.mark.parametrize(("underlay", "refused"), [(1330, False), (1329, True)])
def test_ipv6_where_too_small_packets_go_between_nodes_is_refused_with_the_reason(underlay: int, refused: bool) -> None:
    plain = replace(FRONT, id="plain", subnets=("10.3.0.0/16",))
    items: list[Item] = [
        NetworkItem(FRONT),
        NetworkItem(plain),
        task("t" * 25, Endpoint("front", ("10.1.3.9", "fd00::9"))),
    ]
    found = plan("n1", "192.0.2.1", underlay, items)
    assert found.overlays.keys() == ({"plain"} if refused else {"plain", "front"})
    assert found.refused.keys() == ({"front"} if refused else set())
    assert all("MTU of 1329, and would need 1330" in why for why in found.refused.values())


def test_published_ports_go_on_by_ipv4_where_packets_are_too_small_for_ipv6() -> None:
    gate = replace(GATE, subnets=(*GATE.subnets, "fd01::/64"))
    found = plan("n1", "192.0.2.1", 1300, [NetworkItem(gate, ("10.2.0.3", "fd01::3"))])
    assert (found.refused, found.overlays[INGRESS].subnets) == ({}, ("10.2.0.0/16",))
