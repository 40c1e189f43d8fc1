"""Which versions of etcd are fit to hold a cluster's state."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.etcd import lacks_fixes_of, refusal
from manager.etcd.errors import UnsupportedServer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One endpoint's own word about itself; `db_size` is in bytes."""

    endpoint: str
    version: str
    member_id: int
    is_leader: bool
    db_size: int
    revision: int


def judge(members: Iterable[MemberStatus]) -> None:
    """Refuses versions that lose data, and logs a warning for those that lack fixes."""
    for member in members:
        if (refused := refusal(member.version)) is not None:
            reason, remedy = refused
            raise UnsupportedServer(f"etcd at {member.endpoint} has {reason}", hint=remedy)
        if (fixed := lacks_fixes_of(member.version)) is not None:
            log.warning(
                "etcd at %s has version %s, which lacks security fixes of %s: let only managers reach it",
                member.endpoint,
                member.version,
                fixed,
            )
