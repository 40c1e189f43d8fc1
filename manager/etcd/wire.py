"""Records to and from the messages of etcd's gRPC API. Pure; the stubs are those of the `aetcd` package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aetcd import rpc

from manager.etcd.records import (
    Compare,
    Delete,
    DeletePrefix,
    Event,
    Get,
    KeyValue,
    Operation,
    Put,
    Response,
)

LAST_KEY = b"\0"
"""As the end of a range: every key from its start on."""

_TARGETS = {"create_revision": rpc.Compare.CREATE, "mod_revision": rpc.Compare.MOD, "value": rpc.Compare.VALUE}
_RELATIONS = {"=": rpc.Compare.EQUAL, ">": rpc.Compare.GREATER}


def key_bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def key_text(key: bytes) -> str:
    """Others' keys may be no UTF-8: they come through unharmed, and go back as the same bytes."""
    return key.decode("utf-8", "surrogateescape")


def prefix_range(prefix: str) -> tuple[bytes, bytes]:
    """First key and end (exclusive) of the range of all keys that begin with `prefix`."""
    start = key_bytes(prefix)
    stem = start.rstrip(b"\xff")
    if not stem:
        return start or b"\0", LAST_KEY
    return start, stem[:-1] + bytes([stem[-1] + 1])


def key_value(kv: Any) -> KeyValue:
    return KeyValue(
        key=key_text(kv.key),
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def event(message: Any) -> Event:
    current = key_value(message.kv) if message.type == rpc.Event.PUT else None
    return Event(key=key_text(message.kv.key), revision=message.kv.mod_revision, current=current)


def txn_request(compares: Iterable[Compare], ops: Iterable[Operation], otherwise: Iterable[Operation]) -> Any:
    return rpc.TxnRequest(
        compare=[_compare(compare) for compare in compares],
        success=[_operation(operation) for operation in ops],
        failure=[_operation(operation) for operation in otherwise],
    )


def _compare(compare: Compare) -> Any:
    message = rpc.Compare(
        key=key_bytes(compare.key), target=_TARGETS[compare.field], result=_RELATIONS[compare.relation]
    )
    setattr(message, compare.field, compare.operand)
    return message


def _operation(operation: Operation) -> Any:
    match operation:
        case Put(key, value, lease):
            return rpc.RequestOp(request_put=rpc.PutRequest(key=key_bytes(key), value=value, lease=lease))
        case Delete(key):
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key_bytes(key)))
        case DeletePrefix(prefix):
            start, end = prefix_range(prefix)
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=start, range_end=end))
        case Get(key):
            return rpc.RequestOp(request_range=rpc.RangeRequest(key=key_bytes(key)))


def response(message: Any) -> Response:
    match message.WhichOneof("response"):
        case "response_range":
            found = message.response_range.kvs
            return key_value(found[0]) if found else None
        case "response_delete_range":
            return int(message.response_delete_range.deleted)
        case _:
            return None
