"""Three hosts in network namespaces: what containers and clients see of the wiring; restarts and meddling."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from agent.network import netlink
from agent.network.namespaces import Namespaces
from agent.network.translation import Translation
from agent.network.wiring import Wiring
from cluster.errors import Failed
from cluster.model.network import Network
from tests.agent.network.underlay import (
    BACK,
    FRONT,
    INGRESS_NETWORK,
    ROOT,
    SUBNET,
    Cluster,
    endpoint,
    host,
    inside,
    reaches,
    rows,
    run,
    wiring,
)  # fmt: skip
from tests.patience import PATIENCE

pytestmark = pytest.mark.root

RT_SCOPE_LINK, RTPROT_KERNEL = 253, 2
Wirings = dict[str, Wiring]
T = TypeVar("T")
ECHO = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("up", flush=True)
while True:
    asker, address = server.accept()
    asker.sendall(f"{sys.argv[2]} {address[0]}".encode())
    asker.close()
"""
ECHO_UDP = """
import socket, sys
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("", int(sys.argv[1])))
print("up", flush=True)
while True:
    _, address = server.recvfrom(99)
    server.sendto(f"{sys.argv[2]} {address[0]}".encode(), address)
"""


@contextmanager
def serving(where: Path, port: int, name: str, program: str = ECHO) -> Iterator[None]:
    command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={where}", "python3", "-c", program, str(port), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            yield
        finally:
            server.kill()


def opened_in(place: Path, work: Callable[[], T]) -> T:
    inside_place = Namespaces(ROOT, place, threads=1)
    try:
        return inside_place.pool.submit(work).result()
    finally:
        inside_place.close()


def socket_in(place: Path, kind: socket.SocketKind, within: float = PATIENCE) -> socket.socket:
    opened = opened_in(place, lambda: socket.socket(socket.AF_INET, kind))
    opened.settimeout(within)
    return opened


def _by_itself(kind: int, body: bytes) -> bool:
    """Tell whether the kernel did that: neighbours come and go, a link is given an IPv6 address of its own, late."""
    if kind in (netlink.RTM_NEWNEIGH, netlink.RTM_DELNEIGH):
        return not netlink.read_neighbour(body).state & (netlink.NUD_PERMANENT | netlink.NUD_NOARP)
    family, protocol, scope = body[0], body[5], body[3]
    if kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
        return family == socket.AF_INET6 and scope == RT_SCOPE_LINK
    return (
        kind in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE) and family == socket.AF_INET6 and protocol == RTPROT_KERNEL
    )


@contextmanager
def listening(*places: Path) -> Iterator[Callable[[], list[tuple[int, bytes]]]]:
    """Hear what the kernel says of changes to links, addresses, routes and fixed neighbours in some namespaces."""

    def listener() -> socket.socket:
        heard = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        heard.bind((0, 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400))
        heard.setblocking(False)
        return heard

    def said() -> list[tuple[int, bytes]]:
        found = []
        for each in sockets:
            with suppress(BlockingIOError):
                while True:
                    found += [(kind, body) for kind, _, _, body in netlink.messages(each.recv(1 << 16))]
        return [(kind, body) for kind, body in found if not _by_itself(kind, body)]

    sockets = []
    try:
        for place in places:
            sockets.append(opened_in(place, listener))
        yield said
    finally:
        for each in sockets:
            each.close()


def ask(
    where: Path, address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM, within: float = PATIENCE
) -> str:
    """What is answered in time: the server's name and the address that it sees, or "refused", or "nothing"."""
    with socket_in(where, kind, within) as asking:
        try:
            asking.connect((address, port))
            if kind is socket.SOCK_DGRAM:
                asking.send(b"x")
            return asking.recv(99).decode()
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "nothing"


async def test_containers_of_one_network_reach_each_other_on_every_host_and_by_ipv6(wirings: Wirings) -> None:
    cluster = Cluster()
    tasks = [cluster.task(n, node, BACK) for n, node in enumerate(("h1", "h1", "h2", "h3"), 1)]
    await cluster.start(wirings)

    for task in tasks:
        where = wirings[cluster.tasks[task][0]].namespace(task)
        for other in tasks:
            for address in cluster.tasks[other][1][0].addresses:
                assert reaches(where, address), (task, address)


