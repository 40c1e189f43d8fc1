"""Tasks that come and go leave nothing behind: neither in the kernel nor in the agent.

STACKYARD_TEST_CYCLES says how many come and go (1,000 take some minutes).
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.network.wiring import Wiring
from agent.networks import Networks
from agent.resolver import Resolver
from cluster.assignments import VipItem
from tests.agent.network.underlay import BACK, FRONT, INGRESS_NETWORK, ROOT, Cluster, host, inside, run, wiring
from tests.patience import PATIENCE

pytestmark = [pytest.mark.root, pytest.mark.timeout(2700)]

CYCLES = int(os.environ.get("STACKYARD_TEST_CYCLES", "100"))
AT_ONCE = 10
WARM_UP = 40
MULTICAST = ("01:", "33:")
"""Rows of the kernel's own: links get and lose them in its time."""
NETWORKS = [ROOT / "h1" / f"sn-{network.id}" for network in (FRONT, BACK, INGRESS_NETWORK)]


@dataclass(frozen=True)
class Left:
    """What there is of things that could be left behind."""

    names: frozenset[str]
    links: tuple[frozenset[str], ...]
    rows: tuple[int, ...]
    tables: tuple[frozenset[str], ...]
    descriptors: int
    objects: int
    resident: int

    @classmethod
    def now(cls) -> Left:
        gc.collect()
        places = [*NETWORKS, host("h1")]
        links = [inside(place, "ip", "-o", "link").splitlines() for place in places]
        return cls(
            frozenset(path.name for path in (ROOT / "h1").iterdir()),
            tuple(frozenset(line.split()[1] for line in found) for found in links),
            tuple(sum(not row.startswith(MULTICAST) for row in _rows(place)) for place in places),
            tuple(frozenset(inside(place, "nft", "list", "ruleset").replace(",", " ").split()) for place in places),
            len(os.listdir("/proc/self/fd")),
            len(gc.get_objects()),
            int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        )


def _rows(place: Path) -> list[str]:
    return inside(place, "bridge", "fdb").splitlines()


@pytest.fixture
async def networks(hosts: None) -> AsyncIterator[Networks]:
    wired = wiring("h1")
    networks = Networks(wired, Resolver(wired))
    await networks.open()
    try:
        yield networks
    finally:
        await networks.close()


async def settled(enough: Callable[[Left], bool] = lambda left: True) -> Left:
    """Look until nothing of a task is there any more: the kernel ends namespaces, and with them links, in its own time.

    After PATIENCE seconds it is as it is.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        left = Left.now()
        of_tasks = any(link.startswith("v-") for links in left.links for link in links)
        if (not of_tasks and enough(left)) or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.1)


async def come_and_go(networks: Networks, numbers: range) -> None:
    """Some tasks come, are known and reached, and go."""
    cluster = Cluster()
    cluster.publish(8080, 80)
    cluster.vips.append(VipItem(BACK.id, "uid", "stack", "web", ("10.102.255.1",)))
    for number in numbers:
        cluster.task(number, "h1", FRONT, BACK, INGRESS_NETWORK)
    await networks.apply(cluster.items("h1"))
    tasks = {task: endpoints for task, (_, endpoints) in cluster.tasks.items()}
    async with asyncio.TaskGroup() as group:
        for task, endpoints in tasks.items():
            group.create_task(networks.create_sandbox(task, endpoints))
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(networks.delete_sandbox(task))
    cluster.tasks.clear()
    await networks.apply(cluster.items("h1"))
    await networks.clean((), ())


async def test_what_comes_and_goes_leaves_nothing(networks: Networks, capsys: pytest.CaptureFixture[str]) -> None:
    async def some(first: int, count: int) -> None:
        for start in range(first, first + count, AT_ONCE):
            await come_and_go(networks, range(start, start + AT_ONCE))

    await some(1, WARM_UP)
    before = await settled()
    await some(1 + WARM_UP, CYCLES)
    after = await settled(lambda left: left.objects - before.objects < CYCLES / 2)

    with capsys.disabled():
        print(  # noqa: T201
            f"\n{CYCLES} sandboxes came and went: {after.descriptors - before.descriptors:+} descriptors, "
            f"{after.objects - before.objects:+} objects, {(after.resident - before.resident) / 1024:+.0f} KiB resident"
        )
    assert after.names == before.names
    assert after.links == before.links
    assert after.rows == before.rows
    assert after.tables == before.tables
    assert after.descriptors == before.descriptors
    assert after.objects - before.objects < CYCLES / 2, "something is kept of each"


async def test_links_that_a_crash_has_left_go_and_those_of_others_stay(wirings: dict[str, Wiring]) -> None:
    cluster = Cluster()
    cluster.task(1, "h1", BACK)
    await cluster.start(wirings)
    await wirings["h1"].close()
    network = ROOT / "h1" / "sn-back"
    with network.open():  # it has lost its name, and somebody keeps it in being
        run("umount", "-l", str(network))
        inside(host("h1"), "ip", "link", "add", "sy-mine", "type", "bridge")

        wirings["h1"] = wiring("h1")
        await wirings["h1"].open()
        await wirings["h1"].apply([])
        await wirings["h1"].clean((), ())

        listed = inside(host("h1"), "ip", "-o", "link").splitlines()
        assert {line.split()[1].split("@")[0].rstrip(":") for line in listed} == {"lo", "eth0", "sy-mine"}
