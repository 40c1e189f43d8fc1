"""IPv6 beside IPv4: virtual addresses, ways outside, published ports, and what containers must not do with it."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agent.network.wiring import Wiring
from cluster.assignments import Item, NetworkItem, PeerItem, VipItem
from cluster.model.network import INGRESS, Network
from tests.agent.network import underlay
from tests.agent.network.test_wiring import opened_in, serving
from tests.agent.network.underlay import BACK, FRONT, NAMES, Cluster, host, inside, namespace, reaches, run

pytestmark = pytest.mark.root

Wirings = dict[str, Wiring]
DUAL = dataclasses.replace(FRONT, id="dual", name="dual", vni=4105, subnets=("10.105.0.0/16", "fd00:105::/64"))
PUBLISHED = Network(INGRESS, INGRESS, "", INGRESS, 4100, ("10.100.0.0/16", "fd00:100::/64"))
OUTSIDE = "2001:db8::4"
VIP6 = "fd00:102::ffff"
ECHO6 = """
import socket, sys
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6)
print("up", flush=True)
while True:
    asker, address = server.accept()
    asker.sendall(f"{sys.argv[2]} {address[0]}".encode())
    asker.close()
"""
SPOOF6 = """
import socket, sys
sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sender.bind((sys.argv[1], 0))
sender.sendto(b"spoof", (sys.argv[2], 7))
"""


@contextmanager
def outside_by_ipv6(*hosts: str) -> Iterator[None]:
    """Give hosts, and the client, global addresses; routers advertise nothing here."""
    for number, name in enumerate(NAMES, 1):
        if name in (*hosts, "client"):
            run("ip", "-n", namespace(name), "addr", "add", f"2001:db8::{number}/64", "dev", "eth0", "nodad")
    yield


def ask6(where: Path, address: str, port: int) -> str:
    with opened_in(where, lambda: socket.socket(socket.AF_INET6)) as asking:
        asking.settimeout(4)
        try:
            asking.connect((address, port))
            return asking.recv(99).decode()
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "nothing"


async def test_a_virtual_address_leads_to_all_endpoints_on_every_host(wirings: Wirings) -> None:
    cluster = Cluster()
    cluster.vips.append(VipItem(BACK.id, "uid", "stack", "web", ("10.102.255.1", VIP6)))
    tasks = [cluster.task(n, node, BACK) for n, node in enumerate(("h1", "h2"), 1)]
    client = cluster.task(9, "h3", BACK)
    cluster.unready.add(client)
    await cluster.start(wirings)
    paths = {task: wirings[cluster.tasks[task][0]].namespace(task) for task in cluster.tasks}
    with ExitStack() as servers:
        for n, task in enumerate(tasks, 1):
            servers.enter_context(serving(paths[task], 80, f"task{n}", ECHO6))
        assert {ask6(paths[client], VIP6, 80) for _ in range(40)} == {f"task{n} fd00:102::1:9" for n in (1, 2)}
        assert {ask6(paths[tasks[0]], VIP6, 80) for _ in range(40)} == {f"task{n} fd00:102::1:1" for n in (1, 2)}
        cluster.unready.update(tasks)
        await cluster.apply(wirings)
        assert ask6(paths[client], VIP6, 80) == "refused"


async def test_containers_reach_outside_as_their_node_if_that_does(wirings: Wirings) -> None:
    cluster = Cluster()
    cluster.networks.append(DUAL)
    tasks = {node: cluster.task(n, node, DUAL) for n, node in enumerate(("h1", "h2"), 1)}
    with outside_by_ipv6("h1"), serving(host("client"), 80, "outside", ECHO6):
        await cluster.start(wirings)
        path = {node: wirings[node].namespace(task) for node, task in tasks.items()}
        assert ask6(path["h1"], OUTSIDE, 80) == "outside 2001:db8::1"
        assert ask6(path["h2"], OUTSIDE, 80) == "nothing", "its node has no way there itself"
        assert ask6(path["h1"], "fd00:105::1:2", 80) == "refused", "the way to the other container is another"
        assert reaches(path["h1"], "fd00:105::1:2")


async def test_a_host_that_begins_to_forward_still_hears_its_routers(wirings: Wirings) -> None:
    def accepts(link: str) -> str:
        return inside(host("h1"), "sysctl", "-n", f"net.ipv6.conf.{link}.accept_ra").strip()

    cluster = Cluster()
    cluster.networks = [DUAL]
    cluster.task(1, "h1", DUAL)
    assert accepts("eth0") == "1"
    await cluster.start(wirings)
    assert inside(host("h1"), "sysctl", "-n", "net.ipv6.conf.all.forwarding").strip() == "1"
    assert (accepts("eth0"), accepts("sy-dual")) == ("2", "0")


async def test_isolation_holds_for_ipv6(wirings: Wirings) -> None:
    cluster = Cluster()
    cluster.networks.append(DUAL)
    attacker, victim = cluster.task(1, "h1", DUAL), cluster.task(2, "h1", BACK)
    await cluster.start(wirings)
    path = wirings["h1"].namespace(attacker)
    with (
        outside_by_ipv6("h1"),
        serving(wirings["h1"].namespace(victim), 80, "victim", ECHO6),
        serving(host("h1"), 2377, "manager", ECHO6),
    ):
        assert ask6(host("client"), "2001:db8::1", 2377).startswith("manager"), "others do"
        for address, port in (("fd00:102::1:2", 80), ("2001:db8::1", 2377), ("fd00:105::1", 2377)):
            assert ask6(path, address, port) in ("nothing", "refused")
        inside(path, "ip", "route", "replace", "fd00:102::/64", "via", "fd00:105::1", "dev", "eth0")
        assert ask6(path, "fd00:102::1:2", 80) in ("nothing", "refused")


@pytest.mark.parametrize("place", ["h1", "h2"])
async def test_a_container_cannot_send_as_another(wirings: Wirings, place: str) -> None:
    cluster = Cluster()
    attacker, other, victim = (cluster.task(n, node, BACK) for n, node in ((1, "h1"), (2, "h1"), (3, place)))
    await cluster.start(wirings)
    path, heard = wirings["h1"].namespace(attacker), wirings[place].namespace(victim)
    beside = wirings["h1"].namespace(other)

    def received() -> int:
        lines = inside(heard, "cat", "/proc/net/snmp6").splitlines()
        counts = {name: int(value) for name, value in map(str.split, lines)}
        return counts["Udp6InDatagrams"] + counts["Udp6NoPorts"]

    def hears(source: str) -> bool:
        before = received()
        inside(path, "python3", "-c", SPOOF6, source, "fd00:102::1:3")
        inside(beside, "python3", "-c", SPOOF6, "fd00:102::1:2", "fd00:102::1:3")  # and this one always arrives
        return received() - before == 2

    assert reaches(path, "fd00:102::1:3") and reaches(beside, "fd00:102::1:3")
    assert hears("fd00:102::1:1"), "its own are taken"
    inside(path, "ip", "addr", "add", "fd00:102::1:77/64", "dev", "eth0", "nodad")
    assert not hears("fd00:102::1:77"), "another's address is not"


class Published(Cluster):
    """The network of published ports has IPv6 addresses too."""

    def items(self, node: str) -> list[Item]:
        found: list[Item] = []
        for item in super().items(node):
            match item:
                case NetworkItem(network=network) if network.id == INGRESS:
                    last = item.node_addresses[0].rpartition(".")[2]
                    item = NetworkItem(PUBLISHED, (*item.node_addresses, f"fd00:100::{last}"))
                case PeerItem(network="ingress", service=""):
                    last = item.addresses[0].rpartition(".")[2]
                    item = dataclasses.replace(item, addresses=(*item.addresses, f"fd00:100::{last}"))
                case _:
                    pass
            found.append(item)
        return found


async def test_a_published_port_answers_by_ipv6_on_every_node(wirings: Wirings) -> None:
    cluster = Published()
    tasks = [cluster.task(n, node, PUBLISHED) for n, node in enumerate(("h1", "h2"), 1)]
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    with outside_by_ipv6("h1", "h2", "h3"), ExitStack() as servers:
        for n, task in enumerate(tasks, 1):
            path = wirings[cluster.tasks[task][0]].namespace(task)
            servers.enter_context(serving(path, 80, f"task{n}", ECHO6))
        for number in (1, 2, 3):
            answers = {ask6(host("client"), f"2001:db8::{number}", 8080).split()[0] for _ in range(40)}
            assert answers == {"task1", "task2"}
        cluster.unready.update(tasks)
        await cluster.apply(wirings)
        assert ask6(host("client"), "2001:db8::3", 8080) in ("refused", "nothing")


def test_the_addresses_of_the_tests_are_those_of_the_networks() -> None:
    assert underlay.endpoint(DUAL, 1).addresses == ("10.105.1.1", "fd00:105::1:1")
