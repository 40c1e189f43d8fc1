"""Hosts that have IPv6 addresses alone: what passes between their containers."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from agent.network import wireguard_go
from agent.network.plan import around
from agent.network.wiring import Wiring
from tests.agent.network import underlay
from tests.agent.network.test_tunnels import SAFE, Encrypting
from tests.agent.network.underlay import BACK, FRONT, INGRESS_NETWORK, NAMES, Cluster, inside, namespace, reaches, run

pytestmark = pytest.mark.root

Wirings = dict[str, Wiring]
SEALS = shutil.which(wireguard_go.PROGRAM) is not None


def address_of(name: str) -> str:
    return f"fd79::{NAMES.index(name) + 1}"


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(underlay, "address_of", address_of)
    with underlay.underlay():
        for name in NAMES:
            run("ip", "-n", namespace(name), "-4", "addr", "flush", "dev", "eth0")
            run("ip", "-n", namespace(name), "addr", "add", f"{address_of(name)}/64", "dev", "eth0", "nodad")
        yield


@pytest.fixture
async def sealed(hosts: None) -> AsyncIterator[tuple[Wirings, Encrypting]]:
    cluster, opened = Encrypting(), Wirings()
    try:
        for name, keys in cluster.keys.items():
            opened[name] = underlay.wiring(name, keys)
            await opened[name].open()
        yield opened, cluster
    finally:
        for each in opened.values():
            await each.in_turn(each.tunnels.remove)
            await each.close()


async def test_containers_reach_each_other_with_all_that_the_mtu_allows(wirings: Wirings) -> None:
    cluster = Cluster()
    one, two = cluster.task(1, "h1", BACK, FRONT), cluster.task(2, "h2", BACK, FRONT)
    cluster.task(3, "h3", INGRESS_NETWORK)
    await cluster.start(wirings)
    where = wirings["h1"].namespace(one)
    for endpoint in cluster.tasks[two][1]:
        for address in endpoint.addresses:
            assert reaches(where, address), address
    mtu = 1500 - around(address_of("h1"), encrypted=False)
    assert f"mtu {mtu}" in inside(where, "ip", "link", "show", "eth0")
    there = cluster.tasks[two][1][0].addresses[0]
    sent = inside(where, "ping", "-c1", "-W20", "-M", "do", "-s", str(mtu - 28), there)
    assert "1 received" in sent


@pytest.mark.skipif(not SEALS, reason="NOTHING OF ENCRYPTED NETWORKS IS TESTED: no wireguard-go here")
async def test_encrypted_networks_pass_between_them(sealed: tuple[Wirings, Encrypting]) -> None:
    wirings, cluster = sealed
    one = cluster.task(1, "h1", SAFE)
    two = cluster.task(2, "h2", SAFE)
    await cluster.start(wirings)
    where = wirings["h1"].namespace(one)
    mtu = 1500 - around(address_of("h1"), encrypted=True)
    there = cluster.tasks[two][1][0].addresses[0]
    assert reaches(where, there)
    assert "1 received" in inside(where, "ping", "-c1", "-W20", "-M", "do", "-s", str(mtu - 28), there)
