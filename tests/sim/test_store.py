"""The dictionary answers as a real etcd does, so that histories cannot lie."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from manager.etcd import Etcd, records
from manager.etcd.records import Compare, KeyValue, Operation
from tests.etcd_server import Servers, running
from tests.sim.store import Compacted, Store

pytestmark = pytest.mark.etcd

PREFIX = "/sim/"
KEYS = [f"{PREFIX}{name}" for name in ("a", "b", "c", "d/x", "d/y")]


@pytest.fixture(scope="module")
def server() -> Iterator[Servers]:
    with running("3.4") as servers:
        yield servers


def a_compare(rng: random.Random, store: Store, offset: int) -> tuple[Compare, Compare]:
    """The same comparison as the dictionary and as etcd, whose revisions are `offset` higher, would know it."""
    key = rng.choice(KEYS)
    item = store.keys.get(key)
    mod, created = (item.mod_revision, item.create_revision) if item and rng.random() < 0.8 else (0, 0)
    value = rng.choice([b"0", b"1"])
    match rng.randrange(5):
        case 0:
            return records.absent(key), records.absent(key)
        case 1:
            return records.exists(key), records.exists(key)
        case 2:
            return records.unchanged(key, mod), records.unchanged(key, mod and mod + offset)
        case 3:
            return records.created_at(key, created), records.created_at(key, created and created + offset)
        case _:
            return records.value_is(key, value), records.value_is(key, value)


def some_operations(rng: random.Random) -> list[Operation]:
    keys = rng.sample(KEYS[:3], rng.randrange(1, 4))
    made: list[Operation] = []
    for key in keys:
        choices: list[Operation] = [records.put(key, rng.choice([b"0", b"1"])), records.delete(key), records.get(key)]
        made.append(rng.choice(choices))
    if rng.random() < 0.2:
        made.append(records.delete_prefix(f"{PREFIX}d/"))
    elif rng.random() < 0.5:
        made.append(records.put(rng.choice(KEYS[3:]), b"0"))
    return made


def moved(response: Any, offset: int) -> Any:
    if isinstance(response, KeyValue):
        return (response.key, response.value, response.create_revision - offset, response.mod_revision - offset)
    return response


async def test_the_same_transactions_have_the_same_answers(server: Servers) -> None:
    rng, store = random.Random(1), Store()
    async with Etcd.connect(server.endpoints) as etcd:
        offset = (await etcd.range(PREFIX)).revision - store.revision
        for _ in range(500):
            compares = [a_compare(rng, store, offset) for _ in range(rng.randrange(3))]
            operations, otherwise = some_operations(rng), some_operations(rng)
            ours = store.txn([mine for mine, _ in compares], operations, otherwise)
            theirs = await etcd.txn([real for _, real in compares], operations, otherwise)
            assert ours.succeeded is theirs.succeeded
            assert ours.revision == theirs.revision - offset
            assert [moved(r, 0) for r in ours.responses] == [moved(r, offset) for r in theirs.responses]
        listed = await etcd.range(PREFIX)
        assert [moved(i, 0) for i in store.listing(PREFIX)] == [moved(i, offset) for i in listed.items]
        batches = etcd.watch(PREFIX, offset + 2)
        seen: dict[int, list[Any]] = {}
        async for batch in batches:
            for event in batch.events:
                seen.setdefault(event.revision - offset, []).append((event.key, moved(event.current, offset)))
            if batch.revision >= listed.revision:
                break
        await batches.aclose()
        told = {at: [(e.key, moved(e.current, 0)) for e in events] for at, events in store.history}
        assert {at: sorted(map(repr, e)) for at, e in seen.items()} == {
            at: sorted(map(repr, e)) for at, e in told.items()
        }


def test_what_was_compacted_is_refused_and_what_follows_is_there() -> None:
    store = Store()
    for number in range(5):
        store.txn((), [records.put(KEYS[0], b"%d" % number)])
    store.compact()
    store.txn((), [records.put(KEYS[1], b"new")])
    with pytest.raises(Compacted):
        store.since(store.revision - 2)
    assert [revision for revision, _ in store.since(store.revision - 1)] == [store.revision]


def test_a_lease_that_runs_out_takes_its_keys_with_it() -> None:
    store = Store()
    store.txn((), [records.put(KEYS[0], b"0", lease=7), records.put(KEYS[1], b"0")])
    store.expire(7)
    assert list(store.keys) == [KEYS[1]]
    assert store.history[-1][1][0].current is None
