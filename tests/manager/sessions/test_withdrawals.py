"""What a manager vouches for of tasks that leave, by the word of its agents."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster.assignments import PeerItem
from cluster.codec import key_for
from cluster.model.node import Session
from cluster.model.task import Desired
from cluster.model.update import Withdrawn
from cluster.protocol import Beat, Programmed
from tests.manager.sessions.stage import Stage, ToyAgent, node, shop, status, task
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

OLD, OTHER, ELSEWHERE = task(1, "n1"), task(2, "n2"), replace(task(3, "n3"), endpoints=())


async def begin(stage: Stage) -> list[ToyAgent]:
    """Three nodes, of which two have a task in the network, and one of these withdrawn."""
    tasks = (OLD, OTHER, ELSEWHERE)
    await stage.write(*map(node, ("n1", "n2", "n3")), *shop(), *tasks, *map(status, tasks))
    return [await stage.agent(name) for name in ("n1", "n2", "n3")]


async def withdraw(stage: Stage) -> int:
    return await stage.write(replace(OLD, leaving_at=7.0))


async def word(stage: Stage) -> set[str] | None:
    """The tasks of the record, None when there are none, after what was said before has been taken in."""
    changed = asyncio.Event()
    with stage.follower.listening(lambda _: changed.set()):
        try:
            async with asyncio.timeout(0.5):
                await changed.wait()
        except TimeoutError:
            pass
    found = stage.follower.state.withdrawn.get("m1")
    return set(found.tasks) or None if found is not None else None


async def until(stage: Stage, tasks: set[str] | None) -> None:
    async with asyncio.timeout(PATIENCE):
        while await word(stage) != tasks:
            pass


async def test_it_is_written_when_every_agent_that_could_send_to_the_task_has_let_go_of_it(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    await withdraw(stage)
    for agent in (n1, n2):
        while not (leaving := [peer for peer in agent.items.values() if isinstance(peer, PeerItem) and peer.leaving]):
            await agent.next_set()
        assert [(peer.owner, peer.ready) for peer in leaving] == [(OLD.id, False)]
    await n1.say(Programmed(n1.pages[-1].revision))
    assert await word(stage) is None, "n2 may still send to it"
    await n2.say(Programmed(n2.pages[-1].revision))
    await until(stage, {OLD.id})
    await stage.write(replace(OLD, leaving_at=7.0, desired=Desired.SHUTDOWN))
    await until(stage, None)
    assert await stage.read(Withdrawn, "m1") is None, "while nothing leaves, nothing is stored"


async def test_who_is_late_is_named_and_nobody_else(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    revision = await withdraw(stage)
    await n1.say(Programmed(revision))
    async with asyncio.timeout(PATIENCE):
        while (found := stage.follower.state.withdrawn.get("m1")) is None or found.late[OLD.id].nodes != ("n2",):
            await word(stage)
    assert not found.tasks
    await n2.say(Programmed(revision))
    await until(stage, {OLD.id})
    assert stage.follower.state.withdrawn["m1"].late == {}


async def test_a_set_from_before_the_withdrawal_does_not_count(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    before = n1.pages[-1].revision
    revision = await withdraw(stage)
    await n1.say(Programmed(before))
    await n2.say(Programmed(revision))
    assert await word(stage) is None
    await n1.say(Programmed(revision))
    await until(stage, {OLD.id})


async def test_an_agent_that_begins_anew_says_so_anew(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    revision = await withdraw(stage)
    await n1.say(Programmed(revision))
    again = await stage.agent("n1")
    await n2.say(Programmed(revision))
    assert await word(stage) is None, "it may work from what it remembers until it has the new set"
    await again.say(Programmed(revision))
    await until(stage, {OLD.id})


async def test_what_else_an_agent_tells_takes_nothing_of_it_back(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    revision = await withdraw(stage)
    for agent in (n1, n2):
        await agent.say(Programmed(revision))
    await until(stage, {OLD.id})
    state = stage.follower.state
    await n2.say(Beat(listening=("tcp/9090",)))
    await stage.shows("n2", listening=("tcp/9090",))
    async with asyncio.timeout(PATIENCE):
        # the leader takes a word from before the newest record of a session to be of an older one
        while state.revision_of(key_for(Withdrawn, "m1")) < state.revision_of(key_for(Session, "n2")):
            await word(stage)
    assert await word(stage) == {OLD.id}


async def test_an_agent_that_is_not_there_is_not_waited_for(stage: Stage) -> None:
    n1, n2, _ = await begin(stage)
    revision = await withdraw(stage)
    await n1.say(Programmed(revision))
    assert await word(stage) is None
    await n2.fall_silent()
    await n2.socket.close()
    await until(stage, {OLD.id})
