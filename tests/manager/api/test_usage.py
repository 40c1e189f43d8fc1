"""What tasks use and what lies on disks: who is told, of what, and what is said of nodes that do not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import TaskState
from tests.etcd_server import Servers
from tests.manager.api.obedient import obedient
from tests.manager.managers import Client, RunningManager, running_manager, until

pytestmark = pytest.mark.etcd


async def deployed(manager: RunningManager, root: Client, name: str, replicas: int = 2) -> None:
    spec = StackSpec(name, {"web": ServiceSpec("web", ContainerSpec("app:1"), replicas=replicas)})
    answer = await root.ask("PUT", f"/stacks/{name}", {"spec": spec, "operation": name})
    assert answer.status == 200, answer
    state = manager.core.state

    def all_run() -> bool:
        own = [task for task in state.tasks if state.services[state.tasks[task].service_uid].stack == name]
        found = [state.statuses.get(task) for task in own]
        return [one and one.state for one in found] == [TaskState.RUNNING] * replicas

    await until(all_run)


def names(view: Any) -> list[str]:
    return [task["name"] for task in view["tasks"]]


async def test_each_is_told_of_the_tasks_that_are_theirs(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, "n1"), obedient(manager, "n2", address="127.0.0.2"):
        await deployed(manager, root, "shop")
        await deployed(manager, root, "blog", 1)
        view = await root.get("/usage")
        assert (names(view), view["notes"]) == (["blog_web.1", "shop_web.1", "shop_web.2"], [])
        assert {task["node"] for task in view["tasks"] if task["stack"] == "shop"} == {"n1", "n2"}
        assert all(task["counters"]["memory"] == 2**20 for task in view["tasks"])
        assert names(await root.get("/usage?stack=shop")) == ["shop_web.1", "shop_web.2"]
        assert names(await root.get("/usage?service=blog_web")) == ["blog_web.1"]
        there = await root.get("/usage?node=n2")
        assert {task["node"] for task in there["tasks"]} == {"n2"}
        assert (await root.ask("GET", "/usage?stack=moon")).status == 404
        assert (await root.ask("GET", "/usage?node=moon")).status == 404
        vic = await manager.user("vic", "viewer", "shop")
        assert names(await vic.get("/usage")) == ["shop_web.1", "shop_web.2"]
        assert (await vic.ask("GET", "/usage?stack=blog")).status == 404
        assert (await vic.ask("POST", "/measurements", {"tasks": {}})).status == 403
        assert (await vic.ask("GET", "/disk")).status == 403


async def test_disks_are_told_node_by_node(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, "n1"), obedient(manager, "n2", address="127.0.0.2"):
        view = await root.get("/disk")
        assert ([one["node"] for one in view["nodes"]], view["notes"]) == (["n1", "n2"], [])
        assert view["nodes"][0]["stored"][0] == {
            "kind": "images", "count": 3, "active": 1, "size": 3 * 2**30, "reclaimable": 2**30
        }  # fmt: skip
        assert [one["node"] for one in (await root.get("/disk?node=n2"))["nodes"]] == ["n2"]
        assert (await root.ask("GET", "/disk?node=moon")).status == 404


async def test_a_node_that_is_away_is_a_note(manager: RunningManager, root: Client) -> None:
    async with obedient(manager, "n1"):
        async with obedient(manager, "n2", address="127.0.0.2") as away:
            await deployed(manager, root, "shop")
        await until(lambda: not manager.core.sessions.holds(away.node))
        view = await root.get("/disk")
        assert [one["node"] for one in view["nodes"]] == ["n1"]
        [note] = view["notes"]
        assert note in ("n2: its agent is not connected", "n2: it is down")


async def test_agents_of_other_managers_are_asked_through_those(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    (tmp_path / "m2").mkdir()
    async with running_manager(servers, tmp_path / "m2", "m2") as other, obedient(other, "n1"):
        await deployed(manager, root, "shop")
        await until(lambda: len(manager.core.state.managers) == 2)
        view = await root.get("/usage")
        assert (names(view), view["notes"]) == (["shop_web.1", "shop_web.2"], [])
        assert [one["node"] for one in (await root.get("/disk"))["nodes"]] == ["n1"]
