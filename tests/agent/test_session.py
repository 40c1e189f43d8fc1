"""The agent's end of a session, with tests as the manager. There is no engine: that is but a condition of the node."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType

from agent import session as session_module
from agent import timings
from agent.checkup import Checkup
from agent.credentials import Credentials, load
from agent.engine import Engine
from agent.examination import Examiner
from agent.images import Images
from agent.journal import Journal
from agent.network.survey import Survey
from agent.outbox import Outbox
from agent.reach import Reach
from agent.runner import Runner
from agent.secrets import Secrets
from agent.session import Session
from agent.streams import Streams
from agent.trust import Trust
from agent.usage import Usage
from agent.verification import Verified
from cluster import pki
from cluster.assignments import Item, PeerItem, TaskItem
from cluster.examination import NodeReport, Probed, Target
from cluster.model.network import Endpoint
from cluster.model.node import NodeDescription
from cluster.model.task import TaskState, TaskStatus
from cluster.protocol import (
    STREAM_ERROR,
    TIMINGS,
    Beat,
    Examine,
    Examined,
    Goodbye,
    ImagesResolved,
    LogsRequest,
    OpenStream,
    Page,
    Programmed,
    Refused,
    ResolveImages,
    Statuses,
    Timings,
    paginate,
)
from cluster.templates import Place
from cluster.topics import digests
from tests.agent.builders import CLUSTER, NODE, a_task, an_item
from tests.agent.toy_manager import BEAT, ToyManager
from tests.patience import PATIENCE

ITEM = an_item()
TASK = a_task(ITEM)
DESCRIPTION = NodeDescription("host", "10.0.0.1", "0.1.0", "boot")


class NoNetwork:
    """A node on which nothing is wired, as nothing is ever started."""

    trouble = "a firewall drops it"

    async def apply(self, items: Iterable[Item], *, prune: bool = True) -> None: ...
    async def create_sandbox(self, task: str, endpoints: Collection[Endpoint]) -> Path:
        raise AssertionError

    async def delete_sandbox(self, task: str) -> None: ...
    async def link_container(self, container: str, task: str) -> None: ...
    async def unlink_container(self, container: str) -> None: ...
    async def clean(self, tasks: Collection[str], containers: Collection[str]) -> None: ...
    async def attach(self, sandbox: str, pid: int, endpoints: Collection[Endpoint]) -> None:
        raise AssertionError

    async def release(self, sandbox: str) -> None: ...
    def sandboxes(self) -> frozenset[str]:
        return frozenset()

    def attached(self) -> frozenset[str]:
        return frozenset()

    async def survey(self, tasks: Collection[str]) -> Survey:
        return Survey("eth0", 1500, 1500, (), ())


class NoNames:
    async def verify(self, most_names: int = 0, most_sandboxes: int = 0) -> Verified:
        return Verified()


class NoWays:
    """A node that everybody answers."""

    deaf = "nobody listens here"

    async def run(self) -> None: ...
    async def send(self, targets: Iterable[Target], needed: int) -> list[Probed]:
        return [Probed(target, needed, answerer=target.node) for target in targets]


class NoSandboxes:
    async def in_sandbox(self, task: str, work: Callable[[], Any]) -> Any:
        raise NotImplementedError


class NoContents:
    async def fetch(self, stack: str, digest: str) -> bytes:
        raise NotImplementedError


class Agent:
    """A whole agent but for engine and networks."""

    def __init__(self, credentials: Credentials, *managers: str) -> None:
        self.description = DESCRIPTION
        self.elsewhere: dict[str, str] = {}
        self.listening: tuple[str, ...] = ()
        self.outbox = Outbox()
        engine, folder = Engine(credentials.directory / "docker.sock"), credentials.directory
        self.journal = Journal(folder / "journal.json")
        self.runner = Runner(
            engine,
            NoNetwork(),
            self.outbox,
            self.journal,
            cluster=CLUSTER,
            files=folder,
            address="10.0.0.1",
            place=Place(NODE, "host-1"),
            secrets=Secrets(folder / "secrets", NoContents()),
        )
        self._streams = Streams(credentials, engine, self.runner.known, Reach(engine, self.runner.known, NoSandboxes()))
        self._images = Images(engine)
        self._examiner = Examiner(NoWays(), NoNetwork(), self.runner, NoNames())
        self._usage = Usage(engine, self.runner.known, NoSandboxes())
        self.checkup = Checkup(NODE, NoWays(), NoNetwork(), self.runner, NoNames())
        self._trust = Trust(credentials, lambda: managers)
        self.session = Session(
            credentials, managers, self.runner, self.outbox, self._streams, self._images, self._examiner,
            self._usage, self.checkup, self._trust, lambda: self.description, elsewhere=lambda: self.elsewhere,
            listening=lambda: self.listening,
        )  # fmt: skip

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        work = (
            self.runner.run(),
            self.session.run(),
            self._streams.run(),
            self._images.run(),
            self._examiner.run(),
            self._usage.run(),
            self._trust.run(),
            self.journal.run(self.runner.entry),
        )
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result


@pytest.fixture
def authority() -> pki.Authority:
    return pki.new_authority(CLUSTER, now=time.time())


@pytest.fixture
def credentials(authority: pki.Authority, tmp_path: Path) -> Credentials:
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "key.pem").write_text(pki.new_key())
    csr = pki.new_csr((folder / "key.pem").read_text())
    who = pki.Identity(CLUSTER, "node", NODE, "worker")
    (folder / "node.pem").write_text(pki.issue(authority, csr, who, now=time.time()))
    (folder / "ca.pem").write_text(authority.certificate)
    loaded = load(folder)
    assert loaded is not None
    return loaded


@pytest.fixture
async def manager(authority: pki.Authority, tmp_path: Path) -> AsyncIterator[ToyManager]:
    async with ToyManager(tmp_path, authority).serving() as manager:
        yield manager


@pytest.fixture
async def agent(credentials: Credentials, manager: ToyManager) -> AsyncIterator[Agent]:
    async with Agent(credentials, manager.url).running() as agent:
        yield agent


def full(*items: Item, revision: int = 5, epoch: int = 1) -> list[Page]:
    return paginate(epoch, revision, items, full=True)


async def assigned(agent: Agent, *idents: str) -> None:
    """Wait until the agent works from exactly these."""
    async with asyncio.timeout(PATIENCE):
        while set(agent.runner.known.assignments.items) != set(idents):  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.01)


async def test_a_session_begins_with_a_hello_and_goes_on_with_beats(agent: Agent, manager: ToyManager) -> None:
    session = await manager.session()
    assert session.hello.description == DESCRIPTION
    assert (session.hello.cluster, session.hello.epoch, session.hello.revision) == (CLUSTER, 0, 0)
    await session.welcome()
    began = time.monotonic()
    beat = await session.beats(6)
    assert 4 * BEAT < time.monotonic() - began
    assert "no Docker Engine" in beat.conditions["engine"]
    assert beat.conditions["firewall"] == NoNetwork.trouble


async def test_assignments_are_acted_on_and_statuses_told_until_they_are_recorded(
    agent: Agent, manager: ToyManager
) -> None:
    session = await manager.welcomed()
    await session.say(*full(ITEM, TaskItem(TASK)))
    statuses = await session.hear(Statuses)
    assert [(s.task, s.state) for s in statuses.statuses] == [(TASK.id, TaskState.ACCEPTED)]
    await session.cut()
    again = await manager.welcomed(epoch=2)
    assert (again.hello.epoch, again.hello.revision) == (1, 5)
    repeated = await again.hear(Statuses)
    assert repeated.statuses == statuses.statuses
    await again.record(repeated)
    await again.beats(2)
    await again.cut()
    third = await manager.welcomed(epoch=3)
    await third.beats(3)
    assert third.count(Statuses) == 0, "what was recorded is not told again"


async def test_nothing_is_removed_before_the_last_page_of_a_full_set(agent: Agent, manager: ToyManager) -> None:
    session = await manager.welcomed()
    await session.say(*full(ITEM, TaskItem(TASK)))
    await assigned(agent, ITEM.ident, f"task/{TASK.id}")
    await session.cut()
    again = await manager.welcomed(epoch=2)
    other = a_task(ITEM, slot=2)
    await again.say(Page(2, 6, full=True, last=False, services=(ITEM,)))
    await again.beats(2)
    await assigned(agent, ITEM.ident, f"task/{TASK.id}")
    await again.say(Page(2, 6, full=True, last=True, tasks=(TaskItem(other),)))
    await assigned(agent, ITEM.ident, f"task/{other.id}")
    await again.say(Page(2, 7, full=False, last=True, removed=(f"task/{other.id}",)))
    await assigned(agent, ITEM.ident)


async def test_an_agent_says_what_it_has_of_topics_and_keeps_what_is_not_told_again(
    agent: Agent, manager: ToyManager
) -> None:
    peer = PeerItem("f1", "t1", "n2", "10.0.0.2", ("10.1.0.2",), "", ready=True)
    session = await manager.welcomed()
    assert session.hello.has == {}
    await session.say(*full(ITEM, peer))
    await assigned(agent, ITEM.ident, peer.ident)
    await session.cut()
    again = await manager.welcomed(epoch=2)
    assert again.hello.has == digests([peer])
    await again.say(Page(2, 6, full=True, last=True, kept=("f1",)))
    await assigned(agent, peer.ident)


async def test_a_set_that_is_older_than_what_was_acted_on_ends_the_session_and_changes_nothing(
    agent: Agent, manager: ToyManager
) -> None:
    session = await manager.welcomed()
    await session.say(*full(ITEM, TaskItem(TASK), revision=9))
    await assigned(agent, ITEM.ident, f"task/{TASK.id}")
    await session.cut()
    lagging = await manager.welcomed(epoch=2)
    await lagging.say(*full(revision=8, epoch=2))
    third = await manager.welcomed(epoch=3)
    assert third.hello.revision == 9
    await assigned(agent, ITEM.ident, f"task/{TASK.id}")


async def test_a_manager_that_goes_away_is_replaced_by_another(
    credentials: Credentials, authority: pki.Authority, tmp_path: Path
) -> None:
    async with AsyncExitStack() as first_stack, AsyncExitStack() as stack:
        folders = [tmp_path / name for name in ("m1", "m2")]
        for folder in folders:
            folder.mkdir()
        first = await first_stack.enter_async_context(ToyManager(folders[0], authority).serving())
        second = await stack.enter_async_context(ToyManager(folders[1], authority).serving())
        agent = Agent(credentials, first.url)
        async with agent.running():
            # The other one is known only from the first one's welcome.
            session = await first.welcomed(managers=(first.url, second.url))
            await session.beats(1)
            await first_stack.aclose()
            await second.welcomed(epoch=2)
            await agent.journal.flush()
            assert agent.journal.read(CLUSTER).managers == (first.url, second.url)


async def test_a_manager_whose_host_has_gone_is_left_before_a_ping_tells(
    agent: Agent, manager: ToyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await manager.welcomed()
    await session.cut()
    monkeypatch.setattr(session_module, "PING_INTERVAL", 10 * PATIENCE)
    lost = await manager.welcomed(epoch=2)
    await lost.beats(1)
    lost.lose_power()
    again = await manager.welcomed(epoch=3)
    await again.beats(1)


async def test_a_manager_that_is_frozen_is_left(
    agent: Agent, manager: ToyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not even answer pings, although its host keeps the connection open."""
    session = await manager.welcomed()
    await session.cut()
    monkeypatch.setattr(session_module, "PING_INTERVAL", 2.0)
    deaf = await manager.welcomed(epoch=2)
    await deaf.beats(1)
    deaf.freeze()
    again = await manager.welcomed(epoch=3)
    await again.beats(1)


