"""Networks follow the MTU of the link between nodes, and nothing that is connected is cut by it."""

from __future__ import annotations

import socket

import pytest

from agent.network import netlink
from agent.network.wiring import Wiring
from tests.agent.network.test_watch import mended, watching
from tests.agent.network.test_wiring import listening, serving, socket_in
from tests.agent.network.underlay import BACK, INGRESS_NETWORK, ROOT, Cluster, host, inside, namespace, run, wiring

pytestmark = pytest.mark.root

Wirings = dict[str, Wiring]
NETWORK = ROOT / "h1" / f"sn-{BACK.id}"
UPPER = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("up", flush=True)
asker, _ = server.accept()
while data := asker.recv(99):
    asker.sendall(data.upper())
"""


def set_underlay(mtu: int, *hosts: str) -> None:
    for name in hosts:
        run("ip", "-n", namespace(name), "link", "set", "eth0", "mtu", str(mtu))
        run("ip", "-n", namespace("switch"), "link", "set", name, "mtu", str(mtu))


def mtus(wirings: Wirings, task: str) -> set[str]:
    """The MTU of everything on the way of a task's packets on its node, and of the node's own link."""
    ends = (NETWORK, "br0"), (NETWORK, "vxlan0"), (NETWORK, "node"), (NETWORK, f"v-{task[:13]}")
    own = (wirings["h1"].namespace(task), "eth0"), (host("h1"), f"sy-{BACK.id}")
    found = (inside(path, "ip", "-o", "link", "show", name).split() for path, name in (*ends, *own))
    return {words[words.index("mtu") + 1] for words in found}


def fits(wirings: Wirings, task: str, size: int) -> bool:
    """Tell whether a packet of that size goes through to the other node unbroken."""
    ping = ("ping", "-c1", "-W1", "-M", "do", "-s", str(size - 28), "10.102.1.2")
    return " 0% packet loss" in inside(wirings["h1"].namespace(task), *ping, check=False)


async def test_networks_follow_while_connections_go_on(wirings: Wirings) -> None:
    cluster = Cluster()
    one, two = cluster.task(1, "h1", BACK, INGRESS_NETWORK), cluster.task(2, "h2", BACK)
    await cluster.start(wirings)
    assert mtus(wirings, one) == {"1450"}
    with (
        serving(wirings["h2"].namespace(two), 80, "two", UPPER),
        socket_in(wirings["h1"].namespace(one), socket.SOCK_STREAM) as asking,
        listening(NETWORK, host("h1"), wirings["h1"].namespace(one)) as said,
    ):
        asking.connect(("10.102.1.2", 80))
        async with watching(wirings["h1"]), watching(wirings["h2"]):
            for mtu in (1400, 9000):
                set_underlay(mtu, "h1", "h2")
                await mended({str(mtu - 50)}, lambda: mtus(wirings, one), f"MTU {mtu}")
                await mended(True, lambda mtu=mtu: fits(wirings, one, mtu - 50), f"MTU {mtu}")  # type: ignore[misc]
                assert not fits(wirings, one, mtu - 49)
                asking.sendall(b"still there")
                assert asking.recv(99) == b"STILL THERE"
        assert netlink.RTM_DELLINK not in {kind for kind, _ in said()}, "nothing was made anew"


async def test_a_new_process_brings_what_it_finds_to_what_the_underlay_is_now(wirings: Wirings) -> None:
    cluster = Cluster()
    one = cluster.task(1, "h1", BACK)
    await cluster.start(wirings)
    await wirings["h1"].close()
    set_underlay(1400, "h1")
    fresh = wirings["h1"] = wiring("h1")
    await fresh.open()
    await cluster.apply(wirings)
    await fresh.audit()
    assert mtus(wirings, one) == {"1350"}


async def test_an_mtu_that_was_set_by_hand_is_set_back_in_place(wirings: Wirings) -> None:
    cluster = Cluster()
    one = cluster.task(1, "h1", BACK)
    await cluster.start(wirings)
    with listening(NETWORK, host("h1")) as said:
        for name in ("vxlan0", "br0", "node", f"v-{one[:13]}"):
            inside(NETWORK, "ip", "link", "set", name, "mtu", "1300")
        await wirings["h1"].audit()
        assert mtus(wirings, one) == {"1450"}
        assert netlink.RTM_DELLINK not in {kind for kind, _ in said()}


async def test_an_address_that_is_away_for_a_while_changes_nothing(wirings: Wirings) -> None:
    cluster = Cluster()
    one = cluster.task(1, "h1", BACK)
    await cluster.start(wirings)
    held = inside(host("h1"), "ip", "-o", "-4", "addr", "show", "eth0").split()[3]
    inside(host("h1"), "ip", "addr", "flush", "dev", "eth0")
    await wirings["h1"].audit()
    assert mtus(wirings, one) == {"1450"}
    inside(host("h1"), "ip", "addr", "add", held, "dev", "eth0")
