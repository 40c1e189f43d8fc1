"""Sessions of toy agents over real TLS, recorded in a real etcd."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from cluster import codec
from cluster.assignments import PeerItem, PortItem, TaskItem, VolumeItem
from cluster.model.node import SessionState
from cluster.model.service import PortSpec
from cluster.model.task import TaskState, TaskStatus
from cluster.model.volume import Volume
from cluster.protocol import (
    KEEPS,
    MAX_FRAME,
    VERSION,
    Beat,
    Page,
    Recorded,
    Refused,
    VolumesRemoved,
    encode,
)
from cluster.topics import digests
from manager.etcd import TxnResult, put
from manager.sessions.assignments import assignments
from manager.sessions.ledger import Fenced, open_session
from manager.sessions.session import OVERTAKEN
from tests.etcd_server import Servers
from tests.manager.managers import description
from tests.manager.sessions.stage import Stage, node, service, shop, staged, status, task

pytestmark = pytest.mark.etcd


async def test_a_session_is_a_record_with_an_epoch_that_grows(stage: Stage) -> None:
    await stage.write(node("n1"))
    for epoch in (1, 2, 3):
        agent = await stage.agent("n1")
        assert agent.welcome is not None and agent.welcome.epoch == epoch
        record = await stage.session("n1")
        assert (record.epoch, record.manager, record.state) == (epoch, "m1", SessionState.OPEN)


async def test_the_first_set_is_whole_and_as_new_as_the_session(stage: Stage) -> None:
    tasks = [task(1, "n1"), task(2, "n2")]
    await stage.write(node("n1"), node("n2"), *shop(), *tasks)
    agent = await stage.agent("n1")
    assert agent.items == assignments(stage.follower.state, "n1")
    assert {"task/" + tasks[0].id, "service/u1/1", "network/f1"} <= set(agent.items)
    session = await stage.etcd.get("/stackyard/state/session/n1")
    assert session is not None and agent.pages[-1].revision >= session.mod_revision


async def test_what_an_agent_has_of_a_network_is_not_told_again(stage: Stage) -> None:
    await stage.write(node("n1"), node("n2"), *shop(), task(1, "n1"), task(2, "n2"))
    one = await stage.agent("n1")
    has = digests(one.items.values())
    assert set(has) == {"f1"}
    again = await stage.agent("n1", has=has)
    [page] = again.pages
    assert page.kept == ("f1",) and not page.peers and page.tasks
    outdated = await stage.agent("n1", has={"f1": has["f1"][::-1], "f9": ""})
    assert outdated.items == assignments(stage.follower.state, "n1")
    older = await stage.agent("n1", has=has, newest_version=KEEPS - 1)
    assert len(older.pages[0].peers) == len(outdated.pages[0].peers) > 0


async def test_a_big_set_comes_in_pages(stage: Stage) -> None:
    tasks = [task(slot, "n1") for slot in range(1, 401)]
    for part in range(0, 400, 90):
        await stage.write(*tasks[part : part + 90])
    await stage.write(node("n1"), *shop())
    agent = await stage.agent("n1")
    assert len(agent.pages) > 1
    assert [page.last for page in agent.pages] == [False] * (len(agent.pages) - 1) + [True]
    assert all(len(encode(page)) <= MAX_FRAME for page in agent.pages)
    assert agent.items == assignments(stage.follower.state, "n1")


async def test_a_change_sends_only_what_changed(stage: Stage) -> None:
    here, there = task(1, "n1"), task(2, "n2")
    await stage.write(node("n1"), node("n2"), *shop(), here, there)
    one, two = await stage.agent("n1"), await stage.agent("n2")
    await one.next_set()  # the other's address is known now
    await stage.write(status(there))
    (page,) = await one.next_set()
    assert not page.full and not page.removed
    assert [type(item) for item in page.items] == [PeerItem]
    assert page.peers[0].ready and page.peers[0].owner == there.id and page.peers[0].vtep == "127.0.0.1"
    del two


async def test_those_who_are_not_concerned_hear_nothing(stage: Stage) -> None:
    await stage.write(node("n1"), node("n2"), *shop(), task(1, "n2"))
    one = await stage.agent("n1")
    before = len(one.pages)
    await stage.write(status(task(1, "n2")))
    await stage.write(task(9, "n1"))
    page = await one.hear(Page)
    assert len(one.pages) == before + 1
    assert f"task/{task(9, 'n1').id}" in {item.ident for item in page.items}


async def test_a_burst_of_changes_is_one_set(stage: Stage) -> None:
    await stage.write(node("n1"), *shop())
    agent = await stage.agent("n1")
    before = len(agent.pages)
    await stage.write(*(task(slot, "n1") for slot in range(1, 41)))
    while len([item for item in agent.items.values() if isinstance(item, TaskItem)]) < 40:
        await agent.next_set()
    assert len(agent.pages) - before <= 3


async def test_what_ends_is_taken_back(stage: Stage) -> None:
    gone = task(1, "n1")
    await stage.write(node("n1"), *shop(service(ports=(PortSpec(80, 8080),))), gone)
    agent = await stage.agent("n1")
    assert "port/tcp/8080" in agent.items
    assert isinstance(agent.items["port/tcp/8080"], PortItem)
    await stage.remove(gone)
    while agent.items.keys() != {"port/tcp/8080"}:
        await agent.next_set()
    assert agent.items == assignments(stage.follower.state, "n1")
    await stage.write(*shop(service(), n=2))
    while agent.items:
        await agent.next_set()


# Statuses


async def test_statuses_are_stored_before_they_are_acknowledged(stage: Stage) -> None:
    tasks = [task(slot, "n1") for slot in range(1, 121)]
    for part in range(0, 120, 60):
        await stage.write(*tasks[part : part + 60])
    await stage.write(node("n1"), *shop())
    agent = await stage.agent("n1")
    await agent.report(7, *(status(one) for one in tasks))
    assert (await agent.hear(Recorded)).sequence == 7
    stored = await stage.etcd.range("/stackyard/state/taskstatus/")
    assert len(stored.items) == 120


async def test_a_state_never_goes_back(stage: Stage) -> None:
    one = task(1, "n1")
    await stage.write(node("n1"), *shop(), one)
    agent = await stage.agent("n1")
    for sequence, reported in enumerate(
        [
            status(one, TaskState.RUNNING),
            status(one, TaskState.PREPARING),
            status(one, TaskState.FAILED, exit_code=3),
            status(one, TaskState.RUNNING),
            status(one, TaskState.COMPLETE, exit_code=0, container=""),
        ]
    ):
        await agent.report(sequence + 1, reported)
        assert (await agent.hear(Recorded)).sequence == sequence + 1
    stored = await stage.read(TaskStatus, one.id)
    assert stored == status(one, TaskState.FAILED, exit_code=3, container="", running_at=5.0)


@pytest.mark.parametrize("shown", [True, False], ids=["and the picture shows it", "and the picture lags behind"])
async def test_what_the_leader_wrote_meanwhile_is_not_undone(stage: Stage, shown: bool) -> None:
    """Between an agent's report and its recording the leader gives the task up."""
    one = task(1, "n1")
    await stage.write(node("n1"), *shop(), one)
    agent = await stage.agent("n1")
    real, given_up = stage.etcd.txn, list[Any]()

    async def overtaken(compares: Any, ops: Any, otherwise: Any = (), **more: Any) -> TxnResult:
        if not given_up and any("/taskstatus/" in getattr(op, "key", "") for op in ops):
            given_up.append(ops)
            orphaned = status(one, TaskState.ORPHANED)
            await real((), [put(codec.key_of(orphaned), codec.encode(orphaned))])
        return await real(compares, ops, otherwise, **more)

    with pytest.MonkeyPatch.context() as patch:
        if shown:
            await agent.report(1, status(one))
            await stage.write(status(one, TaskState.ORPHANED))
        else:
            patch.setattr(stage.etcd, "txn", overtaken)
            await agent.report(1, status(one))
        await agent.hear(Recorded)
    stored = await stage.read(TaskStatus, one.id)
    assert stored is not None and stored.state is TaskState.ORPHANED


