"""Election of one leader, and the fence that its writes carry.

Each candidate keeps a key bound to its lease; who has the oldest key leads. A leader that was put aside, and does not
know it yet, cannot write: `fence` goes into each of its transactions, and fails once its key is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from manager.etcd.errors import EtcdUnavailable, LeaseLost, Refused, UnknownOutcome
from manager.etcd.lease import Lease
from manager.etcd.records import Batch, Compare, KeyValue, Snapshot, created_at, delete, get, put

if TYPE_CHECKING:
    from manager.etcd.client import Etcd

log = logging.getLogger(__name__)

RESIGN_TIMEOUT = 2.0


class Leadership:
    """Won and not yet resigned. `lost` is set when the lease is lost or the leader's key was removed."""

    def __init__(self, key: str, revision: int) -> None:
        self.key = key
        self.revision = revision
        self.fence: tuple[Compare, ...] = (created_at(key, revision),)
        self.lost = asyncio.Event()


@asynccontextmanager
async def elected(etcd: Etcd, name: str, value: bytes, lease: Lease) -> AsyncIterator[Leadership]:
    """Stands for election and waits until it is won; watches over it until the end of the block, and resigns there."""
    key = f"{name}/{lease.id:016x}"
    leadership = Leadership(key, await _stand(etcd, key, value, lease))
    settled = asyncio.Event()
    observers = (
        asyncio.create_task(_observe(etcd, f"{name}/", leadership, settled), name=f"election {name}"),
        asyncio.create_task(_observe_lease(lease, leadership, settled), name=f"lease of {key}"),
    )
    try:
        await settled.wait()
        for observer in observers:
            if observer.done():
                observer.result()
        if leadership.lost.is_set():
            raise LeaseLost(f"the candidate {key} lost its lease or its key before it was elected")
        log.info("elected as %s at revision %d", key, leadership.revision)
        yield leadership
    finally:
        for observer in observers:
            observer.cancel()
        await asyncio.gather(*observers, return_exceptions=True)
        if not lease.lost.is_set():
            await _resign(etcd, leadership)


async def _stand(etcd: Etcd, key: str, value: bytes, lease: Lease) -> int:
    """Puts our key, and returns the revision that made it: doing it twice changes nothing in our place in the row."""
    while True:
        try:
            result = await etcd.txn((), (put(key, value, lease.id), get(key)))
        except UnknownOutcome as error:
            log.info("standing for election as %s again: %s", key, error.message)
            continue
        except Refused as error:
            if error.code == "NOT_FOUND":
                raise LeaseLost(f"the candidate {key} lost its lease before it stood for election") from error
            raise
        ours = result.responses[1]
        assert isinstance(ours, KeyValue)
        return ours.create_revision


async def _observe(etcd: Etcd, prefix: str, leadership: Leadership, settled: asyncio.Event) -> None:
    """Settles the election when ours is the oldest key; ends when it is gone."""
    candidates: dict[str, int] = {}
    try:
        async with aclosing(etcd.follow(prefix)) as changes:
            async for change in changes:
                _apply(candidates, change)
                if candidates.get(leadership.key) != leadership.revision:
                    return
                if min(candidates.values()) == leadership.revision:
                    settled.set()
    finally:
        leadership.lost.set()
        settled.set()


def _apply(candidates: dict[str, int], change: Snapshot | Batch) -> None:
    if isinstance(change, Snapshot):
        candidates.clear()
        candidates.update((item.key, item.create_revision) for item in change.items)
        return
    for event in change.events:
        if event.current is None:
            candidates.pop(event.key, None)
        else:
            candidates[event.key] = event.current.create_revision


async def _observe_lease(lease: Lease, leadership: Leadership, settled: asyncio.Event) -> None:
    await lease.lost.wait()
    leadership.lost.set()
    settled.set()


async def _resign(etcd: Etcd, leadership: Leadership) -> None:
    try:
        async with asyncio.timeout(RESIGN_TIMEOUT):
            await etcd.txn(leadership.fence, (delete(leadership.key),))
    except (TimeoutError, EtcdUnavailable, UnknownOutcome, Refused) as error:
        log.info("%s stays until its lease ends, resigning failed: %s", leadership.key, error)
