"""Guarded writes, and the truth about those whose answer did not come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from manager.etcd import (
    Compare,
    Etcd,
    EtcdUnavailable,
    KeyValue,
    Refused,
    TxnResult,
    UnknownOutcome,
    absent,
    created_at,
    delete,
    delete_prefix,
    exists,
    get,
    put,
    unchanged,
    value_is,
)
from tests.etcd_server import Servers

pytestmark = pytest.mark.etcd

SENDING = 0.5
"""Seconds in which a request surely leaves, and word of a dead server comes back: gRPC tells of neither."""


async def stored(etcd: Etcd, key: str) -> KeyValue:
    found = await etcd.get(key)
    assert found is not None
    return found


async def found_dead(etcd: Etcd) -> None:
    """Lets the client find that its connection is gone."""
    with pytest.raises((TimeoutError, EtcdUnavailable)):
        async with asyncio.timeout(SENDING):
            await etcd.get("/")


async def test_a_key_is_created_once_and_the_second_to_try_sees_it(etcd: Etcd, prefix: str) -> None:
    key = f"{prefix}name"
    first = await etcd.txn([absent(key)], [put(key, b"first")], [get(key)])
    second = await etcd.txn([absent(key)], [put(key, b"second")], [get(key)])
    assert first == TxnResult(True, first.revision, (None,))
    assert second == TxnResult(False, first.revision, (await stored(etcd, key),))
    assert await stored(etcd, key) == KeyValue(key, b"first", first.revision, first.revision, version=1)


COMPARES: dict[str, tuple[Callable[[str, KeyValue], Compare], bool, bool]] = {
    # name: comparison, holds for the key as it is, holds once it is deleted
    "absent": (lambda key, _: absent(key), False, True),
    "exists": (lambda key, _: exists(key), True, False),
    "unchanged": (lambda key, kv: unchanged(key, kv.mod_revision), True, False),
    "changed since": (lambda key, kv: unchanged(key, kv.create_revision), False, False),
    "same incarnation": (lambda key, kv: created_at(key, kv.create_revision), True, False),
    "another incarnation": (lambda key, kv: created_at(key, kv.mod_revision), False, False),
    "value is": (lambda key, _: value_is(key, b"two"), True, False),
    "value was": (lambda key, _: value_is(key, b"one"), False, False),
    "value is empty": (lambda key, _: value_is(key, b""), False, False),
}


@pytest.mark.parametrize("case", COMPARES, ids=list(COMPARES))
async def test_a_comparison_holds_for_what_it_says(etcd: Etcd, prefix: str, case: str) -> None:
    compare, holds, holds_when_deleted = COMPARES[case]
    key = f"{prefix}key"
    await etcd.txn((), [put(key, b"one")])
    await etcd.txn((), [put(key, b"two")])
    before = await stored(etcd, key)
    assert (await etcd.txn([compare(key, before)], ())).succeeded is holds
    await etcd.txn((), [delete(key)])
    assert (await etcd.txn([compare(key, before)], ())).succeeded is holds_when_deleted


async def test_operations_answer_in_order_and_see_each_other(etcd: Etcd, prefix: str) -> None:
    await etcd.txn((), [put(f"{prefix}old/{n}", b"") for n in range(3)])
    result = await etcd.txn(
        (),
        [
            put(f"{prefix}a", b"1"),
            get(f"{prefix}a"),
            get(f"{prefix}no"),
            delete(f"{prefix}no"),
            delete_prefix(prefix + "old"),
        ],
    )
    assert result.responses == (None, KeyValue(f"{prefix}a", b"1", result.revision, result.revision, 1), None, 0, 3)


async def test_a_hundred_operations_fit_and_one_more_is_refused(etcd: Etcd, prefix: str) -> None:
    puts = [put(f"{prefix}{n:03}", b"") for n in range(101)]
    assert (await etcd.txn([absent(f"{prefix}{n:03}") for n in range(100)], puts[:100])).succeeded
    with pytest.raises(ValueError, match="101 operations"):
        await etcd.txn((), puts)
    with pytest.raises(ValueError, match="101 operations"):
        await etcd.txn((), (), puts)
    with pytest.raises(ValueError, match="129 comparisons"):
        await etcd.txn([exists(f"{prefix}{n:03}") for n in range(129)], ())


async def test_a_transaction_too_big_for_etcd_is_refused_before_it_is_sent(etcd: Etcd, prefix: str) -> None:
    with pytest.raises(ValueError, match="bytes"):
        await etcd.txn((), [put(f"{prefix}big", bytes(1536 * 1024))])


@pytest.mark.parametrize(
    ("code", "words", "count"),
    [("NOT_FOUND", "lease not found", 1), ("INVALID_ARGUMENT", "duplicate key", 2)],
    ids=["a lease that is not there", "a key put twice"],
)
async def test_what_etcd_refuses_is_told_as_refused_and_nothing_is_written(
    etcd: Etcd, prefix: str, code: str, words: str, count: int
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        await etcd.txn((), [put(f"{prefix}key", b"", lease=4711 if count == 1 else 0)] * count)
    assert refused.value.code == code
    assert await etcd.get(f"{prefix}key") is None


async def test_a_client_stays_well_over_two_hundred_cancelled_writes(etcd: Etcd, prefix: str) -> None:
    tasks = [asyncio.create_task(etcd.txn((), [put(f"{prefix}{n:03}", b"")])) for n in range(200)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, TxnResult | asyncio.CancelledError) for end in ended)
    written = {item.key for item in (await etcd.range(prefix)).items}
    assert written >= {f"{prefix}{n:03}" for n, end in enumerate(ended) if isinstance(end, TxnResult)}
    assert (await etcd.txn((), [put(f"{prefix}after", b"")])).succeeded


async def test_a_write_that_a_frozen_server_took_is_unknown_and_happens_at_most_once(
    etcd: Etcd, server: Servers, prefix: str
) -> None:
    key = f"{prefix}key"
    await etcd.get(key)
    server.first.pause()
    with pytest.raises(UnknownOutcome):
        await etcd.txn((), [put(key, b"")], timeout=0.3)
    server.first.resume()
    await etcd.txn((), [put(f"{prefix}later", b"")])
    found = await etcd.get(key)
    assert found is None or found.version == 1


async def test_a_write_is_unknown_when_its_server_dies_before_it_answers(
    etcd: Etcd, server: Servers, prefix: str
) -> None:
    await etcd.get(prefix)
    server.first.pause()
    write = asyncio.create_task(etcd.txn((), [put(f"{prefix}key", b"")]))
    await asyncio.sleep(SENDING)
    server.first.kill()
    with pytest.raises(UnknownOutcome):
        await write
    server.restore()
    assert await etcd.get(f"{prefix}key") is None


async def test_a_write_is_unknown_when_the_client_is_closed_under_it(server: Servers, prefix: str) -> None:
    async with Etcd.connect(server.endpoints) as closing:
        server.first.pause()
        write = asyncio.create_task(closing.txn((), [put(f"{prefix}key", b"")]))
        await asyncio.sleep(SENDING)
    with pytest.raises(UnknownOutcome):
        await write
    with pytest.raises(EtcdUnavailable, match="closed"):
        await closing.get(prefix)


async def test_a_call_that_waits_for_a_connection_ends_with_its_client(server: Servers, prefix: str) -> None:
    async with Etcd.connect(server.endpoints) as closing:
        server.first.kill()
        await found_dead(closing)
        waiting = asyncio.gather(
            closing.get(prefix),
            closing.txn((), [put(prefix, b"")]),
            anext(closing.follow(prefix)),
            return_exceptions=True,
        )
        await asyncio.sleep(0.1)
    assert [type(end) for end in await waiting] == [EtcdUnavailable] * 3


async def test_a_write_that_nobody_could_be_sent_is_told_as_not_done(server: Servers, prefix: str) -> None:
    async with Etcd.connect(server.endpoints, patience=0.2) as impatient:
        server.first.kill()
        await found_dead(impatient)
        with pytest.raises(EtcdUnavailable, match="does not answer"):
            await impatient.txn((), [put(f"{prefix}key", b"")])
        with pytest.raises(EtcdUnavailable, match="does not answer"):
            await impatient.get(f"{prefix}key")


async def test_reads_and_writes_wait_for_a_server_that_comes_back(etcd: Etcd, server: Servers, prefix: str) -> None:
    await etcd.txn((), [put(f"{prefix}key", b"1")])
    server.first.kill()
    await found_dead(etcd)
    waiting = asyncio.gather(etcd.get(f"{prefix}key"), etcd.txn((), [put(f"{prefix}other", b"2")]))
    await asyncio.sleep(0.2)
    server.start()
    found, written = await waiting
    assert found is not None and found.value == b"1"
    assert written.succeeded


async def test_a_cancelled_call_is_cancelled_and_a_timeout_is_a_timeout(
    etcd: Etcd, server: Servers, prefix: str
) -> None:
    await etcd.get(prefix)
    server.first.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await etcd.txn((), [put(f"{prefix}key", b"")])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await etcd.get(f"{prefix}key")


async def test_no_server_at_all_is_told_with_its_address(server: Servers) -> None:
    server.first.kill()
    with pytest.raises(EtcdUnavailable, match=server.first.client_url):
        async with Etcd.connect(server.endpoints, patience=0.1):
            pass
