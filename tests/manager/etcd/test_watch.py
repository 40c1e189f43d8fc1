"""Watches lose nothing and repeat nothing, whatever happens to the server meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from manager.etcd import Batch, Compacted, Etcd, EtcdUnavailable, Event, Snapshot, delete, delete_prefix, put, watch
from tests.etcd_server import Servers

pytestmark = pytest.mark.etcd


async def fill(etcd: Etcd, prefix: str, count: int, value: bytes) -> int:
    """`count` keys, a transaction for every two; returns the revision before the first."""
    before = (await etcd.range(prefix)).revision
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count), 2)
        await asyncio.gather(
            *(etcd.txn((), [put(f"{prefix}{n:05}", value), put(f"{prefix}{n + 1:05}", value)]) for n in numbers)
        )
    return before


async def take(batches: AsyncIterator[Batch], count: int) -> list[Event]:
    events: list[Event] = []
    while len(events) < count:
        batch = await anext(batches)
        assert batch.events
        assert batch.revision == batch.events[-1].revision
        events += batch.events
    return events


async def test_a_watch_tells_changes_since_its_start_and_later_ones(etcd: Etcd, prefix: str) -> None:
    await etcd.txn((), [put(f"{prefix}before", b"")])
    first = await etcd.txn((), [put(f"{prefix}key", b"1"), put(f"{prefix}other", b"1")])
    async with aclosing(etcd.watch(prefix, first.revision)) as batches:
        batch = await anext(batches)
        assert batch.revision == first.revision
        assert [(event.key, event.revision) for event in batch.events] == [
            (f"{prefix}key", first.revision),
            (f"{prefix}other", first.revision),
        ]
        assert [event.current for event in batch.events] == list((await etcd.range(prefix)).items[1:])
        gone = await etcd.txn((), [delete(f"{prefix}key")])
        assert await anext(batches) == Batch(gone.revision, (Event(f"{prefix}key", gone.revision, None),))


async def test_a_watch_from_a_revision_to_come_tells_nothing_older(etcd: Etcd, prefix: str) -> None:
    now = await etcd.txn((), [put(f"{prefix}old", b"")])
    async with aclosing(etcd.watch(prefix, now.revision + 2)) as batches:
        coming = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.05)
        await etcd.txn((), [put(f"{prefix}next", b"")])
        wanted = await etcd.txn((), [put(f"{prefix}wanted", b"")])
        assert [event.key for event in (await coming).events] == [f"{prefix}wanted"]
        assert wanted.revision == now.revision + 2


async def test_a_watch_cut_off_by_kill_while_it_catches_up_is_complete_ordered_and_without_repeat(
    etcd: Etcd, server: Servers, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "manager.etcd.watch")
    count = 9_002
    before = await fill(etcd, prefix, count, bytes(700))
    expected = sorted((item.mod_revision, item.key) for item in (await etcd.range(prefix, keys_only=True)).items)
    async with aclosing(etcd.watch(prefix, before + 1)) as batches:
        events = await take(batches, 1)
        server.first.kill()
        server.start()
        events += await take(batches, count - len(events))
        last = await etcd.txn((), [put(f"{prefix}last", b"")])
        events += await take(batches, 1)
    resumed_at = [int(record.message.rpartition(" ")[2]) for record in caplog.records if "resuming" in record.message]
    assert any(before + 1 < revision < last.revision for revision in resumed_at)
    assert [(event.revision, event.key) for event in events] == [*expected, (last.revision, f"{prefix}last")]
    await etcd.txn((), [delete_prefix(prefix)])


async def test_catching_up_with_more_than_an_answer_can_hold_keeps_transactions_whole(etcd: Etcd, prefix: str) -> None:
    before = (await etcd.range(prefix)).revision
    for n in range(30):
        await etcd.txn((), [put(f"{prefix}{key:02}", n.to_bytes() * 10_000) for key in range(100)])
    events: list[Event] = []
    async with aclosing(etcd.watch(prefix, before + 1)) as batches:
        while len(events) < 3_000:
            batch = await anext(batches)
            assert len(batch.events) % 100 == 0
            assert len({event.revision for event in batch.events}) == len(batch.events) / 100
            events += batch.events
    assert [event.revision for event in events] == sorted(event.revision for event in events)
    assert len(set(events)) == 3_000
    await etcd.txn((), [delete_prefix(prefix)])


async def test_a_watch_behind_the_history_kept_is_told_so(etcd: Etcd, prefix: str) -> None:
    old = await etcd.txn((), [put(f"{prefix}key", b"")])
    new = await etcd.txn((), [put(f"{prefix}key", b"")])
    await etcd.compact(new.revision)
    with pytest.raises(Compacted) as compacted:
        await anext(etcd.watch(prefix, old.revision))
    assert compacted.value.revision == new.revision


async def test_a_watch_from_the_very_revision_of_the_compaction_never_hides_a_deletion(etcd: Etcd, prefix: str) -> None:
    await etcd.txn((), [put(f"{prefix}key", b"")])
    gone = await etcd.txn((), [delete(f"{prefix}key")])
    await etcd.compact(gone.revision)
    with pytest.raises(Compacted):
        await anext(etcd.watch(prefix, gone.revision))


async def test_a_watch_that_was_away_during_a_compaction_is_told_so(etcd: Etcd, server: Servers, prefix: str) -> None:
    start = await etcd.txn((), [put(f"{prefix}key", b"")])
    async with aclosing(etcd.watch(prefix, start.revision)) as batches:
        await anext(batches)
        server.first.kill()
        server.start()
        await etcd.get(prefix)  # reads are repeated; a write could go into the dead connection
        await etcd.txn((), [put(f"{prefix}missed", b"")])
        new = await etcd.txn((), [put(f"{prefix}key", b"")])
        await etcd.compact(new.revision)
        with pytest.raises(Compacted):
            await anext(batches)


async def test_following_lists_then_tells_changes_and_lists_again_after_a_compaction(
    etcd: Etcd, server: Servers, prefix: str
) -> None:
    await etcd.txn((), [put(f"{prefix}key", b"1"), put(f"{prefix}doomed", b"")])
    async with aclosing(etcd.follow(prefix)) as changes:
        listed = await etcd.range(prefix)
        assert await anext(changes) == Snapshot(listed.items, listed.revision)
        changed = await etcd.txn((), [put(f"{prefix}key", b"2")])
        batch = await anext(changes)
        assert isinstance(batch, Batch) and batch.revision == changed.revision

        server.first.kill()
        server.start()
        await etcd.get(prefix)  # reads are repeated; a write could go into the dead connection
        await etcd.txn((), [delete(f"{prefix}doomed")])
        new = await etcd.txn((), [put(f"{prefix}key", b"3")])
        await etcd.compact(new.revision)
        listed = await etcd.range(prefix)
        assert await anext(changes) == Snapshot(listed.items, listed.revision)
        assert [item.key for item in listed.items] == [f"{prefix}key"]

        later = await etcd.txn((), [put(f"{prefix}key", b"4")])
        batch = await anext(changes)
        assert isinstance(batch, Batch) and batch.revision == later.revision


async def test_following_waits_for_a_server_that_is_down(server: Servers, prefix: str) -> None:
    async with Etcd.connect(server.endpoints, patience=0.1) as etcd, aclosing(etcd.follow(prefix)) as changes:
        server.first.kill()
        first = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0.3)
        server.start()
        assert isinstance(await first, Snapshot)


async def test_a_watch_cancelled_while_it_is_created_leaves_the_next_one_alone(etcd: Etcd, prefix: str) -> None:
    start = (await etcd.range(prefix)).revision + 1
    for round_ in range(10):
        cancelled = asyncio.ensure_future(anext(etcd.watch(f"{prefix}{round_}/a/", start)))
        for _ in range(round_):
            await asyncio.sleep(0)
        cancelled.cancel()
        async with aclosing(etcd.watch(f"{prefix}{round_}/b/", start)) as batches:
            await etcd.txn((), [put(f"{prefix}{round_}/a/key", b""), put(f"{prefix}{round_}/b/key", b"")])
            assert [event.key for event in (await anext(batches)).events] == [f"{prefix}{round_}/b/key"]
        with pytest.raises(asyncio.CancelledError):
            await cancelled


async def test_a_quiet_watch_is_not_taken_for_a_dead_one(
    etcd: Etcd, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(watch, "SILENCE", 0.3)
    caplog.set_level(logging.INFO, "manager.etcd")
    start = (await etcd.range(prefix)).revision + 1
    async with aclosing(etcd.watch(prefix, start)) as batches:
        coming = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0.45)
        await etcd.txn((), [put(f"{prefix}key", b"")])
        await coming
        await asyncio.sleep(0.45)  # nobody reads: that is no silence of the server's
        await etcd.txn((), [put(f"{prefix}key", b"")])
        await anext(batches)
    assert not [record for record in caplog.records if "watch" in record.message]


async def test_a_watch_ends_with_its_client(server: Servers, prefix: str) -> None:
    async with Etcd.connect(server.endpoints) as etcd:
        start = (await etcd.range(prefix)).revision + 1
        waiting = asyncio.ensure_future(anext(etcd.watch(prefix, start)))
        await asyncio.sleep(0.1)
    with pytest.raises(EtcdUnavailable, match="closed"):
        await waiting


async def test_a_watch_must_say_where_it_starts(etcd: Etcd, prefix: str) -> None:
    with pytest.raises(ValueError, match="from 1 on"):
        await anext(etcd.watch(prefix, 0))
