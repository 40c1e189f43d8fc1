"""The client: what the rest of the manager calls."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import grpc
import grpc.aio
from aetcd import rpc

from manager.etcd.election import Leadership, elected
from manager.etcd.endpoints import PATIENCE, READ_TIMEOUT, WRITE_TIMEOUT, Credentials, Endpoint, Endpoints, Tls
from manager.etcd.errors import Compacted, EtcdUnavailable, Refused
from manager.etcd.lease import Lease, held
from manager.etcd.maintenance import Maintenance
from manager.etcd.members import Members
from manager.etcd.records import (
    MAX_COMPARES,
    MAX_OPERATIONS,
    Batch,
    Compare,
    KeyValue,
    Operation,
    Range,
    Snapshot,
    TxnResult,
)
from manager.etcd.versions import MemberStatus, judge
from manager.etcd.watch import changes
from manager.etcd.wire import key_bytes, key_value, prefix_range, response, txn_request

log = logging.getLogger(__name__)

PAGE = 1000
"""Keys in one answer of a list; fewer when they are so big that an answer would not get through."""

COMPACT_TIMEOUT = 60.0
"""Seconds in which a long history goes from the disk."""

MAX_REQUEST = 1536 * 1024
"""Bytes in one request: etcd's default, checked here so that a refusal is never taken for an unknown outcome."""


