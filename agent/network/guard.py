"""The table on the outer side of a network's ports: a container sends by its own addresses, or not at all. Pure.

It stands in the network's namespace, out of reach even of a container that may change its own. Frames of the VXLAN
link and of the node itself pass: other nodes guard theirs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from agent.network import nftmessages as nft
from agent.network.netlink import Request, mac_bytes, packed
from agent.network.nftmessages import ACCEPT, BRIDGE, DROP, REG32_01, REG32_03, Expression
from agent.network.plan import NODE_OUTER, VXLAN_INDEX, Wire

TABLE = "stackyard"

_TYPE_IFINDEX, _TYPE_MAC = 18, 9  # nft's numbers, by which it shows the sets
_IP, _ARP, _IP6 = b"\x08\x00", b"\x08\x06", b"\x86\xdd"
_ICMP6 = 58
_ROUTER_ADVERT, _NEIGHBOUR_ADVERT, _REDIRECT = 134, 136, 137
_LINK_LOCAL, _LINK_LOCAL_MASK = b"\xfe\x80" + bytes(14), b"\xff\xc0" + bytes(14)
_PRIORITY = -300


def whole(wires: Iterable[Wire]) -> tuple[Request, ...]:
    """The table from nothing, with the ports of these links."""
    port = _TYPE_IFINDEX << 6 | _TYPE_MAC
    requests = [
        *nft.fresh_table(BRIDGE, TABLE),
        nft.make_set(BRIDGE, TABLE, "own4", 1, (port << 6 | nft.TYPE_IPV4, 16)),
        nft.make_set(BRIDGE, TABLE, "own6", 2, (port << 6 | nft.TYPE_IPV6, 28)),
        *nft.base_chain(BRIDGE, TABLE, "ports", "filter", nft.PREROUTING, _PRIORITY, *_rules(), policy=DROP),
    ]
    for wire in wires:
        requests += _keys(wire, add=True)
    return nft.batch(*requests)


def admit(wire: Wire) -> tuple[Request, ...]:
    """Let a port send by the addresses of its link."""
    return nft.batch(*_keys(wire, add=True))


def dismiss(wire: Wire) -> tuple[Request, ...]:
    return nft.batch(*_keys(wire, add=False))


def _keys(wire: Wire, *, add: bool) -> list[Request]:
    requests: list[Request] = []
    say = nft.add_keys if add else nft.delete_elements
    for name, colon in (("own4", False), ("own6", True)):
        keys = [
            wire.outer_index.to_bytes(4, sys.byteorder) + mac_bytes(wire.mac) + b"\0\0" + packed(address)
            for address, _ in wire.addresses
            if (":" in address) == colon
        ]
        requests += say(BRIDGE, TABLE, name, keys)
    return requests


def _rules() -> Iterable[tuple[Expression, ...]]:
    accept, drop = nft.verdict(ACCEPT), nft.verdict(DROP)
    port, sender = nft.meta(nft.META_IIF), nft.load("link", 6, 6, REG32_01)
    # Nearly all frames are of the first two kinds, and each passes two guards on its way: this order, and an index in
    # place of a name, makes a round trip a twentieth shorter.
    yield port, nft.equals(VXLAN_INDEX.to_bytes(4, sys.byteorder)), accept
    yield *_carries(_IP), port, sender, nft.load("network", 12, 4, REG32_03), nft.is_in("own4"), accept
    yield nft.meta(nft.META_IIFNAME), nft.equals(NODE_OUTER.encode().ljust(16, b"\0")), accept
    claimed = nft.load("network", 8, 6, REG32_01), nft.load("network", 14, 4, REG32_03)
    yield *_carries(_ARP), port, *claimed, nft.is_in("own4"), accept
    ip6, icmp6 = _carries(_IP6), nft.is_protocol(_ICMP6)
    for kind in (_ROUTER_ADVERT, _REDIRECT):
        yield *ip6, *icmp6, *_says(kind), drop
    target = nft.load("network", 48, 16, REG32_03)
    yield *ip6, *icmp6, *_says(_NEIGHBOUR_ADVERT), port, sender, target, nft.is_in("own6"), accept
    yield *ip6, *icmp6, *_says(_NEIGHBOUR_ADVERT), nft.load("network", 48, 16), *_link_local(), accept
    yield *ip6, *icmp6, *_says(_NEIGHBOUR_ADVERT), drop
    yield *ip6, port, sender, nft.load("network", 8, 16, REG32_03), nft.is_in("own6"), accept
    yield *ip6, nft.load("network", 8, 16), *_link_local(), accept
    yield *ip6, nft.load("network", 8, 16), nft.equals(bytes(16)), accept


def _carries(kind: bytes) -> tuple[Expression, Expression]:
    return nft.load("link", 12, 2), nft.equals(kind)


def _says(kind: int) -> tuple[Expression, Expression]:
    return nft.load("transport", 0, 1), nft.equals(bytes((kind,)))


def _link_local() -> tuple[Expression, Expression]:
    return nft.masked(_LINK_LOCAL_MASK), nft.equals(_LINK_LOCAL)
