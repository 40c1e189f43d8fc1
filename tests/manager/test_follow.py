"""The picture follows etcd: many changes that come together are taken in piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from cluster.codec import encode, key_of
from cluster.model.node import Node
from manager.etcd import Batch, KeyValue, Snapshot
from manager.etcd.records import Event
from manager.follow import SLICE, Follower
from manager.picture import Change


class Etcd:
    """Tells what it is given, and then nothing."""

    def __init__(self, *news: Snapshot | Batch) -> None:
        self._news = news

    async def follow(self, prefix: str) -> AsyncGenerator[Snapshot | Batch, None]:
        for one in self._news:
            yield one
        await asyncio.Event().wait()


def made(name: str, revision: int) -> Event:
    node = Node(name, name, "worker", 1.0)
    key = key_of(node)
    return Event(key, revision, KeyValue(key, encode(node), revision, revision, 1))


async def test_much_that_comes_together_is_taken_in_between_turns_of_others_whole_transactions_each() -> None:
    large = 2 * SLICE + 50
    transactions = [*range(2, 2 + SLICE), *[1_000] * large, *range(2_000, 2_000 + SLICE)]
    events = tuple(made(f"n{number}", revision) for number, revision in enumerate(transactions))
    fake: Any = Etcd(Snapshot((), 1), Batch(events[-1].revision, events))
    follower = Follower(fake)
    told: list[list[Change]] = []
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(len(told))
            await asyncio.sleep(0)

    with follower.listening(told.append):
        running = asyncio.create_task(follower.run())
        watching = asyncio.create_task(others())
        await follower.reached(events[-1].revision)
        running.cancel()
        watching.cancel()
    assert [len(changes) for changes in told] == [0, SLICE, large, SLICE]
    assert {2, 3} <= set(turns), "others have their turn between the pieces"
    assert len(follower.state.nodes) == len(events)
