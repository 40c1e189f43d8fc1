"""Probes between hosts that are network namespaces on one bridge, with what stands in their way put there for real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from agent.network import probes as probes_module
from agent.network.probes import Probes
from agent.network.wiring import Wiring
from cluster.examination import Probed, Target
from tests.agent.network import underlay
from tests.agent.network.underlay import address_of, host, inside, run

Hosts = dict[str, Probes]


@pytest.fixture
async def hosts_that_answer(wirings: dict[str, Wiring], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hosts]:
    monkeypatch.setattr(probes_module, "WAITS", (0.3, 1.0, 3.0))
    hosts = {name: Probes(name, address_of(name), wiring) for name, wiring in wirings.items()}
    async with running(*hosts.values()):
        yield hosts


@asynccontextmanager
async def running(*some: Probes) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run()) for each in some]
    try:
        await until(lambda: not any(each.deaf for each in some))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@contextmanager
def dropped(name: str, hook: str, what: str) -> Iterator[None]:
    rules = f"table inet doctor {{ chain c {{ type filter hook {hook} priority 0; {what} drop\n}}\n}}"
    inside(host(name), "nft", rules)
    try:
        yield
    finally:
        inside(host(name), "nft", "delete table inet doctor")


async def probed(hosts: Hosts, source: str, needed: int = 1500) -> dict[str, Probed]:
    targets = [Target(name, address_of(name)) for name in hosts if name != source]
    return {one.target.node: one for one in await hosts[source].send(targets, needed)}


async def test_all_ways_are_open_and_clocks_agree(hosts_that_answer: Hosts) -> None:
    found = await probed(hosts_that_answer, "h1")
    assert {name: (one.passed, one.answerer, one.refused) for name, one in found.items()} == {
        "h2": (1500, "h2", ""),
        "h3": (1500, "h3", ""),
    }
    assert all(abs(one.ahead) <= one.give + 0.01 for one in found.values()), "all have the same clock"
    assert await hosts_that_answer["h1"].send([], 1500) == []


async def test_a_firewall_is_found_in_its_direction(hosts_that_answer: Hosts) -> None:
    with dropped("h2", "input", f"ip saddr {address_of('h1')} udp dport 4789"):
        assert {name: one.passed for name, one in (await probed(hosts_that_answer, "h1")).items()} == {
            "h2": 0,
            "h3": 1500,
        }
        assert (await probed(hosts_that_answer, "h2"))["h1"].passed == 1500, "the other way is open"
    with dropped("h1", "output", "udp dport 4789"):
        found = await probed(hosts_that_answer, "h1")
        assert [(one.passed, one.refused) for one in found.values()] == [(0, "Operation not permitted")] * 2
    assert (await probed(hosts_that_answer, "h1"))["h2"].passed == 1500


async def test_the_size_that_passes_is_found(hosts_that_answer: Hosts) -> None:
    switch = underlay.namespace("switch")
    run("ip", "-n", switch, "link", "set", "h2", "mtu", "1380")
    found = await probed(hosts_that_answer, "h1")
    # A bridge lets the four bytes of a VLAN tag through on top.
    assert 1378 <= found["h2"].passed <= 1384 and found["h3"].passed == 1500
    run("ip", "-n", switch, "link", "set", "h2", "mtu", "1500")
    inside(host("h1"), "ip", "link", "set", "eth0", "mtu", "1400")
    assert 1398 <= (await probed(hosts_that_answer, "h1"))["h3"].passed <= 1400


SPOILT = """table bridge card { chain c { type filter hook forward priority 0;
ip saddr 10.79.0.1 udp dport 4789 @th,224,16 0x0800 @th,512,16 set 0xdead
}
}"""
"""A packet of an overlay that carries IPv4 loses two bytes of what is in it: no checksum of it is right any more."""


COMPUTE_NOTHING = """
import ctypes, fcntl, socket, struct
told = ctypes.create_string_buffer(struct.pack("II", 0x17, 0))  # ETHTOOL_STXCSUM, as `ethtool -K eth0 tx off`
fcntl.ioctl(socket.socket(), 0x8946, struct.pack("16sP16x", b"eth0", ctypes.addressof(told)))
"""


async def test_checksums_that_are_spoilt_on_the_way_are_found_by_who_sends(hosts_that_answer: Hosts) -> None:
    inside(host("h1"), "python3", "-c", COMPUTE_NOTHING)  # the card, so that it is done: on one machine nobody needs it
    assert not any(one.spoilt for one in (await probed(hosts_that_answer, "h1")).values())
    inside(host("switch"), "nft", SPOILT)
    found = await probed(hosts_that_answer, "h1")
    assert {name: (one.passed, one.spoilt) for name, one in found.items()} == {"h2": (1500, True), "h3": (1500, True)}
    assert not any(one.spoilt for one in (await probed(hosts_that_answer, "h2")).values())
    inside(host("switch"), "nft", "delete table bridge card")
    assert not any(one.spoilt for one in (await probed(hosts_that_answer, "h1")).values())


async def test_the_answer_tells_who_has_the_address(hosts_that_answer: Hosts) -> None:
    """Two hosts with one address: whoever is asked first has it."""
    inside(host("h2"), "ip", "link", "set", "eth0", "down")
    inside(host("h3"), "ip", "addr", "add", f"{address_of('h2')}/24", "dev", "eth0")
    inside(host("h1"), "ip", "neigh", "flush", "all")
    found = await probed(hosts_that_answer, "h1")
    assert found["h2"].answerer == "h3"


async def test_another_that_holds_the_number_makes_it_deaf_until_it_goes(
    wirings: dict[str, Wiring], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes_module, "_AGAIN", 0.05)
    inside(host("h1"), "ip", "link", "add", "other", "type", "vxlan", "id", "2789", "dstport", "4789")
    late = Probes("h1", address_of("h1"), wirings["h1"])
    task = asyncio.create_task(late.run())
    await until(lambda: "4789" in late.deaf)
    inside(host("h1"), "ip", "link", "del", "other")
    await until(lambda: not late.deaf)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_left_of_it(wirings: dict[str, Wiring]) -> None:
    before = inside(host("h1"), "ip", "link")
    for _ in range(3):  # one after the other: the kernel gives the number back in its own time
        async with running(Probes("h1", address_of("h1"), wirings["h1"])):
            assert "vxlan" not in inside(host("h1"), "ip", "-d", "link"), "it is not the node's own"
    assert inside(host("h1"), "ip", "link") == before
