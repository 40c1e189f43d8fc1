"""What is told of the host's own routes."""

from __future__ import annotations

import ipaddress

import pytest

from agent.network.routes import Route, subnets_elsewhere
from agent.network.wiring import Wiring
from cluster.model.network import Network
from cluster.protocol import MOST_ROUTES
from tests.agent.network import underlay
from tests.agent.network.underlay import Cluster, namespace, run

NAMES = {1: "lo", 2: "eth0", 3: "sy-front", 4: "docker0"}


def route(subnet: str, link: int = 2) -> Route:
    return Route(ipaddress.ip_network(subnet), link)


@pytest.mark.parametrize(
    ("routes", "told"),
    [
        pytest.param([route("10.9.0.0/24")], {"10.9.0.0/24": "eth0"}, id="a subnet"),
        pytest.param([route("172.17.0.0/16", 4)], {"172.17.0.0/16": "docker0"}, id="one of Docker's"),
        pytest.param([route("10.0.0.0/8", 0)], {"10.0.0.0/8": ""}, id="by several links"),
        pytest.param([*map(route, ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "2000::/3"))], {}, id="default"),
        pytest.param([route("10.9.0.7/32"), route("fd12::7/128")], {}, id="single addresses"),
        pytest.param([route("10.128.0.0/20", 3), route("fd12::/64", 3)], {}, id="our own"),
        pytest.param([route("fe80::/64"), route("ff00::/8"), route("127.0.0.0/8", 1)], {}, id="no addresses of others"),
        pytest.param([route("10.9.0.0/24"), route("10.9.1.0/24")], {"10.9.0.0/23": "eth0"}, id="neighbouring ones"),
        pytest.param(
            [route("10.9.0.0/24"), route("10.9.1.0/24", 4)],
            {"10.9.0.0/24": "eth0", "10.9.1.0/24": "docker0"},
            id="neighbouring ones of two links",
        ),
    ],
)
def test_what_managers_are_told(routes: list[Route], told: dict[str, str]) -> None:
    assert subnets_elsewhere(routes, NAMES) == told


def test_of_very_many_the_widest_are_told() -> None:
    many = [route(f"10.{n // 256}.{n % 256}.0/25") for n in range(2 * MOST_ROUTES)]
    told = subnets_elsewhere([*many, route("192.168.0.0/16")], NAMES)
    assert len(told) == MOST_ROUTES
    assert "192.168.0.0/16" in told


async def test_the_host_s_routes_are_known_and_followed_without_our_own(wirings: dict[str, Wiring]) -> None:
    here = wirings["h1"]
    own = {f"{underlay.SUBNET}.0/24": "eth0"}
    assert here.elsewhere == own
    cluster = Cluster()
    cluster.task(1, "h1", underlay.FRONT, underlay.BACK)
    await cluster.start(wirings)
    ip = ("ip", "-n", namespace("h1"))
    run(*ip, "route", "add", "10.55.0.0/16", "via", f"{underlay.SUBNET}.2")
    run(*ip, "route", "add", "10.56.0.0/16", "dev", "eth0", "table", "52")
    run(*ip, "route", "add", "blackhole", "10.57.0.0/16")
    run(*ip, "-6", "addr", "add", "fd77::1/64", "dev", "eth0")
    run(*ip, "route", "add", "default", "via", f"{underlay.SUBNET}.2")
    await here.audit()
    assert here.elsewhere == own | {"10.55.0.0/16": "eth0", "10.56.0.0/16": "eth0", "fd77::/64": "eth0"}
    run(*ip, "route", "del", "10.55.0.0/16")
    await here.audit()
    assert "10.55.0.0/16" not in here.elsewhere


async def test_a_node_has_the_gateway_that_was_asked_for(wirings: dict[str, Wiring]) -> None:
    cluster = Cluster()
    asked = Network("front", "front", "stack", "front", 4101, ("10.101.0.0/16",), gateways=("10.101.255.1",))
    cluster.networks = [asked]
    task = cluster.task(1, "h1", asked)
    await cluster.start(wirings)
    routes = underlay.inside(wirings["h1"].namespace(task), "ip", "route")
    assert "default via 10.101.255.1 dev eth0" in routes
    assert "10.101.255.1/16" in run("ip", "-n", namespace("h1"), "addr", "show", "sy-front")
