"""Short digests of what is known of a network, so that two can see whether they know the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from cluster.assignments import PeerItem, VipItem


def fingerprint(items: Iterable[PeerItem | VipItem]) -> str:
    """Digest what names, virtual addresses and the ways to endpoints are made of. The order does not matter."""
    told: list[tuple[object, ...]] = []
    for item in items:
        if isinstance(item, PeerItem):
            told.append((item.ident, item.node, item.vtep, item.addresses, item.mac, item.ready))
        else:
            told.append((item.ident, item.addresses))
    told.sort(key=lambda one: str(one[0]))
    return hashlib.blake2b(msgspec.json.encode(told), digest_size=12).hexdigest()


def by_network(items: Iterable[object]) -> dict[str, str]:
    """Digest each of the networks that endpoints and virtual addresses are in."""
    parts: dict[str, list[PeerItem | VipItem]] = {}
    for item in items:
        if isinstance(item, PeerItem | VipItem):
            parts.setdefault(item.network, []).append(item)
    return {network: fingerprint(some) for network, some in parts.items()}