async def test_statuses_of_others_tasks_and_of_gone_tasks_are_passed_over(stage: Stage) -> None:
    own, other, gone = task(1, "n1"), task(2, "n2"), task(3, "n1")
    await stage.write(node("n1"), node("n2"), *shop(), own, other, gone)
    agent = await stage.agent("n1")
    await stage.remove(gone)
    await agent.report(1, status(other), status(gone), status(own))
    assert (await agent.hear(Recorded)).sequence == 1
    assert await stage.read(TaskStatus, other.id) is None
    assert await stage.read(TaskStatus, gone.id) is None
    assert await stage.read(TaskStatus, own.id) == status(own, running_at=5.0)


async def test_an_older_session_writes_nothing_any_more(stage: Stage, servers: Servers, tmp_path: Path) -> None:
    """The newer one is held by another manager, of which the first does not know yet."""
    one = task(1, "n1")
    await stage.write(node("n1"), *shop(), one)
    (tmp_path / "m2").mkdir()
    async with staged(servers, tmp_path / "m2", "m2") as second:
        old = await stage.agent("n1")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage.follower, "_tell", lambda changes: None)
            new = await second.agent("n1")
            await old.report(1, status(one, TaskState.FAILED))
            assert (await old.hear(Refused)).final is False
            assert await old.closed() == OVERTAKEN
        await new.report(1, status(one, TaskState.RUNNING))
        await new.hear(Recorded)
        stored = await second.read(TaskStatus, one.id)
        assert stored is not None and stored.state is TaskState.RUNNING
        record = await second.session("n1")
        assert (record.epoch, record.manager, record.state) == (2, "m2", SessionState.OPEN)


