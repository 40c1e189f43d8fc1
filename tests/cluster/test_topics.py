"""Digests of topics: whoever has the same items has the same digest, in whichever order they came."""

from __future__ import annotations

from dataclasses import replace

from cluster.assignments import Item, PeerItem, PortItem, VipItem, VolumeItem
from cluster.model.service import PortSpec
from cluster.protocol import Page, decode_to_agent, frames, part
from cluster.topics import PORTS, digest, digests, mark, topic_of

PEERS = [PeerItem("f1", f"t{n}", "n1", "10.0.0.1", (f"10.1.0.{n}",), "", ready=True) for n in (2, 3)]
ITEMS: list[Item] = [
    *PEERS,
    VipItem("f1", "u1", "shop", "web", ("10.1.0.9",), ("www",)),
    replace(PEERS[0], network="f2"),
    PortItem("u1", PortSpec(80, 8080)),
    VolumeItem("shop_data"),
]


def test_each_item_is_in_its_topic() -> None:
    assert [topic_of(item.ident) for item in ITEMS] == ["f1", "f1", "f1", "f2", PORTS, ""]
    assert digests(ITEMS).keys() == {"f1", "f2", PORTS}


def test_what_went_over_the_wire_has_the_digest_of_what_was_sent() -> None:
    pages = [decode_to_agent(frame) for frame in frames(1, 2, map(part, reversed(ITEMS)), full=True)]
    there = [item for page in pages if isinstance(page, Page) for item in page.items]
    assert digests(there) == digests(ITEMS)


def test_another_item_or_one_more_makes_another_digest() -> None:
    other = replace(PEERS[1], ready=False)
    found = [
        digests(some)["f1"] for some in (PEERS, [PEERS[0]], [PEERS[0], other], [*PEERS, other], [*PEERS, PEERS[0]])
    ]
    assert len(set(found)) == len(found)


def test_marks_that_are_added_and_taken_away_leave_nothing() -> None:
    one, two = (mark(part(item).text) for item in PEERS)
    assert digest(one + two - one - two - one + one) == digest(0) != digest(one)
