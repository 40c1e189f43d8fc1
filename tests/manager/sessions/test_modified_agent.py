"""An agent in wrong hands: it has its node's certificate, speaks the protocol, and says whatever helps it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiohttp
import pytest

from cluster.errors import Unavailable
from cluster.model.node import SessionState
from cluster.model.task import TaskState, TaskStatus
from cluster.model.volume import Volume
from cluster.protocol import (
    Beat,
    Examined,
    Fetched,
    Goodbye,
    ImagesResolved,
    LogsRequest,
    OpenStream,
    Programmed,
    Recorded,
    Refused,
    ResolveImages,
    VolumesRemoved,
    Welcome,
)
from manager.sessions import bounds
from tests.manager.sessions.stage import Stage, node, shop, status, task

pytestmark = pytest.mark.etcd

DEPTH = 30_000
NOT_LOOPBACK = "192.0.2.7"


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b'{"type":"beat","x":' + b"[" * DEPTH + b"]" * DEPTH + b"}", id="nested arrays to skip"),
        pytest.param(b'{"type":"beat","x":' + b'{"a":' * DEPTH + b"1" + b"}" * DEPTH + b"}", id="nested objects"),
        pytest.param(b"[" * DEPTH, id="arrays without end"),
        pytest.param(b'{"type":"beat","conditions":{"a":"\xff\xfe"}}', id="a text that is no UTF-8"),
        pytest.param(b'{"type":"beat","conditions":{"a":"\\ud800"}}', id="half a surrogate"),
        pytest.param(b'{"type":"goodbye","seconds":NaN}', id="no number"),
        pytest.param(b'{"type":"goodbye","seconds":1e999}', id="a number out of range"),
        pytest.param(b'{"type":"beat"}{"type":"goodbye","seconds":1}', id="two messages in a frame"),
        pytest.param(b'{"type":"statuses","sequence":1,"statuses":[{"task":1,"state":"running","at":0}]}', id="types"),
        pytest.param(b'{"type":"recorded","sequence":1}', id="a manager's message"),
        pytest.param(b"\x00" * 1000, id="zeros"),
    ],
)
async def test_frames_that_are_made_to_harm_end_its_own_session_in_order(stage: Stage, frame: bytes) -> None:
    await stage.write(node("n1"), node("n2"))
    wicked, good = await stage.agent("n1"), await stage.agent("n2")
    await wicked.socket.send_bytes(frame)
    await wicked.closed()
    await stage.shows("n1", state=SessionState.CLOSED)
    await good.say(Beat({"disk": "nearly full"}))
    await stage.shows("n2", state=SessionState.OPEN, conditions={"disk": "nearly full"})
    again = await stage.agent("n1")
    assert again.welcome is not None


async def test_a_frame_that_is_too_long_is_not_read(stage: Stage) -> None:
    await stage.write(node("n1"))
    wicked = await stage.agent("n1")
    await wicked.socket.send_bytes(b'{"type":"beat","conditions":{"a":"' + b"x" * 2**20 + b'"}}')
    await wicked.closed()
    await stage.shows("n1", state=SessionState.CLOSED, conditions={})


async def test_what_it_says_is_cut_to_what_an_honest_one_says(stage: Stage) -> None:
    tasks = [task(slot, "n1") for slot in range(1, 61)]
    await stage.write(node("n1"), *shop())
    for some in (tasks[:30], tasks[30:]):
        await stage.write(*some)
    wicked = await stage.agent("n1")
    shout = "\x1b[2J\x1b]0;owned\x07\u202e" + "x" * 4000
    told = [
        status(one, message=shout, container=shout, log=(shout,) * 5, restarts=-(10**30), exit_code=10**30)
        for one in tasks
    ]
    for number, start in enumerate(range(0, 60, 6), 1):
        await wicked.report(number, *told[start : start + 6])
    while (await wicked.hear(Recorded)).sequence < 10:
        pass
    for one in tasks:
        stored = await stage.read(TaskStatus, one.id)
        assert stored is not None
        assert len(stored.message) <= bounds.LONGEST_TEXT and len(stored.container) <= bounds.LONGEST_NAME
        assert all(text.isprintable() for text in (stored.message, stored.container, *stored.log))
        assert (stored.restarts, stored.exit_code) == (0, bounds.LARGEST_NUMBER)
    await wicked.say(Beat({f"trouble {n}": shout for n in range(40)}))
    await wicked.say(Fetched({f"u{n}/1": shout for n in range(40)}))
    await wicked.say(Goodbye(1e300))
    await wicked.say(Programmed(2**70))
    await wicked.report(11)
    await wicked.hear(Recorded)
    session = await stage.session("n1")
    assert session.state is SessionState.OPEN
    assert len(session.conditions) == bounds.MOST_CONDITIONS
    assert all(text.isprintable() for text in (*session.conditions.values(), *session.images.values()))


async def test_it_speaks_for_no_other_nodes_tasks_and_volumes(stage: Stage) -> None:
    own, other = task(1, "n1"), task(2, "n2")
    leaving = Volume("shop_data", "n2", "s1", 1.0, removing=True)
    await stage.write(node("n1"), node("n2"), *shop(), own, other, leaving)
    wicked = await stage.agent("n1")
    await wicked.say(VolumesRemoved((leaving.name, "../../stack/shop", "")))
    await wicked.report(1, status(other, TaskState.FAILED), TaskStatus("../stack/shop", TaskState.FAILED, 1.0))
    await wicked.report(2, status(own))
    while (await wicked.hear(Recorded)).sequence < 2:
        pass
    assert await stage.read(TaskStatus, other.id) is None
    assert await stage.read(Volume, leaving.name) == leaving
    left = await stage.etcd.range("/stackyard/state/taskstatus/")
    assert [item.key.rpartition("/")[2] for item in left.items] == [own.id]


async def test_it_answers_no_question_that_was_put_to_another_one(stage: Stage) -> None:
    await stage.write(node("n1"))
    good = await stage.agent("n1")
    asking = asyncio.create_task(stage.sessions.resolve(["web:1"]))
    question = await good.hear(ResolveImages)
    await stage.write(node("n2"))
    wicked = await stage.agent("n2")
    await wicked.say(ImagesResolved(question.id, {"web:1": "sha256:" + "e" * 64}))
    await wicked.say(Examined(question.id, problem="nothing"))
    await wicked.report(1)  # what it said before has been taken in when this is
    await wicked.hear(Recorded)
    await good.say(ImagesResolved(question.id, {"web:1": "sha256:" + "a" * 64}))
    assert (await asking).digests == {"web:1": "sha256:" + "a" * 64}


async def test_it_takes_no_ticket_of_another_one_and_guesses_none(stage: Stage) -> None:
    await stage.write(node("n1"), node("n2"))
    good, _ = await stage.agent("n1"), await stage.agent("n2")

    async def ask() -> None:
        with pytest.raises(Unavailable):
            async with stage.sessions.open_stream("n1", LogsRequest("t1")) as stream:
                async for _ in stream.frames():
                    pass

    asking = asyncio.create_task(ask())
    ticket = (await good.hear(OpenStream)).ticket
    for guess in (ticket, ticket[:-1], ticket.upper(), ticket + "%00", "..%2Fsession", "%2e%2e", "x" * 4000):
        with pytest.raises((aiohttp.WSServerHandshakeError, aiohttp.ClientError)):
            await stage.dial("n2", guess)
    dialled = await stage.dial("n1", ticket)
    await dialled.close()
    await asking


async def test_it_does_not_pass_for_another_node(stage: Stage) -> None:
    """What is sent to a node goes to its address, and in encrypted networks to who has the key that is told with it."""
    await stage.write(node("n1"), node("n2"))
    good = await stage.agent("n1", address=NOT_LOOPBACK)
    wicked = await stage.connect("n2")
    await wicked.hello(address=NOT_LOOPBACK)
    refused = await wicked.hear(Refused)
    assert "is the address of the node n1" in refused.reason and not refused.final
    await good.fall_silent()
    await good.socket.close()
    await stage.shows("n1", state=SessionState.CLOSED)
    moved = await stage.connect("n2")
    await moved.hello(address=NOT_LOOPBACK)
    assert (await moved.hear(Welcome)).node == "n2"


def test_cutting_changes_nothing_of_what_an_honest_one_says() -> None:
    honest = replace(TaskStatus("t1", TaskState.FAILED, 1.0), message="exit code 3", exit_code=3, log=("a", "b"))
    assert bounds.status(honest) == honest
    assert bounds.conditions({"engine": "down since 12:00"}) == {"engine": "down since 12:00"}
