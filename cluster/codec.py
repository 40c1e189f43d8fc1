"""Records and messages to bytes and back, with schema numbers; and the etcd key of each record.

A stored value is `{"schema": N, "record": {...}}`. A reader refuses a newer schema than it knows. Within a schema,
fields are only ever added, with defaults: an older reader passes over those that it does not know, a newer one fills
in those that are missing (golden files in the tests hold every stored type for ever).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from cluster.errors import Inconsistent
from cluster.model.attachment import Attachment
from cluster.model.cluster import Claim, ClockMark, Cluster, Trust
from cluster.model.network import Network
from cluster.model.node import Manager, Node, NodeState, Session
from cluster.model.oneoff import OneOff
from cluster.model.rebalance import Rebalance, RebalanceWish
from cluster.model.secret import Content, External
from cluster.model.service import ServiceState
from cluster.model.stack import Stack, StackRevision
from cluster.model.task import Task, TaskStatus
from cluster.model.update import Withdrawn
from cluster.model.user import User
from cluster.model.volume import Volume
from cluster.protocol import ATTACHES, ONE_OFFS, ROTATES, USERS, VERSION
from cluster.reading import untrusted

SCHEMA = 1
PREFIX = "/stackyard/state/"
"""All records of the cluster's state live below this key; certificates and the election live beside it."""

SEALED_PREFIX = "/stackyard/sealed/"
"""What is in secrets and configs lives below this key, sealed; a Content record tells of each."""

Record = (
    Cluster
    | ClockMark
    | Stack
    | StackRevision
    | ServiceState
    | Network
    | Volume
    | Task
    | TaskStatus
    | Node
    | NodeState
    | Session
    | Manager
    | Claim
    | RebalanceWish
    | Rebalance
    | Content
    | External
    | Withdrawn
    | User
    | Attachment
    | OneOff
    | Trust
)


class Kind(NamedTuple):
    """How one type of record is stored: `name` is the first part of its key below PREFIX, `ident` gives the rest.

    Managers know it from the version `since` on; the picture of an older one stops at its first record. So none is
    written before the cluster's version (Cluster.version) is that far.
    """

    name: str
    type: type[Any]
    ident: Callable[[Any], str]
    since: int = 1


KINDS: tuple[Kind, ...] = (
    Kind("cluster", Cluster, lambda r: "this"),
    Kind("clock", ClockMark, lambda r: "this"),
    Kind("stack", Stack, lambda r: r.name),
    Kind("revision", StackRevision, lambda r: revision_ident(r.stack_uid, r.n)),
    Kind("service", ServiceState, lambda r: r.uid),
    Kind("network", Network, lambda r: r.id),
    Kind("volume", Volume, lambda r: r.name),
    Kind("task", Task, lambda r: r.id),
    Kind("taskstatus", TaskStatus, lambda r: r.task),
    Kind("node", Node, lambda r: r.id),
    Kind("nodestate", NodeState, lambda r: r.node),
    Kind("session", Session, lambda r: r.node),
    Kind("manager", Manager, lambda r: r.id),
    Kind("rebalancewish", RebalanceWish, lambda r: "this"),
    Kind("rebalance", Rebalance, lambda r: "this"),
    Kind("claim", Claim, lambda r: f"{r.kind}/{r.name}"),
    Kind("content", Content, lambda r: f"{r.owner}/{r.digest}"),
    Kind("external", External, lambda r: f"{r.kind}/{r.name}"),
    Kind("withdrawn", Withdrawn, lambda r: r.manager),
    Kind("user", User, lambda r: r.name, since=USERS),
    Kind("attachment", Attachment, lambda r: r.id, since=ATTACHES),
    Kind("oneoff", OneOff, lambda r: r.id, since=ONE_OFFS),
    Kind("trust", Trust, lambda r: "this", since=ROTATES),
)
_BY_TYPE = {kind.type: kind for kind in KINDS}
_BY_NAME = {kind.name: kind for kind in KINDS}


def revision_ident(stack_uid: str, n: int) -> str:
    """Sort revisions of a stack by number in etcd's byte order."""
    return f"{stack_uid}/{n:08d}"


def sealed_key(owner: str, digest: str) -> str:
    """Give the etcd key of the sealed bytes that a Content record tells of."""
    return f"{SEALED_PREFIX}{owner}/{digest}"


def key_for(record_type: type[Any], ident: str) -> str:
    """Give the etcd key of the record of that type and identity."""
    return f"{PREFIX}{_BY_TYPE[record_type].name}/{ident}"


def key_of(record: Record) -> str:
    """Give the etcd key of a record."""
    return key_for(type(record), _BY_TYPE[type(record)].ident(record))


def since(record_type: type[Any]) -> int:
    """Tell from which version on managers know this type of record."""
    return _BY_TYPE[record_type].since


def type_of(key: str) -> type[Any]:
    """Tell the type of the record at a key below PREFIX. Raises Inconsistent for a key of no known kind."""
    name = key.removeprefix(PREFIX).partition("/")[0]
    if not key.startswith(PREFIX) or name not in _BY_NAME:
        raise Inconsistent(f"etcd key {key!r} is of no kind that this version knows", hint="Upgrade this manager.")
    return _BY_NAME[name].type


@functools.cache
def _decoder(record_type: type[Any]) -> msgspec.json.Decoder[Any]:
    envelope = msgspec.defstruct("Envelope", [("schema", int), ("record", record_type)], frozen=True)
    return msgspec.json.Decoder(envelope)


def encode(record: Record) -> bytes:
    """Write a record to the bytes that etcd holds."""
    return msgspec.json.encode({"schema": SCHEMA, "record": record})


class _Schema(msgspec.Struct):
    schema: int


_SCHEMA = msgspec.json.Decoder(_Schema)


def decode(key: str, value: bytes) -> Record:
    """Read the record at `key`. Raises Inconsistent when it is newer than this program or not readable."""
    record_type: Any = type_of(key)
    try:
        schema = untrusted(_SCHEMA, value).schema
        if schema > SCHEMA:
            raise Inconsistent(
                f"the record at {key} has schema {schema}, this program reads up to {SCHEMA}",
                hint="Upgrade this manager; it changed nothing.",
            )
        record = untrusted(_decoder(record_type), value).record
    except msgspec.MsgspecError as error:
        raise Inconsistent(f"the record at {key} cannot be read: {error}") from error
    if isinstance(record, Cluster) and record.version > VERSION:
        raise Inconsistent(
            f"the cluster is of version {record.version}, this program knows up to {VERSION}",
            hint="Upgrade it; it changed nothing.",
        )
    return record  # type: ignore[no-any-return]
