"""Encrypted networks over three hosts: what goes between them, and that nothing of it is clear text, ever."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.network import wireguard_go
from agent.network.tunnels import NAMESPACE
from agent.network.wireguard import PORTS, OwnKey
from agent.network.wiring import Wiring
from agent.tunnel_keys import new_key
from cluster.assignments import Item, PeerItem
from cluster.errors import Failed
from cluster.model.network import Network, TunnelKey
from tests.agent.network import underlay
from tests.agent.network.test_wiring import socket_in
from tests.agent.network.traffic import echoing, forged, say, talking, tapped
from tests.agent.network.underlay import FRONT, ROOT, Cluster, address_of, endpoint, host, inside, reaches, run

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not shutil.which(wireguard_go.PROGRAM), reason="NOTHING OF ENCRYPTED NETWORKS IS TESTED: no wireguard-go here"
    ),
]

Wirings = dict[str, Wiring]
SAFE = Network("safe", "safe", "stack", "safe", 4107, ("10.107.0.0/16",), encrypted=True)


class Encrypting(Cluster):
    """Tells the keys of nodes with their endpoints in encrypted networks."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = [FRONT, SAFE]
        self.keys: dict[str, tuple[OwnKey, ...]] = {name: (new_key(PORTS[0]),) for name in ("h1", "h2", "h3")}

    def items(self, node: str) -> list[Item]:
        told = {name: tuple(TunnelKey(key.public, key.port) for key in keys) for name, keys in self.keys.items()}
        return [
            replace(item, tunnels=told[item.node]) if isinstance(item, PeerItem) and item.network == SAFE.id else item
            for item in super().items(node)
        ]


@pytest.fixture
def cluster() -> Encrypting:
    return Encrypting()


@pytest.fixture
async def wirings(hosts: None, cluster: Encrypting) -> AsyncIterator[Wirings]:
    opened: Wirings = {}
    try:
        for name, keys in cluster.keys.items():
            opened[name] = underlay.wiring(name, keys)
            await opened[name].open()
        yield opened
    finally:
        for each in opened.values():
            await each.in_turn(each.tunnels.remove)
            await each.close()


