"""In which order things come and go, so that nothing leads for a moment where nothing is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from agent.network.netlink import AF_BRIDGE, RTM_DELLINK
from agent.network.ports import Rules
from agent.network.tables import NodeTables
from agent.network.translation import Translation
from agent.network.vips import Services
from agent.network.wiring import Wiring
from cluster.model.network import Network
from tests.agent.network.test_wiring import ask, listening, serving
from tests.agent.network.underlay import (
    FRONT,
    INGRESS_NETWORK,
    ROOT,
    SUBNET,
    Cluster,
    host,
    inside,
    reaches,
    rows,
    wiring,
)

pytestmark = pytest.mark.root

LATER = Network("later", "later", "stack", "later", 4104, ("10.104.0.0/16",))
Wirings = dict[str, Wiring]


async def test_rows_go_only_when_nothing_leads_to_them_any_more(
    wirings: Wirings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster()
    cluster.task(1, "h1", FRONT, INGRESS_NETWORK)
    two = cluster.task(2, "h2", FRONT, INGRESS_NETWORK)
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    places = ROOT / "h1" / "sn-front", ROOT / "h1" / "sn-ingress"
    ends = "10.101.1.2 ", "10.100.1.2 "

    def there() -> list[bool]:
        return [any(row.startswith(end) for row in rows(place)) for place, end in zip(places, ends, strict=True)]

    seen: list[list[bool]] = []

    def want(translation: Translation, services: Mapping[str, Services]) -> None:
        wanted(translation, services)
        seen.append(there())

    def publish(tables: NodeTables, ports: Rules | None, *, prune: bool) -> None:
        published(tables, ports, prune=prune)
        seen.append(there())

    wanted, published = Translation.want, NodeTables.publish
    monkeypatch.setattr(Translation, "want", want)
    monkeypatch.setattr(NodeTables, "publish", publish)
    del cluster.tasks[two]
    await wirings["h1"].apply(cluster.items("h1"))
    assert seen == [[True, True]] * 2
    assert there() == [False, False]


async def test_a_set_that_may_be_old_changes_nothing_of_what_an_earlier_process_left(wirings: Wirings) -> None:
    """A journal is behind by what came in the last second of an agent that was killed."""
    cluster = Cluster()
    one = cluster.task(1, "h1", FRONT, INGRESS_NETWORK)
    await cluster.start(wirings)
    old = cluster.items("h1")
    cluster.networks.append(LATER)
    cluster.publish(8080, 80)
    await wirings["h1"].apply(cluster.items("h1"))

    def tables() -> str:
        return inside(host("h1"), "nft", "-s", "list", "ruleset")

    before = tables()
    assert "8080" in before and "10.104.0.0" in before
    again = wiring("h1")
    await again.open()
    try:
        await again.apply(old, prune=False)
        assert tables() == before
        with serving(wirings["h1"].namespace(one), 80, "one"):
            await again.apply(cluster.items("h1"), prune=False)
            inside(host("h1"), "nft", "delete", "table", "inet", "stackyard")
            await again.audit()
            assert ask(host("client"), f"{SUBNET}.1", 8080).startswith("one"), "what goes is made from what is known"
        await again.apply(cluster.items("h1"))
    finally:
        await again.close()


async def test_a_bridge_and_its_way_out_are_mended_in_place(wirings: Wirings) -> None:
    cluster = Cluster()
    one, _ = cluster.task(1, "h1", FRONT), cluster.task(2, "h2", FRONT)
    await cluster.start(wirings)
    network, sandbox = ROOT / "h1" / "sn-front", wirings["h1"].namespace(one)
    before = rows(network)
    inside(network, "ip", "link", "set", "br0", "address", "02:00:00:00:00:01")
    inside(network, "ip", "link", "set", "vxlan0", "nomaster")
    with listening(network) as heard:
        await wirings["h1"].audit()
        ended = [body for kind, body in heard() if kind == RTM_DELLINK and body[0] != AF_BRIDGE]
    assert ended == []
    assert rows(network) == before
    assert reaches(sandbox, "10.101.1.2")
