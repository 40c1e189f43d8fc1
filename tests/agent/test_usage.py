"""What is read of engines and links: tables for what they say, and real ones of either generation."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.usage import Usage, counters, stored, traffic
from cluster.model.task import TaskState
from cluster.protocol import Measure
from cluster.usage import Counters, Stored
from tests.agent.builders import a_network, a_task, an_item, in_network
from tests.agent.node import Node
from tests.patience import PATIENCE

LINKS = """\
Inter-|   Receive                            |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:  500 5 0 0 0 0 0 0  500 5 0 0 0 0 0 0
  eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0
  eth1:{0} 10 0 0 0 0 0 0 4 20 0 0 0 0 0 0
"""


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        pytest.param(LINKS.format(30), [1030, 2004, 20, 40, 0], id="all but the loopback"),
        pytest.param(LINKS.format(99999999999), [100000000999, 2004, 20, 40, 0], id="no space after the colon"),
        pytest.param("\n".join(LINKS.splitlines()[:3]), [0, 0, 0, 0, 0], id="no links"),
    ],
)
def test_traffic(listed: str, told: list[int]) -> None:
    assert traffic(listed) == told


def statistics(**changed: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "read": "2026-01-31T12:00:00.5Z",
        "cpu_stats": {"cpu_usage": {"total_usage": 7}},
        "memory_stats": {"usage": 100, "limit": 1000, "stats": {"inactive_file": 30}},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 1}, {"op": "write", "value": 2}]},
        "pids_stats": {"current": 3},
    }
    return told | changed


AT = 1769860800.5


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(statistics(), Counters("t1", AT, 7, 70, 1000, None, None, 1, 2, 3), id="cgroups v2"),
        pytest.param(
            statistics(
                memory_stats={"usage": 100, "limit": 9, "stats": {"total_inactive_file": 10, "inactive_file": 5}},
                blkio_stats={
                    "io_service_bytes_recursive": [{"op": "Read", "value": 1}, {"op": "Read", "value": 5},
                                                   {"op": "Total", "value": 6}]
                },
            ),
            Counters("t1", AT, 7, 90, 9, None, None, 6, 0, 3),
            id="cgroups v1",
        ),
        pytest.param(
            statistics(blkio_stats={"io_service_bytes_recursive": None}, pids_stats={}),
            Counters("t1", AT, 7, 70, 1000),
            id="no block device was touched",
        ),
        pytest.param(statistics(read="0001-01-01T00:00:00Z", memory_stats={}), None, id="it does not run"),
    ],
)  # fmt: skip
def test_counters(told: dict[str, Any], expected: Counters | None) -> None:
    assert counters("t1", told) == expected


def test_what_lies_on_a_disk() -> None:
    told = {
        "LayersSize": 100,
        "Images": [{"Containers": 1, "Size": 60, "SharedSize": 20}, {"Containers": 0, "Size": 60, "SharedSize": 20}],
        "Containers": [{"State": "running", "SizeRw": 5}, {"State": "exited", "SizeRw": 7}, {"State": "created"}],
        "Volumes": [
            {"UsageData": {"Size": 10, "RefCount": 1}}, {"UsageData": {"Size": 4, "RefCount": 0}},
            {"UsageData": {"Size": -1, "RefCount": -1}},
        ],
        "BuildCache": [{"InUse": False, "Shared": False, "Size": 8}, {"InUse": True, "Shared": True, "Size": 9}],
    }  # fmt: skip
    assert list(stored(told)) == [
        Stored("images", 2, 1, 100, 60),
        Stored("containers", 3, 1, 12, 7),
        Stored("volumes", 3, 1, 14, 4),
        Stored("build cache", 1, 0, 8, 8),
    ]
    nothing = {"LayersSize": 0, "Images": None, "Containers": None, "Volumes": None, "BuildCache": None}
    assert {(one.count, one.size, one.reclaimable) for one in stored(nothing)} == {(0, 0, 0)}


async def test_engines_and_links_are_read(node: Node) -> None:
    pings = ("sh", "-c", "while :; do ping -c 1 -W 1 10.128.0.3; sleep 0.1; done")
    pinging, quiet = an_item("web", command=pings), an_item("db")
    (web, web_peer), (db, db_peer) = in_network(a_task(pinging), "10.128.0.2"), in_network(a_task(quiet), "10.128.0.3")
    node.assign(pinging, quiet, a_network(), web, db, web_peer, db_peer)
    await node.reach(web, TaskState.RUNNING)
    await node.reach(db, TaskState.RUNNING)
    usage = Usage(node.engine, node.runner.known, node.wiring)
    both = Measure("q", (web.id, db.id, "gone"), False, PATIENCE)
    first = await usage.measure(both)
    assert [one.task for one in first.tasks] == [web.id, db.id]
    async with asyncio.timeout(PATIENCE):
        while True:
            later = (await usage.measure(both)).tasks
            sent = [one.sent > before.sent for one, before in zip(later, first.tasks, strict=True)]  # type: ignore[operator]
            if all(sent):  # the other one answers
                break
            await asyncio.sleep(0.1)
    for one, before in zip(later, first.tasks, strict=True):
        assert one.at > before.at and one.cpu >= before.cpu > 0
        assert one.memory_limit > one.memory > 0 and one.pids >= 1
    [passed] = (await usage.measure(Measure("q", (web.id, "gone"), False, PATIENCE, traffic=True))).traffic
    assert passed.task == web.id and passed.sent >= (later[0].sent or 0) > passed.sent_packets > 0
    disk = {one.kind: one for one in (await usage.measure(Measure("q", (), True, PATIENCE))).disk}
    assert (disk["containers"].count, disk["containers"].active) == (2, 2)
    assert disk["images"].count >= disk["images"].active >= 1 and disk["images"].size > 0


async def test_a_manager_is_answered_also_while_the_engine_does_not(node: Node) -> None:
    usage = Usage(node.engine, node.runner.known, node.wiring)
    answering = asyncio.create_task(usage.run())
    try:
        async with asyncio.timeout(PATIENCE):
            usage.ask(Measure("q1", ("gone",), False, PATIENCE))
            told = await usage.take()
            assert (told.id, told.tasks, told.problem) == ("q1", (), "")
            node.engine.forget()
            usage.ask(Measure("q2", (), True, PATIENCE))
            assert (await usage.take()).problem == "the engine is not connected"
    finally:
        answering.cancel()
        await node.engine.connect()