async def test_a_sandbox_is_complete_when_create_returns(wirings: Wirings) -> None:
    cluster = Cluster()
    task = cluster.task(1, "h1", INGRESS_NETWORK, BACK, FRONT)
    await cluster.start(wirings)

    where = wirings["h1"].namespace(task)
    shown = inside(where, "ip", "-o", "-4", "addr")
    lines = [line.split()[1:4] for line in shown.splitlines()]
    assert lines == [
        ["lo", "inet", "127.0.0.1/8"], ["eth0", "inet", "10.102.1.1/16"], ["eth1", "inet", "10.101.1.1/16"],
        ["eth2", "inet", "10.100.1.1/16"],
    ]  # fmt: skip
    assert "fd00:102::1:1/64" in inside(where, "ip", "-o", "-6", "addr", "show", "eth0")
    assert inside(where, "ip", "-o", "-6", "addr", "show", "eth1") == ""
    link = inside(where, "ip", "-o", "link", "show", "eth0")
    assert "mtu 1450" in link and "02:42:0a:66:01:01" in link and "LOWER_UP" in link
    assert inside(where, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start").strip() == "0"
    assert wirings["h1"].sandboxes() == {task}


async def test_networks_are_isolated_from_each_other_and_from_the_host(wirings: Wirings) -> None:
    cluster = Cluster()
    front, back = cluster.task(1, "h1", FRONT), cluster.task(2, "h1", BACK)
    await cluster.start(wirings)
    where = wirings["h1"].namespace(front)
    inside(where, "ip", "route", "add", "10.102.0.0/16", "dev", "eth0")
    inside(where, "ip", "route", "add", f"{SUBNET}.0/24", "dev", "eth0")
    inside(wirings["h1"].namespace(back), "ip", "route", "add", "10.101.0.0/16", "dev", "eth0")

    assert not reaches(where, "10.102.1.2", within=1)
    assert not reaches(where, f"{SUBNET}.1", within=1)
    assert not reaches(host("h1"), "10.101.1.1", within=1)


async def test_a_container_that_takes_another_mac_is_not_heard(wirings: Wirings) -> None:
    cluster = Cluster()
    one, _ = cluster.task(1, "h1", FRONT), cluster.task(2, "h1", FRONT)
    await cluster.start(wirings)
    where = wirings["h1"].namespace(one)
    assert reaches(where, "10.101.1.2")

    inside(where, "ip", "link", "set", "eth0", "address", "02:42:0a:65:00:09")

    assert not reaches(where, "10.101.1.2", within=1)


async def test_a_published_port_answers_on_every_node_also_one_without_a_task(wirings: Wirings) -> None:
    cluster = Cluster()
    tasks = [cluster.task(1, "h1", INGRESS_NETWORK), cluster.task(2, "h2", INGRESS_NETWORK)]
    cluster.publish(8080, 80)
    await cluster.start(wirings)

    with serving(wirings["h1"].namespace(tasks[0]), 80, "one"), serving(wirings["h2"].namespace(tasks[1]), 80, "two"):
        for number in (1, 2, 3):
            heard = {ask(host("client"), f"{SUBNET}.{number}", 8080) for _ in range(12)}
            seen_as = f"{SUBNET}.4"
            assert heard == {f"one {seen_as}", f"two {seen_as}"}
        assert ask(host("h3"), "127.0.0.1", 8080).split()[0] in ("one", "two")
        assert ask(host("h3"), f"{SUBNET}.3", 8080).split()[0] in ("one", "two")

        cluster.unready.add(tasks[0])
        await cluster.apply(wirings)
        assert {ask(host("client"), f"{SUBNET}.3", 8080) for _ in range(8)} == {f"two {SUBNET}.4"}
        cluster.unready.update(tasks)
        await cluster.apply(wirings)
        assert ask(host("client"), f"{SUBNET}.3", 8080) == "refused"

        cluster.unready.clear()
        cluster.ports.clear()
        cluster.publish(8081, 80)
        await cluster.apply(wirings)
        assert ask(host("client"), f"{SUBNET}.3", 8080) == "refused"
        assert ask(host("client"), f"{SUBNET}.3", 8081).split()[0] in ("one", "two")


async def test_a_published_udp_port_answers(wirings: Wirings) -> None:
    cluster = Cluster()
    task = cluster.task(1, "h1", INGRESS_NETWORK)
    cluster.publish(5300, 53, protocol="udp")
    await cluster.start(wirings)

    with serving(wirings["h1"].namespace(task), 53, "one", ECHO_UDP):
        assert ask(host("client"), f"{SUBNET}.2", 5300, socket.SOCK_DGRAM) == f"one {SUBNET}.4"


async def test_a_udp_client_that_keeps_its_port_is_led_to_where_the_port_leads_now(wirings: Wirings) -> None:
    cluster = Cluster()
    one, two = cluster.task(1, "h1", INGRESS_NETWORK), cluster.task(2, "h2", INGRESS_NETWORK)
    cluster.unready.add(two)
    await cluster.start(wirings)
    with socket_in(host("client"), socket.SOCK_DGRAM) as client:
        client.connect((f"{SUBNET}.3", 5300))

        def ask_again() -> str:
            client.send(b"x")
            return client.recv(99).decode().split()[0]

        with pytest.raises(ConnectionRefusedError):
            ask_again()
        cluster.publish(5300, 53, protocol="udp")
        await cluster.apply(wirings)
        with (
            serving(wirings["h1"].namespace(one), 53, "one", ECHO_UDP),
            serving(wirings["h2"].namespace(two), 53, "two", ECHO_UDP),
        ):
            assert ask_again() == "one"
            cluster.unready = {one}
            await cluster.apply(wirings)
            assert ask_again() == "two"
            cluster.unready = {one, two}
            await cluster.apply(wirings)
            with pytest.raises(ConnectionRefusedError):
                ask_again()


async def test_a_port_of_mode_host_answers_on_the_nodes_of_its_tasks_only(wirings: Wirings) -> None:
    cluster = Cluster()
    task = cluster.task(1, "h1", INGRESS_NETWORK)
    cluster.publish(8080, 80, mode="host")
    cluster.publish(8081, 80, mode="host", host_ip="127.0.0.1")
    await cluster.start(wirings)

    with serving(wirings["h1"].namespace(task), 80, "one"):
        assert ask(host("client"), f"{SUBNET}.1", 8080) == f"one {SUBNET}.4"
        assert ask(host("client"), f"{SUBNET}.2", 8080) == "refused"
        assert ask(host("client"), f"{SUBNET}.1", 8081) == "refused"
        assert ask(host("h1"), "127.0.0.1", 8081) == "one 10.100.250.1"


async def test_the_way_of_published_ports_leads_nowhere_else(wirings: Wirings) -> None:
    cluster = Cluster()
    task = cluster.task(1, "h1", INGRESS_NETWORK)
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    where = wirings["h1"].namespace(task)
    inside(where, "ip", "route", "replace", "default", "via", "10.100.250.1")
    inside(host("client"), "ip", "route", "add", "10.100.0.0/16", "via", f"{SUBNET}.1")

    with serving(host("h1"), 2222, "node"), serving(where, 80, "one"), serving(where, 81, "one"):
        for address in ("10.100.250.1", f"{SUBNET}.1"):
            assert ask(where, address, 2222, within=2) == "nothing"
        assert not reaches(where, f"{SUBNET}.4", within=1)
        assert ask(host("client"), "10.100.1.1", 81, within=2) == "nothing"
        assert ask(host("client"), f"{SUBNET}.1", 8080) == f"one {SUBNET}.4"


async def test_published_ports_pass_a_firewall_that_drops_what_is_forwarded(wirings: Wirings) -> None:
    for chain in ("FORWARD", "DOCKER-USER"):
        for name in ("h1", "h2", "h3"):
            inside(host(name), "iptables", "-P", "FORWARD", "DROP")
            if chain == "DOCKER-USER":
                inside(host(name), "iptables", "-N", "DOCKER-USER")
                inside(host(name), "iptables", "-A", "DOCKER-USER", "-j", "RETURN")
                inside(host(name), "iptables", "-I", "FORWARD", "-j", "DOCKER-USER")
        cluster = Cluster()
        task = cluster.task(1, "h1", INGRESS_NETWORK)
        cluster.publish(8080, 80)
        await cluster.start(wirings)
        await wirings["h2"].audit()
        assert inside(host("h2"), "iptables", "-S").count(f"-A {chain} -o sy-ingress -j ACCEPT") == 1
        with serving(wirings["h1"].namespace(task), 80, "one"):
            assert ask(host("client"), f"{SUBNET}.2", 8080) == f"one {SUBNET}.4"


async def test_deleting_everything_leaves_nothing(wirings: Wirings) -> None:
    before = {name: rows(host(name)) for name in wirings}
    cluster = Cluster()
    for number, node in enumerate(wirings, 1):
        cluster.task(number, node, FRONT, INGRESS_NETWORK)
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    for name, each in wirings.items():
        own = {task for task, (node, _) in cluster.tasks.items() if node == name}
        await each.link_container("c" * 64, own.pop())
        await each.clean(each.sandboxes(), {"c" * 64})
        assert each.sandboxes()

        await each.apply([])
        await each.clean((), ())

        assert not each.sandboxes()
        assert list((ROOT / name).iterdir()) == [] and list((ROOT / f"{name}-links").iterdir()) == []
        left = {line for line in rows(host(name)) - before[name] if "sy-ingress" in line}
        assert not left
        assert inside(host(name), "nft", "list", "tables").strip() in ("", "table ip filter\ntable ip6 filter")


async def test_meddling_is_mended_by_the_audit(wirings: Wirings, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    one, two = cluster.task(1, "h1", FRONT, INGRESS_NETWORK), cluster.task(2, "h2", FRONT, INGRESS_NETWORK)
    local = cluster.task(3, "h1", FRONT)
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    network, sandbox = ROOT / "h1" / "sn-front", wirings["h1"].namespace(one)
    whole = rows(network)
    outer = "v-" + one[:13]

    async def mended(*commands: str) -> None:
        for command in commands:
            inside(network, *command.split())
        await wirings["h1"].audit()
        for address in ("10.101.1.2", "10.101.1.3"):
            assert reaches(sandbox, address), commands
        assert reaches(wirings["h2"].namespace(two), "10.101.1.1"), commands

    await mended("bridge fdb del 02:42:0a:65:01:02 dev vxlan0 self")
    await mended("bridge fdb del 02:42:0a:65:01:02 dev vxlan0 master")
    await mended("ip neigh del 10.101.1.2 dev vxlan0")
    await mended("ip neigh replace 10.101.1.2 dev vxlan0 lladdr 02:42:0a:65:00:09 nud permanent")
    await mended("bridge fdb append 02:42:0a:65:00:77 dev vxlan0 self dst 10.79.0.3")
    await mended(f"bridge fdb del 02:42:0a:65:01:01 dev {outer} master")
    await mended(f"ip link set {outer} nomaster")
    await mended("ip link set vxlan0 down", "ip link set br0 down")
    assert rows(network) == whole
    await mended("ip link del vxlan0")
    await mended("ip link del br0")
    await mended(f"ip link del {outer}")
    await mended("ip link del v-" + local[:13])
    inside(host("h1"), "ip", "link", "del", "sy-ingress")
    inside(host("h1"), "nft", "delete", "element", "inet", "stackyard", "tcp4_ports", "{ 8080 }")
    await mended("true")
    with serving(wirings["h2"].namespace(two), 80, "two"), serving(sandbox, 80, "one"):
        assert ask(host("client"), f"{SUBNET}.1", 8080).split()[0] in ("one", "two")

    run("umount", "-l", str(network))
    await wirings["h1"].audit()
    await mended("true")


async def test_a_new_process_takes_over_without_touching_anything(wirings: Wirings) -> None:
    cluster = Cluster()
    one, _ = cluster.task(1, "h1", FRONT, INGRESS_NETWORK), cluster.task(2, "h2", FRONT)
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    places = (host("h1"), wirings["h1"].namespace(one), ROOT / "h1" / "sn-front", ROOT / "h1" / "sn-ingress")
    before = [rows(place) for place in places]
    with listening(*places) as heard:
        again = wiring("h1")
        await again.open()
        try:
            await again.apply(cluster.items("h1"))
            assert again.sandboxes() == {one}
            await again.audit()
            await again.clean({one}, ())
        finally:
            await again.close()
        assert heard() == []

    assert [rows(place) for place in places] == before
    assert reaches(places[1], "10.101.1.2")


async def test_a_sandbox_may_go_while_a_new_process_takes_it_over(
    wirings: Wirings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster()
    one, two = cluster.task(1, "h1", FRONT), cluster.task(2, "h1", FRONT)
    await cluster.start(wirings)
    again = wiring("h1")

    def unknown(translation: Translation, tasks: Collection[str]) -> list[str]:
        found = known(translation, tasks)
        asyncio.run_coroutine_threadsafe(again.delete_sandbox(one), loop).result()
        return found

    known, loop = Translation.unknown, asyncio.get_running_loop()
    monkeypatch.setattr(Translation, "unknown", unknown)
    await again.open()
    try:
        await again.apply(cluster.items("h1"))
        assert again.sandboxes() == {two}
    finally:
        await again.close()


async def test_without_prune_rows_of_unknown_peers_stay(wirings: Wirings) -> None:
    cluster = Cluster()
    one, two = cluster.task(1, "h1", FRONT), cluster.task(2, "h2", FRONT)
    await cluster.start(wirings)
    place = cluster.tasks.pop(two)

    await wirings["h1"].apply(cluster.items("h1"), prune=False)
    assert reaches(wirings["h1"].namespace(one), "10.101.1.2")
    await wirings["h1"].apply(cluster.items("h1"))
    assert not reaches(wirings["h1"].namespace(one), "10.101.1.2", within=1)
    cluster.tasks[two] = place
    await wirings["h1"].apply(cluster.items("h1"))
    assert reaches(wirings["h1"].namespace(one), "10.101.1.2")


async def test_an_address_moves_to_another_node(wirings: Wirings) -> None:
    cluster = Cluster()
    one, two = cluster.task(1, "h1", FRONT), cluster.task(2, "h2", FRONT)
    await cluster.start(wirings)
    where = wirings["h1"].namespace(one)
    for node in ("h3", "h1", "h2"):
        await wirings[cluster.tasks[two][0]].delete_sandbox(two)
        cluster.tasks[two] = (node, cluster.tasks[two][1])
        await cluster.apply(wirings)
        await wirings[node].create_sandbox(two, cluster.tasks[two][1])
        assert reaches(where, "10.101.1.2"), node


async def test_a_restart_in_place_gets_a_fresh_namespace_with_the_same_addresses(wirings: Wirings) -> None:
    cluster = Cluster()
    one, _ = cluster.task(1, "h1", FRONT), cluster.task(2, "h2", FRONT)
    await cluster.start(wirings)
    where = wirings["h1"].namespace(one)
    inside(where, "ip", "addr", "add", "10.101.9.9/16", "dev", "eth0")
    await wirings["h1"].link_container("c" * 64, one)
    link = ROOT / "h1-links" / ("c" * 64)

    await wirings["h1"].create_sandbox(one, cluster.tasks[one][1])

    assert link.resolve() == where
    assert "10.101.9.9" not in inside(link, "ip", "addr")
    assert reaches(where, "10.101.1.2")


async def test_a_sandbox_in_an_unknown_network_is_refused_and_leaves_nothing(wirings: Wirings) -> None:
    cluster = Cluster()
    await cluster.apply(wirings)
    elsewhere = Network("else", "else", "stack", "else", 4109, ("10.109.0.0/16",))

    with pytest.raises(Failed, match="network else"):
        await wirings["h1"].create_sandbox("a" * 25, (endpoint(FRONT, 1), endpoint(elsewhere, 1)))

    assert wirings["h1"].sandboxes() == frozenset()


async def test_a_network_that_cannot_be_wired_does_not_keep_others_from_it(wirings: Wirings) -> None:
    cluster = Cluster()
    one, _ = cluster.task(1, "h1", FRONT), cluster.task(2, "h2", FRONT)
    twin = Network("twin", "twin", "stack", "twin", FRONT.vni, ("10.109.0.0/16",))
    cluster.networks = [FRONT, twin, BACK]

    with pytest.raises(Failed, match="vxlan 4101"):
        await wirings["h1"].apply(cluster.items("h1"))
    cluster.networks = [FRONT, BACK]
    await cluster.start(wirings)

    assert reaches(wirings["h1"].namespace(one), "10.101.1.2")


async def test_many_sandboxes_at_once(wirings: Wirings, capsys: pytest.CaptureFixture[str]) -> None:
    cluster, count = Cluster(), 100
    for number in range(1, count + 1):
        cluster.task(number, "h1", FRONT)
    await cluster.apply(wirings)
    began, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for task, (_, endpoints) in cluster.tasks.items():
            group.create_task(wirings["h1"].create_sandbox(task, endpoints))
    made, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert reaches(wirings["h1"].namespace(next(iter(cluster.tasks))), "10.101.1.100")
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for task in cluster.tasks:
            group.create_task(wirings["h1"].delete_sandbox(task))
    gone = time.perf_counter() - began
    assert wirings["h1"].sandboxes() == frozenset()
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{count} sandboxes: {made / count * 1000:.2f} ms each ({cpu / count * 1000:.2f} of CPU), "
            f"deleted {gone / count * 1000:.2f} ms each"
        )


async def test_a_node_without_its_address_is_told_so(hosts: None) -> None:
    lost = Wiring("h1", "192.0.2.1", netns=ROOT / "h1", links=ROOT / "h1-links", home=host("h1"))
    with pytest.raises(Failed, match=r"has the address 192\.0\.2\.1\n.*--advertise"):
        await lost.open()
    await lost.close()
