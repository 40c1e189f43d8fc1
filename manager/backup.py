"""What a backup takes from etcd, all at one revision, and what a restore puts into an empty one.

Left out is what belongs to a life that is over: leadership, leases and what hangs on them, agents' sessions. A restored
cluster has the id, the CA and the keys of the old one, so that containers and certificates stay its own, and a new
*life*: agents of an earlier one are refused until `stack join` on their host says that they are to go on here, for etcd
counts revisions from the beginning again, and somewhere a manager of the earlier life may still run.

Until an agent has come, its node's state is unknown, and what it runs is not replaced: it may run there still.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cluster import backup, codec
from cluster.errors import Conflict, Failed
from cluster.files import write_private
from cluster.model.cluster import Cluster
from cluster.model.node import Manager, Node, NodeState, NodeStatus, Session
from cluster.model.update import Withdrawn
from manager.authority import RESTORING
from manager.etcd import Etcd, KeyValue, Operation, absent, delete, delete_prefix, exists, put
from manager.secrets import FILE

log = logging.getLogger(__name__)

ROOT = "/stackyard/"
PAGE_BYTES = 768 * 1024
"""Of keys and values in one frame, and in one transaction of a restore; one more record of 1 MiB fits into neither."""

_LEFT_OUT = (
    "/stackyard/election/",
    *(codec.key_for(kind, "") for kind in (Manager, Session, Withdrawn)),
)
UNSEEN = "not seen since the cluster was restored: `stack join` on its host brings it back, with what runs there"


async def frames(
    etcd: Etcd, keys: Callable[[], Awaitable[bytes]], managers: Iterable[str], program: str, now: float
) -> AsyncIterator[bytes]:
    """Give the frames of a backup, each as a block. `keys` gives the file of the keys that open secrets.

    It is asked once all records are read: a key that was made meanwhile may have sealed some of them.
    """
    found = await etcd.range(ROOT)
    manifest = backup.Manifest(
        cluster=_cluster(found.items).id,
        made_at=now,
        revision=found.revision,
        program=program,
        managers=tuple(managers),
    )
    taken = [kv for kv in found.items if not kv.lease and not kv.key.startswith(_LEFT_OUT)]
    for frame in (manifest, backup.SealingKeys(await keys())):
        yield backup.block(backup.encode(frame))
    for page in _pages([(kv.key, kv.value) for kv in taken]):
        yield backup.block(backup.encode(backup.Entries(tuple(page))))
    yield backup.block(backup.encode(backup.End(len(taken))))


async def restore(etcd: Etcd, source: Iterable[backup.Frame], directory: Path) -> backup.Manifest:
    """Fill an empty etcd, and the key file in this manager's directory; the cluster's own record comes last.

    What an earlier try left behind is thrown away first. Raises Conflict for an etcd that holds a cluster.
    """
    if await etcd.get(codec.key_for(Cluster, "this")) is not None:
        raise Conflict("that etcd holds a cluster already", hint="Restore into an empty one.")
    begun = await etcd.txn((absent(RESTORING),), (put(RESTORING, b"{}"),))
    held = (await etcd.range(ROOT, keys_only=True)).items
    if begun.succeeded and len(held) > 1:
        await etcd.txn((), (delete(RESTORING),))
        raise Conflict(f"that etcd holds {len(held) - 1} keys of a cluster already", hint="Restore into an empty one.")
    if not begun.succeeded:
        await etcd.txn((exists(RESTORING),), (delete_prefix(ROOT),))
        await etcd.txn((absent(RESTORING),), (put(RESTORING, b"{}"),))
    manifest, cluster = None, None
    for frame in source:
        match frame:
            case backup.Manifest():
                manifest = frame
            case backup.SealingKeys(file):
                write_private(directory / FILE, file.decode())
            case backup.Entries(items):
                kept = [(key, value) for key, value in items if key != codec.key_for(Cluster, "this")]
                cluster = next((value for key, value in items if key == codec.key_for(Cluster, "this")), cluster)
                puts: list[Operation] = [put(key, _unseen(key, value)) for key, value in kept]
                for start in range(0, len(puts), 100):
                    await _put(etcd, puts[start : start + 100])
    if manifest is None or cluster is None:
        raise Failed("the backup does not say which cluster it is of")
    known: Any = codec.decode(codec.key_for(Cluster, "this"), cluster)
    renewed = dataclasses.replace(known, life=secrets.token_hex(8))
    await _put(etcd, (put(codec.key_of(renewed), codec.encode(renewed)), delete(RESTORING)))
    log.info("restored the cluster %s as of revision %d, life %s", renewed.id, manifest.revision, renewed.life)
    return manifest


async def _put(etcd: Etcd, puts: Sequence[Operation]) -> None:
    """Write some of it. Raises Conflict when somebody else ended this restore: else things would be missing unseen."""
    if not (await etcd.txn((exists(RESTORING),), puts)).succeeded:
        raise Conflict("another restore into that etcd went on meanwhile", hint="Run one alone, from the beginning.")


def _unseen(key: str, value: bytes) -> bytes:
    """Take back what was said of a node that nobody has heard of in this life: none is ready, none has a manager."""
    known: Any
    if key.startswith(codec.key_for(NodeState, "")):
        known = codec.decode(key, value)
        return codec.encode(dataclasses.replace(known, status=NodeStatus.UNKNOWN, reason=UNSEEN, replace_at=0.0))
    if key.startswith(codec.key_for(Node, "")):
        known = codec.decode(key, value)
        return codec.encode(dataclasses.replace(known, role="worker"))
    return value


def _cluster(items: Iterable[KeyValue]) -> Cluster:
    found: Any = next(codec.decode(kv.key, kv.value) for kv in items if kv.key == codec.key_for(Cluster, "this"))
    assert isinstance(found, Cluster)
    return found


def _pages(items: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    page: list[tuple[str, bytes]] = []
    size = 0
    for key, value in items:
        if page and size + len(key) + len(value) > PAGE_BYTES:
            yield page
            page, size = [], 0
        page.append((key, value))
        size += len(key) + len(value)
    if page:
        yield page
