"""What a manager measures by its agents' acknowledgements."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster.assignments import PeerItem
from cluster.model.task import TaskState
from cluster.protocol import GENERATIONS, Programmed
from cluster.views import ConvergenceView
from manager.sessions import generations
from tests.manager.sessions.stage import Stage, ToyAgent, node, shop, status, task
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

FIRST, SECOND, ELSEWHERE = task(1, "n1"), task(2, "n2"), replace(task(3, "n3"), endpoints=())


async def begin(stage: Stage, **hello: int) -> list[ToyAgent]:
    """Three nodes, of which two have a task in the network, and one of these is yet to run."""
    tasks = (FIRST, SECOND, ELSEWHERE)
    running = status(FIRST, TaskState.STARTING), status(SECOND), status(ELSEWHERE)
    await stage.write(*map(node, ("n1", "n2", "n3")), *shop(), *tasks, *running)
    return [await stage.agent(name, **hello) for name in ("n1", "n2", "n3")]


async def heard(agent: ToyAgent, **fields: bool) -> int:
    """Read until the first task's endpoint is like that; gives the set's revision."""
    while not any(
        isinstance(peer, PeerItem) and peer.owner == FIRST.id and all(getattr(peer, n) == v for n, v in fields.items())
        for peer in agent.items.values()
    ):
        await agent.next_set()
    return agent.pages[-1].revision


async def until(stage: Stage, reachable: int, unreachable: int) -> ConvergenceView:
    """Wait until so many changes have been measured."""
    async with asyncio.timeout(PATIENCE):
        while True:
            view = stage.sessions.generations.view()
            if (view.reachable.count, view.unreachable.count) == (reachable, unreachable):
                return view
            await asyncio.sleep(0.01)


async def test_a_change_is_measured_up_to_the_last_agent_that_could_send_to_the_task(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    await n1.report(1, status(FIRST))
    await n1.say(Programmed(await heard(n1, ready=True)))
    revision = await heard(n2, ready=True)
    assert (await until(stage, 0, 0)).reachable.p99 is None, "n2 may not lead there yet"
    await n2.say(Programmed(revision))
    view = await until(stage, 1, 0)
    assert view.reachable.p50 == view.reachable.p99 == view.reachable.longest
    assert 0 < (view.reachable.p50 or 0) < PATIENCE
    assert sum(stage.sessions.latencies.view()["reachable"].counts) == 1
    await stage.write(replace(FIRST, leaving_at=7.0))
    for agent in (n1, n2):
        await agent.say(Programmed(await heard(agent, leaving=True)))
    assert (await until(stage, 1, 1)).unconfirmed == 0
    await n1.report(2, status(FIRST, TaskState.SHUTDOWN))
    await stage.follower.reached(await stage.write(replace(node("n3"), joined_at=2.0)))
    assert stage.sessions.generations.view().unreachable.count == 1, "its end comes after that, and is no other change"


async def test_a_task_that_ends_by_itself_is_measured_too(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    peer = f"peer/f1/{SECOND.id}"
    while peer not in n1.items:
        await n1.next_set()
    await n2.report(1, status(SECOND, TaskState.FAILED))
    for agent in (n1, n2):
        while peer in agent.items:
            await agent.next_set()
        await agent.say(Programmed(agent.pages[-1].revision))
    await until(stage, 0, 1)


async def test_an_older_generation_says_nothing_of_a_later_change(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    before = n1.pages[-1].revision
    await n1.report(1, status(FIRST))
    revision = await heard(n2, ready=True)
    await n2.say(Programmed(revision))
    await n1.say(Programmed(before))
    await n1.say(Programmed(await heard(n1, ready=True)))
    await until(stage, 1, 0)


async def test_a_node_that_does_not_confirm_is_named_and_then_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    n1, n2, _ = await begin(stage)
    monkeypatch.setattr(generations, "BEHIND", 0.0)
    await n1.report(1, status(FIRST))
    await n1.say(Programmed(await heard(n1, ready=True)))
    async with asyncio.timeout(PATIENCE):
        while (view := stage.sessions.generations.view()).behind.keys() != {"n2"}:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.01)
    assert (view.nodes, view.unconfirmed) == (3, 0)
    monkeypatch.setattr(generations, "PATIENCE", 0.0)
    view = stage.sessions.generations.view()
    assert (view.unconfirmed, view.reachable.count, view.behind) == (1, 0, {})
    assert n2.welcome is not None


async def test_a_node_that_is_gone_or_too_old_is_not_waited_for(stage: Stage) -> None:
    n1, n2, _ = await begin(stage, newest_version=GENERATIONS - 1)
    again = await stage.agent("n1")
    await n1.closed()
    await again.report(1, status(FIRST))
    await again.say(Programmed(await heard(again, ready=True)))
    await until(stage, 1, 0)
    assert not n2.socket.closed
