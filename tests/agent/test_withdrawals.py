"""Of which sets an agent says that they are in force."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agent.withdrawals import Withdrawals
from cluster.assignments import Assignments, Item, PeerItem, VolumeItem
from cluster.protocol import Programmed

PEER = PeerItem("f1", "t1", "n1", "192.0.2.1", ("10.0.0.2",), "02:42:0a:00:00:02", True, "shop", "web", "u1", 1)
UNREADY = replace(PEER, ready=False)
LEAVING = replace(UNREADY, leaving=True)
NODE = replace(PEER, owner="n1", service="", service_uid="", stack="")


def given(revision: int, *items: Item) -> Assignments:
    return Assignments(1, revision, {item.ident: item for item in items})


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((), (PEER,), True),
        ((), (UNREADY,), False),
        ((), (NODE,), False),
        ((UNREADY,), (PEER,), True),
        ((PEER,), (UNREADY,), True),
        ((PEER,), (), True),
        ((UNREADY,), (), False),
        ((PEER,), (replace(PEER, aliases=("db",)),), False),
        ((PEER,), (PEER, VolumeItem("v")), False),
        ((LEAVING,), (LEAVING, VolumeItem("v")), True),
    ],
)
async def test_sets(before: tuple[Item, ...], after: tuple[Item, ...], told: bool) -> None:
    withdrawals = Withdrawals()
    withdrawals.applied(given(1, *before))
    withdrawals.applied(given(2, *after))
    withdrawals.applied(given(3, replace(PEER, owner="t2")))  # which is told of in any case
    taken = [await withdrawals.take()]
    assert taken == [Programmed(3)], "the newest is enough"
    withdrawals = Withdrawals()
    withdrawals.applied(given(1, *before))
    withdrawals.tell_again()
    withdrawals.applied(given(2, *after))
    try:
        async with asyncio.timeout(0.05):
            found = await withdrawals.take()
    except TimeoutError:
        found = None
    assert (found == Programmed(2)) is told


async def test_a_new_session_is_told_again() -> None:
    withdrawals = Withdrawals()
    withdrawals.applied(given(4, PEER))
    assert await withdrawals.take() == Programmed(4)
    withdrawals.applied(given(5, PEER))
    withdrawals.tell_again()
    assert await withdrawals.take() == Programmed(4)
