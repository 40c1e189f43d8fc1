"""Topics: the parts of agents' sets that many nodes share, and digests by which two tell whether they have the same.

The endpoints and virtual addresses of a network are one topic, the published ports another. An agent that dials again
says what it has of each (Hello.has), and a manager that has the same does not send it once more (Page.kept).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

from cluster.assignments import Item
from cluster.protocol import part

PORTS = "ports"
"""The topic of published ports; all others are called by the network's id."""

_SIZE = 16
_MODULUS = 2 ** (8 * _SIZE)


def topic_of(ident: str) -> str:
    """Name the topic that an item is in, "" for what is a node's own."""
    kind, _, rest = ident.partition("/")
    if kind in ("peer", "vip"):
        return rest.partition("/")[0]
    return PORTS if kind == "port" else ""


def mark(text: bytes) -> int:
    """Give the number that an item counts as, as it is written in a frame. The marks of a topic are added up."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=_SIZE).digest())


def digest(marks: int) -> str:
    """Write the sum of the marks of a topic's items."""
    return f"{marks % _MODULUS:0{2 * _SIZE}x}"


def digests(items: Iterable[Item]) -> dict[str, str]:
    """Give the digest of each topic that some of these are in; a few milliseconds for a thousand items."""
    sums = Counter[str]()
    for item in items:
        if topic := topic_of(item.ident):
            sums[topic] += mark(part(item).text)
    return {topic: digest(total) for topic, total in sums.items()}
