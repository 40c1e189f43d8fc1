"""Which versions of etcd are fit to hold a cluster's state."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

from manager.etcd.errors import UnsupportedServer

log = logging.getLogger(__name__)

CORRUPTING = range(0, 3)
"""3.5.0, 3.5.1 and 3.5.2: a member that crashes may come back with data that differs from the others'."""

FIXED_IN = {(3, 4): 42, (3, 5): 28, (3, 6): 9}
"""The first patch of each line without the known ways round etcd's own permission checks."""


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
        found = re.match(r"(\d+)\.(\d+)\.(\d+)", member.version)
        major, minor, patch = map(int, found.groups()) if found else (0, 0, 0)
        line = (major, minor)
        if line < (3, 4):
            raise UnsupportedServer(
                f"etcd at {member.endpoint} has version {member.version}; 3.4 is the oldest that Stackyard can use",
                hint="Use etcd 3.5.28, 3.6.9 or later.",
            )
        if line == (3, 5) and patch in CORRUPTING:
            raise UnsupportedServer(
                f"etcd at {member.endpoint} has version {member.version}, whose data can go inconsistent after a crash",
                hint="Upgrade it to 3.5.28 or later (3.5.3 is the first that is safe).",
            )
        fixed = FIXED_IN.get(line)
        if fixed is not None and patch < fixed:
            log.warning(
                "etcd at %s has version %s, which lacks security fixes of %d.%d.%d: let only managers reach it",
                member.endpoint,
                member.version,
                *line,
                fixed,
            )
