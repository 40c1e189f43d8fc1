"""Asking all nodes for an examination: toy agents over real TLS."""

from __future__ import annotations

import asyncio

import pytest

from cluster.channel import OpenChannel
from cluster.errors import Unavailable
from cluster.examination import NodeReport, Target
from cluster.model.node import NodeState, NodeStatus, SessionState
from cluster.protocol import EXAMINES, Examine, Examined
from manager.sessions import examinations
from tests.manager.sessions.stage import Stage, ToyAgent, node
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

REPORT = NodeReport("eth0", 1500, 1500)
TARGETS = [Target(name, f"10.0.0.{name[1:]}") for name in ("n3", "n1", "n2")]


async def answering(agent: ToyAgent) -> list[str]:
    asked = await agent.hear(Examine)
    await agent.say(Examined("another's", REPORT))
    await agent.say(Examined(asked.id, REPORT))
    return [target.node for target in asked.targets]


async def test_each_node_examines_the_ways_to_the_others(stage: Stage) -> None:
    await stage.write(node("n1"), node("n2"))
    one, two = await stage.agent("n1"), await stage.agent("n2")
    asked_one, asked_two, found = await asyncio.gather(answering(one), answering(two), stage.sessions.examine(TARGETS))
    assert (asked_one, asked_two) == (["n2", "n3"], ["n3", "n1"])
    assert {name: answer.report for name, answer in found.items()} == {"n1": REPORT, "n2": REPORT}


async def test_in_a_large_cluster_each_probes_some_and_is_probed_by_as_many(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examinations, "LEAST_TARGETS", 1)
    monkeypatch.setattr(examinations, "MOST_WAYS", 3)
    await stage.write(node("n1"), node("n3"))
    one, three = await stage.agent("n1"), await stage.agent("n3")
    asked_one, asked_three, _ = await asyncio.gather(answering(one), answering(three), stage.sessions.examine(TARGETS))
    assert (asked_one, asked_three) == (["n2"], ["n1"])


async def test_agents_of_before_are_not_asked_and_silence_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examinations, "PATIENCE", 0.1)
    await stage.write(node("n1"), node("n2"))
    old = await stage.agent("n1", newest_version=EXAMINES - 1)
    await stage.agent("n2")
    found = await stage.sessions.examine(TARGETS)
    assert {name: answer.problem for name, answer in found.items()} == {"n2": "its agent did not answer"}
    assert old.others == []


async def test_nobody_waits_for_a_node_that_is_called_down(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    examining = asyncio.create_task(stage.sessions.examine(TARGETS))
    await agent.hear(Examine)

    async def reach() -> None:
        async with stage.sessions.open_channel("n1", "t1", "exec"):
            pytest.fail("nobody has dialled in")

    reaching = asyncio.create_task(reach())
    await agent.hear(OpenChannel)
    await agent.fall_silent()
    await stage.shows("n1", state=SessionState.SILENT)
    assert not examining.done() and not reaching.done()
    await stage.write(NodeState("n1", NodeStatus.DOWN, 1.0))
    async with asyncio.timeout(PATIENCE):
        assert (await examining)["n1"].problem == "its node is down"
        with pytest.raises(Unavailable, match="its node is down"):
            await reaching
        assert await stage.sessions.examine(TARGETS) == {}
