"""The cluster itself, and the claims that keep two owners from one thing."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Cluster:
    """Made once, at the first start. `id` tells one cluster (or a restored one) from another.

    Overlay networks get subnets of `subnet_prefix` bits out of `address_pool`; `version` is the lowest common version
    of records and messages that the cluster may write.
    """

    id: str
    created_at: float
    version: int = 1
    address_pool: str = "10.128.0.0/10"
    subnet_prefix: int = 20
    ingress_subnet: str = "10.192.0.0/16"
    agent_grace: float = 30.0
    life: str = ""
    """Another one after each restore, "" in the first: see manager/backup.py."""

    @property
    def ipv6_pool(self) -> str:
        """Where networks get their IPv6 subnets from: a /48 of unique local addresses (RFC 4193), as good as random."""
        drawn = hashlib.blake2b(self.id.encode(), digest_size=5).digest()
        return str(ipaddress.IPv6Network((b"\xfd" + drawn + bytes(10), 48)))


@dataclass(frozen=True, slots=True)
class Claim:
    """Holds one VNI, subnet, address or published port for `owner` (an id); its key is only ever created or deleted.

    `target` is of a published port that was given out, not asked for: the port of the container that it is for.
    """

    kind: str
    name: str
    owner: str
    target: int = 0


@dataclass(frozen=True, slots=True)
class ClockMark:
    """The highest cluster time that a leader has seen, so that a new leader's clock never runs behind it.

    Every transaction of a leader rewrites it and holds only while it is as the leader knows it: the chain in which each
    decision is made on all those before it.
    """

    now: float


class TrustPhase(StrEnum):
    """How far a rotation of the CA is. SPREADING: all come to trust the new root beside the old, which still signs.
    RENEWING: the new one signs, and all get certificates of it. SETTLED: there is one root."""

    SETTLED = "settled"
    SPREADING = "spreading"
    RENEWING = "renewing"


@dataclass(frozen=True, slots=True)
class Trust:
    """Which roots of the CA are trusted, written first when the CA is first rotated. The key is not here.

    `roots` are PEM, the one that signs first; each change makes another `generation`. `cross` is the newest root signed
    by the one before it (see cluster/pki.py), `earlier` are the digests of those that sign no more, the newest last.
    """

    generation: int
    phase: TrustPhase
    since: float
    roots: tuple[str, ...]
    cross: str = ""
    earlier: tuple[str, ...] = ()
