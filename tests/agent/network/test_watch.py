"""What somebody undoes is put back soon, without being asked, and nothing is done where nothing happens."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from agent.network.wiring import Wiring
from cluster.assignments import NetworkItem, VipItem
from tests.agent.network.underlay import BACK, INGRESS_NETWORK, ROOT, SUBNET, Cluster, host, inside, reaches, rows, run
from tests.patience import PATIENCE

pytestmark = pytest.mark.root

Wirings = dict[str, Wiring]
NETWORK = ROOT / "h1" / f"sn-{BACK.id}"


@asynccontextmanager
async def watching(wiring: Wiring) -> AsyncIterator[None]:
    task = asyncio.create_task(wiring.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def is_namespace(path: Path) -> bool:
    return path.exists() and path.stat().st_dev == host("h1").stat().st_dev


async def mended(wanted: object, found: Callable[[], object], command: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (seen := await asyncio.to_thread(found)) != wanted:
        assert time.monotonic() < deadline, (command, seen)
        await asyncio.sleep(0.1)


class Site:
    """Three tasks on two hosts, and what the first one's kernel holds of them."""

    def __init__(self, wirings: Wirings) -> None:
        self.cluster, self.wirings = Cluster(), wirings
        self.one = self.cluster.task(1, "h1", BACK)
        self.cluster.task(2, "h2", BACK)
        self.published = self.cluster.task(3, "h1", INGRESS_NETWORK)
        self.cluster.vips.append(VipItem(BACK.id, "uid", "stack", "web", ("10.102.255.1",)))
        self.cluster.publish(8080, 80)
        self.sandbox = wirings["h1"].namespace(self.one)

    def whole(self) -> tuple[object, ...]:
        # Not what the kernel chooses anew: MACs of outer ends, numbers of links, link-local addresses.
        own = {row for row in rows(NETWORK) if "@if" not in row and ": vxlan0" not in row}
        own = {row for row in own if not row.endswith("br0 permanent")}
        here = {row.partition(": ")[2] for row in rows(host("h1")) if "sy-" in row and "@if" not in row}
        here = {row for row in here if "inet6" not in row}
        return own, here, *map(_rules, (NETWORK, self.sandbox, host("h1")))


def _rules(path: Path) -> list[str]:
    listed = inside(path, "nft", "list", "ruleset").replace(",", " ")
    return sorted(re.sub(r"counter packets \d+ bytes \d+", "counter", listed).split())


async def test_damage_is_mended_without_being_asked(wirings: Wirings) -> None:
    site = Site(wirings)
    await site.cluster.start(wirings)
    async with watching(wirings["h1"]):
        await asyncio.sleep(1)
        before = site.whole()
        for where, command in (
            (NETWORK, "ip link del vxlan0"),
            (NETWORK, "bridge fdb del 02:42:0a:66:01:02 dev vxlan0 self"),
            (NETWORK, "ip neigh del 10.102.1.2 dev vxlan0"),
            (NETWORK, "nft flush ruleset"),
            (site.sandbox, "nft flush ruleset"),
            (host("h1"), "nft delete table inet stackyard-egress"),
            (host("h1"), "nft flush chain inet stackyard published"),
            (host("h1"), f"ip link del sy-{BACK.id}"),
        ):
            inside(where, *command.split())
            await mended(before, site.whole, command)
        run("umount", "-l", str(NETWORK))
        await mended(True, lambda: is_namespace(NETWORK) and site.whole() == before, "umount")