def processes(name: str) -> list[int]:
    """The programs that serve a host's tunnels."""
    found = subprocess.run(
        ["pgrep", "-f", f"^{wireguard_go.PROGRAM} sywg[01]-{name}$"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def address(number: int, network: Network = SAFE) -> str:
    return endpoint(network, number).addresses[0]


async def test_containers_reach_each_other_with_all_that_the_mtu_allows(wirings: Wirings, cluster: Encrypting) -> None:
    here, there = cluster.task(1, "h1", SAFE, FRONT), cluster.task(2, "h2", SAFE, FRONT)
    cluster.task(3, "h3", SAFE)
    await cluster.start(wirings)
    near, far = wirings["h1"].namespace(here), wirings["h2"].namespace(there)
    assert reaches(near, address(2)) and reaches(far, address(1)) and reaches(near, address(3))
    assert reaches(near, address(2, FRONT))
    # 1500 - 60 (IPv4, UDP, WireGuard) - 16 (what wireguard-go may add) - 70 (IPv6, UDP, VXLAN, Ethernet)
    assert "mtu 1354" in inside(near, "ip", "link", "show", "eth0")
    whole = ("ping", "-c1", "-W5", "-Mdo", "-s", str(1354 - 28), address(2))
    with tapped(host("switch")) as heard:
        assert "1 received" in inside(near, *whole)
        assert max(map(len, heard())) <= 1514


async def test_nobody_between_the_hosts_reads_what_is_said(wirings: Wirings, cluster: Encrypting) -> None:
    here, there = cluster.task(1, "h1", SAFE, FRONT), cluster.task(2, "h2", SAFE, FRONT)
    await cluster.start(wirings)
    near, far = wirings["h1"].namespace(here), wirings["h2"].namespace(there)
    with echoing(far), tapped(host("switch")) as heard:
        assert say(near, address(2, FRONT), b"said for all to hear") == b"said for all to hear"
        assert say(near, address(2), b"said in confidence") == b"said in confidence"
        frames = heard()
    assert any(b"said for all to hear" in frame for frame in frames)
    assert not any(b"confidence" in frame for frame in frames)
    assert any(frame[34:38] == struct.pack("!HH", PORTS[0], PORTS[0]) for frame in frames)


async def test_what_comes_in_clear_is_not_taken_for_encrypted(wirings: Wirings, cluster: Encrypting) -> None:
    here = cluster.task(1, "h1", SAFE, FRONT)
    cluster.task(2, "h2", SAFE, FRONT)
    await cluster.start(wirings)
    container = socket_in(wirings["h1"].namespace(here), socket.SOCK_DGRAM)
    container.bind(("", 7000))
    container.settimeout(10)
    with container, socket_in(host("h3"), socket.SOCK_DGRAM) as attacker:
        for port in (4789, *PORTS):
            attacker.sendto(forged(SAFE.vni, address(2), address(1), b"forged"), (address_of("h1"), port))
        attacker.sendto(
            forged(FRONT.vni, address(2, FRONT), address(1, FRONT), b"as clear as ever"), (address_of("h1"), 4789)
        )
        assert container.recv(99) == b"as clear as ever"  # the same way, and later: the others would have come before
        container.setblocking(False)
        with pytest.raises(BlockingIOError):
            container.recv(99)


async def test_without_wireguard_there_is_no_network_rather_than_a_clear_one(
    wirings: Wirings, cluster: Encrypting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wireguard_go, "PROGRAM", "no-wireguard-here")
    plain = cluster.task(1, "h1", FRONT)
    cluster.task(2, "h2", FRONT)
    wanting = cluster.task(3, "h1", SAFE)
    for wiring in wirings.values():
        await wiring.in_turn(wiring.tunnels.look)
        assert "no-wireguard-here" in wiring.tunnels.trouble
    with pytest.raises(Failed, match="no-wireguard-here"):
        await wirings["h1"].apply(cluster.items("h1"))
    [at] = cluster.tasks[wanting][1]
    with pytest.raises(Failed, match="encrypted"):
        await wirings["h1"].create_sandbox(wanting, (at,))
    assert "vxlan" not in inside(ROOT / "h1" / "sn-safe", "ip", "link")
    assert wanting not in wirings["h1"].sandboxes()
    await wirings["h1"].create_sandbox(plain, cluster.tasks[plain][1])
    assert (ROOT / "h1" / "sn-front").exists()


async def test_when_the_tunnels_go_nothing_goes_in_clear(
    wirings: Wirings, cluster: Encrypting, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = cluster.task(1, "h1", SAFE), cluster.task(2, "h2", SAFE)
    await cluster.start(wirings)
    near, far = wirings["h1"].namespace(here), wirings["h2"].namespace(there)
    assert reaches(near, address(2))
    inside(ROOT / "h1" / NAMESPACE, "ip", "link", "delete", "sywg0-h1")
    monkeypatch.setattr(wireguard_go, "PROGRAM", "no-wireguard-here")
    await wirings["h1"].audit()
    with echoing(far), tapped(host("switch")) as heard, socket_in(near, socket.SOCK_DGRAM) as saying:
        saying.sendto(b"said in confidence", (address(2), 7000))
        assert not answers_now(near, 2)
        assert not any(b"confidence" in frame for frame in heard())
    monkeypatch.undo()
    await wirings["h1"].audit()
    await reached(near, 2)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(300):
        if await holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("not within half a minute")


def answers_now(where: Path, number: int) -> bool:
    return "1 packets received" in inside(where, "busybox", "ping", "-c1", "-W1", address(number), check=False)


async def reached(where: Path, number: int) -> None:
    await until(lambda: asyncio.to_thread(answers_now, where, number))


def kill_program(name: str) -> None:
    [pid] = processes(name)
    os.kill(pid, signal.SIGKILL)


def in_tunnels(*words: str) -> Callable[[], object]:
    return lambda: inside(ROOT / "h1" / NAMESPACE, *words)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(partial(kill_program, "h1"), id="the program"),
        pytest.param(in_tunnels("ip", "link", "del", "sywg0-h1"), id="the link"),
        pytest.param(in_tunnels("ip", "link", "set", "sywg0-h1", "down"), id="the link is down"),
        pytest.param(in_tunnels("ip", "-6", "route", "flush", "proto", "static"), id="routes"),
        pytest.param(in_tunnels("ip", "-6", "addr", "flush", "dev", "sywg0-h1"), id="the address"),
        pytest.param(partial(run, "umount", "-l", str(ROOT / "h1" / NAMESPACE)), id="the namespace"),
    ],
)
async def test_damage_is_mended(wirings: Wirings, cluster: Encrypting, damage: Callable[[], object]) -> None:
    here = cluster.task(1, "h1", SAFE)
    cluster.task(2, "h2", SAFE)
    await cluster.start(wirings)
    near = wirings["h1"].namespace(here)
    assert reaches(near, address(2))
    watching = asyncio.create_task(wirings["h1"].run())
    try:
        damage()
        await reached(near, 2)
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def test_a_restart_of_the_agent_loses_nothing(wirings: Wirings, cluster: Encrypting) -> None:
    here, there = cluster.task(1, "h1", SAFE), cluster.task(2, "h2", SAFE)
    await cluster.start(wirings)
    near, far = wirings["h1"].namespace(here), wirings["h2"].namespace(there)
    before, lost = processes("h1"), list[int]()
    with echoing(far), talking(near, address(2), lost):
        for _ in range(2):
            await wirings["h1"].close()
            wirings["h1"] = underlay.wiring("h1", cluster.keys["h1"])
            await wirings["h1"].open()
            await wirings["h1"].apply(cluster.items("h1"), prune=False)
            await wirings["h1"].apply(cluster.items("h1"))
            await wirings["h1"].audit()
    assert lost == []
    assert processes("h1") == before


async def test_keys_are_exchanged_without_loss(wirings: Wirings, cluster: Encrypting) -> None:
    here, there = cluster.task(1, "h1", SAFE), cluster.task(2, "h2", SAFE)
    await cluster.start(wirings)
    near, far = wirings["h1"].namespace(here), wirings["h2"].namespace(there)
    lost: list[int] = []
    with echoing(far), talking(near, address(2), lost):
        for name in ("h1", "h2", "h1"):
            wiring, [old, *_] = wirings[name], cluster.keys[name]
            new = new_key(next(port for port in PORTS if port != old.port))
            await use(wirings, cluster, name, old, new)
            await until(lambda w=wiring, k=new: w.in_turn(partial(w.tunnels.is_met, k)))  # type: ignore[misc]
            await use(wirings, cluster, name, new, old)
    assert lost == []
    assert len(processes("h1")) == 2


async def use(wirings: Wirings, cluster: Encrypting, name: str, *keys: OwnKey) -> None:
    """Have a host use keys, and tell the others."""
    cluster.keys[name] = keys
    await wirings[name].in_turn(partial(wirings[name].tunnels.use, keys))
    await cluster.apply(wirings)


async def test_a_key_that_nobody_knows_is_not_met(wirings: Wirings, cluster: Encrypting) -> None:
    here = cluster.task(1, "h1", SAFE)
    cluster.task(2, "h2", SAFE)
    await cluster.start(wirings)
    [old], new = cluster.keys["h1"], new_key(PORTS[1])
    wiring = wirings["h1"]
    await wiring.in_turn(partial(wiring.tunnels.use, (old, new)))
    assert reaches(wiring.namespace(here), address(2))
    assert not await wiring.in_turn(partial(wiring.tunnels.is_met, new))


async def test_nothing_is_left_of_tunnels_that_nobody_needs(wirings: Wirings, cluster: Encrypting) -> None:
    cluster.task(1, "h1", SAFE)
    cluster.task(2, "h2", SAFE)
    await cluster.start(wirings)
    assert processes("h1") and (ROOT / "h1" / NAMESPACE).exists()
    await wirings["h1"].apply(())
    await wirings["h1"].clean((), ())
    assert not (ROOT / "h1" / NAMESPACE).exists()
    await until(lambda: asyncio.to_thread(lambda: not processes("h1")))


async def test_a_port_that_is_taken_is_said(wirings: Wirings, cluster: Encrypting) -> None:
    cluster.task(1, "h1", SAFE)
    with socket_in(host("h1"), socket.SOCK_DGRAM) as other:
        other.bind(("", PORTS[0]))
        with pytest.raises(Failed, match=f"UDP port {PORTS[0]} is taken"):
            await wirings["h1"].apply(cluster.items("h1"))
    await wirings["h1"].apply(cluster.items("h1"))
