"""How answers to published ports find back to the node that the request came by, so that the client's address is kept.

A node's MAC among published ports holds its address there (02:42 and four bytes). The sandbox keeps those bytes as the
mark of the connection; answers are marked with it, routed to the gate, an address of nobody, and on leaving the link
get the node's MAC made of the mark. So it is two rules and one route for any number of nodes. Pure.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache

from agent.network import netlink
from agent.network import nftmessages as nft
from agent.network.netlink import Request, packed
from agent.network.nftmessages import INET, NETDEV, Expression
from agent.network.plan import Wire

TABLE = 5379
"""The routing table, and the priority of the rule that leads there."""
LAST_RESORT = 4096
"""Metric of the way to the gate where a sandbox has no other: without any, an answer is refused before it is marked."""

_NOBODY = "02:42:00:00:00:00"
_MANGLE, _DESTINATION = -150, -100
_UDP = 17
_NEW = (8).to_bytes(4, sys.byteorder)


def routes(wire: Wire, *, only_way: bool) -> Iterator[Request]:
    """What the sandbox's routing needs, by its link to the gate."""
    prefix, mask = _prefix(wire)
    yield netlink.set_neighbour(wire.inner_index, wire.gate, _NOBODY)
    yield netlink.set_default_route(wire.inner_index, wire.gate, table=TABLE)
    yield netlink.add_mark_rule(netlink.AF_INET, _as_mark(prefix), _as_mark(mask), TABLE, TABLE)
    if only_way:
        yield netlink.set_default_route(wire.inner_index, wire.gate, metric=LAST_RESORT)


def sysctls(wire: Wire) -> tuple[tuple[str, str], ...]:
    """Sockets that accept a connection take its mark; packets from anywhere may come by the link."""
    return (
        ("ipv4/tcp_fwmark_accept", "1"), ("ipv4/fwmark_reflect", "1"), ("ipv4/conf/all/rp_filter", "0"),
        (f"ipv4/conf/{wire.inner}/rp_filter", "0"),
    )  # fmt: skip


def rules(table: str, wire: Wire, wires: Iterable[Wire]) -> Iterator[Request]:
    """What the sandbox's table needs besides, and a table for what leaves the link; `wires` are all of its links."""
    if (usual := _usual_source(wires)) is not None:
        # A server that answers datagrams without a look at where they were sent to gets them where it answers from.
        to = nft.immediate(usual), nft.translate(nft.IPV4)
        rule = (*_comes_by(wire.inner), *nft.is_family(nft.IPV4), *nft.is_protocol(_UDP), *to)
        yield from nft.base_chain(INET, table, "datagrams", "nat", nft.PREROUTING, _DESTINATION, rule)
    yield from _marking(table, wire.inner, *_prefix(wire))


@lru_cache(16)
def _marking(table: str, link: str, prefix: bytes, mask: bytes) -> tuple[Request, ...]:
    """What is the same in many sandboxes, and so made once. Marks of the sandbox's own doing are left alone."""
    here, is_ours = _comes_by(link), (nft.masked(mask), nft.equals(prefix))
    is_new = nft.connection(nft.CT_STATE), nft.masked(_NEW), nft.differs(bytes(4))
    arriving = nft.base_chain(
        INET, table, "arriving", "filter", nft.PREROUTING, _MANGLE,
        (*here, *is_new, nft.load("link", 8, 4), nft.set_connection(nft.CT_MARK)),
        (*here, nft.connection(nft.CT_MARK), nft.set_meta(nft.META_MARK)),
    )  # fmt: skip
    kept = nft.connection(nft.CT_MARK), *is_ours, nft.connection(nft.CT_MARK)
    answering = nft.base_chain(
        INET, table, "answering", "route", nft.OUTPUT, _MANGLE, (*kept, nft.set_meta(nft.META_MARK))
    )
    marked = nft.meta(nft.META_MARK), *is_ours
    node = nft.meta(nft.META_MARK), nft.store("link", 2, 4), nft.immediate(b"\x02\x42"), nft.store("link", 0, 2)
    leaving = nft.base_chain(NETDEV, table, "leaving", "filter", nft.EGRESS, 0, (*marked, *node), device=link)
    return (*arriving, *answering, *nft.fresh_table(NETDEV, table), *leaving)


def _comes_by(link: str) -> tuple[Expression, Expression]:
    return nft.meta(nft.META_IIFNAME), nft.equals(link.encode().ljust(16, b"\0"))


def _usual_source(wires: Iterable[Wire]) -> bytes | None:
    """The address that a sandbox sends to strangers from, unless that is the one among published ports anyway."""
    outward = next((wire for wire in wires if wire.gateways), None)
    if outward is None:
        return None
    return next(packed(address) for address, _ in outward.addresses if ":" not in address)


def _prefix(wire: Wire) -> tuple[bytes, bytes]:
    subnet = ipaddress.ip_network(f"{wire.gate}/{wire.addresses[0][1]}", strict=False)
    return subnet.network_address.packed, subnet.netmask.packed


def _as_mark(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)