async def test_an_older_session_is_closed_when_a_newer_one_opens(stage: Stage) -> None:
    await stage.write(node("n1"))
    old = await stage.agent("n1")
    await stage.agent("n1")
    assert await old.closed() == OVERTAKEN
    record = await stage.session("n1")
    assert (record.epoch, record.state) == (2, SessionState.OPEN)


# Who is let in


async def test_an_agent_of_another_cluster_is_sent_away_for_good(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.connect("n1")
    await agent.hello(cluster="another")
    refused = await agent.hear(Refused)
    assert refused.final and "another" in refused.reason
    assert await stage.etcd.get("/stackyard/state/session/n1") is None


async def test_a_node_that_is_no_member_is_sent_away_for_good(stage: Stage) -> None:
    agent = await stage.connect("n1")
    await agent.hello()
    assert (await agent.hear(Refused)).final


async def test_a_node_that_is_removed_is_told_so(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    await stage.remove(node("n1"))
    assert (await agent.hear(Refused)).final
    await agent.closed()


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ({"oldest_version": VERSION + 1, "newest_version": VERSION + 2}, "versions"),
        ({"address": "not an address"}, "address"),
    ],
    ids=["no version in common", "an address that is none"],
)
async def test_hellos_that_cannot_be_answered(stage: Stage, hello: dict[str, object], reason: str) -> None:
    await stage.write(node("n1"))
    agent = await stage.connect("n1")
    await agent.hello(**hello)  # type: ignore[arg-type]
    refused = await agent.hear(Refused)
    assert refused.final and reason in refused.reason


@pytest.mark.parametrize("frame", [b"", b"{}", b"\xff\xfe", b'{"type":"welcome"}'])
async def test_nonsense_ends_only_its_own_session(stage: Stage, frame: bytes) -> None:
    await stage.write(node("n1"), node("n2"))
    one, two = await stage.agent("n1"), await stage.agent("n2")
    await one.socket.send_bytes(frame)
    await one.closed()
    await two.say(Beat({"engine": "engine down"}))
    await stage.shows("n2", conditions={"engine": "engine down"}, state=SessionState.OPEN)


# Volumes


async def test_a_volume_is_forgotten_when_its_node_says_that_it_is_gone(stage: Stage) -> None:
    going, kept = (Volume(name, "n1", "s1", 1.0, removing=name == "shop_a") for name in ("shop_a", "shop_b"))
    elsewhere = Volume("shop_c", "n2", "s1", 1.0, removing=True)
    await stage.write(node("n1"), going, kept, elsewhere)
    agent = await stage.agent("n1")
    assert agent.items == {"volume/shop_a": VolumeItem("shop_a")}
    await agent.say(VolumesRemoved(("shop_a", "shop_b", "shop_c", "never_heard_of")))
    await agent.next_set()
    assert agent.items == {}
    assert await stage.read(Volume, "shop_a") is None
    assert await stage.read(Volume, "shop_b") == kept, "nobody asked for it"
    assert await stage.read(Volume, "shop_c") == elsewhere, "another node has it"


async def test_an_overtaken_session_forgets_no_volume(stage: Stage) -> None:
    going = Volume("shop_a", "n1", "s1", 1.0, removing=True)
    await stage.write(node("n1"), going)
    state, key = stage.follower.state, codec.key_of(going)
    older, newer = [
        await open_session(stage.etcd, state, "n1", "m1", description("n1", "10.0.0.1"), time.time, VERSION)
        for _ in range(2)
    ]
    with pytest.raises(Fenced):
        await older.forget({key: state.revision_of(key)})
    await newer.forget({key: state.revision_of(key) - 1})
    assert await stage.read(Volume, "shop_a") == going, "it was asked for anew since then"
    await newer.forget({key: state.revision_of(key)})
    assert await stage.read(Volume, "shop_a") is None
