"""The board against the plain way to work out a set: whatever happens, what a reader was told adds up to the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import codec
from cluster.assignments import Item, NetworkItem, PeerItem, TaskItem, VipItem, VolumeItem
from cluster.codec import Record
from cluster.model.cluster import Claim
from cluster.model.network import INGRESS, Endpoint, Network, NetworkSpec
from cluster.model.node import NodeState, NodeStatus, Session, SessionState
from cluster.model.service import NetworkAttachment, PortSpec
from cluster.model.stack import ServiceVersion, Stack, StackRevision, StackSpec
from cluster.model.task import Desired, TaskState
from cluster.model.volume import Volume
from cluster.protocol import Page, decode_to_agent, frames
from cluster.topics import digests, topic_of
from manager.picture import ClusterState, Event
from manager.sessions import board as board_module
from manager.sessions.assignments import assignments
from manager.sessions.board import Board, Reader
from tests.manager.managers import description
from tests.manager.sessions.stage import node, service, shop, status, task

NODES = ("n1", "n2", "n3")
Operation = tuple[list[Record], list[str]]


class World:
    """A picture, a board on it, and agents that keep what they were told."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.board = Board(self.state)
        self.readers: dict[str, Reader] = {}
        self.told: dict[str, dict[str, Item]] = {}

    def happen(self, puts: Iterable[Record] = (), deletes: Iterable[str] = ()) -> None:
        revision = self.state.revision + 1
        events = [Event(codec.key_of(record), codec.encode(record), revision) for record in puts]
        events += [Event(key, None, revision) for key in deletes]
        self.board.changed(self.state.apply(events, revision))

    def reader(self, name: str) -> Reader:
        if name not in self.readers:
            self.readers[name] = self.board.read(name)
            self.told[name] = {}
        return self.readers[name]

    def dial_again(self, name: str) -> None:
        """Have the agent open another session, in which it says what it has."""
        if name in self.readers:
            self.readers[name].close()
            self.readers[name] = self.board.read(name, digests(self.told[name].values()))

    def read(self, name: str) -> None:
        news = self.reader(name).read()
        assert not set(news.parts) & news.gone
        written = frames(1, news.revision, news.parts.values(), tuple(news.gone), full=news.full, kept=news.kept)
        pages = map(decode_to_agent, written)
        if news.full:
            self.told[name] = {i: item for i, item in self.told[name].items() if topic_of(i) in news.kept}
        for page in pages:
            assert isinstance(page, Page)
            self.told[name].update((item.ident, item) for item in page.items)
            for ident in page.removed:
                self.told[name].pop(ident, None)  # what came and went in between is taken back, but was never given
        assert self.told[name] == assignments(self.state, name)


def session(name: str, address: str) -> Session:
    return Session(name, 1, "m1", SessionState.OPEN, 1.0, description(name, address))


def network(ident: str) -> Network:
    return Network(ident, ident, "" if ident == INGRESS else "s1", ident, 4097, ("10.128.0.0/20",))


def publishing(ports: tuple[int, ...], n: int) -> list[Record]:
    spec = StackSpec("shop", {"web": service(ports=tuple(PortSpec(80, port) for port in ports))})
    revision = StackRevision("s1", n, spec, {"web": ServiceVersion("u1", 1)}, "ann", "", 1.0, "op")
    return [revision, Stack("s1", "shop", n, "op")]


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    where = draw(st.sampled_from(NODES))
    one = task(draw(st.integers(1, 6)), where, network=draw(st.sampled_from(["f1", "f2", INGRESS])))
    choice = draw(st.integers(0, 13))
    match choice:
        case 0 | 1:
            return [replace(one, desired=draw(st.sampled_from(Desired)))], []
        case 2 | 3:
            return [status(one, draw(st.sampled_from(TaskState)))], []
        case 4:
            return [], [codec.key_of(one), codec.key_of(status(one))]
        case 5:
            return [node(where), session(where, draw(st.sampled_from(["10.0.0.1", "10.0.0.2"])))], []
        case 6:
            verdict = NodeState(where, draw(st.sampled_from(NodeStatus)), 1.0)
            endpoint = Endpoint(INGRESS, (f"10.192.0.{NODES.index(where) + 2}",))
            return [replace(verdict, ingress=draw(st.sampled_from([None, endpoint])))], []
        case 7:
            name = draw(st.sampled_from(["f1", "f2", INGRESS]))
            return ([network(name)], []) if draw(st.booleans()) else ([], [codec.key_of(network(name))])
        case 8:
            ports = draw(st.lists(st.sampled_from([8080, 8081, 0]), unique=True))
            return publishing(tuple(ports), draw(st.integers(2, 9))), []
        case 9:
            volume = Volume(draw(st.sampled_from(["shop_a", "shop_b"])), where, "s1", 1.0, removing=draw(st.booleans()))
            return ([volume], []) if draw(st.booleans()) else ([], [codec.key_of(volume)])
        case 10 | 11:
            claim = Claim(
                "address", f"{draw(st.sampled_from(['f1', 'f2']))}/10.128.0.9", draw(st.sampled_from(["u1", one.id]))
            )
            return ([claim], []) if draw(st.booleans()) else ([], [codec.key_of(claim)])
        case 12:
            given = Claim("port", f"tcp/{draw(st.sampled_from([30000, 30001]))}", "u1", target=80)
            return ([given], []) if draw(st.booleans()) else ([], [codec.key_of(given)])
        case _:
            gone: list[Record] = [node(where), Stack("s1", "shop", 1, "op1")]
            return [], [codec.key_of(draw(st.sampled_from(gone)))]


