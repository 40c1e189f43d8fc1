"""Which addresses nodes route elsewhere already: a network that took some of them would cut them off there. Pure."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cluster.model.network import Network
from manager.picture import ClusterState

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


class NodeRoute(NamedTuple):
    """A route of a node's host, by a link of that name ("" where it is by several)."""

    subnet: Subnet
    link: str
    node: str

    def __str__(self) -> str:
        return f"the route {self.subnet}{f' ({self.link})' if self.link else ''} of node {self.node}"


def routes_of(state: ClusterState) -> list[NodeRoute]:
    """Give what the nodes of the cluster say of their routes, each subnet once, for the first node that has it."""
    found: dict[str, NodeRoute] = {}
    for ident, session in state.sessions.items():
        node = state.nodes.get(ident)
        if node is None:
            continue
        for text, link in session.routes.items():
            held = found.get(text)
            if held is None or node.name < held.node:
                subnet = _subnet(text)
                if subnet is not None:
                    found[text] = NodeRoute(subnet, link, node.name)
    return [found[text] for text in sorted(found)]


def clashes(state: ClusterState) -> Iterator[tuple[Network, NodeRoute]]:
    """Give the networks that are there, with a route each that a node has got to some of their addresses."""
    if state.cluster is None:
        return
    routes = routes_of(state)
    pools = map(ipaddress.ip_network, (state.cluster.address_pool, state.cluster.ipv6_pool))
    narrow = [route for pool in pools for route in within(pool, routes)]
    for network in sorted(state.networks.values(), key=lambda network: network.name):
        found = (clash(subnet, narrow) for subnet in map(_subnet, network.subnets) if subnet is not None)
        if (route := next(filter(None, found), None)) is not None:
            yield network, route


def clash(subnet: Subnet, routes: Iterable[NodeRoute]) -> NodeRoute | None:
    """Give a route that leads to some of these addresses, the narrowest one."""
    found = [route for route in routes if route.subnet.version == subnet.version and route.subnet.overlaps(subnet)]
    return max(found, key=lambda route: route.subnet.prefixlen, default=None)


def within(pool: Subnet, routes: Iterable[NodeRoute]) -> list[NodeRoute]:
    """Give the routes that tell which part of a pool is in use: one as wide as the pool tells nothing of that.

    `10.0.0.0/8` to a company's other networks is such a one; a subnet within takes its addresses out of it.
    """
    return [
        route for route in routes if route.subnet.version == pool.version and route.subnet.prefixlen > pool.prefixlen
    ]


@functools.cache
def _subnet(text: str) -> Subnet | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None  # whatever an agent of another release means by it
