"""`stack network` and `stack volume`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.codec import key_of
from cluster.model.node import NodeStatus
from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd

APP = """
name: app
services: {db: {image: x, volumes: ["data:/data"], networks: [back]}}
networks: {back: {internal: true}}
volumes: {data: {}}
"""


async def test_networks_and_volumes_are_listed_and_told(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", APP)
    async with obedient(manager):
        assert (await person.stack("deploy")).code == 0
        _, row = (await person.stack("network", "ls")).out.splitlines()
        assert row.split()[:2] == ["app_back", "app"] and row.split()[-4:] == ["yes", "no", "1", "-"]
        (found,) = (await person.stack("network", "inspect", "app_back", "--format", "json")).json
        assert (found["network"]["internal"], found["network"]["endpoints"]) == (True, 1)
        _, row = (await person.stack("volume", "ls")).out.splitlines()
        assert row.split()[:4] == ["app_data", "n1", "app", "app_db"]
        said = await person.stack("volume", "rm", "app_data")
        assert said.code == 2 and "volume app_data is used by service app_db" in said.err
        said = await person.stack("rm", "app")
        assert (said.code, said.out) == (
            0, "removed app; its volumes stay: app_data on n1 (`stack volume rm` removes them)\n"
        )  # fmt: skip
        (found,) = (await person.stack("volume", "inspect", "app_data", "--format", "json")).json
        assert (found["stack"], found["used_by"], found["node"]) == ("", [], "n1"), "it outlives its stack"
        assert (await person.stack("network", "ls", "--format", "json")).json == []
        said = await person.stack("volume", "rm", "app_data")
        assert (said.code, said.out) == (0, "removed app_data\n")
        assert (await person.stack("volume", "ls", "--format", "json")).json == []
    for noun, verb in (("network", "inspect"), ("volume", "inspect"), ("volume", "rm")):
        said = await person.stack(noun, verb, "moon")
        assert (said.code, said.out) == (2, "")
        assert f"there is no {noun} moon" in said.err and f"stack {noun} ls" in said.err


async def test_a_volume_whose_node_is_away_is_removed_when_that_is_back(
    person: Terminal, manager: RunningManager
) -> None:
    person.write("compose.yml", APP)
    joined = await manager.join("n1")
    async with obedient(manager, joined=joined):
        assert (await person.stack("deploy")).code == 0
        assert (await person.stack("rm", "app")).code == 0
    core = manager.core
    await core.follower.until(lambda: not core.state.is_heard(core.state.sessions[joined.id]))
    verdict = core.state.node_states[joined.id]
    down = replace(verdict, status=NodeStatus.DOWN)  # as the leader says it after a while
    assert await core.write([down], {key_of(down): core.state.revision_of(key_of(down))})
    said = await person.stack("volume", "rm", "app_data")
    assert (said.code, said.out) == (
        0, "app_data is removed once node n1 is back, which is down\n"
    )  # fmt: skip
    (found,) = (await person.stack("volume", "inspect", "app_data", "--format", "json")).json
    assert (found["removing"], found["problem"]) == (True, "its node is down")
    async with obedient(manager, joined=joined):
        await core.follower.until(lambda: not core.state.volumes)


async def test_how_long_changes_take_is_shown(person: Terminal, manager: RunningManager) -> None:
    head, *rows, by = (await person.stack("network", "convergence")).out.splitlines()
    assert head.split() == ["CHANGE", "MEASURED", "P50", "P99", "LONGEST"]
    assert [row.split() for row in rows] == [[what, "0", "-", "-", "-"] for what in ("reachable", "unreachable")]
    assert by.startswith("by manager ") and by.endswith(", on 0 nodes")
    (found,) = (await person.stack("network", "convergence", "--format", "json")).json
    assert (found["reachable"]["p99"], found["unconfirmed"], found["behind"]) == (None, 0, {})
