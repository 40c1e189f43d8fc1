"""What can go wrong with etcd, as a branch of the errors in `cluster.errors`.

Unavailable
├── EtcdUnavailable    nobody answered; nothing was written
│   └── NoSpace        etcd's quota is used up: it takes nothing but deletions
├── UnknownOutcome     a write was sent and no answer came: it may have happened, or may still happen
└── LeaseLost          the lease ran out or was revoked, and what was bound to it is gone
Failed
├── Refused            etcd understood the request and said no; nothing was written
│   ├── WatchDenied    no permission to watch those keys
│   └── Compacted      the revision asked for is no longer kept: list again
└── UnsupportedServer  a version of etcd known to lose or mix up data
"""

from __future__ import annotations

from cluster.errors import Failed, Unavailable


class EtcdUnavailable(Unavailable):
    """No endpoint of etcd answered; the request was not carried out."""


class NoSpace(EtcdUnavailable):
    """etcd has no room for what was to be written, and takes nothing but deletions until it has (manager.upkeep).

    Of writes that reach its quota at the same time some are carried out although it says this: who asks again must bear
    that, as all do that guard what they write with what they know.
    """


class UnknownOutcome(Unavailable):
    """A write was sent and its answer did not come: it may have been carried out, or still be. Settle it by reading."""


class LeaseLost(Unavailable):
    """The lease ran out or was revoked; the keys bound to it are gone or about to go."""


class Refused(Failed):
    """etcd said no, and changed nothing. `code` is the name of the gRPC status, as `INVALID_ARGUMENT`."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class WatchDenied(Refused):
    """etcd gives this user no permission to watch those keys."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="PERMISSION_DENIED", hint=hint)


class Compacted(Refused):
    """The revision asked for is compacted away. `revision` is the oldest one kept, 0 where etcd did not say it."""

    def __init__(self, message: str, *, revision: int = 0) -> None:
        super().__init__(message, code="OUT_OF_RANGE", hint="List again and compare with what is known.")
        self.revision = revision


class UnsupportedServer(Failed):
    """This version of etcd must not hold a cluster's state."""
