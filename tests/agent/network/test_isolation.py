"""What containers reach outside, and what they must not: attacked from inside, with all rights in their namespace."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.network.egress import doors
from agent.network.wiring import Wiring
from cluster.assignments import ServiceItem
from cluster.model.container import ContainerSpec
from cluster.model.network import Network
from cluster.model.service import API, MANAGERS, ServiceSpec
from tests.agent.network.test_watch import watching
from tests.agent.network.test_wiring import ask, serving
from tests.agent.network.underlay import (
    BACK,
    FRONT,
    SUBNET,
    Cluster,
    address_of,
    endpoint,
    host,
    inside,
    namespace,
    reaches,
    run,
    wiring,
)

pytestmark = pytest.mark.root

Wirings = dict[str, Wiring]
INTERNAL = dataclasses.replace(Network("walled", "walled", "stack", "walled", 4103, ("10.103.0.0/16",)), internal=True)
OUTSIDE = f"{SUBNET}.4"
SPOOF = """
import socket, struct, sys
link, source_mac, source, target_mac, target = sys.argv[1:]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind((link, 0))
mac = lambda text: bytes.fromhex(text.replace(":", ""))
body = socket.inet_aton(source) + socket.inet_aton(target)
udp = struct.pack("!HHHH", 7, 7, 13, 0) + b"spoof"
ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + body
total = sum(struct.unpack("!10H", ip))
total = (total & 0xFFFF) + (total >> 16)
ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
raw.send(mac(target_mac) + mac(source_mac) + b"\\x08\\x00" + ip + udp)
"""

INJECT = """
import socket, struct, sys
node, vni, mac, target = sys.argv[1:]
udp = struct.pack("!HHHH", 7, 7, 13, 0) + b"spoof"
body = socket.inet_aton("10.102.1.9") + socket.inet_aton(target)
ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + body
total = sum(struct.unpack("!10H", ip))
total = (total & 0xFFFF) + (total >> 16)
ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
frame = bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("02420a660109") + b"\\x08\\x00" + ip + udp
sender = socket.socket(type=socket.SOCK_DGRAM)
sender.sendto(struct.pack("!II", 0x08000000, int(vni) << 8) + frame, (node, 4789))
try:
    sender.sendto(b"", (node, 4789))
except OSError:
    pass  # the first was refused
