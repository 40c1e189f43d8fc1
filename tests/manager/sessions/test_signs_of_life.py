"""What sessions tell of whether agents and their hosts live, and what managers do that cannot record it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from cluster.model.node import SessionState
from cluster.model.task import TaskStatus
from cluster.protocol import (
    MOST_LISTENING,
    MOST_ROUTES,
    Beat,
    Goodbye,
    Managers,
    Recorded,
    Refused,
)
from manager.sessions.registry import ABSENCE
from manager.sessions.session import GOING
from manager.sessions.witness import PORT, answers
from tests.etcd_server import Servers, loopback_address
from tests.manager.sessions.stage import Stage, node, shop, status, task

pytestmark = pytest.mark.etcd


@contextmanager
def deaf_host() -> Iterator[str]:
    """An address that does not answer, like that of a host which is off: what knocks at its full door is dropped."""
    address = loopback_address()
    with ExitStack() as stack:
        stack.enter_context(socket.create_server((address, PORT), backlog=0))
        for _ in range(3):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex((address, PORT))
        yield address


async def test_silence_is_noted_with_what_the_second_witness_says(stage: Stage) -> None:
    await stage.write(node("n1"), node("n2"))
    with deaf_host() as address:
        near, far = await stage.agent("n1"), await stage.agent("n2", address=address)
        for agent in (near, far):
            await agent.fall_silent()
        await stage.shows("n1", state=SessionState.SILENT, reachable=True)
        await stage.shows("n2", state=SessionState.SILENT, reachable=False)
        near.beat()
        await stage.shows("n1", state=SessionState.OPEN, reachable=None)


async def test_a_closed_socket_is_noted_at_once(stage: Stage) -> None:
    await stage.write(node("n1"))
    with deaf_host() as address:
        agent = await stage.agent("n1", address=address)
        await agent.fall_silent()
        await agent.socket.close()
        await stage.shows("n1", state=SessionState.CLOSED, reachable=False)


async def test_the_witness_takes_any_answer_for_one() -> None:
    silent, listening = loopback_address(), loopback_address()
    with socket.create_server((listening, PORT)), deaf_host() as deaf:
        assert await answers(listening)
        assert await answers(silent), "a refusal is an answer"
        assert not await answers(deaf)


async def test_a_goodbye_says_when_the_agent_means_to_be_back(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    await agent.say(Goodbye(30.0))
    await agent.fall_silent()
    await agent.socket.close()
    record = await stage.shows("n1", state=SessionState.CLOSED, reachable=True)
    assert record.back_by is not None and 0 < record.back_by - record.since < 31
    again = await stage.agent("n1")
    assert again.welcome is not None
    record = await stage.shows("n1", state=SessionState.OPEN)
    assert record.back_by is None


async def test_conditions_come_and_go(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    await agent.fall_silent()
    await agent.say(Beat({"engine": "engine down since noon"}))
    await stage.shows("n1", conditions={"engine": "engine down since noon"})
    await agent.say(Beat())
    await stage.shows("n1", conditions={})


async def test_routes_are_kept_until_others_are_told_also_by_the_next_session(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    await agent.say(Beat({}, {"10.9.0.0/24": "eth1"}))
    await stage.shows("n1", routes={"10.9.0.0/24": "eth1"})
    await agent.say(Beat({"disk": "full"}))
    await stage.shows("n1", routes={"10.9.0.0/24": "eth1"}, conditions={"disk": "full"})
    again = await stage.agent("n1")
    await stage.shows("n1", epoch=2, routes={"10.9.0.0/24": "eth1"})
    await again.say(Beat({}, {f"10.9.{n}.0/24": "eth1" for n in range(MOST_ROUTES + 1)}))
    await stage.shows("n1", routes={f"10.9.{n}.0/24": "eth1" for n in range(MOST_ROUTES)})
    await again.say(Beat({}, {}))
    await stage.shows("n1", routes={})


async def test_ports_of_the_host_are_kept_like_its_routes(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    await agent.say(Beat(listening=("tcp/22",)))
    await stage.shows("n1", listening=("tcp/22",))
    await agent.say(Beat({"disk": "full"}))
    await stage.shows("n1", listening=("tcp/22",), conditions={"disk": "full"})
    again = await stage.agent("n1")
    await stage.shows("n1", epoch=2, listening=("tcp/22",))
    many = tuple(f"tcp/{port}" for port in range(1, MOST_LISTENING + 2))
    await again.say(Beat(listening=many))
    await stage.shows("n1", listening=many[:-1])
    await again.say(Beat(listening=()))
    await stage.shows("n1", listening=())


async def test_a_manager_that_was_held_up_blames_nobody(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    revision = (await stage.etcd.range("/stackyard/state/session/")).items[0].mod_revision
    time.sleep(4.5)  # noqa: ASYNC251  (this is the stall)
    await asyncio.sleep(1.0)
    assert (await stage.etcd.range("/stackyard/state/session/")).items[0].mod_revision == revision
    del agent


async def test_statuses_wait_for_an_etcd_that_is_away(stage: Stage, servers: Servers) -> None:
    one = task(1, "n1")
    await stage.write(node("n1"), *shop(), one)
    agent = await stage.agent("n1")
    servers.kill()
    await agent.report(1, status(one))
    await asyncio.sleep(1.0)
    servers.restore()
    assert (await agent.hear(Recorded)).sequence == 1
    assert await stage.read(TaskStatus, one.id) == status(one, running_at=5.0)


async def test_a_manager_without_a_lease_sends_its_agents_away_and_closes_their_sessions_when_it_can(
    stage: Stage,
) -> None:
    """Its record is gone: for the others nobody hears them. With it back, nobody may take them for heard."""
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    stage.absent[0] = ABSENCE
    await agent.report(1)
    await agent.hear(Recorded)
    stage.absent[0] = ABSENCE + 0.1
    assert "lost etcd" in (await agent.hear(Refused)).reason
    assert await agent.closed() == GOING
    await stage.shows("n1", epoch=1, state=SessionState.CLOSED)
    again = await stage.connect("n1")
    await again.hello()
    refused = await again.hear(Refused)
    assert "lost etcd" in refused.reason and not refused.final
    stage.absent[0] = 0.0
    await stage.agent("n1")
    await stage.shows("n1", epoch=2, state=SessionState.OPEN)


async def test_a_session_that_is_sent_away_while_there_is_more_to_say_ends_as_any_other(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    session = stage.sessions._held["n1"]
    await asyncio.sleep(4 * session._reader.pace)  # until it has nothing to say
    session.send(Managers(()))
    await session.send_away("this manager goes")  # before that was sent
    assert session._outbox
    assert await agent.closed() == GOING
    assert not session._outbox
    await stage.shows("n1", epoch=1, state=SessionState.CLOSED)
