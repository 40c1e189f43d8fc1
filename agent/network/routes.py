"""The subnets that this host reaches otherwise than by our networks: none of those may take their addresses.

Docker's bridges count like any other link: a network with the same addresses would cut their containers off.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.network.netlink import AF_INET, AF_INET6, ROUTE, RTA_DST, RTA_OIF, attributes, list_routes
from agent.network.netlink_socket import Netlink
from agent.network.plan import NODE_LINKS
from cluster.protocol import MOST_ROUTES

_LOCAL_TABLE, _UNICAST = 255, 1
_WIDEST = {4: 8, 6: 7}
"""The private address blocks 10.0.0.0/8 and fc00::/7: what is wider is a default route, perhaps one cut in halves."""
_LINK_LOCAL = ipaddress.ip_network("fe80::/10")

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Route:
    """Where a route leads; `link` is an index, 0 for several at once."""

    subnet: Subnet
    link: int


def look_elsewhere(home: Netlink) -> dict[str, str]:
    """Read the host's routes, by a socket of its namespace, and say what managers are to be told."""
    found = (read_route(body) for family in (AF_INET, AF_INET6) for body in home.dump(list_routes(family)))
    return subnets_elsewhere(filter(None, found), {index: link.name for index, link in home.links().items()})


def read_route(body: bytes) -> Route | None:
    """Read an entry of the listing; None for what leads nowhere, and for the host's own addresses."""
    family, prefix, _, _, table, _, _, kind, _ = ROUTE.unpack_from(body)
    found = attributes(body, 12)
    if family not in (AF_INET, AF_INET6) or table == _LOCAL_TABLE or kind != _UNICAST or RTA_DST not in found:
        return None
    subnet = ipaddress.ip_network((found[RTA_DST], prefix))
    return Route(subnet, struct.unpack("=I", found.get(RTA_OIF, bytes(4)))[0])


def subnets_elsewhere(routes: Iterable[Route], names: Mapping[int, str]) -> dict[str, str]:
    """Give the subnets to be told to managers, with the link's name; neighbouring ones of one link as one.

    Of more than MOST_ROUTES the widest ones. None of a single address: hosts may have one for each of their pods.
    """
    by_link: dict[tuple[int, int], list[Subnet]] = {}
    for route in routes:
        subnet = route.subnet
        ours = names.get(route.link, "").startswith(NODE_LINKS)
        link_local = subnet.version == 6 and subnet.overlaps(_LINK_LOCAL)
        of_others = not (ours or link_local or subnet.is_loopback or subnet.is_multicast)
        if of_others and _WIDEST[subnet.version] <= subnet.prefixlen < subnet.max_prefixlen:
            by_link.setdefault((subnet.version, route.link), []).append(subnet)
    found = [
        (subnet, names.get(link, ""))
        for (_, link), subnets in sorted(by_link.items())
        for subnet in ipaddress.collapse_addresses(subnets)  # type: ignore[type-var]
    ]
    found.sort(key=lambda one: (one[0].prefixlen, str(one[0]), one[1]))
    told: dict[str, str] = {}
    for subnet, name in found:
        told.setdefault(str(subnet), name)
    return dict(list(told.items())[:MOST_ROUTES])