@pytest.mark.parametrize(
    ("welcome", "refusal"),
    [
        pytest.param({"cluster": "restored"}, None, id="it is of another cluster"),
        pytest.param({"node": "someone"}, None, id="it takes this node for another"),
        pytest.param(None, Refused("this node was removed", final=True), id="it says so"),
    ],
)
async def test_a_manager_that_refuses_for_good_is_asked_again_but_rarely(
    agent: Agent,
    manager: ToyManager,
    welcome: dict[str, object] | None,
    refusal: Refused | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(session_module, "FINAL_PAUSE", 0.3)
    session = await manager.session()
    began = time.monotonic()
    with caplog.at_level(logging.ERROR):
        if welcome is not None:
            await session.welcome(**welcome)  # type: ignore[arg-type]
        else:
            assert refusal is not None
            await session.say(refusal)
        await manager.session()
    assert time.monotonic() - began >= 0.3
    assert "refuses this node" in caplog.text
    assert not agent.runner.known.complete


async def test_who_goes_by_plan_says_goodbye(agent: Agent, manager: ToyManager) -> None:
    session = await manager.welcomed()
    await session.beats(1)
    await agent.session.goodbye(30)
    assert (await session.hear(Goodbye)).seconds == 30


async def test_a_host_that_changes_is_described_again(agent: Agent, manager: ToyManager) -> None:
    session = await manager.welcomed()
    await session.hear(Beat)
    agent.description = NodeDescription("host", "10.0.0.1", "0.1.0", "boot", engine_version="20.10")
    await session.hear(Goodbye)
    again = await manager.welcomed(epoch=2)
    assert again.hello.description.engine_version == "20.10"


async def test_where_the_host_leads_is_told_when_that_changes(agent: Agent, manager: ToyManager) -> None:
    agent.elsewhere = {"10.9.0.0/24": "eth1"}
    session = await manager.welcomed()
    assert (await session.hear(Beat)).routes == {"10.9.0.0/24": "eth1"}
    await session.hear(Beat, lambda beat: beat.routes is None)
    agent.elsewhere = {}
    await session.hear(Beat, lambda beat: beat.routes == {})


async def test_what_the_host_listens_on_is_told_when_that_changes(agent: Agent, manager: ToyManager) -> None:
    agent.listening = ("tcp/22",)
    session = await manager.welcomed()
    assert (await session.hear(Beat)).listening == ("tcp/22",)
    await session.hear(Beat, lambda beat: beat.listening is None)
    agent.listening = ()
    await session.hear(Beat, lambda beat: beat.listening == ())


async def test_what_work_took_is_told_once(agent: Agent, manager: ToyManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "PAUSE", 0.0)
    agent.runner.timings.observe("pull", 2.0)
    session = await manager.welcomed(version=TIMINGS)
    told = (await session.hear(Timings)).latencies
    assert told.keys() == {"pull"} and (sum(told["pull"].counts), told["pull"].total) == (1, 2.0)
    agent.outbox.put(TaskStatus("task1", TaskState.RUNNING, 1.0))
    await session.record(await session.hear(Statuses))
    later = await session.hear(Timings, lambda timings: timings.latencies.keys() == {"record"})
    assert sum(later.latencies["record"].counts) == 1
    await session.cut()
    agent.runner.timings.observe("pull", 2.0)
    older = await manager.welcomed(epoch=2, version=TIMINGS - 1)
    await older.beats(2)
    assert older.count(Timings) == 0, "one of before would end the session"


def later_than(sequence: int) -> Callable[[Statuses], bool]:
    return lambda statuses: statuses.sequence > sequence


async def test_a_burst_of_statuses_delays_no_beat_and_stays_in_small_frames(agent: Agent, manager: ToyManager) -> None:
    session = await manager.welcomed()
    for n in range(2000):
        agent.outbox.put(TaskStatus(f"task{n}", TaskState.FAILED, 1.0, "x" * 400, "c" * 64))
    told: set[str] = set()
    answered = 0
    while len(told) < 2000:
        statuses = await session.hear(Statuses, later_than(answered))
        answered = statuses.sequence
        told.update(status.task for status in statuses.statuses)
        await session.record(statuses)
    await session.beats(2)


async def test_a_stream_that_cannot_be_carried_says_why(agent: Agent, manager: ToyManager) -> None:
    session = await manager.welcomed()
    await session.say(OpenStream("ticket1", LogsRequest("nobody")))
    await asyncio.wait_for(manager.stream_ended.wait(), PATIENCE)
    [frame] = manager.streams["ticket1"]
    assert frame[:1] == STREAM_ERROR
    assert b"no container on this node" in frame


async def test_an_agent_does_not_hang_up_on_a_manager_that_has_not_read_all_of_a_stream(
    agent: Agent, manager: ToyManager
) -> None:
    session = await manager.welcomed()
    await session.say(OpenStream("ticket1", LogsRequest("nobody")))
    await asyncio.wait_for(manager.stream_ended.wait(), PATIENCE)
    assert manager.after_stream is WSMsgType.PONG


async def test_images_are_looked_up_and_what_stands_in_the_way_is_told(agent: Agent, manager: ToyManager) -> None:
    session = await manager.welcomed()
    await session.say(ResolveImages("q1", ("web:1", "db:1"), 5.0))
    answer = await session.hear(ImagesResolved)
    assert (answer.id, answer.digests) == ("q1", {})
    assert answer.problems == dict.fromkeys(("web:1", "db:1"), "the engine is not connected")


async def test_a_node_is_examined_when_a_manager_asks(agent: Agent, manager: ToyManager) -> None:
    session = await manager.welcomed()
    await session.say(Examine("e1", (Target("n2", "10.0.0.2"),), 5.0))
    answer = await session.hear(Examined)
    probed = (Probed(Target("n2", "10.0.0.2"), 1500, answerer="n2"),)
    assert answer == Examined("e1", NodeReport("eth0", 1500, 1500, probed, deaf="nobody listens here"))


async def test_a_manager_hears_when_names_and_ports_have_let_go_of_what_leaves(
    agent: Agent, manager: ToyManager
) -> None:
    session = await manager.welcomed()
    peer = PeerItem("net1", TASK.id, NODE, "10.0.0.1", ("10.128.0.2",), "02:42:0a:80:00:02", ready=True)
    await session.say(*full(peer, revision=5))
    await session.say(*paginate(1, 7, (replace(peer, ready=False, leaving=True),), full=False))
    assert await session.hear(Programmed) == Programmed(7), "and nothing was said of revision 5"
    await session.cut()
    session = await manager.welcomed(2)
    assert await session.hear(Programmed) == Programmed(7), "each session is told"
