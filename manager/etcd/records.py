"""What is written to and read from etcd: keys with their revisions, comparisons, operations, events.

Pure values, without gRPC: code that plans a transaction can be tested without a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

MAX_OPERATIONS = 100
"""Operations in one transaction; etcd's own limit is 128, of comparisons too."""

MAX_COMPARES = 128


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as it was at some revision. `version` counts its changes since `create_revision`, from 1."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction on one key. A key that is not there has create and mod revision 0."""

    key: str
    field: Literal["create_revision", "mod_revision", "value"]
    relation: Literal["=", ">"]
    operand: int | bytes


def absent(key: str) -> Compare:
    return Compare(key, "create_revision", "=", 0)


def exists(key: str) -> Compare:
    return Compare(key, "create_revision", ">", 0)


def unchanged(key: str, mod_revision: int) -> Compare:
    return Compare(key, "mod_revision", "=", mod_revision)


def created_at(key: str, create_revision: int) -> Compare:
    """Holds while the key is the same incarnation, however often it was changed since it was made."""
    return Compare(key, "create_revision", "=", create_revision)


def value_is(key: str, value: bytes) -> Compare:
    """Never holds for a key that is not there, not even with an empty value."""
    return Compare(key, "value", "=", value)


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


@dataclass(frozen=True, slots=True)
class DeletePrefix:
    prefix: str


@dataclass(frozen=True, slots=True)
class Get:
    key: str


Operation: TypeAlias = Put | Delete | DeletePrefix | Get
Response: TypeAlias = KeyValue | int | None
"""What an operation answers: a put None, a delete the number of keys it removed, a get the key or None."""


def put(key: str, value: bytes, lease: int = 0) -> Put:
    """Without a lease, also takes the key out of the lease it was bound to."""
    return Put(key, value, lease)


def delete(key: str) -> Delete:
    return Delete(key)


def delete_prefix(prefix: str) -> DeletePrefix:
    return DeletePrefix(prefix)


def get(key: str) -> Get:
    """Sees what the operations before it in the same transaction wrote."""
    return Get(key)


@dataclass(frozen=True, slots=True)
class TxnResult:
    """`responses` has one entry for each operation of the branch that ran."""

    succeeded: bool
    revision: int
    responses: tuple[Response, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The keys under a prefix, sorted, all as they were at `revision`."""

    items: tuple[KeyValue, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """A key changed at `revision`; `current` is None when it was deleted."""

    key: str
    revision: int
    current: KeyValue | None


@dataclass(frozen=True, slots=True)
class Batch:
    """All that happened under the prefix since the batch before, up to and with `revision`; whole transactions only."""

    revision: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything under the prefix at `revision`: what was known before is to be replaced by it."""

    items: tuple[KeyValue, ...]
    revision: int
