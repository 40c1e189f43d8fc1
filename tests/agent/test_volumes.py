"""Volumes that are to go with their data, on a real engine."""

from __future__ import annotations

import asyncio

from cluster.assignments import VolumeItem
from cluster.model.container import Mount
from cluster.model.task import TaskState
from cluster.model.volume import VolumeSpec
from cluster.protocol import VolumesRemoved
from tests.agent.builders import a_task, an_item
from tests.agent.node import Node
from tests.engines import EngineHost
from tests.patience import PATIENCE

DATA = an_item(mounts=(Mount("volume", "/data", "shop_data"),), volumes=(VolumeSpec("data", "shop_data"),))


def volumes(host: EngineHost) -> set[str]:
    return {volume["Name"] for volume in host.call("GET", "/volumes")["Volumes"] or ()}


async def told(node: Node) -> VolumesRemoved:
    """What the next session would be told."""
    node.runner.volumes.tell_again()
    async with asyncio.timeout(PATIENCE):
        return await node.runner.volumes.take()


async def test_a_volume_goes_once_its_last_container_has_gone(node: Node, host: EngineHost) -> None:
    task = a_task(DATA)
    node.assign(DATA, task)
    await node.reach(task, TaskState.RUNNING)
    node.assign(VolumeItem("shop_data"))  # as on a node that was down: its container has yet to go, too
    assert await told(node) == VolumesRemoved(("shop_data",))
    assert volumes(host) == set()
    assert await told(node) == VolumesRemoved(("shop_data",)), "each session is told"
    assert "volumes" not in node.runner.conditions


async def test_a_volume_that_is_not_there_is_gone(node: Node) -> None:
    node.assign(VolumeItem("shop_data"))
    assert await told(node) == VolumesRemoved(("shop_data",))


async def test_nothing_is_removed_before_a_manager_gave_a_whole_set(node: Node, host: EngineHost) -> None:
    host.call("POST", "/volumes/create", {"Name": "shop_data", "Labels": {"com.stackyard.stack": "shop"}})
    node.assign(VolumeItem("shop_data"), complete=False)
    assert node.runner.known.volumes == frozenset()
    node.assign(VolumeItem("shop_data"))
    await told(node)
    assert volumes(host) == set()


async def test_a_volume_that_no_stack_made_is_left_alone_and_named(node: Node, host: EngineHost) -> None:
    host.call("POST", "/volumes/create", {"Name": "shop_data", "Labels": {"mine": "yes"}})
    node.assign(VolumeItem("shop_data"))
    await node.condition("volumes")
    assert "docker volume rm shop_data" in node.runner.conditions["volumes"]
    assert volumes(host) == {"shop_data"}
    host.call("DELETE", "/volumes/shop_data")
    assert await told(node) == VolumesRemoved(("shop_data",))
    assert "volumes" not in node.runner.conditions