ENTER, AGAIN = "enter ", "again "
looks = st.sampled_from([*NODES, *(word + name for word in (ENTER, AGAIN) for name in NODES)])
steps = st.lists(st.one_of(operations(), looks), min_size=1, max_size=60)


@pytest.mark.parametrize("spare", [0, 100], ids=["readers fall far behind", "nobody falls far behind"])
@given(steps=steps)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_a_reader_was_told_adds_up_to_its_set(spare: int, steps: list[Operation | str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board_module, "SPARE", spare)
        world = World()
        world.happen([*shop(), network("f2"), network(INGRESS), *map(node, NODES)])
        for step in steps:
            if isinstance(step, str) and step.startswith(ENTER):
                next(world.reader(step.removeprefix(ENTER)).enter(), None)
            elif isinstance(step, str) and step.startswith(AGAIN):
                world.dial_again(step.removeprefix(AGAIN))
            elif isinstance(step, str):
                world.read(step)
            else:
                world.happen(*step)
        for name in NODES:
            world.read(name)


def test_networks_that_nobody_reads_yet_are_entered_one_by_one() -> None:
    world = World()
    world.happen([*shop(), network("f2"), node("n1"), session("n1", "10.0.0.1")])
    world.happen([task(number, "n1", network=name) for number, name in ((1, "f1"), (2, "f2"))])
    made = [sum(map(world.board.has, ("f1", "f2"))) for _ in world.reader("n1").enter()]
    assert made == [1, 2]
    world.read("n1")
    assert {item.ident for item in world.told["n1"].values() if isinstance(item, PeerItem)} != set()
    assert not list(world.reader("n1").enter())


def busy_world(agents: int) -> World:
    """Each of many nodes in a network of its own, and all in that of published ports."""
    world = World()
    world.happen(shop())
    world.happen([network(INGRESS)])
    for number in range(agents):
        name = f"n{number}"
        verdict = NodeState(
            name, NodeStatus.READY, 1.0, "", Endpoint(INGRESS, (f"10.192.{number // 250}.{number % 250}",))
        )
        here = replace(task(number + 1, name), endpoints=(Endpoint(f"net{number}", ("10.1.0.2",)),))
        world.happen([node(name), session(name, "10.0.0.1"), verdict, network(f"net{number}"), here])
    for number in range(agents):
        world.read(f"n{number}")
    return world


def test_a_change_wakes_only_those_whom_it_concerns() -> None:
    world = busy_world(50)
    here = replace(task(8, "n7"), endpoints=(Endpoint("net7", ("10.1.0.2",)),))
    world.happen([status(here)])
    assert [name for name, reader in world.readers.items() if reader.news.is_set()] == ["n7"]


def test_a_port_is_told_to_all() -> None:
    world = busy_world(5)
    world.happen(publishing((8080,), 2))
    assert all(reader.news.is_set() for reader in world.readers.values())
    news = world.readers["n3"].read()
    assert set(news.parts) == {"port/tcp/8080"} and not news.full


def test_an_agent_that_dials_again_is_told_no_topic_that_it_has_as_it_is() -> None:
    world = busy_world(3)
    world.dial_again("n1")
    news = world.readers["n1"].read()
    assert news.full and set(news.kept) == {"net1", INGRESS}
    assert not [ident for ident in news.parts if topic_of(ident)]
    elsewhere = replace(task(3, "n2"), endpoints=(Endpoint("net1", ("10.1.0.3",)),))
    world.happen([elsewhere])
    world.dial_again("n1")
    news = world.readers["n1"].read()
    assert news.kept == (INGRESS,)
    assert {ident for ident in news.parts if topic_of(ident)} == {f"peer/net1/{task(n, '').id}" for n in (2, 3)}


def test_an_agent_is_told_nothing_of_what_becomes_of_a_node_that_is_not_down() -> None:
    world = busy_world(3)
    was = world.state.node_states["n2"]
    opened = world.state.sessions["n2"]
    for record in (
        replace(opened, state=SessionState.CLOSED, since=2.0),
        replace(was, status=NodeStatus.AGENT_LOST, reason="its host answers, its agent does not"),
        replace(opened, epoch=2, routes={"10.9.0.0/24": "eth1"}, conditions={"disk": "full"}),
        was,
    ):
        world.happen([record])
        assert [name for name, reader in world.readers.items() if reader.news.is_set()] == []
    world.happen([replace(was, status=NodeStatus.DOWN)])
    assert [name for name, reader in world.readers.items() if reader.news.is_set()] == ["n2"]


def test_a_reader_that_has_closed_leaves_nothing_behind() -> None:
    world = busy_world(3)
    for reader in world.readers.values():
        reader.close()
    assert world.board._reading == {} and set(world.board._topics) == {"ports"}


# The plain way itself


def picture(*records: Record) -> ClusterState:
    world = World()
    world.happen(records)
    return world.state


def peers_of(state: ClusterState, name: str) -> dict[str, PeerItem]:
    return {item.owner: item for item in assignments(state, name).values() if isinstance(item, PeerItem)}


HERE, THERE = task(1, "n1"), task(2, "n2")
MEMBERS: tuple[Record, ...] = (
    *map(node, NODES),
    *(session(name, f"10.0.0.{number}") for number, name in enumerate(NODES, 1)),
)


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (None, False),
        (TaskState.STARTING, False),
        (TaskState.RUNNING, True),
    ],
    ids=["not reported yet", "starting", "running"],
)
def test_names_lead_only_to_tasks_that_run(state: TaskState | None, ready: bool) -> None:
    reported = [] if state is None else [status(THERE, state)]
    peers = peers_of(picture(*MEMBERS, *shop(), HERE, THERE, *reported), "n1")
    assert peers[THERE.id].ready is ready
    assert (peers[THERE.id].vtep, peers[THERE.id].aliases) == ("10.0.0.2", ("web",))


