"""`stack network` and `stack volume`."""

from __future__ import annotations

import pytest

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
        assert (await person.stack("rm", "app")).code == 0
        (found,) = (await person.stack("volume", "inspect", "app_data", "--format", "json")).json
        assert (found["stack"], found["used_by"], found["node"]) == ("", [], "n1"), "it outlives its stack"
        assert (await person.stack("network", "ls", "--format", "json")).json == []
    for noun in ("network", "volume"):
        said = await person.stack(noun, "inspect", "moon")
        assert (said.code, said.out) == (2, "")
        assert f"there is no {noun} moon" in said.err and f"stack {noun} ls" in said.err


async def test_how_long_changes_take_is_shown(person: Terminal, manager: RunningManager) -> None:
    head, *rows, by = (await person.stack("network", "convergence")).out.splitlines()
    assert head.split() == ["CHANGE", "MEASURED", "P50", "P99", "LONGEST"]
    assert [row.split() for row in rows] == [[what, "0", "-", "-", "-"] for what in ("reachable", "unreachable")]
    assert by.startswith("by manager ") and by.endswith(", on 0 nodes")
    (found,) = (await person.stack("network", "convergence", "--format", "json")).json
    assert (found["reachable"]["p99"], found["unconfirmed"], found["behind"]) == (None, 0, {})
