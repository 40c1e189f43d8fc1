"""When a node says that its disk is nearly full, and what an engine offers."""

from __future__ import annotations

import os

import pytest

from agent.disk import Disk, shortage
from agent.engine_facts import facts_from

GIB = 2**30


@pytest.mark.parametrize(
    ("free", "size", "before", "short"),
    [
        pytest.param(50 * GIB, 100 * GIB, False, False, id="half of it is free"),
        pytest.param(4 * GIB, 100 * GIB, False, True, id="little, and a small part"),
        pytest.param(20 * GIB, 1000 * GIB, False, False, id="a small part of a big disk is enough"),
        pytest.param(4 * GIB, 40 * GIB, False, False, id="little, but much of a small disk"),
        pytest.param(6 * GIB, 100 * GIB, True, True, id="it is not over at once"),
        pytest.param(6 * GIB, 100 * GIB, False, False, id="and does not begin so early"),
        pytest.param(7 * GIB, 100 * GIB, True, False, id="it is over"),
    ],
)
def test_when_a_disk_is_short_of_space(free: int, size: int, before: bool, short: bool) -> None:
    assert shortage(free, size, before) is short


async def test_a_directory_that_is_not_there_is_no_trouble_of_the_disk() -> None:
    disk = Disk()
    await disk._look("/no/such/directory")
    assert disk.trouble == ""


async def test_a_disk_that_fills_up_is_told_with_its_figures_until_there_is_room_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk, told = Disk(), []
    for free in (50, 4, 6, 7):
        found = os.statvfs_result((4096, 4096, 100 * GIB // 4096, 0, free * GIB // 4096, 0, 0, 0, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda path, found=found: found)
        await disk._look("/var/lib/docker")
        told.append(disk.trouble)
    assert told == [
        "",
        "4.0 of 100 GiB are free in /var/lib/docker",
        "6.0 of 100 GiB are free in /var/lib/docker",
        "",
    ]


def test_generic_resources_of_the_engine_are_counted_by_kind() -> None:
    info = {
        "DockerRootDir": "/var/lib/docker",
        "GenericResources": [
            {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}},
            {"NamedResourceSpec": {"Kind": "gpu", "Value": "UUID1"}},
            {"NamedResourceSpec": {"Kind": "gpu", "Value": "UUID2"}},
        ],
    }
    facts = facts_from(info, (1, 41), 0.0)
    assert (facts.resources, facts.root) == ({"ssd": 3, "gpu": 2}, "/var/lib/docker")
