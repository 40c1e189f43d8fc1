"""Leases live as long as their holder does, and the holder learns in time when they do not."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from aetcd import rpc
from grpc.aio import insecure_channel

from manager.etcd import Etcd, Lease, Refused, put
from tests.etcd_server import Servers
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

TTL = 4


async def revoke(server: Servers, lease: Lease) -> None:
    """As an operator would, from outside."""
    async with insecure_channel(server.first.client_url.removeprefix("http://")) as channel:
        await rpc.LeaseStub(channel).LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease.id))


async def left(server: Servers, lease: Lease) -> int:
    """The seconds that it has left, as etcd sees it."""
    async with insecure_channel(server.first.client_url.removeprefix("http://")) as channel:
        answer = await rpc.LeaseStub(channel).LeaseTimeToLive(rpc.LeaseTimeToLiveRequest(ID=lease.id))
        return int(answer.TTL)


async def test_a_lease_outlives_its_time_over_a_stalled_event_loop_and_ends_with_its_block(
    etcd: Etcd, prefix: str
) -> None:
    async with etcd.lease(TTL) as lease:
        assert lease.ttl == TTL
        await etcd.txn((), [put(f"{prefix}key", b"", lease.id)])
        time.sleep(TTL * 1.2)  # noqa: ASYNC251  the stall is what is tried
        found = await etcd.get(f"{prefix}key")
        assert found is not None and found.lease == lease.id
        assert not lease.lost.is_set()
    assert await etcd.get(f"{prefix}key") is None
    assert not lease.lost.is_set()


async def test_a_lease_survives_a_restart_of_the_server_within_its_time(
    etcd: Etcd, server: Servers, prefix: str
) -> None:
    async with etcd.lease(15) as lease:
        await etcd.txn((), [put(f"{prefix}key", b"", lease.id)])
        server.first.kill()
        server.restore()
        before = await left(server, lease)
        while (now := await left(server, lease)) <= before:  # until it is renewed by its holder
            before = now
            await asyncio.sleep(0.1)
        assert await etcd.get(f"{prefix}key") is not None
        assert not lease.lost.is_set()


@pytest.mark.parametrize("how", ["frozen", "dead"])
async def test_a_lease_is_lost_when_the_server_is_away_longer_than_its_time(
    server: Servers, prefix: str, how: str
) -> None:
    async with Etcd.connect(server.endpoints, patience=0.2) as etcd:
        granted = time.monotonic()
        async with etcd.lease(1) as lease:
            server.first.pause() if how == "frozen" else server.first.kill()
            await asyncio.wait_for(lease.lost.wait(), PATIENCE)
            assert time.monotonic() - granted >= 1


async def test_a_lease_revoked_by_somebody_else_is_lost(etcd: Etcd, server: Servers, prefix: str) -> None:
    async with etcd.lease(TTL) as lease:
        await revoke(server, lease)
        await asyncio.wait_for(lease.lost.wait(), PATIENCE)


async def test_a_lease_ends_even_while_a_beat_waits_for_a_frozen_server(server: Servers) -> None:
    async with Etcd.connect(server.endpoints, patience=0.2) as etcd:
        async with etcd.lease(1):
            server.first.pause()
            await asyncio.sleep(0.4)
            server.first.resume()


async def test_a_time_that_no_lease_can_have_is_refused(etcd: Etcd) -> None:
    with pytest.raises(Refused, match="too large lease TTL"):
        async with etcd.lease(2**62):
            pass


async def test_a_lease_is_granted_again_when_the_answer_was_lost(server: Servers, prefix: str) -> None:
    async with Etcd.connect(server.endpoints) as etcd, AsyncExitStack() as stack:
        server.first.pause()
        granting = asyncio.create_task(stack.enter_async_context(etcd.lease(60)))
        await asyncio.sleep(0.2)
        assert not granting.done()
        server.first.kill()
        server.start()
        lease = await granting
        assert (await etcd.txn((), [put(f"{prefix}key", b"", lease.id)])).succeeded
