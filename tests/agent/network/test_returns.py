"""Clients of published ports as the endpoints see them, whichever node they came by."""

from __future__ import annotations

import socket

import pytest

from agent.network.wiring import Wiring
from tests.agent.network.test_wiring import ECHO_UDP, ask, serving
from tests.agent.network.underlay import BACK, FRONT, INGRESS_NETWORK, SUBNET, Cluster, host, inside

pytestmark = pytest.mark.root

Wirings = dict[str, Wiring]
CLIENT = f"{SUBNET}.4"


@pytest.mark.parametrize("networks", [(), (FRONT,)], ids=["no other network", "a way outside of its own"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
async def test_the_client_is_seen_by_every_node(wirings: Wirings, networks: tuple[()], kind: socket.SocketKind) -> None:
    cluster = Cluster()
    task = cluster.task(1, "h1", *networks, INGRESS_NETWORK)
    udp = kind is socket.SOCK_DGRAM
    cluster.publish(8080, 80, protocol="udp" if udp else "tcp")
    await cluster.start(wirings)
    with serving(wirings["h1"].namespace(task), 80, "one", *((ECHO_UDP,) if udp else ())):
        for number in (1, 2, 3):
            for _ in range(3):
                assert ask(host("client"), f"{SUBNET}.{number}", 8080, kind) == f"one {CLIENT}"


async def test_clients_on_nodes_and_in_containers_are_answered(wirings: Wirings) -> None:
    cluster = Cluster()
    task = cluster.task(1, "h1", INGRESS_NETWORK)
    asking = [cluster.task(n, node, BACK) for n, node in ((2, "h1"), (3, "h2"))]
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    with serving(wirings["h1"].namespace(task), 80, "one"):
        for number in (1, 2, 3):
            address = f"{SUBNET}.{number}"
            assert ask(host(f"h{number}"), "127.0.0.1", 8080) == f"one 10.100.250.{number}"
            assert ask(host(f"h{number}"), address, 8080) == f"one {address}"
            for client in asking:
                assert ask(wirings[cluster.tasks[client][0]].namespace(client), address, 8080).startswith("one ")
        outward = serving(host("client"), 81, "outside")
        with outward:
            assert ask(wirings["h1"].namespace(task), CLIENT, 81, within=2) == "nothing", "the gate leads nowhere"


async def test_where_answers_do_not_find_back_the_node_stands_in_for_the_client(wirings: Wirings) -> None:
    cluster = Cluster()
    cluster.keeps_source = False
    for each in wirings.values():
        each.keeps_source = False
    task = cluster.task(1, "h1", INGRESS_NETWORK)
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    with serving(wirings["h1"].namespace(task), 80, "one"):
        for number in (1, 2, 3):
            assert ask(host("client"), f"{SUBNET}.{number}", 8080) == f"one 10.100.250.{number}"
    assert "netdev" not in inside(wirings["h1"].namespace(task), "nft", "list", "tables")