@pytest.mark.parametrize("state", [state for state in TaskState if state.terminal])
def test_a_task_that_has_ended_is_no_endpoint_any_more(state: TaskState) -> None:
    found = picture(*MEMBERS, *shop(), HERE, THERE, status(THERE, state))
    assert THERE.id not in peers_of(found, "n1")
    assert f"task/{THERE.id}" in assignments(found, "n2"), "its node has yet to clear it away"


def test_tasks_that_are_to_end_get_no_new_traffic() -> None:
    going = replace(THERE, desired=Desired.SHUTDOWN)
    assert not peers_of(picture(*MEMBERS, *shop(), HERE, going, status(going)), "n1")[THERE.id].ready


def test_a_node_without_tasks_in_a_network_learns_nothing_of_it() -> None:
    assert assignments(picture(*MEMBERS, *shop(), HERE, THERE), "n3") == {}


def test_a_node_learns_of_no_other_nodes_tasks() -> None:
    items = assignments(picture(*MEMBERS, *shop(), HERE, THERE), "n1").values()
    assert [item.task.id for item in items if isinstance(item, TaskItem)] == [HERE.id]


def test_a_node_learns_which_volumes_it_is_to_remove() -> None:
    kept, going = (Volume(name, "n1", "s1", 1.0, removing=name == "shop_b") for name in ("shop_a", "shop_b"))
    found = picture(*MEMBERS, *shop(), kept, going)
    assert assignments(found, "n1") == {"volume/shop_b": VolumeItem("shop_b")}
    assert assignments(found, "n2") == {}


def test_a_nodes_own_address_among_published_ports_comes_with_the_network() -> None:
    verdict = NodeState("n1", NodeStatus.READY, 1.0, "", Endpoint(INGRESS, ("10.192.0.2",)))
    items = assignments(picture(*MEMBERS, network(INGRESS), verdict), "n1")
    assert items[f"network/{INGRESS}"] == NetworkItem(network(INGRESS), ("10.192.0.2",))
    assert peers_of(picture(*MEMBERS, network(INGRESS), verdict), "n1")["n1"].vtep == "10.0.0.1"


def test_a_virtual_address_is_told_with_the_names_that_the_service_has_there() -> None:
    attached = (NetworkAttachment("front", ("www",)),)
    sticky = replace(service(), networks=attached, labels={"com.stackyard.sticky": "client-ip"})
    spec = StackSpec("shop", {"web": sticky}, {"front": NetworkSpec("front", "shop_front", external=True)})
    head = StackRevision("s1", 2, spec, {"web": ServiceVersion("u1", 1)}, "ann", "", 1.0, "op")
    claim = Claim("address", "f1/10.128.0.9", "u1")
    world = World()

    def told() -> list[VipItem]:
        world.read("n1")
        return [item for item in world.told["n1"].values() if isinstance(item, VipItem)]

    world.happen([*MEMBERS, *shop(), HERE])
    assert told() == []
    world.happen([claim])
    assert [(item.addresses, item.sticky) for item in told()] == [(("10.128.0.9",), False)]
    world.happen([head, Stack("s1", "shop", 2, "op2")])
    assert told() == [VipItem("f1", "u1", "shop", "web", ("10.128.0.9",), ("www",), sticky=True)]
    world.happen([], [codec.key_of(claim)])
    assert told() == []
