"""`stack node` and `stack explain` against a whole manager, with agents that obey at once."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd

PICKY = """
name: shop
services:
  web:
    image: nginx
    deploy:
      replicas: 2
      placement: {constraints: [node.labels.disk == ssd]}
"""
PLAIN = """
name: shop
services:
  web: {image: nginx, deploy: {replicas: 4, update_config: {parallelism: 2}}}
"""


async def test_a_pending_task_is_explained_and_the_change_that_is_told_mends_it(
    person: Terminal, manager: RunningManager
) -> None:
    person.write("compose.yml", PICKY)
    async with obedient(manager, "n1"):
        assert (await person.stack("deploy", "-f", "compose.yml", "--detach")).code == 0
        said = await person.stack("explain", "shop_web")
        while "shop_web.2" not in said.out:
            said = await person.stack("explain", "shop_web")
        assert "shop_web: 0 of 2 tasks run" in said.out
        assert "shop_web.1, shop_web.2: no node fits: 1 of 1 does not match node.labels.disk == ssd" in said.out
        assert "`stack node update --label-add disk=ssd n1`" in said.out
        told = (await person.stack("explain", "shop_web.2", "--format", "json")).json
        assert told["what"] == "shop_web.2" and not told["nodes"][0]["fits"]

        assert (await person.stack("explain", "shop")).out.startswith("shop_web: 0 of 2 tasks run\n")
        said = await person.stack("node", "update", "--label-add", "disk=ssd", "--resource", "gpu=2", "n1")
        assert (said.code, said.out) == (0, "updated n1\n")
        assert (await person.stack("deploy", "-f", "compose.yml")).code == 0
        [node] = (await person.stack("node", "inspect", "n1")).json
        assert (node["labels"], node["resources"], node["tasks"]) == ({"disk": "ssd"}, {"gpu": 2}, 2)
        assert "nothing is wrong with it" in (await person.stack("explain", "shop_web")).out
        [task] = [t for t in (await person.stack("ps", "--format", "json")).json if t["slot"] == 1]
        assert "shop_web.1" in (await person.stack("explain", task["id"][:8])).out
    assert "there is no service or task" in (await person.stack("explain", "nobody")).err


async def test_a_node_is_drained_activated_paused_and_removed(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", PLAIN)
    async with AsyncExitStack() as agents:
        for name in ("n1", "n2"):
            await agents.enter_async_context(obedient(manager, name))
        assert (await person.stack("deploy", "-f", "compose.yml")).code == 0

        said = await person.stack("node", "drain", "n2", "--deadline", "1m")
        assert (said.code, said.out) == (0, "n2 is empty: all tasks found other places\n")
        assert len((await person.stack("node", "ps", "n1")).out.splitlines()) == 5
        assert len((await person.stack("node", "ps", "n2")).out.splitlines()) == 1
        listed = (await person.stack("node", "ls", "--format", "json")).json
        assert {n["name"]: (n["availability"], n["tasks"]) for n in listed} == {"n1": ("active", 4), "n2": ("drain", 0)}

        assert (await person.stack("node", "activate", "n2")).out == "n2 takes tasks\n"
        assert (await person.stack("node", "pause", "n1")).out == "n1 takes no new tasks\n"
        assert (await person.stack("scale", "web=6")).code == 0
        assert len((await person.stack("node", "ps", "n2")).out.splitlines()) == 3

        said = await person.stack("node", "update", "n1")
        assert (said.code, said.err.splitlines()[0]) == (2, "error: there is nothing to change of n1")
        said = await person.stack("node", "drain", "n1", "--deadline", "soon")
        assert (said.code, "is no time" in said.err) == (2, True)
        said = await person.stack("node", "rm", "n2")
        assert (said.code, said.err.splitlines()[0]) == (2, "error: node n2 is up")
        assert (await person.stack("node", "rm", "--force", "n2")).out == "removed n2\n"
        listed = (await person.stack("node", "ls", "--format", "json")).json
        assert [n["name"] for n in listed] == ["n1"]


async def test_what_has_no_other_place_leaves_when_the_deadline_comes(
    person: Terminal, manager: RunningManager
) -> None:
    person.write("compose.yml", PLAIN)
    async with obedient(manager, "n1"):
        assert (await person.stack("deploy", "-f", "compose.yml")).code == 0
        assert (await person.stack("node", "drain", "n1", "--deadline", "never", "-d")).out == "n1 is drained\n"
        said = await person.stack("explain", "shop_web")
        while "stays until there is room" not in said.out:
            said = await person.stack("explain", "shop_web")
        assert "shop_web: 4 of 4 tasks run" in said.out
        assert "1 of 1 is drained" in said.out and "`stack node activate n1`" in said.out
        said = await person.stack("node", "drain", "n1", "--deadline", "0s")
        assert said.code == 0 and said.out.startswith("n1 is empty: ")


async def test_tasks_are_moved_to_a_node_that_came_later(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", PLAIN)
    async with AsyncExitStack() as agents:
        await agents.enter_async_context(obedient(manager, "n1"))
        assert (await person.stack("deploy", "-f", "compose.yml")).code == 0
        await agents.enter_async_context(obedient(manager, "n2"))
        said = await person.stack("rebalance", "--dry-run")
        while len(said.out.splitlines()) != 3:
            said = await person.stack("rebalance", "--dry-run")
        assert said.out.splitlines()[1].split() == ["shop_web.4", "n1", "n2"]
        said = await person.stack("rebalance", "--max-unavailable", "2")
        assert (said.code, said.out) == (0, "moved 2 tasks\n")
        assert len((await person.stack("node", "ps", "n2")).out.splitlines()) == 3
        assert (await person.stack("rebalance")).out == "moved 0 tasks\n"
        assert (await person.stack("rebalance", "--automatic", "5m")).code == 0
        wish = manager.core.state.rebalance_wish
        assert wish is not None and wish.automatic_after == 300.0
        assert (await person.stack("rebalance", "--automatic", "soon")).code == 2
