"""Published ports, as somebody outside of the cluster sees them."""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
from functools import partial

import pytest

from tests.integration.conftest import STACKS, Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]


def test_tasks_see_the_address_of_the_client_whichever_node_it_dials(cluster: Cluster, probe: str) -> None:
    cluster.deploy("two-nets.yml", probe)
    seen = {cluster.get(node, 8080)["client"] for node in ("n1", "n2", "n3") for _ in range(3)}
    [client] = seen
    nodes = {cluster.lab.layout.node(node).address for node in ("n1", "n2", "n3")}
    assert client not in nodes, "nor does a node stand in for it"
    assert ipaddress.ip_address(client) in ipaddress.ip_network(cluster.lab.layout.subnet)


UDP = """
import socket
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("", 8001))
while True:
    _, client = server.recvfrom(99)
    server.sendto(f"{socket.gethostname()} {client[0]}".encode(), client)
"""
LISTEN = "import socket, sys; held = socket.create_server(('', int(sys.argv[1]))); sys.stdin.read()"
NODES = ("n1", "n2", "n3")


def test_ranges_of_ports_by_udp_and_tcp_lead_to_the_host_s_own_task(cluster: Cluster, probe: str) -> None:
    cluster.deploy("routed.yml", probe)
    hosts = {}
    for node in NODES:
        labels = (f"label=com.stackyard.stack={probe}", "label=com.stackyard.service=web")
        [container] = cluster.containers(node, *labels)
        hosts[node] = cluster.docker(node, "exec", container, "hostname").strip()
        cluster.docker(node, "exec", "-d", container, "python3", "-c", UDP)

    def told(node: str) -> list[str]:
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            asking.connect((cluster.lab.layout.node(node).address, 8101))
            asking.send(b"who?")
            try:
                return asking.recv(99).decode().split()
            except OSError:
                return []  # the server has yet to begin

    [client] = {cluster.get(node, 8100)["client"] for node in NODES}
    for node in NODES:
        # A name may be a moment old: what was made last is led to last.
        own = partial(lambda node: {cluster.get(node, 8100)["host"] for _ in range(8)} == {hosts[node]}, node)
        eventually(own, "its own task answers")
        assert eventually(partial(told, node), "it is answered by UDP") == [hosts[node], client]


def test_a_sticky_client_meets_one_task_and_a_host_without_one_leads_on(cluster: Cluster, probe: str) -> None:
    cluster.deploy("routed.yml", probe)

    def hosts() -> set[str]:
        said = [cluster.get("n1", 8103, "/fetch?url=http://web:8000/&timeout=60", timeout=90) for _ in range(12)]
        return {json.loads(answer["body"])["host"] for answer in said}

    eventually(lambda: len(hosts()) == 1, "all go to the same one")
    cluster.stack("node", "drain", "n3")
    try:
        assert cluster.get("n3", 8100)["host"], "another node's task answers"
    finally:
        cluster.stack("node", "activate", "n3")


def test_ports_that_are_in_use_are_refused_with_the_node(cluster: Cluster, probe: str) -> None:
    enter = cluster.lab.node("n2").host.enter()
    with subprocess.Popen([*enter, "python3", "-c", LISTEN, "8102"], stdin=subprocess.PIPE):  # until that is closed
        eventually(lambda: "held by a program of node n2" in refused(cluster, probe), "the manager knows of it")
    eventually(lambda: not refused(cluster, probe), "it is gone")


def refused(cluster: Cluster, stack: str) -> str:
    """What a deploy would be refused with; "" if it would not be."""
    done = cluster.stack("plan", "-f", str(STACKS / "routed.yml"), stack, code=None)
    return done.stderr if done.returncode == 1 else ""
