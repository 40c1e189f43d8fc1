"""etcd, spoken to over gRPC: transactions, lists at one revision, watches that resume, leases, election.

The only place that talks to etcd. It knows keys and bytes, never what they mean, and it never repeats a write whose
outcome it does not know: that is told (`UnknownOutcome`), and settled by reading.
"""

from manager.etcd.client import Etcd
from manager.etcd.election import Leadership
from manager.etcd.endpoints import Credentials, Tls
from manager.etcd.errors import (
    Compacted,
    EtcdUnavailable,
    LeaseLost,
    NoSpace,
    Refused,
    UnknownOutcome,
    UnsupportedServer,
    WatchDenied,
)
from manager.etcd.lease import Lease
from manager.etcd.maintenance import Look
from manager.etcd.members import Member, remains_able
from manager.etcd.records import (
    Batch,
    Compare,
    Event,
    KeyValue,
    Operation,
    Range,
    Response,
    Snapshot,
    TxnResult,
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
from manager.etcd.versions import MemberStatus

__all__ = [
    "Batch",
    "Compacted",
    "Compare",
    "Credentials",
    "Etcd",
    "EtcdUnavailable",
    "Event",
    "KeyValue",
    "Leadership",
    "Lease",
    "LeaseLost",
    "Look",
    "Member",
    "MemberStatus",
    "NoSpace",
    "Operation",
    "Range",
    "Refused",
    "Response",
    "Snapshot",
    "Tls",
    "TxnResult",
    "UnknownOutcome",
    "UnsupportedServer",
    "WatchDenied",
    "absent",
    "created_at",
    "delete",
    "delete_prefix",
    "exists",
    "get",
    "put",
    "remains_able",
    "unchanged",
    "value_is",
]
