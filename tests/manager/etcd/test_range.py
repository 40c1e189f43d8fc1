"""Lists: complete, sorted and of one revision, however many answers they take."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from manager.etcd import Compacted, Etcd, Range, client, delete_prefix, endpoints, get, put
from tests.etcd_server import Servers

pytestmark = pytest.mark.etcd


async def test_a_list_has_what_begins_with_its_prefix_in_order(etcd: Etcd, prefix: str) -> None:
    written = await etcd.txn((), [put(f"{prefix}{name}", name.encode()) for name in ("b", "a/2", "a/1", "ab")])
    listed = await etcd.range(f"{prefix}a")
    assert [item.key for item in listed.items] == [f"{prefix}a/1", f"{prefix}a/2", f"{prefix}ab"]
    assert [item.value for item in listed.items] == [b"a/1", b"a/2", b"ab"]
    assert listed.revision == written.revision
    assert await etcd.range(f"{prefix}none") == Range((), written.revision)


async def test_a_list_can_be_of_keys_only_of_some_and_of_an_older_revision(etcd: Etcd, prefix: str) -> None:
    old = await etcd.txn((), [put(f"{prefix}{n}", b"old") for n in range(5)])
    await etcd.txn((), [delete_prefix(prefix)])
    assert [item.value for item in (await etcd.range(prefix, revision=old.revision, keys_only=True)).items] == [b""] * 5
    some = await etcd.range(prefix, revision=old.revision, limit=3)
    assert [item.key for item in some.items] == [f"{prefix}{n}" for n in range(3)]
    assert some.revision == old.revision


async def test_every_page_of_a_list_is_of_the_same_revision(
    etcd: Etcd, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE", 7)
    await etcd.txn((), [put(f"{prefix}{n:02}", b"0") for n in range(50)])

    async def rewrite() -> None:
        for n in count(1):
            await etcd.txn((), [put(f"{prefix}{key:02}", str(n).encode()) for key in range(50)])

    writer = asyncio.create_task(rewrite())
    seen = set()
    for _ in range(20):
        listed = await etcd.range(prefix)
        assert len(listed.items) == 50
        assert len({item.value for item in listed.items}) == 1
        assert {item.mod_revision for item in listed.items} == {listed.revision}
        seen.add(listed.revision)
    writer.cancel()
    await asyncio.wait((writer,))
    assert len(seen) > 1


@pytest.mark.parametrize("limit", [64, 2], ids=["in one answer", "in more answers than asked for"])
async def test_a_list_may_be_bigger_than_four_mebibytes(
    server: Servers, prefix: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**dict(endpoints.CHANNEL_OPTIONS), "grpc.max_receive_message_length": limit * 1024 * 1024}
    monkeypatch.setattr(endpoints, "CHANNEL_OPTIONS", tuple(options.items()))
    value = bytes(1024 * 1024)
    async with Etcd.connect(server.endpoints) as etcd:
        for n in range(10):
            await etcd.txn((), [put(f"{prefix}{n:02}", value)])
        listed = await etcd.range(prefix)
    assert [item.key for item in listed.items] == [f"{prefix}{n:02}" for n in range(10)]
    assert all(item.value == value for item in listed.items)


async def test_a_revision_that_is_compacted_away_is_told(etcd: Etcd, prefix: str) -> None:
    old = await etcd.txn((), [put(f"{prefix}key", b"old")])
    new = await etcd.txn((), [put(f"{prefix}key", b"new"), get(f"{prefix}key")])
    await etcd.compact(new.revision)
    await etcd.compact(old.revision)
    with pytest.raises(Compacted):
        await etcd.range(prefix, revision=old.revision)


async def test_a_list_overtaken_by_a_compaction_starts_again(
    etcd: Etcd, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE", 1)
    await etcd.txn((), [put(f"{prefix}{n:02}", b"") for n in range(100)])
    listing = asyncio.create_task(etcd.range(prefix))
    await asyncio.sleep(0.005)
    newer = await etcd.txn((), [put(f"{prefix}zz", b"")])
    await etcd.compact(newer.revision)
    listed = await listing
    assert len(listed.items) == (101 if listed.revision >= newer.revision else 100)
