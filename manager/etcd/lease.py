"""Leases, kept alive from a thread of their own with channels of their own: a stalled event loop loses none."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from aetcd import rpc

from manager.etcd.endpoints import WRITE_TIMEOUT, Endpoints
from manager.etcd.errors import EtcdUnavailable, Refused

log = logging.getLogger(__name__)

LONGEST_TRY = 2.0
PAUSE_AFTER_FAILURE = 0.2
REVOKE_PATIENCE = 2.0


def clock() -> float:
    """Goes on while this machine is suspended, as the lease's time does in etcd."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """A lease that is held; `ttl` in seconds, as granted.

    `lost` is set when etcd says that it is gone, and at the latest when its time has run out since the last beat that
    etcd confirmed. Keys bound to it may then be gone too.
    """

    def __init__(self, lease_id: int, ttl: int) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.lost = asyncio.Event()


class _Keeper(threading.Thread):
    """Beats for one lease. A beat is a stream of one request: nothing to mend when a member dies or freezes."""

    def __init__(self, endpoints: Endpoints, lease: Lease, granted: float) -> None:
        super().__init__(name=f"etcd lease {lease.id:x}", daemon=True)
        self._endpoints = endpoints
        self._lease = lease
        self._interval = lease.ttl / 3
        self._granted = granted
        self._expires = granted + lease.ttl
        self._loop = asyncio.get_running_loop()
        self._ending = threading.Event()
        self._call: Any = None
        self._channels = [endpoints.channel_of_its_own(endpoint.url) for endpoint in endpoints.all]
        self._current = 0

    def stop(self) -> None:
        self._ending.set()
        if (call := self._call) is not None:
            call.cancel()

    def run(self) -> None:
        try:
            why = self._keep()
        finally:
            for channel in self._channels:
                channel.close()
        if why:
            log.warning("lease %x of %d s is lost: %s", self._lease.id, self._lease.ttl, why)
            self._loop.call_soon_threadsafe(self._lease.lost.set)

    def _keep(self) -> str:
        """Beats until it is told to stop, or returns why the lease is lost."""
        pause = self._granted + self._interval - clock()
        while not self._ending.wait(max(0.0, min(pause, self._expires - clock()))):
            sent = clock()
            if sent >= self._expires:
                return "no beat was confirmed in time"
            ttl = self._beat()
            if ttl == 0:
                return "etcd does not know it any more"
            if ttl is None:
                pause = PAUSE_AFTER_FAILURE - (clock() - sent)
            else:
                self._expires = sent + ttl
                pause = self._interval
        return ""

    def _beat(self) -> int | None:
        """The lease's new time to live, from whichever member answers; 0 if it is gone, None if nobody answers."""
        request = rpc.LeaseKeepAliveRequest(ID=self._lease.id)
        for _ in self._channels:
            stub = rpc.LeaseStub(self._channels[self._current])
            patience = self._lease.ttl / (4 if len(self._channels) > 1 else 2)  # elsewhere it may go faster
            timeout = min(LONGEST_TRY, patience, self._expires - clock())
            self._call = stub.LeaseKeepAlive(
                iter((request,)), timeout=max(0.0, timeout), metadata=self._endpoints.known_metadata()
            )
            if self._ending.is_set():
                self._call.cancel()
            try:
                return max(0, int(next(self._call).TTL))
            except (grpc.RpcError, StopIteration) as error:
                if self._ending.is_set():
                    return None
                log.info("no beat for lease %x by etcd at %s: %s", self._lease.id, self._url(), _reason(error))
                self._current = (self._current + 1) % len(self._channels)
        return None

    def _url(self) -> str:
        return self._endpoints.all[self._current].url


def _reason(error: Any) -> str:
    return error.details() or "" if isinstance(error, grpc.RpcError) else "the stream ended"


@asynccontextmanager
async def held(endpoints: Endpoints, ttl: int) -> AsyncIterator[Lease]:
    """Grants a lease, keeps it until the end of the block, revokes it there if it is not lost."""
    asked = clock()
    lease = await _granted(endpoints, ttl)
    keeper = _Keeper(endpoints, lease, asked)
    keeper.start()
    try:
        yield lease
    finally:
        keeper.stop()
        await asyncio.to_thread(keeper.join)
        if not lease.lost.is_set():
            await _revoke(endpoints, lease)


async def _granted(endpoints: Endpoints, ttl: int) -> Lease:
    # The id is ours, so that asking again after a lost answer cannot make a second lease.
    lease_id = secrets.randbits(62) + 1
    request = rpc.LeaseGrantRequest(TTL=ttl, ID=lease_id)
    try:
        answer = await endpoints.call(
            lambda endpoint: endpoint.lease.LeaseGrant, request, repeatable=True, timeout=WRITE_TIMEOUT
        )
    except Refused as error:
        if "lease already exists" not in error.message:
            raise
        return Lease(lease_id, ttl)
    return Lease(lease_id, answer.TTL)


async def _revoke(endpoints: Endpoints, lease: Lease) -> None:
    request = rpc.LeaseRevokeRequest(ID=lease.id)
    try:
        await endpoints.call(
            lambda endpoint: endpoint.lease.LeaseRevoke, request, repeatable=True, patience=REVOKE_PATIENCE
        )
    except (EtcdUnavailable, Refused) as error:
        log.info("lease %x was not revoked and runs out in %d s: %s", lease.id, lease.ttl, error.message)