DAMAGE: dict[str, tuple[str, ...]] = {
    "network": (
        "ip link del vxlan0", "ip link del br0", "ip link del node", "ip link del {outer}", "ip link set vxlan0 down",
        "ip link set {outer} nomaster", "bridge fdb del 02:42:0a:66:01:02 dev vxlan0 self",
        "bridge fdb del 02:42:0a:66:01:02 dev vxlan0 master", "bridge fdb del 02:42:0a:66:01:01 dev {outer} master",
        "bridge fdb append 02:42:0a:66:00:77 dev vxlan0 self dst 10.79.0.3", "ip neigh flush nud permanent",
        "ip neigh replace 10.102.1.2 dev vxlan0 lladdr 02:42:0a:66:00:09 nud permanent", "nft flush ruleset",
        "nft delete table inet stackyard", "umount -l {network}",
    ),
    "sandbox": ("nft flush ruleset", "nft delete table inet stackyard", "ip link del eth0"),
    "host": (
        "nft delete table inet stackyard", "nft delete table inet stackyard-egress", "ip link del sy-{id}",
        "ip link set sy-{id} down", "ip addr flush dev sy-{id}", "nft flush chain inet stackyard published",
        "iptables -F FORWARD", "ip link del sy-ingress",
    ),
}  # fmt: skip
ROUNDS, BLOWS = 10, 4


@pytest.mark.timeout(900)
async def test_whatever_is_damaged_is_mended_and_nothing_else_is_touched(wirings: Wirings) -> None:
    site, random = Site(wirings), Random(5379)
    await site.cluster.start(wirings)
    words = {"outer": "v-" + site.one[:13], "id": BACK.id, "network": str(NETWORK)}
    places = {"network": NETWORK, "sandbox": site.sandbox, "host": host("h1")}
    blows = [(place, command.format(**words)) for place, commands in DAMAGE.items() for command in commands]
    inside(host("h1"), "ip", "link", "add", "sy-mine", "type", "bridge")
    inside(host("h1"), "nft", "add", "table", "inet", "mine")
    async with watching(wirings["h1"]):
        await asyncio.sleep(1)
        before = site.whole()
        for _ in range(ROUNDS):
            chosen = random.sample(blows, BLOWS)
            for place, command in chosen:
                if is_namespace(places[place]):  # what an earlier blow took away cannot be hit any more
                    inside(places[place], *command.split(), check=False)
            await mended(True, lambda: is_namespace(NETWORK) and site.whole() == before, str(chosen))
            for address in ("10.102.1.2", f"{SUBNET}.4", "fd00:102::1:2"):
                await mended(True, partial(reaches, site.sandbox, address, within=1), f"{chosen}, {address}")


async def test_where_nothing_happens_nothing_is_compared(wirings: Wirings, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.task(1, "h1", BACK)
    await cluster.start(wirings)
    audits = 0
    audit = wirings["h1"].audit

    async def counted(**options: bool) -> None:
        nonlocal audits
        audits += 1
        await audit(**options)

    monkeypatch.setattr(wirings["h1"], "audit", counted)
    monkeypatch.setattr("agent.network.wiring.GLANCE_INTERVAL", 0.05)
    monkeypatch.setattr("agent.network.wiring.AUDIT_PAUSE", 0.05)
    async with watching(wirings["h1"]):
        before = 0
        while audits == 0 or audits != before:  # without an end where it audits for ever
            before = audits
            await asyncio.sleep(2)


async def test_networks_come_and_go_while_it_watches(wirings: Wirings, monkeypatch: pytest.MonkeyPatch) -> None:
    for pause in ("wiring.AUDIT_PAUSE", "wiring.GLANCE_INTERVAL", "watch.SETTLING"):
        monkeypatch.setattr(f"agent.network.{pause}", 0.0)
    wiring, items = wirings["h1"], many_networks()
    with threads_that_change_often():
        async with watching(wiring):
            for _ in range(20):
                await wiring.apply(items)
                await wiring.apply([])
                await wiring.clean((), ())


async def test_what_is_begun_ends_before_the_next_also_when_nobody_waits_for_it(wirings: Wirings) -> None:
    wiring, items = wirings["h1"], many_networks()
    for moment in (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08):
        gone = asyncio.ensure_future(wiring.apply(items))
        await asyncio.sleep(moment)
        gone.cancel()
        await wiring.apply([])
        await wiring.clean((), ())
        assert not list((ROOT / "h1").glob("sn-*"))


def many_networks() -> list[NetworkItem]:
    return [NetworkItem(replace(BACK, id=f"net{n}", vni=5000 + n, subnets=(f"10.{n}.0.0/16",))) for n in range(20, 26)]


@contextmanager
def threads_that_change_often() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