"""


async def eventually(true: Callable[[], bool], why: str) -> None:
    for _ in range(200):
        if await asyncio.to_thread(true):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(why)


async def test_containers_reach_outside_as_their_node(wirings: Wirings) -> None:
    cluster = Cluster()
    tasks = [cluster.task(n, node, FRONT) for n, node in enumerate(("h1", "h2"), 1)]
    await cluster.start(wirings)
    with serving(host("client"), 80, "outside"):
        for number, task in enumerate(tasks, 1):
            path = wirings[cluster.tasks[task][0]].namespace(task)
            assert ask(path, OUTSIDE, 80) == f"outside {SUBNET}.{number}"


async def test_a_firewall_that_drops_what_is_forwarded_does_not_keep_containers_in(wirings: Wirings) -> None:
    inside(host("h1"), "iptables", "-P", "FORWARD", "DROP")
    cluster = Cluster()
    task = cluster.task(1, "h1", FRONT)
    await cluster.start(wirings)
    with serving(host("client"), 80, "outside"):
        assert ask(wirings["h1"].namespace(task), OUTSIDE, 80) == f"outside {SUBNET}.1"
    cluster.networks = []
    await wirings["h1"].delete_sandbox(task)
    cluster.tasks.clear()
    await cluster.apply(wirings)
    await wirings["h1"].clean((), ())
    rules = inside(host("h1"), "sh", "-c", "iptables -S; nft list tables")
    assert "sy-+" not in rules and "egress" not in rules


async def test_an_internal_network_leads_nowhere_else(wirings: Wirings) -> None:
    cluster = Cluster()
    cluster.networks.append(INTERNAL)
    walled = [cluster.task(n, node, INTERNAL) for n, node in enumerate(("h1", "h2"), 1)]
    both = cluster.task(3, "h1", INTERNAL, FRONT)
    await cluster.start(wirings)
    paths = {task: wirings[cluster.tasks[task][0]].namespace(task) for task in (*walled, both)}
    with serving(host("client"), 80, "outside"):
        for task in walled:
            assert ask(paths[task], OUTSIDE, 80, within=2) == "nothing"
        assert ask(paths[both], OUTSIDE, 80) == f"outside {SUBNET}.1", "by its other network"
    assert reaches(paths[walled[0]], "10.103.1.2")


async def test_a_container_reaches_no_other_network_even_by_routes_of_its_own(wirings: Wirings) -> None:
    cluster = Cluster()
    attacker = cluster.task(1, "h1", FRONT)
    victims = [cluster.task(n, node, BACK) for n, node in enumerate(("h1", "h2"), 2)]
    await cluster.start(wirings)
    path = wirings["h1"].namespace(attacker)
    with ExitStack() as servers:
        for victim in victims:
            servers.enter_context(serving(wirings[cluster.tasks[victim][0]].namespace(victim), 80, "victim"))
        gateway = ("via", "10.101.0.1", "dev", "eth0")
        for routes in ((), (("ip", "route", "replace", "10.102.0.0/16", *gateway),),
                       (("ip", "route", "replace", "10.102.0.0/16", "dev", "eth0"),)):  # fmt: skip
            for command in routes:
                inside(path, *command)
            for number in (2, 3):
                assert ask(path, f"10.102.1.{number}", 80, within=2) in ("nothing", "refused")
                assert not reaches(path, f"10.102.1.{number}", within=1)


async def test_a_container_reaches_no_port_of_its_node(wirings: Wirings) -> None:
    cluster = Cluster()
    task = cluster.task(1, "h1", FRONT)
    await cluster.start(wirings)
    path = wirings["h1"].namespace(task)
    with serving(host("h1"), 2377, "manager"):
        assert ask(host("client"), f"{SUBNET}.1", 2377).startswith("manager"), "others do"
        for address in (f"{SUBNET}.1", "10.101.0.1"):
            assert ask(path, address, 2377) == "refused"
        inside(path, "ip", "route", "add", "127.0.0.2/32", "via", "10.101.0.1", "dev", "eth0", check=False)
        inside(path, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        assert ask(path, "127.0.0.2", 2377, within=2) in ("nothing", "refused")


async def test_a_container_reaches_no_port_that_docker_publishes_on_loopback(wirings: Wirings) -> None:
    """Docker leads what goes there elsewhere before anybody looks for whom it was, by rules such as this one."""
    cluster = Cluster()
    task = cluster.task(1, "h1", FRONT)
    await cluster.start(wirings)
    path = wirings["h1"].namespace(task)
    inside(path, "ip", "route", "add", "127.0.0.2/32", "via", "10.101.0.1", "dev", "eth0", check=False)
    inside(path, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    published = "chain p { type nat hook prerouting priority -100; ip daddr { 127.0.0.2, 192.0.2.1 } dnat to %s; };"
    inside(host("h1"), "nft", f"table ip docker {{ {published % OUTSIDE} }}")
    try:
        with serving(host("client"), 8080, "app"):
            assert ask(path, "192.0.2.1", 8080).startswith("app"), "so it is led there"
            assert ask(path, "127.0.0.2", 8080, within=2) == "nothing"
    finally:
        inside(host("h1"), "nft", "delete table ip docker")


def test_the_doors_of_managers() -> None:
    assert doors(["https://10.0.0.1:2377", "https://[fd00::1]:443", "https://manager.example.org:2377"]) == {
        (address, port)
        for address, own in (("10.0.0.1", 2377), ("fd00::1", 443))
        for port in (own, 2379, 2380, 23790, 23791)
    }


async def test_a_container_reaches_no_manager_on_any_node_also_one_that_comes_later(hosts: None) -> None:
    managers = [f"https://{SUBNET}.3:2377"]
    here = wiring("h1", managers=managers)
    cluster = Cluster()
    task = cluster.task(1, "h1", FRONT)
    try:
        await here.open()
        await cluster.start({"h1": here})
        path = here.namespace(task)
        with serving(host("h3"), 2377, "api"), serving(host("h3"), 23790, "etcd"), serving(host("h3"), 80, "other"):
            assert ask(host("h1"), f"{SUBNET}.3", 2377).startswith("api"), "its node does"
            assert [ask(path, f"{SUBNET}.3", port) for port in (2377, 23790)] == ["refused"] * 2
            assert ask(path, f"{SUBNET}.3", 80).startswith("other")
        with serving(host("h2"), 2377, "api"):
            assert ask(path, f"{SUBNET}.2", 2377).startswith("api"), "it is none"
            managers.append(f"https://{SUBNET}.2:2377")
            async with watching(here):
                await eventually(lambda: ask(path, f"{SUBNET}.2", 2377) == "refused", "now it is")
    finally:
        await here.close()


async def test_the_managers_api_is_open_to_a_service_that_asks_for_it_alone(hosts: None) -> None:
    here = wiring("h1", managers=[f"https://{SUBNET}.{n}:2377" for n in (1, 3)])  # one on its own node
    cluster = Cluster()
    caller, other = cluster.task(1, "h1", FRONT), cluster.task(2, "h1", FRONT)
    cluster.versions[caller] = 2
    asking = ServiceSpec("web", ContainerSpec("app:1"), labels={MANAGERS: API})
    cluster.services += [
        ServiceItem("uid", 1, "stack", dataclasses.replace(asking, labels={})), ServiceItem("uid", 2, "stack", asking),
    ]  # fmt: skip
    try:
        await here.open()
        await cluster.start({"h1": here})
        with ExitStack() as servers:
            for node in ("h1", "h3"):
                for port in (2377, 23790, 22):
                    servers.enter_context(serving(host(node), port, "manager"))
            for number in (1, 3):
                seen = "manager 10.101.1.1" if number == 1 else f"manager {SUBNET}.1"
                assert ask(here.namespace(caller), f"{SUBNET}.{number}", 2377) == seen
                assert ask(here.namespace(caller), f"{SUBNET}.{number}", 23790) == "refused", "etcd is for nobody"
                assert ask(here.namespace(other), f"{SUBNET}.{number}", 2377) == "refused"
            assert ask(here.namespace(caller), f"{SUBNET}.1", 22) == "refused", "nor is what else its node has"
            await here.delete_sandbox(caller)
            del cluster.tasks[caller]
            again = cluster.task(1, "h1", FRONT)
            cluster.versions.clear()
            await cluster.start({"h1": here})
            assert ask(here.namespace(again), f"{SUBNET}.1", 2377) == "refused", "who has its address now"
    finally:
        await here.close()


async def test_the_nodes_neighbours_do_not_reach_containers(wirings: Wirings) -> None:
    cluster = Cluster()
    task = cluster.task(1, "h1", FRONT)
    await cluster.start(wirings)
    run("ip", "-n", namespace("client"), "route", "add", "10.101.0.0/16", "via", f"{SUBNET}.1")
    with serving(wirings["h1"].namespace(task), 80, "victim"):
        assert ask(host("client"), endpoint(FRONT, 1).addresses[0], 80, within=2) in ("nothing", "refused")


@pytest.mark.parametrize("place", ["h1", "h2"])
async def test_a_container_cannot_send_as_another(wirings: Wirings, place: str) -> None:
    cluster = Cluster()
    attacker, other = cluster.task(1, "h1", BACK), cluster.task(2, "h1", BACK)
    victim = cluster.task(3, place, BACK)
    await cluster.start(wirings)
    path = wirings["h1"].namespace(attacker)
    mac = {number: endpoint(BACK, number).mac for number in (1, 2, 3)}
    heard = wirings[place].namespace(victim)

    def received() -> int:
        line = inside(heard, "sh", "-c", "grep ^Udp: /proc/net/snmp | tail -1").split()
        return int(line[1]) + int(line[2])  # taken, and refused for want of a listener

    def send(source_mac: str, source: str) -> bool:
        before = received()
        inside(path, "python3", "-c", SPOOF, "eth0", source_mac, source, mac[3], "10.102.1.3")
        inside(wirings["h1"].namespace(other), "python3", "-c", SPOOF, "eth0", mac[2], "10.102.1.2", mac[3],
               "10.102.1.3")  # fmt: skip
        return received() - before == 2

    assert send(mac[1], "10.102.1.1"), "its own are taken"
    assert not send(mac[1], "10.102.1.2"), "another's address is not"
    assert not send(mac[2], "10.102.1.2"), "nor another's MAC"
    assert not send("02:42:0a:66:00:63", "10.102.1.1")
    inside(path, "ip", "addr", "add", "10.102.1.77/16", "dev", "eth0")
    inside(path, "nft", "flush", "ruleset")
    assert not send(mac[1], "10.102.1.77"), "whatever it changes at its own end"
    inside(path, "ip", "link", "set", "eth0", "address", mac[2])
    assert not reaches(path, "10.102.1.2", within=1)


async def test_a_container_cannot_claim_another_address_by_arp(wirings: Wirings) -> None:
    cluster = Cluster()
    attacker, victim = cluster.task(1, "h1", FRONT), cluster.task(2, "h1", FRONT)
    await cluster.start(wirings)
    inside(wirings["h1"].namespace(attacker), "ip", "addr", "add", "10.101.1.77/16", "dev", "eth0")
    assert not reaches(wirings["h1"].namespace(victim), "10.101.1.77", within=1), "an address that nobody has"
    inside(wirings["h1"].namespace(attacker), "ip", "addr", "add", "10.101.0.1/16", "dev", "eth0")
    with serving(host("client"), 80, "outside"):
        assert ask(wirings["h1"].namespace(victim), OUTSIDE, 80) == f"outside {SUBNET}.1", "the gateway stays the node"


@pytest.mark.parametrize("routed", [False, True], ids=["other-node", "own-node"])
async def test_a_container_cannot_put_frames_into_a_network_by_packets_to_a_node(
    wirings: Wirings, routed: bool
) -> None:
    """It leaves as its node, so that the node which it reaches could not tell that it is not of the overlay."""
    cluster = Cluster()
    attacker, victim = cluster.task(1, "h1", FRONT), cluster.task(2, "h1" if routed else "h2", BACK)
    await cluster.start(wirings)
    node = cluster.tasks[victim][0]
    heard = wirings[node].namespace(victim)
    target = endpoint(BACK, 2)

    def received() -> int:
        line = inside(heard, "sh", "-c", "grep ^Udp: /proc/net/snmp | tail -1").split()
        return int(line[1]) + int(line[2])

    def send(where: Path) -> None:
        inside(where, "python3", "-c", INJECT, address_of(node), str(BACK.vni), target.mac, target.addresses[0])

    send(host("client"))
    await eventually(lambda: received() == 1, "who is not in a container can: the network between nodes is trusted")
    send(wirings["h1"].namespace(attacker))
    send(host("client"))
    await eventually(lambda: received() >= 2, "what was sent after it is there")
    assert received() == 2


async def test_meddling_with_the_guard_is_mended(wirings: Wirings) -> None:
    cluster = Cluster()
    attacker, victim = cluster.task(1, "h1", FRONT), cluster.task(2, "h1", FRONT)
    await cluster.start(wirings)
    outer = wirings["h1"].namespace(attacker).parent / f"sn-{FRONT.id}"
    listed = inside(outer, "nft", "list", "ruleset")
    inside(outer, "nft", "flush", "ruleset")
    await wirings["h1"].audit()
    assert sorted(inside(outer, "nft", "list", "ruleset").split()) == sorted(listed.split())
    assert reaches(wirings["h1"].namespace(attacker), "10.101.1.2")
    assert victim in cluster.tasks
