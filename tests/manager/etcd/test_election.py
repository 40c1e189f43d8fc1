"""One leader at a time, and no write of one that was put aside."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing

import pytest
from aetcd import rpc
from grpc.aio import insecure_channel

from manager.etcd import Etcd, Leadership, Lease, LeaseLost, delete, put
from tests.etcd_server import Servers
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

LONG = 2 * int(PATIENCE)
"""Seconds of a lease whose end nobody waits for."""


async def lead(etcd: Etcd, stack: AsyncExitStack, name: str, value: bytes) -> Leadership:
    lease = await stack.enter_async_context(etcd.lease(LONG))
    return await stack.enter_async_context(etcd.campaign(name, value, lease))


async def unkept_lease(server: Servers, ttl: int) -> Lease:
    """The lease of a manager that does nothing any more."""
    async with insecure_channel(server.first.client_url.removeprefix("http://")) as channel:
        answer = await rpc.LeaseStub(channel).LeaseGrant(rpc.LeaseGrantRequest(TTL=ttl))
        return Lease(answer.ID, answer.TTL)


async def candidates(etcd: Etcd, name: str, count: int) -> None:
    """Waits until so many stand for election."""
    async with aclosing(etcd.follow(f"{name}/")) as changes:
        async for _ in changes:
            if len((await etcd.range(f"{name}/")).items) == count:
                return


async def test_the_first_to_stand_leads_and_hands_over_when_it_resigns(etcd: Etcd, prefix: str) -> None:
    name = f"{prefix}leader"
    assert await etcd.leader(name) is None
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        one = await lead(etcd, first, name, b"one")
        assert await etcd.leader(name) == b"one"
        waiting = asyncio.create_task(lead(etcd, second, name, b"two"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        assert (await etcd.txn(one.fence, [put(f"{prefix}work", b"one")])).succeeded

        await first.aclose()
        two = await asyncio.wait_for(waiting, PATIENCE)
        assert await etcd.leader(name) == b"two"
        assert not (await etcd.txn(one.fence, [put(f"{prefix}work", b"one")])).succeeded
        assert (await etcd.txn(two.fence, [put(f"{prefix}work", b"two")])).succeeded
        assert not two.lost.is_set()
    assert await etcd.leader(name) is None


async def test_a_leader_whose_lease_runs_out_is_followed_and_can_write_no_more(
    etcd: Etcd, server: Servers, prefix: str
) -> None:
    name = f"{prefix}leader"
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        old = await first.enter_async_context(etcd.campaign(name, b"old", await unkept_lease(server, 5)))
        new = await asyncio.wait_for(lead(etcd, second, name, b"new"), PATIENCE)
        await asyncio.wait_for(old.lost.wait(), PATIENCE)
        assert await etcd.leader(name) == b"new"
        assert not (await etcd.txn(old.fence, [put(f"{prefix}work", b"")])).succeeded
        assert (await etcd.txn(new.fence, [put(f"{prefix}work", b"")])).succeeded


async def test_leadership_is_lost_with_the_lease_or_the_key(etcd: Etcd, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        lease = await stack.enter_async_context(etcd.lease(LONG))
        leadership = await stack.enter_async_context(etcd.campaign(f"{prefix}a", b"", lease))
        await etcd.txn((), [delete(leadership.key)])
        await asyncio.wait_for(leadership.lost.wait(), PATIENCE)

        leadership = await stack.enter_async_context(etcd.campaign(f"{prefix}b", b"", lease))
        assert not leadership.lost.is_set()
        lease.lost.set()
        await asyncio.wait_for(leadership.lost.wait(), PATIENCE)


async def test_who_gives_up_waiting_leaves_the_row_and_the_next_one_still_waits(etcd: Etcd, prefix: str) -> None:
    name = f"{prefix}leader"
    async with AsyncExitStack() as first, AsyncExitStack() as second, AsyncExitStack() as third:
        one = await lead(etcd, first, name, b"one")
        two = asyncio.create_task(lead(etcd, second, name, b"two"))
        await candidates(etcd, name, 2)
        three = asyncio.create_task(lead(etcd, third, name, b"three"))
        await candidates(etcd, name, 3)
        two.cancel()
        await asyncio.wait((two,))
        assert [item.value for item in (await etcd.range(f"{name}/")).items if item.key != one.key] == [b"three"]
        await asyncio.sleep(0.1)
        assert not three.done()
        await first.aclose()
        await three
        assert await etcd.leader(name) == b"three"


async def test_to_stand_again_with_the_same_lease_is_to_stand_anew(etcd: Etcd, prefix: str) -> None:
    async with etcd.lease(LONG) as lease:
        async with etcd.campaign(f"{prefix}leader", b"one", lease) as first:
            pass
        async with etcd.campaign(f"{prefix}leader", b"two", lease) as second:
            assert await etcd.leader(f"{prefix}leader") == b"two"
            assert second.revision > first.revision
            assert not (await etcd.txn(first.fence, ())).succeeded


async def test_without_a_lease_nobody_is_elected(etcd: Etcd, server: Servers, prefix: str) -> None:
    name = f"{prefix}leader"
    with pytest.raises(LeaseLost, match="before it stood"):
        async with etcd.campaign(name, b"", Lease(4711, 5)):
            pass
    async with AsyncExitStack() as first:
        await lead(etcd, first, name, b"one")
        with pytest.raises(LeaseLost, match="before it was elected"):
            async with etcd.campaign(name, b"two", await unkept_lease(server, 5)):
                pass