class Etcd:
    """A connection to etcd, for one event loop. Made by `Etcd.connect`."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self.members = Members(endpoints)
        self.maintenance = Maintenance(endpoints)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        endpoints: Sequence[str],
        tls: Tls | None = None,
        credentials: Credentials | None = None,
        *,
        patience: float = PATIENCE,
    ) -> AsyncIterator[Etcd]:
        """Connects to whichever member answers, and refuses versions of etcd that lose data (UnsupportedServer).

        `patience` is how long a call looks for an endpoint that answers before it raises EtcdUnavailable, in seconds.
        """
        connections = Endpoints(endpoints, tls, credentials, patience)
        try:
            etcd = cls(connections)
            judge(await etcd.status())
            yield etcd
        finally:
            await connections.close()

    def learn(self, endpoints: Iterable[str]) -> None:
        """Use these endpoints too, after those that were given at first; they replace what was learned before."""
        self._endpoints.learn(endpoints)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All URLs that are known now."""
        return tuple(endpoint.url for endpoint in self._endpoints.all)

    async def status(self) -> tuple[MemberStatus, ...]:
        """What each member that can be reached says about itself; EtcdUnavailable when there is none for a while."""
        deadline = time.monotonic() + self._endpoints.patience
        rounds = self._endpoints.rounds()
        while True:
            answers = await asyncio.gather(*(self._status(endpoint) for endpoint in self._endpoints.all))
            if found := tuple(answer for answer in answers if answer is not None):
                return found
            if time.monotonic() >= deadline:
                await self._endpoints.ready(deadline)  # says what is wrong
                raise EtcdUnavailable("etcd takes connections but does not answer")
            await rounds.failed()

    async def _status(self, endpoint: Endpoint) -> MemberStatus | None:
        if not await endpoint.connected(READ_TIMEOUT):
            return None
        try:
            answer = await endpoint.maintenance.Status(rpc.StatusRequest(), timeout=READ_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            log.debug("no status of etcd at %s: %s", endpoint.url, error.details())
            return None
        return MemberStatus(
            endpoint=endpoint.url,
            version=answer.version,
            member_id=answer.header.member_id,
            is_leader=answer.leader == answer.header.member_id,
            db_size=answer.dbSize,
            revision=answer.header.revision,
        )

    async def get(self, key: str) -> KeyValue | None:
        answer = await self._range(rpc.RangeRequest(key=key_bytes(key)))
        return key_value(answer.kvs[0]) if answer.kvs else None

    async def range(self, prefix: str, *, revision: int = 0, limit: int = 0, keys_only: bool = False) -> Range:
        """The keys that begin with `prefix`, all at one revision: the given one, or the newest.

        Raises Compacted when the given revision is no longer kept.
        """
        while True:
            try:
                return await self._pages(prefix, revision, limit, keys_only)
            except Compacted:
                if revision:
                    raise
                log.info("the list of %s was overtaken by a compaction, starting again", prefix)

    async def _pages(self, prefix: str, revision: int, limit: int, keys_only: bool) -> Range:
        start, end = prefix_range(prefix)
        page = PAGE
        items: list[KeyValue] = []
        while True:
            wanted = min(page, limit - len(items)) if limit else page
            request = rpc.RangeRequest(key=start, range_end=end, limit=wanted, revision=revision, keys_only=keys_only)
            try:
                answer = await self._range(request)
            except Refused as error:
                if error.code != "RESOURCE_EXHAUSTED" or page == 1:
                    raise
                page = max(1, page // 8)
                continue
            revision = revision or answer.header.revision
            items.extend(map(key_value, answer.kvs))
            if not answer.more or len(items) == limit:
                return Range(tuple(items), revision)
            start = answer.kvs[-1].key + b"\0"

    async def _range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        try:
            return await self._endpoints.call(lambda endpoint: endpoint.kv.Range, request, repeatable=True)
        except Refused as error:
            if error.code == "OUT_OF_RANGE" and "compacted" in error.message:
                raise Compacted(f"etcd no longer keeps revision {request.revision}") from error
            raise

    async def txn(
        self,
        compares: Sequence[Compare],
        ops: Sequence[Operation],
        otherwise: Sequence[Operation] = (),
        *,
        timeout: float = WRITE_TIMEOUT,
    ) -> TxnResult:
        """Does all of `ops` if all `compares` hold, else all of `otherwise`.

        Sent at most once. UnknownOutcome: it was sent, and no answer came within `timeout`. The same holds when the
        calling task is cancelled meanwhile. EtcdUnavailable and Refused: nothing was written (but see NoSpace).
        """
        if max(len(ops), len(otherwise)) > MAX_OPERATIONS:
            raise ValueError(f"{max(len(ops), len(otherwise))} operations in one txn; {MAX_OPERATIONS} is the most")
        if len(compares) > MAX_COMPARES:
            raise ValueError(f"{len(compares)} comparisons in one txn; {MAX_COMPARES} is the most")
        request = txn_request(compares, ops, otherwise)
        if request.ByteSize() > MAX_REQUEST:
            raise ValueError(f"a txn of {request.ByteSize()} bytes; {MAX_REQUEST} is the most that etcd takes")
        answer = await self._endpoints.call(
            lambda endpoint: endpoint.kv.Txn, request, repeatable=False, timeout=timeout
        )
        return TxnResult(answer.succeeded, answer.header.revision, tuple(map(response, answer.responses)))

    async def compact(self, revision: int, *, physical: bool = False) -> None:
        """Forgets the history before `revision`; done already is fine. `physical`: returns when its pages are free."""
        request = rpc.CompactionRequest(revision=revision, physical=physical)
        try:
            await self._endpoints.call(
                lambda endpoint: endpoint.kv.Compact,
                request,
                repeatable=True,
                timeout=COMPACT_TIMEOUT if physical else WRITE_TIMEOUT,
                patience=COMPACT_TIMEOUT if physical else None,
            )
        except Refused as error:
            if error.code != "OUT_OF_RANGE" or "compacted" not in error.message:
                raise

    def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[Batch, None]:
        """Every change under `prefix` since `start_revision`, each once and in order, over failures of members.

        Goes on until it is closed (`contextlib.aclosing`) or its task is cancelled. Raises Compacted when that much
        history is no longer kept (also when `start_revision` is the oldest kept), and WatchDenied.
        """
        return changes(self._endpoints, *prefix_range(prefix), start_revision)

    async def follow(self, prefix: str) -> AsyncGenerator[Snapshot | Batch, None]:
        """A list, then every change since; a list again whenever history was compacted away, to be compared by the
        caller with what it knows. Waits out any failure of etcd; close it as a watch."""
        while True:
            try:
                listed = await self.range(prefix)
            except EtcdUnavailable as error:
                self._endpoints.check_open()
                log.warning("cannot list %s: %s", prefix, error.message)
                continue
            yield Snapshot(listed.items, listed.revision)
            try:
                async with aclosing(self.watch(prefix, listed.revision + 1)) as batches:
                    async for batch in batches:
                        yield batch
            except Compacted:
                log.info("the watch on %s fell behind the history that etcd keeps, listing again", prefix)

    def lease(self, ttl: int) -> AbstractAsyncContextManager[Lease]:
        """A lease of `ttl` seconds, kept alive by a thread of its own until the end of the block, then revoked."""
        return held(self._endpoints, ttl)

    def campaign(self, name: str, value: bytes, lease: Lease) -> AbstractAsyncContextManager[Leadership]:
        """Waits to be elected among all who campaign under `name` (a key without its last slash), resigns at the end.

        Raises LeaseLost when the lease ends before that.
        """
        return elected(self, name, value, lease)

    async def leader(self, name: str) -> bytes | None:
        """The value that the present leader campaigned with."""
        start, end = prefix_range(f"{name}/")
        answer = await self._range(
            rpc.RangeRequest(
                key=start,
                range_end=end,
                limit=1,
                sort_target=rpc.RangeRequest.CREATE,
                sort_order=rpc.RangeRequest.ASCEND,
            )
        )
        return answer.kvs[0].value if answer.kvs else None
