"""Networks with IPv6 beside IPv4, as their containers and clients outside see them, and subnets that hosts route."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

NODES = ("n1", "n2", "n3")
LOOK_UP = """
import socket, sys
found = socket.getaddrinfo(sys.argv[1], 0, socket.AF_INET6, socket.SOCK_STREAM)
print(*sorted(entry[4][0] for entry in found))
"""
REVERSE = "import socket, sys; print(socket.gethostbyaddr(sys.argv[1])[0])"
FETCH = """
import sys, urllib.request
for _ in range(int(sys.argv[2])):
    print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode().strip())
"""


def on(cluster: Cluster, node: str, *words: str) -> str:
    return cluster.stack("lab", "exec", node, "--", *words).stdout


@contextmanager
def addresses_of_hosts(cluster: Cluster) -> Iterator[None]:
    try:
        for number, node in enumerate(NODES, 1):
            on(cluster, node, "ip", "addr", "add", f"2001:db8::{number}/48", "dev", "eth0", "nodad")
        yield
    finally:
        for number, node in enumerate(NODES, 1):
            on(cluster, node, "ip", "addr", "del", f"2001:db8::{number}/48", "dev", "eth0")


def test_a_subnet_that_a_host_routes_is_refused_and_published_ports_answer_by_ipv6(
    cluster: Cluster, probe: str
) -> None:
    eventually(lambda: "ingress" not in {n["name"] for n in cluster.listing("network", "ls")}, "no port is published")
    with addresses_of_hosts(cluster):

        def refused() -> str:
            done = cluster.deploy("taken.yml", probe, code=None)
            if done.returncode == 0:
                cluster.stack("rm", probe)
            return done.stderr if done.returncode else ""

        told = eventually(refused, "the manager knows the hosts' routes")
        assert "networks.taken" in told and "overlaps with the route 2001:db8::/48 (eth0) of node n" in told
        cluster.deploy("dual.yml", probe)
        [ingress] = [n for n in cluster.listing("network", "ls") if n["name"] == "ingress"]
        assert [":" in subnet for subnet in ingress["subnets"]] == [False, True]
        names = {task["id"][:12] for task in cluster.tasks(f"{probe}_web")}
        for number in (1, 2, 3):
            said = on(cluster, "n3", "python3", "-c", FETCH, f"http://[2001:db8::{number}]:8080/host", "30")
            assert set(said.split()) <= names and len(names) == 3
            assert len(set(said.split())) > 1, "not only the task on that node"
        assert cluster.stack("rm", probe).returncode == 0


def test_services_are_found_and_reached_by_ipv6_on_every_host(cluster: Cluster, probe: str) -> None:
    cluster.deploy("dual.yml", probe)
    [client] = cluster.tasks(f"{probe}_client")

    def inside(program: str, *words: str) -> list[str]:
        return cluster.docker(client["node"], "exec", client["container"], "python3", "-c", program, *words).split()

    [network] = [n for n in cluster.listing("network", "ls") if n["name"] == f"{probe}_both"]
    assert network["subnets"][1].startswith("fd") and network["subnets"][1].endswith("/64")
    [vip] = inside(LOOK_UP, "web")
    tasks = inside(LOOK_UP, "tasks.web")
    assert len(tasks) == 3 and vip not in tasks
    assert inside(REVERSE, vip) == [f"{probe}_web"]
    assert {name for task in tasks for name in inside(REVERSE, task)} == {f"{probe}_web.{slot}" for slot in (1, 2, 3)}

    hosts = {task["id"][:12] for task in cluster.tasks(f"{probe}_web")}
    assert {name for task in tasks for name in inside(FETCH, f"http://[{task}]:8000/host", "1")} == hosts
    assert set(inside(FETCH, f"http://[{vip}]:8000/host", "60")) == hosts
    assert set(inside(FETCH, "http://web:8000/host", "60")) == hosts, "whichever family the program prefers"
