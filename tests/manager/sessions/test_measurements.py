"""Asking nodes what their tasks use: toy agents over real TLS, honest ones and others."""

from __future__ import annotations

import asyncio

import pytest

from cluster.latency import BOUNDS, Latency
from cluster.protocol import MEASURES, Measure, Measured, Recorded, Timings
from cluster.usage import Counters, Stored, Traffic
from manager.sessions import bounds, measurements
from tests.manager.sessions.stage import Stage, ToyAgent, node

pytestmark = pytest.mark.etcd


async def answering(agent: ToyAgent, *said: Counters) -> tuple[str, ...]:
    asked = await agent.hear(Measure)
    await agent.say(Measured("another's", said))
    await agent.say(Measured(asked.id, said))
    return asked.tasks


async def test_each_node_is_asked_about_its_own_and_believed_of_nothing_else(stage: Stage) -> None:
    await stage.write(node("n1"), node("n2"))
    one, two = await stage.agent("n1"), await stage.agent("n2")
    own, others = Counters("t1", 5.0, 10), Counters("t2", 5.0, 10)
    asked_one, asked_two, found = await asyncio.gather(
        answering(one, own, others),
        answering(two, others),
        stage.sessions.measure({"n1": ("t1",), "n2": ("t2", "t3"), "n3": ("t4",)}, disk=False),
    )
    assert (asked_one, asked_two) == (("t1",), ("t2", "t3"))
    assert (found["n1"].tasks, found["n2"].tasks) == ((own,), (others,))
    assert found["n3"].problem == measurements.NOT_HERE


async def test_what_is_said_is_cut(stage: Stage) -> None:
    await stage.write(node("n1"))
    wicked = await stage.agent("n1")
    huge = Counters("t1", 1e300, 2**64, -5, 2**64, None, -1, 2**64, 2**64, -3)
    _, found = await asyncio.gather(
        answering(wicked, huge), stage.sessions.measure({"n1": ("t1",)}, disk=False)
    )  # fmt: skip
    most = bounds.LARGEST_SIZE
    assert found["n1"].tasks == (Counters("t1", bounds.LATEST_INSTANT, most, 0, most, None, 0, most, most, 0),)
    told = bounds.measured(Measured("q", disk=(Stored("images", -1, 2**64, 1, 2),) * 100, problem="\x1b[2J"), ())
    assert told.disk == (Stored("images", 0, most, 1, 2),) * bounds.MOST_STORED
    assert told.problem == " [2J"
    lies = Traffic("t1", -1, 2**64, 3, 4, 5), Traffic("another's", 1, 2, 3, 4, 5)
    assert bounds.measured(Measured("q", traffic=lies), ("t1",)).traffic == (Traffic("t1", 0, most, 3, 4, 5),)


async def test_what_agents_time_is_added_up(stage: Stage) -> None:
    await stage.write(node("n1"), node("n2"))
    one, two = await stage.agent("n1"), await stage.agent("n2")
    counts = (0,) * len(BOUNDS)
    await one.say(Timings({"pull": Latency((1, *counts), 0.5), "start": Latency((1, 2), 1.0), "x": Latency((), 1.0)}))
    await one.say(Timings({"create": Latency((-5, *counts), -1.0), "sandbox": Latency((2**70, *counts), 1e300)}))
    await two.say(Timings({"pull": Latency((*counts, 1), 400.0)}))
    for agent in (one, two):
        await agent.report(1)
        await agent.hear(Recorded)
    told = stage.sessions.latencies.view().items()
    seen = {work: (latency.counts, latency.total) for work, latency in told if any(latency.counts)}
    assert sum(seen.pop("open")[0]) == 2
    assert seen == {
        "pull": ((1, *counts[1:], 1), 400.5),
        "sandbox": ((bounds.LARGEST_NUMBER, *counts), bounds.LONGEST_WORK),
    }


async def test_many_tasks_are_asked_about_in_parts(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "MOST_MEASURED", 2)
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    counters = {name: Counters(name, 5.0) for name in ("t1", "t2", "t3")}

    async def answer_both() -> None:
        for _ in range(2):
            asked = await agent.hear(Measure)
            await agent.say(Measured(asked.id, tuple(counters[task] for task in asked.tasks)))

    _, found = await asyncio.gather(answer_both(), stage.sessions.measure({"n1": tuple(counters)}, disk=False))
    assert found["n1"].tasks == tuple(counters.values())


async def test_agents_of_before_are_not_asked_and_silence_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "WITHIN", 0.0)
    monkeypatch.setattr(measurements, "ON_THE_WAY", 0.1)
    await stage.write(node("n1"), node("n2"))
    old = await stage.agent("n1", newest_version=MEASURES - 1)
    await stage.agent("n2")
    found = await stage.sessions.measure({"n1": ("t1",), "n2": ("t2",)}, disk=False)
    assert {name: answer.problem for name, answer in found.items()} == {
        "n1": measurements.TOO_OLD, "n2": "its agent did not answer"
    }  # fmt: skip
    assert old.others == []
