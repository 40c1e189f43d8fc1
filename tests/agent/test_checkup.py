"""What an agent finds by itself, with everything that it asks played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import replace

import pytest

from agent import checkup as checkup_module
from agent.checkup import MOST_TARGETS, MOST_TROUBLES, Checkup
from agent.network.survey import Survey
from agent.verification import Verified
from cluster.assignments import Item, NetworkItem, PeerItem
from cluster.examination import Astray, Probed, Target
from cluster.model.network import Network


class World:
    """A node `n0` with as many others, all well at first; `odd` are the answers of those that differ."""

    deaf = ""

    def __init__(self, others: int = 3) -> None:
        self.items: Collection[Item] = [
            PeerItem("net", f"t{n}", f"n{n}", f"10.0.0.{n}", (f"10.1.0.{n}",), "", True) for n in range(others + 1)
        ]
        self.odd: dict[str, Probed] = {}
        self.surveyed = Survey("eth0", 1500, 1500, (), ())
        self.verified = Verified()
        self.asked: list[list[str]] = []
        self.checkup = Checkup("n0", self, self, self, self)

    async def survey(self, tasks: Collection[str]) -> Survey:
        return self.surveyed

    async def verify(self, most_names: int, most_sandboxes: int) -> Verified:
        return self.verified

    async def send(self, targets: Iterable[Target], needed: int) -> list[Probed]:
        targets = list(targets)
        self.asked.append([target.node for target in targets])
        return [self.odd.get(t.node, Probed(t, needed, answerer=t.node)) for t in targets]

    def make(self, node: str, **differing: object) -> None:
        target = Target(node, f"10.0.0.{node[1:]}")
        self.odd[node] = replace(Probed(target, 1500, answerer=node), **differing)  # type: ignore[arg-type]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(checkup_module, "CONFIRM", 0.0)
    return World()


async def test_all_is_well(world: World) -> None:
    await world.checkup.look()
    assert world.checkup.troubles == {}
    assert sorted(world.asked[0]) == ["n1", "n2", "n3"] and len(world.asked) == 1


@pytest.mark.parametrize(
    ("differing", "words"),
    [
        ({"passed": 0, "answerer": ""}, "packets to UDP port 4789 of 10.0.0.2 are not answered"),
        ({"passed": 0, "answerer": "", "refused": "No route"}, "refused here: No route"),
        ({"passed": 1400}, "only packets of up to 1400 bytes pass to 10.0.0.2, not 1500"),
        ({"answerer": "n9"}, "10.0.0.2 is answered by another node, n9"),
    ],
)
async def test_a_way_that_is_not_open_is_told_until_it_is(
    world: World, differing: dict[str, object], words: str
) -> None:
    world.make("n2", **differing)
    await world.checkup.look()
    assert list(world.checkup.troubles) == ["way/n2"] and words in world.checkup.troubles["way/n2"]
    assert len(world.asked) == 2, "what is new is looked at twice"
    await world.checkup.look()
    assert len(world.asked) == 3 and world.asked[2][0] == "n2", "what is known only once, and first"
    world.odd.clear()
    await world.checkup.look()
    assert world.checkup.troubles == {}


async def test_nodes_that_only_share_encrypted_networks_are_not_probed(world: World) -> None:
    world.items = [*world.items, NetworkItem(Network("net", "net", "s", "net", 4097, ("10.1.0.0/16",), encrypted=True))]
    await world.checkup.look()
    assert world.asked == [[]]


async def test_what_is_gone_at_the_second_look_is_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.make("n2", passed=0)

    async def mend(seconds: float) -> None:
        world.odd.clear()

    monkeypatch.setattr(world.checkup, "_pause", mend)
    await world.checkup.look()
    assert world.checkup.troubles == {}


async def test_a_clock_is_told_by_the_node_whose_it_is(world: World) -> None:
    world.make("n1", ahead=-90.0, give=0.1)
    await world.checkup.look()
    assert world.checkup.troubles == {}, "the other one is wrong"
    world.make("n2", ahead=-91.0, give=0.1)
    await world.checkup.look()
    assert world.checkup.troubles == {"clock": "its clock is 90.0 s ahead of that of other nodes"}


async def test_the_node_itself(world: World) -> None:
    world.deaf = "it cannot listen"
    world.surveyed = Survey("eth0", 1400, 1500, (), ())
    world.verified = Verified(9, 1, (Astray("t1", "db", "x", "y", mended=True), Astray("t1", "web", "no answer", "y")))
    await world.checkup.look()
    assert world.checkup.troubles == {
        "probes": "other nodes' probes are not answered: it cannot listen",
        "mtu": "its link eth0 takes 1400 bytes, its networks send up to 1500",
        "names": "web leads to no answer in task t1",
    }


async def test_of_many_nodes_some_are_probed_and_few_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup_module, "CONFIRM", 0.0)
    world = World(200)
    for n in range(1, 201):
        world.make(f"n{n}", passed=0)
    await world.checkup.look()
    assert len(world.checkup.troubles) <= MOST_TROUBLES
    assert all(len(asked) <= MOST_TARGETS for asked in world.asked)
    world.odd.clear()
    await world.checkup.look()
    assert world.checkup.troubles == {}


async def test_it_looks_again_and_again_and_survives_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EVERY", "WORRIED", "CONFIRM"):
        monkeypatch.setattr(checkup_module, name, 0.0)
    world = World()
    running = asyncio.create_task(world.checkup.run())
    looked = asyncio.Event()

    async def fail(tasks: Collection[str]) -> Survey:
        if len(world.asked) > 3:
            looked.set()
        world.asked.append([])
        raise OSError("gone")

    monkeypatch.setattr(world, "survey", fail)
    async with asyncio.timeout(60):
        await looked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
