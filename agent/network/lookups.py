"""How look-ups reach the resolver: its sockets listen on a high port, and loopback's packets are told to go there.

So port 53 of a sandbox is free for a DNS server that the container itself may be. The ports are rewritten in each
packet and no connection is tracked: a busy client would otherwise fill the table of connections with one entry for
each look-up. Pure.
"""

from __future__ import annotations

import ipaddress
import sys
from functools import cache

from agent.network import nftmessages as nft
from agent.network.netlink import Request
from agent.network.nftmessages import INET, IPV4, Expression

RESOLVER, PORT = "127.0.0.11", 53
"""Where containers ask."""
LISTENING = 65053
"""The port that the resolver listens on: no usual one, and above those that the kernel gives out."""

_LOOPBACK = (1).to_bytes(4, sys.byteorder)  # the first link of a namespace
_RAW = -300
_CHECKSUMS = {6: 16, 17: 6}  # of TCP and UDP, as an offset in the header


@cache
def whole(table: str) -> tuple[Request, ...]:
    """The table of a sandbox that needs nothing else, from nothing."""
    return nft.batch(*nft.fresh_table(INET, table), *rules(table))


@cache
def rules(table: str) -> tuple[Request, ...]:
    """What the table of a sandbox needs besides."""
    elsewhere = nft.meta(nft.META_OIF), nft.differs(_LOOPBACK), nft.verdict(nft.ACCEPT)
    asking = (_rewrite(protocol, nft.destination(IPV4), 2, PORT, LISTENING) for protocol in _CHECKSUMS)
    answering = (_rewrite(protocol, nft.source(IPV4), 0, LISTENING, PORT) for protocol in _CHECKSUMS)
    return nft.base_chain(INET, table, "lookups", "filter", nft.OUTPUT, _RAW, elsewhere, *asking, *answering)


def _rewrite(protocol: int, address: Expression, where: int, port: int, instead: int) -> tuple[Expression, ...]:
    return (
        *nft.is_family(IPV4), address, nft.equals(ipaddress.IPv4Address(RESOLVER).packed),
        *nft.is_protocol(protocol), nft.load("transport", where, 2), nft.equals(port.to_bytes(2, "big")),
        nft.untracked(), nft.immediate(instead.to_bytes(2, "big")),
        nft.store("transport", where, 2, checksum=_CHECKSUMS[protocol]),
    )  # fmt: skip
